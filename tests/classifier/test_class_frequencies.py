"""Checks of frequencies of use, and their logarithm."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skcandle.classifier._prior import (
    class_frequencies,
    log_frequencies,
    log_prior_of_use,
    prior_of_use,
)

LABELS = np.array(["ant", "bee", "cat", "dog"], dtype=object)
FREQUENCIES = np.array([0.4, 0.3, 0.2, 0.1])
BY_LABEL = dict(zip(LABELS.tolist(), FREQUENCIES.tolist(), strict=True))


@pytest.mark.parametrize(
    "prior", [FREQUENCIES, FREQUENCIES.tolist(), BY_LABEL, dict(reversed(BY_LABEL.items()))]
)
def test_frequencies_go_by_position_or_by_label(prior):
    assert class_frequencies(prior, LABELS) == BY_LABEL


def test_a_series_goes_by_its_index_and_columns_do_not():
    pd = pytest.importorskip("pandas")
    series = pd.Series(BY_LABEL).sort_values()
    assert class_frequencies(series, LABELS) == BY_LABEL
    with pytest.raises(ValueError, match=r"has shape \(4, 1\), but there are 4"):
        class_frequencies(series.to_frame(), LABELS)


@pytest.mark.parametrize(
    "class_prior, margin, exponent",
    [(None, 0.0, 1.0), (None, 1.0, 0.0), (None, 2.5, -1.5), ("training", 2.5, 1.0)],
)
def test_without_frequencies_the_prior_is_a_power_of_those_of_training(
    class_prior, margin, exponent
):
    counts = np.array([9.0, 3.0, 0.0, 1.0])
    prior = prior_of_use(class_prior, margin, LABELS)
    found = np.exp(log_prior_of_use(prior, LABELS, counts))
    assert_allclose(found, (counts + 1) ** exponent)


def test_given_frequencies_are_the_prior_whatever_the_margin():
    prior = prior_of_use(BY_LABEL, 0.3, LABELS)
    assert_allclose(np.exp(log_prior_of_use(prior, LABELS, np.arange(4))), FREQUENCIES)
    with pytest.raises(ValueError, match="no frequency for the class 'ant'"):
        prior_of_use({"bee": 1.0}, 1.0, LABELS)


def test_labels_of_numpy_are_those_of_python():
    prior = {np.int64(k): p for k, p in enumerate(FREQUENCIES)}
    assert [type(label) for label in class_frequencies(prior, np.arange(4))] == [int] * 4


@pytest.mark.parametrize("gap", [-9e-4, 9e-4])
def test_a_sum_may_be_as_far_from_one_as_three_decimals_bring_it(gap):
    near, beyond = FREQUENCIES.copy(), FREQUENCIES.copy()
    near[0] += gap
    beyond[0] += 1.2 * gap
    assert list(class_frequencies(near, LABELS).values()) == near.tolist()
    with pytest.raises(ValueError, match=r"\. Divide it by its sum\.$"):
        class_frequencies(beyond, LABELS)


@pytest.mark.parametrize(
    "prior, error, message",
    [
        (FREQUENCIES[:3], ValueError, r"class_prior has shape \(3,\), but there are 4 classes"),
        (FREQUENCIES[:, None], ValueError, r"has shape \(4, 1\)"),
        (2 * FREQUENCIES, ValueError, r"must sum to 1, but sums to 2\. Divide it by its sum\.$"),
        (np.zeros(4), ValueError, r"must sum to 1, but sums to 0\. Some class must occur\.$"),
        ([0.6, 0.6, -0.1, -0.1], ValueError, "and not negative, got -0.1 for 'cat'"),
        ([0.5, 0.5, np.nan, 0], ValueError, "must be finite .* got nan for 'cat'"),
        ([0.5, 0.5, 0, np.inf], ValueError, "must be finite .* got inf for 'dog'"),
        (BY_LABEL | {"cat": "often"}, TypeError, "must hold numbers: .*'often'"),
        ({label: [p] for label, p in BY_LABEL.items()}, ValueError, r"has shape \(4, 1\)"),
        ([[0.4, 0.3], [0.3]], TypeError, "must hold numbers"),
        (BY_LABEL | {"cat": [0.2, 0.1]}, TypeError, "must hold numbers"),
        ("uniform", ValueError, "class_prior must be \"training\", .* got 'uniform'"),
    ],
)
def test_invalid_frequencies(prior, error, message):
    with pytest.raises(error, match=message):
        class_frequencies(prior, LABELS)


@pytest.mark.filterwarnings("error")
def test_logarithms_are_in_the_order_of_the_classes_and_may_be_infinite():
    found = log_frequencies({"cat": 0.0, "eel": 0.5, "ant": 0.2, "bee": 0.3}, LABELS[:3])
    assert_allclose(np.exp(found), [0.2, 0.3, 0])
    assert_array_equal(found == -np.inf, [False, False, True])


@pytest.mark.parametrize(
    "frequencies, message",
    [
        (
            {"bee": 0.5, "dog": 0.5},
            r"no frequency for the class 'ant' \(2 of 4 classes",
        ),
        (dict.fromkeys(LABELS, 0.0) | {"eel": 1.0}, "0 for all 4 classes, such as 'ant'"),
    ],
)
def test_classes_without_frequencies(frequencies, message):
    with pytest.raises(ValueError, match=message):
        log_frequencies(frequencies, LABELS)
