"""Sets of classes that contain the correct one with a given probability."""

import numpy as np
import pytest
from long_tail import BASE, DATA, FIXED, LABELS, NEW, fit, make
from numpy.testing import assert_array_equal

LEVEL = 0.7


@pytest.fixture(scope="module")
def fitted():
    return fit()


def gaps(clf):
    logits = clf.decision_function(DATA.X_test)
    return logits.max(axis=1, keepdims=True) - logits


def test_classes_within_the_distance_of_their_kind(fitted):
    base, new = fitted._held_out.gap_thresholds(LEVEL, np.array([True, True]))
    expected = gaps(fitted) <= np.where(fitted.is_new_, new, base)
    sets = fitted.predict_set(DATA.X_test, LEVEL)
    assert sets.dtype == bool
    assert_array_equal(sets, expected)
    best = np.searchsorted(LABELS, fitted.predict(DATA.X_test))
    assert sets[np.arange(len(best)), best].all()


def test_a_higher_level_has_larger_sets(fitted):
    low, high = (fitted.predict_set(DATA.X_test, level) for level in (0.5, 0.9))
    assert (low <= high).all()
    assert low.sum() < high.sum()


def test_held_out_gaps_of_a_new_class_are_those_of_one_never_seen():
    options = FIXED | {"single_image_weight": 0}
    clf = fit(**options)
    held_out, seen = clf._held_out, []
    # every class is hidden once; another fit, in which it is new, gives the gaps of its images
    position = np.argsort(np.lexsort((np.arange(8), -clf.class_count_[:8])))
    for line in range(3):
        hidden = LABELS[:8][position % 3 == line]
        is_hidden = np.isin(DATA.y, hidden)
        other = make(**options, new_classes=[*NEW, *hidden])
        other.fit(DATA.X[~is_hidden], DATA.y[~is_hidden])
        logits = other.decision_function(DATA.X[is_hidden])
        own = np.searchsorted(LABELS, DATA.y[is_hidden])
        seen.append(logits.max(axis=1) - logits[np.arange(len(own)), own])
    seen, gaps_of_new = np.concatenate(seen), held_out.gaps[1]
    np.testing.assert_allclose(gaps_of_new[-1], seen.max())
    nearest = np.abs(gaps_of_new[:, None] - seen).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-9)


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"class_prior": "training"}])
def test_frequencies_have_no_effect(fitted, options):
    assert_array_equal(
        fit(**options).predict_set(DATA.X_test, LEVEL), fitted.predict_set(DATA.X_test, LEVEL)
    )


def test_added_classes_do_not_change_the_distance(fitted):
    grown = fitted.add_classes({"another": np.ones(32)})
    sets = grown.predict_set(DATA.X_test, LEVEL)
    same = grown.predict(DATA.X_test) != "another"
    assert_array_equal(sets[same][:, 1:], fitted.predict_set(DATA.X_test[same], LEVEL))


def test_images_alone_and_views():
    clf = fit(text_encoder=None, new_classes=None)
    view = clf.restrict(BASE[:3])
    sets = view.predict_set(DATA.X_test, LEVEL)
    assert_array_equal(
        sets, gaps(view) <= clf._held_out.gap_thresholds(LEVEL, np.array([True, True]))[0]
    )


def test_too_few_images_for_a_level(fitted):
    n_images = fitted._held_out.n_images
    with pytest.warns(UserWarning, match="A confidence_level of 0.999 is too high for"):
        assert fitted.predict_set(DATA.X_test, 0.999).all()
    assert not fitted.predict_set(DATA.X_test, n_images / (n_images + 1) - 1e-9).all()


@pytest.mark.parametrize("level", [0, 1, -0.5, 90, "high", None])
def test_invalid_levels(fitted, level):
    with pytest.raises(ValueError, match="confidence_level must be a number between 0 and 1, got"):
        fitted.predict_set(DATA.X_test, level)
