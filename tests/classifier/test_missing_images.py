"""Rows of NaN: images that could not be read."""

import warnings

import numpy as np
import pytest
from long_tail import BASE, BOTH, DATA, fit, make
from numpy.testing import assert_allclose, assert_array_equal

from skcandle import CandleClassifier, RejectingClassifier
from skcandle.exceptions import UnreadableImageWarning

NAN = np.full(32, np.nan)


def with_missing(positions):
    X = DATA.X.copy()
    X[positions] = np.nan
    return X


@pytest.fixture(scope="module", params=BOTH)
def kind(request):
    return request.param


def test_fit_leaves_them_out_with_one_warning(kind):
    missing = [0, 5]
    weight = np.linspace(0.5, 1, len(DATA.y))
    with pytest.warns(UnreadableImageWarning) as caught:
        clf = make(kind).fit(with_missing(missing), DATA.y, sample_weight=weight)
    assert [str(w.message) for w in caught] == [
        f"2 of {len(DATA.y)} rows of X are NaN, because the images could not be read. They are "
        "left out."
    ]
    kept = np.delete(np.arange(len(DATA.y)), missing)
    expected = make(kind).fit(DATA.X[kept], DATA.y[kept], sample_weight=weight[kept])
    assert_array_equal(clf.predict_proba(DATA.X), expected.predict_proba(DATA.X))


def test_classes_that_lose_all_images_are_named(kind):
    lost = DATA.y == BASE[-1]
    with pytest.warns(UnreadableImageWarning, match=f"{str(BASE[-1])!r} has no image left"):
        clf = make(kind).fit(with_missing(lost), DATA.y)
    assert BASE[-1] not in clf.classes_


def test_a_fit_without_any_readable_image_is_an_error(kind):
    with pytest.raises(ValueError, match="NaN in all 57 rows: no image could be read"):
        make(kind).fit(with_missing(slice(None)), DATA.y)


def test_prediction_has_the_missing_answer(kind):
    clf, X = fit(kind), np.stack([NAN, DATA.X[0], NAN])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("predict_proba", "predict_log_proba", "decision_function"):
            rows = getattr(clf, method)(X)
            assert np.isnan(rows[[0, 2]]).all()
            assert_allclose(rows[1], getattr(clf, method)(DATA.X[:1])[0], rtol=1e-10)
        with pytest.warns(
            UnreadableImageWarning, match="2 of 3 rows of X are NaN.* for them is ''"
        ):
            assert clf.predict(X).tolist() == ["", clf.predict(DATA.X[:1])[0], ""]
        with pytest.warns(UnreadableImageWarning, match="1 of 1 rows"):
            assert clf.predict(X[:1]).tolist() == [""]


def test_metrics_count_a_missing_answer_as_wrong():
    clf = fit()
    X = DATA.X.copy()
    X[::2] = np.nan
    right = clf.predict(DATA.X) == DATA.y
    assert clf.score(X, DATA.y) == right[1::2].sum() / len(right)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64, object])
def test_numbers_have_minus_one(dtype):
    y = (np.arange(8) % 2).astype(dtype)
    X = np.random.default_rng(0).normal(size=(8, 4)) + y[:, None].astype(float)
    clf = CandleClassifier(text_encoder=None).fit(X, y)
    answers = clf.predict(np.stack([X[0], np.full(4, np.nan)]))
    assert answers[1] == -1 and answers[0] in y


@pytest.mark.parametrize("labels", [["", "a"], [-1, 1], [True, False], [2**63, 2**63 + 1]])
def test_labels_that_leave_no_missing_answer_are_an_error_only_then(labels):
    dtype = np.uint64 if labels[0] == 2**63 else None
    X, y = np.random.default_rng(0).normal(size=(8, 4)), np.array(labels * 4, dtype=dtype)
    clf = CandleClassifier(text_encoder=None).fit(X, y)
    assert set(clf.predict(X)) <= set(labels)
    missing = np.full((1, 4), np.nan)
    with pytest.raises(ValueError, match="row 0.* no value for a missing answer. Use pred"):
        clf.predict(missing)
    assert np.isnan(clf.predict_proba(missing)).all()


