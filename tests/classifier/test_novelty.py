"""Images of no listed class: the score, its thresholds, and the classifier that rejects."""

import warnings

import numpy as np
import pytest
from helpers import clip_like
from long_tail import BASE, DATA, FIXED, LABELS, NEW, fit, make
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    PublishedCandleClassifier,
    RejectingClassifier,
)
from skcandle.classifier._held_out import HeldOutScores, quantiles_by_side, weighted_quantiles
from skcandle.classifier._pseudo_new import splits_of_universe
from skcandle.classifier._training_set import TrainingSet

NAMES = np.array(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"])
X, Y, TEXTS = clip_like([30] * 8, 16, noise=0.6)
TEXTS = dict(zip(NAMES.tolist(), TEXTS, strict=True))
LISTED = Y < 6  # gnu and hen are unlisted
TRAIN = LISTED & (np.arange(len(Y)) % 2 == 0) & (Y < 5)
TEST = LISTED & ~TRAIN


@pytest.fixture(scope="module")
def candle():
    return CandleClassifier(new_classes=["fox"], text_encoder=TEXTS, max_iter=2)


@pytest.fixture(scope="module")
def fitted(candle):
    return clone(candle).fit(X[TRAIN], NAMES[Y[TRAIN]])


# --- the score -------------------------------------------------------------------------------


def test_unlisted_images_score_higher(fitted):
    score = fitted.novelty_score(X)
    assert np.median(score[~LISTED]) > np.quantile(score[TEST], 0.9)


def test_the_score_is_a_weighted_sum_of_the_largest_logit_and_the_largest_similarity(fitted):
    scale = fitted._held_out
    largest = fitted.decision_function(X).max(axis=1)
    similarity = (X @ fitted.text_features_.T).max(axis=1)
    expected = np.column_stack([largest, similarity]) @ scale.coefficients + scale.intercept
    assert_allclose(fitted.novelty_score(X), expected)


def test_weight_two_is_a_repeated_image(candle):
    X_train, y = X[TRAIN], NAMES[Y[TRAIN]]
    repeats = np.arange(len(y)) % 3 + 1
    weighted = clone(candle).fit(X_train, y, sample_weight=repeats)
    repeated = clone(candle).fit(X_train.repeat(repeats, axis=0), y.repeat(repeats))
    assert_allclose(weighted.novelty_score(X), repeated.novelty_score(X), atol=1e-6)


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"class_prior": "training"}])
def test_frequencies_have_no_effect(candle, fitted, options):
    clf = clone(candle).set_params(**options).fit(X[TRAIN], NAMES[Y[TRAIN]])
    assert_allclose(clf.novelty_score(X), fitted.novelty_score(X))


def test_the_size_of_blocks_has_no_effect(fitted, monkeypatch):
    expected = fitted.novelty_score(X)
    monkeypatch.setattr("skcandle.classifier._base.BLOCK_LOGITS", 100)
    assert_allclose(fitted.novelty_score(X), expected)


def test_the_length_of_rows_has_no_effect(fitted):
    assert_allclose(fitted.novelty_score(7 * X), fitted.novelty_score(X))


def test_fewer_classes_leave_more_images_without_one(fitted):
    view = fitted.restrict(["ant", "bee"])
    assert (view.novelty_score(X) >= fitted.novelty_score(X) - 1e-9).all()


def test_a_hidden_class_is_scored_as_one_that_was_never_seen():
    data = TrainingSet(
        DATA.X,
        np.searchsorted(LABELS, DATA.y),
        np.ones(len(DATA.y)),
        np.stack([DATA.texts[label] for label in LABELS.tolist()]),
        len(LABELS),
    )
    options = FIXED | {"single_image_weight": 0}
    clf = fit(**options)
    hidden_in = np.zeros(len(LABELS))
    splits, rows = splits_of_universe(data, data, 2.0)
    for split in splits:
        hidden_in += split.hidden
        hidden = split.hidden[split.target]
        seen = DATA.X[rows[~hidden]], DATA.y[rows[~hidden]]
        universe = [*NEW, *LABELS[split.hidden]]
        expected = make(**options, new_classes=universe).fit(*seen)
        assert_allclose(
            split.joint_logits(clf._model.weights)[hidden],
            expected.decision_function(DATA.X[rows[hidden]]),
        )
    assert_array_equal(hidden_in, np.isin(LABELS, BASE))  # each class with images once


