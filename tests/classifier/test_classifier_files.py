"""Fitted classifiers in files and in other processes."""

import pickle

import joblib
import numpy as np
import pytest
from long_tail import BASE, BOTH, DATA, NEW, fit, make, probas_in_a_fresh_process
from numpy.testing import assert_array_equal

from skcandle.classifier._held_out import N_SHARES


@pytest.fixture(scope="module")
def fitted():
    return fit()


@pytest.mark.slow
def test_a_fresh_process_predicts_the_same(tmp_path):
    classifiers = [fit(kind) for kind in BOTH]
    probas = probas_in_a_fresh_process(classifiers, tmp_path)
    for clf, proba in zip(classifiers, probas, strict=True):
        assert_array_equal(proba, clf.predict_proba(DATA.X_test))


@pytest.mark.parametrize("kind", BOTH)
def test_a_read_only_memory_map_predicts_the_same(kind, tmp_path):
    clf = fit(kind)
    joblib.dump(clf, tmp_path / "clf.joblib")
    mapped = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")
    assert not mapped.prototypes_.flags.writeable
    assert_array_equal(mapped.decision_function(DATA.X_test), clf.decision_function(DATA.X_test))
    grown = mapped.add_classes({"kiwi": np.ones(32)}).restrict(["kiwi", *BASE])
    assert grown.predict_proba(DATA.X_test).shape == (len(DATA.X_test), 9)


@pytest.mark.parametrize("change", [lambda c: c.restrict(NEW), lambda c: c.add_classes([])])
def test_views_and_copies_can_be_pickled(fitted, change):
    clf = change(fitted)
    again = pickle.loads(pickle.dumps(clf))
    assert_array_equal(again.predict_proba(DATA.X_test), clf.predict_proba(DATA.X_test))


@pytest.mark.parametrize("kind", BOTH)
def test_state_is_numpy(kind):
    assert b"torch" not in pickle.dumps(fit(kind))


@pytest.mark.parametrize("kind", BOTH)
def test_a_file_without_single_images_grows_by_digests_of_32_bytes_per_image(kind):
    sizes = []
    for repeats in (1, 20):
        clf = make(kind, **({"single_image_weight": 0} if kind == "candle" else {}))
        clf.fit(DATA.X.repeat(repeats, axis=0), DATA.y.repeat(repeats))
        sizes.append(len(pickle.dumps(clf)))
    assert sizes[1] < sizes[0] + 32 * 19 * len(DATA.X) + 1000


def test_a_file_holds_a_few_matrices():
    fitted = fit(single_image_weight=0)
    d, n_classes = 32, 12
    n_numbers = 7 * d * d + 11 * n_classes * d + 4 * N_SHARES
    assert len(pickle.dumps(fitted)) < 8 * n_numbers + 10_000