@pytest.mark.parametrize("value, message", [(np.nan, "NaN: row 2 has 1"), (np.inf, "infinity")])
def test_rows_that_are_wrong_in_part_are_errors(kind, value, message):
    X = DATA.X.copy()
    X[2, 3] = value
    with pytest.raises(ValueError, match=f"Input X contains {message}"):
        make(kind).fit(X, DATA.y)
    with pytest.raises(ValueError, match=f"Input X contains {message}"):
        fit(kind).predict(X)


def test_a_pipeline_goes_on_without_images_that_are_broken():
    from skcandle import make_candle_pipeline
    from skcandle.datasets import load_emoji

    emoji = load_emoji()
    chosen = [*np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"])), 0]
    X, y = [emoji.images[i] for i in chosen], emoji.target[chosen].copy()
    X[-1], y[-1] = b"broken", "apple"
    pipe = make_candle_pipeline("emoji-clip", on_error="nan")
    with pytest.warns(UnreadableImageWarning) as caught:
        pipe.fit(X, y)
    assert len(caught) == 2  # one by the featurizer, one by the fit
    with pytest.warns(UnreadableImageWarning):
        answers = pipe.predict([X[-1], X[0]])
    assert answers.tolist() == ["", "apple"]


# --- what else there is in CandleClassifier --------------------------------------------------


def test_results_for_images_that_could_not_be_read():
    clf, X = fit(), np.stack([NAN, DATA.X[0], NAN, DATA.X[20]])
    with pytest.warns(UnreadableImageWarning, match="2 of 4 rows"):
        labels, proba = clf.top_k(X, 2)
    assert labels[0].tolist() == labels[2].tolist() == ["", ""]
    assert np.isnan(proba[[0, 2]]).all() and np.isfinite(proba[[1, 3]]).all()
    assert np.isnan(clf.novelty_score(X)).tolist() == [True, False, True, False]
    assert clf.predict_set(X, 0.5).any(axis=1).tolist() == [False, True, False, True]
    assert sorted(clf.choose_to_label(X, 2).tolist()) == [1, 3]
    with pytest.raises(ValueError, match="between 1 and 2, the number of readable images .* got 3"):
        clf.choose_to_label(X, 3)


def test_images_that_are_added_leave_them_out():
    X = np.stack([NAN, DATA.X[0]])
    with pytest.warns(UnreadableImageWarning, match="1 of 2 rows of X are NaN"):
        grown = fit().add_images(X, [BASE[1], BASE[0]])
    assert grown.class_count_.sum() == len(DATA.y) + 1


def test_a_rejecting_classifier_has_the_missing_answer():
    clf = RejectingClassifier(make()).fit(DATA.X, DATA.y)
    assert clf.predict(np.stack([NAN, DATA.X[0]])).tolist()[0] == ""


def test_a_rejected_image_differs_from_one_that_could_not_be_read():
    texts = dict(enumerate(DATA.texts.values()))
    clf = RejectingClassifier(make(text_encoder=texts, new_classes=None), rejection_rate=0.5)
    clf.fit(DATA.X, np.unique(DATA.y, return_inverse=True)[1])
    answers = clf.predict(np.stack([NAN, *-DATA.X_test]))
    assert answers[0] == -1
    assert clf.reject_label_ in answers[1:]
    assert -1 not in answers[1:]


def test_weight_zero_for_all_readable_images_is_an_error(kind):
    X, weight = with_missing([0]), np.zeros(len(DATA.y))
    weight[0] = 1
    with pytest.raises(ValueError, match="At least one sample must have a positive weight"):
        with pytest.warns(UnreadableImageWarning):
            make(kind).fit(X, DATA.y, sample_weight=weight)