@pytest.mark.parametrize("text", [TEXTS, None], ids=["text", "images alone"])
def test_far_off_images_score_higher(text):
    clf = CandleClassifier(text_encoder=text, max_iter=0).fit(X[TRAIN], NAMES[Y[TRAIN]])
    far, near = clf.novelty_score(-X[TEST & (Y < 5)]), clf.novelty_score(X[TEST & (Y < 5)])
    assert np.median(far) > np.quantile(near, 0.9)


# --- thresholds ------------------------------------------------------------------------------


@pytest.mark.parametrize("share, expected", [(0.1, 1), (0.2, 1), (0.3, 2), (0.5, 2), (0.51, 4)])
def test_weighted_quantiles(share, expected):
    values, weight = np.array([4.0, 1.0, 2.0]), np.array([5.0, 2.0, 3.0])
    assert weighted_quantiles(values, weight, [share, 1.0]).tolist() == [expected, 4]


def test_a_side_without_scores_uses_those_of_the_other():
    scores = np.arange(5.0)
    base, new = quantiles_by_side(scores, np.ones(5), np.zeros(5, dtype=bool))
    assert_array_equal(base, new)


@pytest.mark.parametrize(
    "level, too_few", [(0.5, False), (0.8, False), (0.95, False), (0.999, True)]
)
def test_thresholds_are_those_of_split_conformal_prediction(level, too_few):
    n = 100
    base, new = np.random.default_rng(0).normal(size=(2, n))
    side = np.repeat([False, True], n)
    quantiles = quantiles_by_side(np.concatenate([base, new]), np.ones(2 * n), side)
    held_out = HeldOutScores(np.ones(2), 0.0, quantiles, -quantiles, n, n, n_base_classes=3)
    # the ceil((n + 1) level)-th smallest of n scores
    rank = min(int(np.ceil((n + 1) * level)), n)
    expected = [np.sort(scores)[rank - 1] for scores in (base, new)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = held_out.novelty_thresholds(1 - level, np.array([True, True]), 3)
        assert_array_equal(found, expected)
    assert len(caught) == too_few


# --- the classifier that rejects -------------------------------------------------------------


def test_it_rejects_what_is_above_the_threshold_of_its_side(candle, fitted):
    clf = RejectingClassifier(candle, rejection_rate=0.1).fit(X[TRAIN], NAMES[Y[TRAIN]])
    score, answers = fitted.novelty_score(X), fitted.predict(X)
    threshold = np.where(answers == "fox", clf.thresholds_[1], clf.thresholds_[0])
    assert_array_equal(clf.predict(X), np.where(score > threshold, "unknown", answers))
    assert_array_equal(clf.novelty_score(X), score)
    assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))
    assert np.mean(clf.predict(X[~LISTED]) == "unknown") > 0.5
    assert np.mean(clf.predict(X[TEST]) == "unknown") < 0.25


def test_a_higher_rate_rejects_more(candle):
    shares = [
        np.mean(
            RejectingClassifier(candle, rejection_rate=rate)
            .fit(X[TRAIN], NAMES[Y[TRAIN]])
            .predict(X)
            == "unknown"
        )
        for rate in (0.05, 0.3, 0.8)
    ]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize(
    "labels, label, answer",
    [
        (NAMES, "auto", "unknown"),
        (NAMES, "none of these", "none of these"),
        (NAMES.astype(object), "auto", "unknown"),
        (np.arange(8), "auto", -2),
        (np.arange(8, dtype=np.uint8), "auto", -2),
        (np.arange(8, dtype=np.int8), "auto", -2),
        (np.arange(8, dtype=np.int8), 1000, 1000),
        (2**60 + np.arange(8, dtype=np.uint64), "auto", -2),
        (2**63 + np.arange(8, dtype=np.uint64), 7, 7),
        (2**62 + np.arange(8), "auto", -2),
        (np.arange(8) - 1, "auto", -2),
        (np.arange(8), 99, 99),
        (np.arange(8) - 3, "auto", -4),
    ],
)
def test_reject_labels(labels, label, answer):
    text = dict(zip(labels.tolist(), TEXTS.values(), strict=True))
    candle = CandleClassifier(new_classes=[labels.tolist()[5]], text_encoder=text, max_iter=0)
    clf = RejectingClassifier(candle, reject_label=label, rejection_rate=0.2)
    clf.fit(X[TRAIN], labels[Y[TRAIN]])
    answers = clf.predict(X)
    assert clf.reject_label_ == answer
    assert answer in answers.tolist()
    assert set(answers.tolist()) <= {answer, *labels.tolist()}
    if labels.dtype == np.int8:
        assert answers.dtype == (np.int8 if answer == -2 else np.int64)


