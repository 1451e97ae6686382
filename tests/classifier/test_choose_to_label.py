"""Which images to label next."""

import numpy as np
import pytest
from long_tail import BASE, DATA, LABELS, fit
from numpy.testing import assert_array_equal


@pytest.fixture(scope="module")
def fitted():
    return fit()


def greedy(proba, counts, n_images):
    """The same choice, in plain loops."""
    counts, chosen = list(map(float, counts)), []
    for _ in range(n_images):
        gains = {
            i: sum(p / (n + 1) for p, n in zip(row, counts, strict=True))
            for i, row in enumerate(proba)
            if i not in chosen
        }
        best = max(gains, key=gains.get)
        chosen.append(best)
        counts = [n + p for n, p in zip(counts, proba[best], strict=True)]
    return chosen


@pytest.mark.parametrize("n_images", [1, 7, 30])
def test_the_choice_is_greedy(fitted, n_images):
    X = DATA.X_test[::6]
    expected = greedy(fitted.predict_proba(X), fitted.class_count_, n_images)
    assert_array_equal(fitted.choose_to_label(X, n_images), expected)


def test_all_rows_can_be_chosen_once_each(fitted):
    X = DATA.X_test[::10]
    assert sorted(fitted.choose_to_label(X, len(X))) == list(range(len(X)))


def test_classes_with_few_images_are_covered_first(fitted):
    chosen = fitted.choose_to_label(DATA.X_test, 12)
    classes, counts = np.unique(DATA.y_test[chosen], return_counts=True)
    assert set(LABELS[8:]) <= set(classes)  # those without an image
    assert LABELS[0] not in classes  # 15 images
    assert counts.max() < 5


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"class_prior": "training"}])
def test_frequencies_have_no_effect(fitted, options):
    assert_array_equal(
        fit(**options).choose_to_label(DATA.X_test, 5), fitted.choose_to_label(DATA.X_test, 5)
    )


def test_images_alone():
    clf = fit(text_encoder=None, new_classes=None)
    expected = greedy(clf.predict_proba(DATA.X_test[:40]), clf.class_count_, 5)
    assert_array_equal(clf.choose_to_label(DATA.X_test[:40], 5), expected)
    assert len(clf.restrict(BASE[:2]).choose_to_label(DATA.X_test, 3)) == 3


@pytest.mark.parametrize(
    "n_images, error, message",
    [
        (0, ValueError, "n_images must be between 1 and 20, .* got 0"),
        (21, ValueError, "n_images must be between 1 and 20, .* got 21"),
        (2.0, TypeError, "n_images must be an integer, got 2.0"),
        (True, TypeError, "n_images must be an integer, got True"),
    ],
)
def test_invalid_numbers_of_images(fitted, n_images, error, message):
    with pytest.raises(error, match=message):
        fitted.choose_to_label(DATA.X_test[:20], n_images)
