"""The most probable classes, sorted."""

import numpy as np
import pytest
from long_tail import BOTH, DATA, LABELS, fit
from numpy.testing import assert_allclose, assert_array_equal

from skcandle import CandleClassifier


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("k", [1, 3, 12])
def test_the_largest_probabilities_come_first(kind, k):
    clf = fit(kind)
    labels, proba = clf.top_k(DATA.X_test, k)
    whole = clf.predict_proba(DATA.X_test)
    expected = np.sort(whole, axis=1)[:, ::-1][:, :k]
    assert_array_equal(proba, expected)
    assert_array_equal(labels[:, 0], clf.predict(DATA.X_test))
    columns = np.searchsorted(LABELS, labels)
    assert_array_equal(np.take_along_axis(whole, columns, axis=1), proba)
    assert all(len(set(row)) == k for row in labels)


def test_of_equal_classes_the_first_comes_first():
    texts = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0]}
    clf = CandleClassifier(new_classes=["a", "b"], text_encoder=texts, max_iter=0)
    X = np.array([[0.1, 1.0], [0.0, 1.0]])
    labels, _ = clf.fit(X, ["c", "c"]).top_k(X, 3)
    assert_array_equal(labels, [["c", "a", "b"]] * 2)


def test_more_than_a_block_of_rows(monkeypatch):
    clf = fit()
    expected = clf.top_k(DATA.X_test, 2)
    monkeypatch.setattr("skcandle.classifier._base.BLOCK_LOGITS", 100)
    labels, proba = clf.top_k(DATA.X_test, 2)
    assert_array_equal(labels, expected[0])
    assert_allclose(proba, expected[1])


@pytest.mark.parametrize("prior", [None, "training"])
def test_a_prior_and_a_view_count(prior):
    view = fit().with_prior(prior).restrict(LABELS[3:7])
    labels, proba = view.top_k(DATA.X_test, 4)
    assert set(labels.ravel()) == set(LABELS[3:7])
    assert_array_equal(proba[:, 0], view.predict_proba(DATA.X_test).max(axis=1))


@pytest.mark.parametrize(
    "k, error, message",
    [
        (13, ValueError, "k must be between 1 and 12, .* got 13"),
        (0, ValueError, "k must be between 1 and 12, .* got 0"),
        (-1, ValueError, "k must be between .* got -1"),
        (2.0, TypeError, "k must be an integer, got 2.0"),
        (True, TypeError, "k must be an integer, got True"),
        (None, TypeError, "k must be an integer, got None"),
    ],
)
def test_invalid_numbers_of_classes(k, error, message):
    with pytest.raises(error, match=message):
        fit().top_k(DATA.X_test, k)