def test_around_and_inside_a_pipeline(candle):
    y = NAMES[Y[TRAIN]]
    expected = RejectingClassifier(candle, rejection_rate=0.2).fit(2 * X[TRAIN], y).predict(2 * X)
    double = FunctionTransformer(np.dot, kw_args={"b": 2})
    around = RejectingClassifier(make_pipeline(double, candle), rejection_rate=0.2)
    assert_array_equal(around.fit(X[TRAIN], y).predict(X), expected)
    inside = make_pipeline(double, RejectingClassifier(candle, rejection_rate=0.2))
    assert_array_equal(inside.fit(X[TRAIN], y).predict(X), expected)
    weight = np.ones(TRAIN.sum())
    assert_array_equal(around.fit(X[TRAIN], y, sample_weight=weight).predict(X), expected)


COPIES = {
    "fit": lambda clf: clf,
    "added class": lambda clf: clf.add_classes(["gnu"]),
    "added images": lambda clf: clf.add_images(X[Y == 6][:3], ["gnu", "gnu", "fox"]),
    "view": lambda clf: clf.restrict(["bee", "cat", "fox"]),
    "other prior": lambda clf: clf.with_prior("training"),
}
WRAPPERS = {
    "classifier": FrozenEstimator,
    "pipeline": lambda clf: FrozenEstimator(Pipeline([("same", PASS), ("candle", clf)])),
    "pipeline with methods": lambda clf: FrozenEstimator(
        CandlePipeline([("same", PASS), ("candle", clf)])
    ),
    "pipeline of a pipeline": lambda clf: FrozenEstimator(
        make_pipeline(PASS, FrozenEstimator(CandlePipeline([("candle", clf)])))
    ),
}
PASS = FunctionTransformer().fit(X)


@pytest.mark.filterwarnings("ignore:. class.* got first images from add_images:UserWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("copy", COPIES)
def test_a_fitted_classifier_rejects_as_it_is(fitted, copy, wrapper):
    answering = COPIES[copy](fitted)
    frozen = WRAPPERS[wrapper](answering)
    clf = RejectingClassifier(frozen, rejection_rate=0.2).fit(X[TRAIN], NAMES[Y[TRAIN]])
    assert clf.classes_.tolist() == answering.classes_.tolist()
    score, is_new = answering.novelty_score(X, return_is_new=True)
    thresholds = answering.novelty_thresholds(0.2)
    assert_array_equal(clf.thresholds_, thresholds)
    rejected = score > thresholds[is_new.astype(int)]
    assert_array_equal(clf.predict(X), np.where(rejected, "unknown", answering.predict(X)))
    found = clf.novelty_score(X, return_is_new=True)
    assert_array_equal(found[0], score)
    assert_array_equal(found[1], is_new)


def test_a_class_that_was_added_is_no_longer_rejected(fitted):
    clf = RejectingClassifier(FrozenEstimator(fitted.add_classes(["gnu"])))
    clf.fit(X[TRAIN], NAMES[Y[TRAIN]])
    assert np.mean(clf.predict(X[Y == 6]) == "gnu") > 0.5


def test_an_image_is_on_the_side_of_its_largest_logit_for_equal_frequencies(fitted):
    mostly_new = fitted.with_prior([0.01] * 5 + [0.95])
    _, is_new = mostly_new.novelty_score(X, return_is_new=True)
    assert_array_equal(is_new, fitted.predict(X) == "fox")
    assert is_new.sum() < np.sum(mostly_new.predict(X) == "fox")


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, "often"])
def test_thresholds_are_for_rates_between_zero_and_one(fitted, rate):
    with pytest.raises(ValueError, match="rejection_rate must be a number between 0 and 1, got"):
        fitted.novelty_thresholds(rate)


def test_in_a_search_and_out_of_fold(candle):
    y = NAMES[Y[TRAIN]]
    clf = RejectingClassifier(candle)
    grid = {"rejection_rate": [0.1, 0.5], "estimator__margin": [0.0, 1.0]}
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X[TRAIN], y)
    assert search.best_params_["rejection_rate"] == 0.1  # a rejected image is a wrong answer
    assert set(cross_val_predict(clf, X[TRAIN], y, cv=2)) <= {*NAMES[:6], "unknown"}


def fit_with_warnings(candle, rows, rate=0.05):
    """A fitted RejectingClassifier, and the messages about its thresholds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = RejectingClassifier(candle, rejection_rate=rate).fit(X[rows], NAMES[Y[rows]])
    messages = [str(w.message) for w in caught]
    return clf, [m for m in messages if "reject" in m]


def images_of_each(counts):
    """Positions of the first images of each class."""
    return np.concatenate([np.flatnonzero(Y == k)[:n] for k, n in enumerate(counts)])


def test_with_few_images_the_largest_score_is_used_with_one_warning(candle):
    clf, (message,) = fit_with_warnings(candle, images_of_each([2] * 5))
    assert "A rejection_rate of 0.05 is too low for these training images" in message
    assert "which count as 10 images of balanced classes" in message
    assert "a rejection_rate of at least 0.091" in message
    assert_array_equal(clf.thresholds_, clf.estimator_._held_out.novelty[:, -1])


def test_only_images_of_classes_with_others_count_for_base_classes(candle):
    clf, (message,) = fit_with_warnings(candle, images_of_each([2, 2, 1, 1, 1]))
    assert "which count as 4 images of balanced classes" in message
    assert clf.thresholds_[0] == clf.estimator_._held_out.novelty[0, -1]


def test_with_one_image_per_class_no_answer_with_a_base_class_is_rejected(candle):
    clf, (message,) = fit_with_warnings(candle, images_of_each([1] * 5), rate=0.3)
    assert message.startswith("Answers with base classes are never rejected")
    assert clf.thresholds_[0] == np.inf
    answers, rejected = clf.estimator_.predict(X), clf.predict(X) == "unknown"
    assert not rejected[answers != "fox"].any()
    assert np.isfinite(clf.thresholds_[1])


def test_with_one_class_with_images_nothing_is_rejected():
    candle = CandleClassifier(new_classes=NAMES[1:6].tolist(), text_encoder=TEXTS, max_iter=0)
    clf, (message,) = fit_with_warnings(candle, images_of_each([30]), rate=0.3)
    assert message.startswith("Answers with base or new classes are never rejected")
    assert "Fit on images of at least two classes" in message
    assert "unknown" not in clf.predict(X)


def test_with_one_class_with_images_sets_hold_all_new_classes():
    candle = CandleClassifier(new_classes=NAMES[1:6].tolist(), text_encoder=TEXTS, max_iter=0)
    candle.fit(X[Y == 0], NAMES[Y[Y == 0]])
    with pytest.warns(UserWarning, match="Every set holds all new classes"):
        assert candle.predict_set(X, 0.7)[:, 1:].all()


def test_views_without_new_classes_need_no_warning_about_them(recwarn):
    candle = CandleClassifier(new_classes=NAMES[1:6].tolist(), text_encoder=TEXTS, max_iter=0)
    candle.fit(X[Y == 0], NAMES[Y[Y == 0]])
    recwarn.clear()
    candle.restrict(["ant"]).predict_set(X, 0.7)
    assert not recwarn.list


def test_without_text_all_thresholds_are_finite():
    clf, messages = fit_with_warnings(
        CandleClassifier(text_encoder=None, max_iter=0), images_of_each([10] * 5), rate=0.1
    )
    assert not messages
    assert np.isfinite(clf.thresholds_).all()


def test_the_first_images_of_a_class_after_the_fit_warn(fitted):
    grown = fitted.add_images(X[Y == 6], NAMES[Y[Y == 6]])
    with pytest.warns(
        UserWarning, match="1 class got first images from add_images.* Fit again on all"
    ):
        thresholds = grown.novelty_thresholds(0.2)
    assert_array_equal(thresholds, fitted.novelty_thresholds(0.2))


def test_more_images_of_a_base_class_do_not_warn(fitted, recwarn):
    fitted.add_images(X[Y == 0], NAMES[Y[Y == 0]]).novelty_thresholds(0.2)
    fitted.add_classes(["gnu"]).novelty_thresholds(0.2)
    assert not recwarn.list


@pytest.mark.parametrize(
    "estimator, error, message",
    [
        (
            LogisticRegression(),
            TypeError,
            "must be a Candle.* got a LogisticRegression",
        ),
        (
            make_pipeline(LogisticRegression()),
            TypeError,
            "must be a Candle.* got a LogisticRegression",
        ),
        (
            PublishedCandleClassifier(text_encoder=TEXTS),
            TypeError,
            "must be .* got a PublishedCandleClassifier",
        ),
    ],
)
def test_estimators_without_a_score(estimator, error, message):
    with pytest.raises(error, match=message):
        RejectingClassifier(estimator).fit(X[TRAIN], NAMES[Y[TRAIN]])


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, "often"])
def test_invalid_rates(candle, rate):
    with pytest.raises(ValueError, match="'rejection_rate' parameter of RejectingClassifier"):
        RejectingClassifier(candle, rejection_rate=rate).fit(X[TRAIN], NAMES[Y[TRAIN]])


@pytest.mark.parametrize(
    "labels, label, error, message",
    [
        (NAMES, "bee", ValueError, "must not be one of the classes_, got 'bee'"),
        (NAMES, "fox", ValueError, "must not be one of the classes_, got 'fox'"),
        (NAMES, -1, TypeError, "reject_label is -1, but the labels are strings"),
        (np.arange(8), "none", TypeError, "reject_label is 'none', but the labels are numbers"),
        (np.arange(8), -1, ValueError, "must not be -1, the answer for images that could not be"),
        (NAMES, "", ValueError, "must not be '', the answer for images that could not be read"),
        (np.arange(8), 2.5, ValueError, "No type of integers can hold the labels .* 2.5"),
        (
            2**63 + np.arange(8, dtype=np.uint64),
            "auto",
            ValueError,
            "labels and the reject_label -2, because they are from 9223372036854775808",
        ),
        (np.arange(8) - 2, -2, ValueError, "must not be one of the classes_, got -2"),
        (np.arange(8) > 2, "auto", TypeError, "labels are booleans. Use strings or integers"),
    ],
)
def test_invalid_reject_labels(labels, label, error, message):
    text = dict(zip(labels.tolist(), TEXTS.values(), strict=True))
    new = None if labels.dtype == bool else [labels.tolist()[5]]
    candle = CandleClassifier(new_classes=new, text_encoder=text, max_iter=0)
    with pytest.raises(error, match=message):
        RejectingClassifier(candle, reject_label=label).fit(X[TRAIN], labels[Y[TRAIN]])


def test_a_fit_with_weights_works_where_metadata_are_routed(candle):
    with config_context(enable_metadata_routing=True):
        clf = clone(candle).fit(X[TRAIN], NAMES[Y[TRAIN]], np.ones(TRAIN.sum()))
    assert np.isfinite(clf.novelty_score(X)).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ValueError])
def test_a_fit_that_fails_keeps_the_earlier_fit(candle, error, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    clf = RejectingClassifier(candle).fit(X[TRAIN], NAMES[Y[TRAIN]])
    expected, before = clf.predict(X), dict(vars(clf))
    if error is ValueError:  # after the inner fit
        clf.set_params(reject_label="ant")
    else:
        monkeypatch.setattr("skcandle.classifier._candle.train_projection", fail)
    with pytest.raises(error):
        clf.fit(X[TRAIN][::2], NAMES[Y[TRAIN]][::2])
    assert vars(clf) == before | {"reject_label": clf.reject_label}
    assert_array_equal(clf.predict(X), expected)


def test_fitting_again_forgets_the_names_of_columns():
    pd = pytest.importorskip("pandas")
    clf = RejectingClassifier(CandleClassifier(text_encoder=None), rejection_rate=0.2)
    clf.fit(pd.DataFrame(X[TRAIN]).rename(columns=str), NAMES[Y[TRAIN]])
    assert clf.feature_names_in_.tolist() == list(map(str, range(16)))
    assert not hasattr(clf.fit(X[TRAIN], NAMES[Y[TRAIN]]), "feature_names_in_")


@pytest.mark.parametrize("frozen", [False, True])
def test_a_rejecting_classifier_changes_its_classes_as_its_estimator_does(candle, frozen):
    y = NAMES[Y[TRAIN]]
    inner = FrozenEstimator(clone(candle).fit(X[TRAIN], y)) if frozen else candle
    clf = RejectingClassifier(inner, rejection_rate=0.2).fit(X[TRAIN], y)
    plain = clone(candle).fit(X[TRAIN], y)
    for change in (
        lambda one: one.restrict(plain.classes_[:3]),
        lambda one: one.add_images(X[TRAIN][:5], y[:5]),
        lambda one: one.restrict(plain.classes_[1:]).add_images(X[TRAIN][:1], plain.classes_[1:2]),
        lambda one: one.add_unlabeled(X, np.linspace(0, 1, len(X))),
    ):
        changed, expected = change(clf), change(plain)
        assert changed.classes_.tolist() == expected.classes_.tolist()
        assert_allclose(changed.predict_proba(X), expected.predict_proba(X))
        score, is_new = expected.novelty_score(X, return_is_new=True)
        rejected = score > expected.novelty_thresholds(0.2)[is_new.astype(int)]
        assert 0 < rejected.sum() < len(X)
        assert (changed.predict(X) == np.where(rejected, "unknown", expected.predict(X))).all()
    assert clf.classes_.tolist() == plain.classes_.tolist()  # unchanged
