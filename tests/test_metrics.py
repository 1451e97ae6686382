import re
import warnings
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcandle.metrics import (
    ausuc_score,
    base_new_curve,
    base_new_report,
    expected_calibration_error,
    harmonic_mean_score,
    harmonic_mean_scorer,
    joint_accuracy_scorer,
    joint_log_loss_scorer,
    shot_band_accuracy,
)
from skcandle.model_selection import NewClassSplit

CLASSES = np.array(["ant", "bee", "cat", "dog", "eel"])
NEW = np.array(["dog", "eel"])


@pytest.fixture
def scored():
    """Imbalanced labels with scores that are right often but not always."""
    rng = np.random.default_rng(0)
    y = rng.choice(5, size=60, p=[0.4, 0.2, 0.1, 0.2, 0.1])
    return CLASSES[y], rng.normal(size=(60, 5)) + 1.5 * np.eye(5)[y]


def balanced_accuracy(y_true, y_pred):
    return np.mean([np.mean(y_pred[y_true == label] == label) for label in np.unique(y_true)])


def joint_accuracies(y_true, scores, offset):
    """Base and new accuracy when the offset is taken off the scores of base classes."""
    is_new = np.isin(CLASSES, NEW)
    y_pred = CLASSES[np.argmax(scores - offset * ~is_new, axis=1)]
    side = np.isin(y_true, NEW)
    return balanced_accuracy(y_true[~side], y_pred[~side]), balanced_accuracy(
        y_true[side], y_pred[side]
    )


def all_offsets(scores):
    """Offsets between any two at which some decision between a base and a new class changes."""
    changes = np.unique(scores[:, :3, None] - scores[:, None, 3:])
    return np.r_[changes[0] - 1, (changes[:-1] + changes[1:]) / 2, changes[-1] + 1]


class KnowsNames(ClassifierMixin, BaseEstimator):
    """Predicts the label it is given as the only feature; `names` have no images."""

    def __init__(self, names=(), is_new=True):
        self.names = names
        self.is_new = is_new

    def fit(self, X, y):
        self.classes_ = np.union1d(y, np.asarray(self.names, dtype=CLASSES.dtype))
        if self.is_new:
            self.is_new_ = ~np.isin(self.classes_, y)
        return self

    def predict(self, X):
        known = np.isin(CLASSES[X[:, 0].astype(int)], self.classes_)
        return np.where(known, CLASSES[X[:, 0].astype(int)], self.classes_[0])


# harmonic_mean_score


def test_harmonic_mean_is_of_class_balanced_accuracies():
    y_true = ["ant"] * 4 + ["bee"] * 1 + ["dog"] * 2
    y_pred = ["ant", "ant", "ant", "dog"] + ["ant"] + ["dog", "ant"]
    base, new = (3 / 4 + 0) / 2, 1 / 2
    assert harmonic_mean_score(y_true, y_pred, new_classes=["dog"]) == pytest.approx(
        2 / (1 / base + 1 / new)
    )


def test_harmonic_mean_is_zero_without_any_new_prediction():
    assert harmonic_mean_score([0, 1, 2], [0, 1, 1], new_classes=[2]) == 0


def test_harmonic_mean_is_zero_when_all_is_wrong():
    assert harmonic_mean_score([0, 1, 2], [1, 2, 0], new_classes=[2]) == 0


@pytest.mark.parametrize("new, side", [([], "new"), ([7], "new"), ([0, 1], "base")])
def test_harmonic_mean_of_one_side_alone_warns_and_returns_zero_division(new, side):
    with pytest.warns(UndefinedMetricWarning, match=f"no {side} class"):
        assert np.isnan(harmonic_mean_score([0, 1], [0, 1], new_classes=new))
    with pytest.warns(UndefinedMetricWarning, match="0.25"):
        assert harmonic_mean_score([0, 1], [0, 1], new_classes=new, zero_division=0.25) == 0.25


def test_harmonic_mean_takes_a_class_that_does_not_occur_for_an_error_and_no_more():
    y_true, y_pred = np.array(["bee", "bee", "cat", "dog"]), np.array(["ant", "bee", "eel", "dog"])
    expected = 2 / (1 / balanced_accuracy(y_true[:3], y_pred[:3]) + 1)
    assert harmonic_mean_score(y_true, y_pred, new_classes=["ant", "dog"]) == expected


def test_harmonic_mean_works_through_make_scorer():
    X, y = np.arange(5)[:, None], CLASSES
    scorer = make_scorer(harmonic_mean_score, new_classes=NEW)
    assert scorer(KnowsNames(CLASSES).fit(X, y), X, y) == 1


@pytest.mark.parametrize(
    "y_true, y_pred, message",
    [([0, 1], [0], "inconsistent numbers of samples"), ([], [], "y_true must not be empty")],
)
def test_harmonic_mean_rejects(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        harmonic_mean_score(y_true, y_pred, new_classes=[1])


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"y_true": ["ant", None]}, ValueError, r"^y_true\[1\] is missing \(None\)"),
        ({"y_true": ["ant", np.nan]}, ValueError, r"^y_true\[1\] is missing \(nan\)"),
        ({"y_pred": ["ant", 3]}, TypeError, r"y_pred\[0\] is 'ant' and y_pred\[1\] is 3"),
        (
            {"new_classes": "dog"},
            TypeError,
            "^new_classes must be a list .* single string 'dog'",
        ),
    ],
)
def test_harmonic_mean_names_missing_labels(change, error, message):
    kwargs = {"y_true": ["ant", "dog"], "y_pred": ["ant", "dog"], "new_classes": ["dog"]}
    with pytest.raises(error, match=message):
        harmonic_mean_score(**kwargs | change)


# harmonic_mean_scorer


def test_scorer_takes_new_classes_from_is_new():
    X, y = np.arange(5)[:, None], CLASSES
    model = KnowsNames(names=NEW).fit(X[:3], y[:3])
    assert harmonic_mean_scorer(model, X, y) == 1


@pytest.mark.filterwarnings("ignore:The labels .* not among the classes_")
def test_scorer_takes_labels_unknown_to_the_classifier_as_new():
    X, y = np.arange(5)[:, None], CLASSES
    model = KnowsNames(is_new=False).fit(X[:3], y[:3])
    assert harmonic_mean_scorer(model, X, y) == 0


def test_scorer_looks_into_pipelines_and_searches():
    X, y = np.arange(5)[:, None].repeat(4, axis=0), CLASSES.repeat(4)
    train = y < "dog"
    search = GridSearchCV(KnowsNames(), {"names": [NEW]}, cv=2)
    pipeline = make_pipeline("passthrough", "passthrough", search).fit(X[train], y[train])
    assert harmonic_mean_scorer(pipeline, X, y) == 1


@pytest.mark.filterwarnings("ignore:The labels .* not among the classes_")
def test_scorer_in_grid_search_prefers_the_classifier_that_knows_new_classes():
    X, y = np.arange(5)[:, None].repeat(4, axis=0), CLASSES.repeat(4)
    search = GridSearchCV(
        KnowsNames(),
        {"names": [(), CLASSES]},
        cv=NewClassSplit(3, random_state=0),
        scoring=harmonic_mean_scorer,
        error_score="raise",
    ).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0, 1])


@pytest.mark.filterwarnings("ignore:The labels .* not among the classes_")
def test_scorer_with_an_ordinary_classifier_scores_zero_in_every_fold():
    X, y = np.random.default_rng(0).normal(size=(40, 3)), CLASSES.repeat(8)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_score(model, X, y, cv=NewClassSplit(2), scoring=harmonic_mean_scorer)
    np.testing.assert_array_equal(scores, [0, 0])


def test_scorer_without_new_classes_in_the_fold_is_nan():
    X, y = np.zeros((8, 1)), CLASSES[:2].repeat(4)
    with pytest.warns(UndefinedMetricWarning, match="no new class"):
        scores = cross_val_score(DummyClassifier(), X, y, cv=2, scoring=harmonic_mean_scorer)
    assert np.isnan(scores).all()


# base_new_curve and ausuc_score


def test_curve_agrees_with_prediction_at_every_offset(scored):
    y_true, scores = scored
    base, new, offsets = base_new_curve(y_true, scores, classes=CLASSES, new_classes=NEW)
    middles = np.r_[offsets[1] - 1, (offsets[1:-1] + offsets[2:]) / 2, offsets[-1] + 1]
    expected = np.array([joint_accuracies(y_true, scores, offset) for offset in middles])
    np.testing.assert_allclose(np.c_[base, new], expected, atol=1e-12)


def test_curve_has_one_point_for_tied_scores():
    scores = [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    base, new, offsets = base_new_curve([0, 1, 1], scores, classes=[0, 1], new_classes=[1])
    np.testing.assert_array_equal(base, [1, 0])
    np.testing.assert_array_equal(new, [0, 1])
    np.testing.assert_array_equal(offsets, [-np.inf, 1])


def test_ausuc_is_the_area_under_the_curve_of_all_offsets(scored):
    y_true, scores = scored
    points = [joint_accuracies(y_true, scores, offset) for offset in all_offsets(scores)]
    area = sum((b0 + b1) / 2 * (n1 - n0) for (b0, n0), (b1, n1) in pairwise(points))
    assert ausuc_score(y_true, scores, classes=CLASSES, new_classes=NEW) == pytest.approx(area)


@pytest.mark.parametrize("decimals", [6, 0], ids=["no ties", "ties"])
def test_ausuc_is_openworld_auc_with_classes_drawn_uniformly(scored, decimals):
    y_true, scores = scored[0], scored[1].round(decimals)
    base, new = scores[:, :3], scores[:, 3:]
    difference = base.max(axis=1) - new.max(axis=1)
    best = np.where(np.isin(y_true, NEW), NEW[new.argmax(axis=1)], CLASSES[base.argmax(axis=1)])
    is_right = best == y_true

    def share_of_pairs(base_class, new_class):
        pairs = product(np.flatnonzero(y_true == base_class), np.flatnonzero(y_true == new_class))
        ranked = [
            is_right[i] * is_right[j] * np.heaviside(difference[i] - difference[j], 0.5)
            for i, j in pairs
        ]
        return np.mean(ranked)

    expected = np.mean([share_of_pairs(k, m) for k, m in product(CLASSES[:3], NEW)])
    area = ausuc_score(y_true, scores, classes=CLASSES, new_classes=NEW)
    assert area == pytest.approx(expected)


@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_ausuc_does_not_depend_on_an_offset_of_base_scores(scored, shift):
    y_true, scores = scored
    shifted = scores + shift * np.isin(CLASSES, NEW)
    kwargs = {"classes": CLASSES, "new_classes": NEW}
    assert ausuc_score(y_true, shifted, **kwargs) == ausuc_score(y_true, scores, **kwargs)


def test_ausuc_of_perfect_and_of_constant_scores():
    kwargs = {"classes": [0, 1], "new_classes": [1]}
    assert ausuc_score([0, 1], [[2, 0], [0, 2]], **kwargs) == 1
    assert ausuc_score([0, 1], [[0, 0], [0, 0]], **kwargs) == 0.5


@pytest.mark.parametrize("function", [base_new_curve, ausuc_score, base_new_report])
def test_probabilities_are_refused_and_their_logarithm_is_taken(scored, function):
    y_true, scores = scored
    kwargs = {"classes": CLASSES, "new_classes": NEW}
    with pytest.raises(
        ValueError, match="must contain logits, not probabilities.* predict_log_proba"
    ):
        function(y_true, softmax(scores, axis=1), **kwargs)
    result = function(y_true, log_softmax(scores, axis=1), **kwargs)
    expected = function(y_true, scores, **kwargs)
    if function is base_new_report:
        assert result == expected
    else:
        for part, whole in zip(np.atleast_2d(result), np.atleast_2d(expected), strict=True):
            np.testing.assert_allclose(part, whole)


def test_a_constant_added_to_scores_changes_nothing(scored):
    y_true, scores = scored
    kwargs = {"classes": CLASSES, "new_classes": NEW, "output_dict": True}
    expected = base_new_report(y_true, scores, **kwargs)
    assert base_new_report(y_true, scores + 0.001, **kwargs) == pytest.approx(expected)


def test_logarithms_of_probabilities_of_exactly_zero_are_accepted():
    scores = np.where(np.eye(3), 0, -np.inf)
    kwargs = {"classes": [0, 1, 2], "new_classes": [2], "output_dict": True}
    report = base_new_report([0, 1, 2], scores, **kwargs)
    assert report["joint_harmonic_mean"] == report["ausuc"] == 1
    assert report["log_loss"] == pytest.approx(0)
    with pytest.raises(ValueError, match="contains NaN"):
        base_new_report([0, 1, 2], scores * np.nan, **kwargs)


def test_order_of_the_columns_does_not_matter(scored):
    y_true, scores = scored
    order = [3, 0, 4, 1, 2]
    expected = base_new_report(y_true, scores, classes=CLASSES, new_classes=NEW, output_dict=True)
    report = base_new_report(
        y_true, scores[:, order], classes=CLASSES[order], new_classes=NEW, output_dict=True
    )
    assert report == pytest.approx(expected)


# base_new_report


def test_report_separate_and_joint_accuracies(scored):
    y_true, scores = scored
    side = np.isin(y_true, NEW)
    base = balanced_accuracy(y_true[~side], CLASSES[:3][scores[~side, :3].argmax(axis=1)])
    new = balanced_accuracy(y_true[side], CLASSES[3:][scores[side, 3:].argmax(axis=1)])
    joint_base, joint_new = joint_accuracies(y_true, scores, offset=0)
    report = base_new_report(y_true, scores, classes=CLASSES, new_classes=NEW, output_dict=True)
    assert report["base"] == pytest.approx(base)
    assert report["new"] == pytest.approx(new)
    assert report["harmonic_mean"] == pytest.approx(2 * base * new / (base + new))
    assert report["joint_base"] == pytest.approx(joint_base)
    assert report["joint_new"] == pytest.approx(joint_new)
    assert report["joint_harmonic_mean"] == pytest.approx(
        harmonic_mean_score(y_true, CLASSES[scores.argmax(axis=1)], new_classes=NEW)
    )


def test_report_oracle_is_the_best_of_all_offsets(scored):
    y_true, scores = scored
    best = max(
        2 * base * new / (base + new)
        for base, new in (joint_accuracies(y_true, scores, g) for g in all_offsets(scores))
        if base + new
    )
    report = base_new_report(y_true, scores, classes=CLASSES, new_classes=NEW, output_dict=True)
    assert report["best_joint_harmonic_mean"] == pytest.approx(best)
    assert report["best_joint_harmonic_mean"] >= report["joint_harmonic_mean"]


def test_report_probabilities_are_the_softmax_over_all_classes(scored):
    y_true, scores = scored
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    loss = -np.mean([np.log(p[CLASSES == label]) for p, label in zip(proba, y_true, strict=True)])
    report = base_new_report(y_true, scores, classes=CLASSES, new_classes=NEW, output_dict=True)
    assert report["log_loss"] == pytest.approx(loss)
    assert report["ece"] == expected_calibration_error(y_true, proba, classes=CLASSES)


def test_report_takes_the_number_of_bins(scored):
    y_true, scores = scored
    kwargs = {"classes": CLASSES, "new_classes": NEW, "n_bins": 3, "output_dict": True}
    report = base_new_report(y_true, scores, **kwargs)
    proba = softmax(scores, axis=1)
    assert report["ece"] == expected_calibration_error(y_true, proba, classes=CLASSES, n_bins=3)


def test_a_class_without_test_images_competes_and_is_in_no_average(scored):
    y_true, scores = scored
    present = ~np.isin(y_true, ["cat", "eel"])
    y_true, scores = y_true[present], scores[present]
    report = base_new_report(y_true, scores, classes=CLASSES, new_classes=NEW, output_dict=True)
    joint = joint_accuracies(y_true, scores, offset=0)
    assert (report["joint_base"], report["joint_new"]) == pytest.approx(joint)
    own = log_softmax(scores, axis=1)[np.arange(len(y_true)), np.searchsorted(CLASSES, y_true)]
    assert report["log_loss"] == pytest.approx(-own.mean())


def test_report_as_text_shows_the_numbers_of_the_dict(scored):
    y_true, scores = scored
    kwargs = {"classes": CLASSES, "new_classes": NEW}
    text = base_new_report(y_true, scores, **kwargs)
    for value in base_new_report(y_true, scores, **kwargs, output_dict=True).values():
        assert f"{value:.3f}" in text


def test_report_of_float32_scores_does_not_warn(scored):
    y_true, scores = scored
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base_new_report(y_true, scores.astype(np.float32), classes=CLASSES, new_classes=NEW)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"classes": CLASSES[:4]}, "one label per column, got 4 labels for 5 columns"),
        ({"classes": CLASSES[[0, 0, 1, 2, 3]]}, "classes must not repeat a label"),
        ({"classes": ["ant", "bee", "cat", "dog", "fly"]}, "not in classes: 'eel'"),
        (
            {"new_classes": ["okapi"]},
            "^new_classes contains .* not in classes: 'okapi'",
        ),
        ({"classes": ["ant", "bee", None, "dog", "eel"]}, r"^classes\[2\] is missing"),
        ({"y_true": ["ant"] * 59 + [None]}, r"^y_true\[59\] is missing"),
        ({"new_classes": ["dog", None]}, r"^new_classes\[1\] is missing"),
        ({"new_classes": []}, "must have samples of a new class"),
        ({"new_classes": CLASSES}, "must have samples of a base class"),
        ({"y_true": CLASSES}, "inconsistent numbers of samples"),
        ({"y_score": np.full((60, 5), np.nan)}, "y_score contains NaN"),
    ],
)
def test_report_rejects(scored, change, message):
    y_true, scores = scored
    kwargs = {"y_true": y_true, "y_score": scores, "classes": CLASSES, "new_classes": NEW}
    with pytest.raises(ValueError, match=message):
        base_new_report(**kwargs | change)


@pytest.mark.parametrize(
    "classes, shown",
    [("abcde", "'a', 'b', 'c', 'd', 'e'"), ("abcdef", "'a', 'b', 'c', 'd', 'e', ...")],
)
def test_an_error_shows_up_to_five_labels(classes, shown):
    scores = np.zeros((len(classes), 2))
    with pytest.raises(ValueError, match=rf"not in classes: {re.escape(shown)}\.$"):
        base_new_report(list(classes), scores, classes=["x", "y"], new_classes=["y"])


# expected_calibration_error


@pytest.mark.parametrize("n_bins", [1, 10, 15])
def test_calibration_error_is_the_weighted_gap_of_the_bins(scored, n_bins):
    y_true, scores = scored
    proba = softmax(scores, axis=1)
    confidence, hit = proba.max(axis=1), CLASSES[proba.argmax(axis=1)] == y_true
    error = 0
    for k in range(n_bins):
        inside = (confidence > k / n_bins) & (confidence <= (k + 1) / n_bins)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - hit[inside].mean())
    assert expected_calibration_error(
        y_true, proba, classes=CLASSES, n_bins=n_bins
    ) == pytest.approx(error)


def test_errors_of_two_bins_do_not_cancel_and_a_bin_has_its_upper_end():
    n_classes, n_bins = 40, 8
    # the middle and the upper end of each bin; all is right in every second bin, else all wrong
    confidence = np.arange(1, 2 * n_bins + 1) / (2 * n_bins)
    hit = (np.arange(2 * n_bins) // 2) % 2
    rest = np.ones((2 * n_bins, n_classes - 1)) / (n_classes - 1)
    proba = np.c_[confidence, (1 - confidence)[:, None] * rest]
    error = expected_calibration_error(1 - hit, proba, classes=np.arange(n_classes), n_bins=n_bins)
    assert error == pytest.approx(np.abs(confidence - hit).mean())


@pytest.mark.parametrize("dtype", [bool, int, np.float32])
def test_calibration_error_of_sure_predictions_is_the_error_rate(dtype):
    proba = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype)
    assert expected_calibration_error([0, 0, 1, 1], proba, classes=[0, 1]) == 1 / 4


def test_probabilities_that_were_rounded_to_four_decimals_are_taken():
    proba = np.array([[0.3333, 0.3333, 0.3333], [0.6667, 0.1667, 0.1667]])
    assert (proba.sum(axis=1) != 1).all()
    error = expected_calibration_error([0, 0], proba, classes=[0, 1, 2])
    assert error == pytest.approx((2 - 0.3333 - 0.6667) / 2)


@pytest.mark.parametrize(
    "proba, n_bins, message",
    [
        ([[2.0, 0.5]], 15, "rows that sum to one"),
        ([[0.5, 0.499]], 15, "rows that sum to one"),
        ([[1.5, -0.5]], 15, "no negative values"),
        ([[np.nan, 1.0]], 15, "y_proba contains NaN"),
        ([[0.5, 0.5]], 0, "n_bins must be a positive integer, got 0"),
        ([[0.5, 0.5]], 2.5, "n_bins must be a positive integer, got 2.5"),
    ],
)
def test_calibration_error_rejects(proba, n_bins, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error([0], proba, classes=[0, 1], n_bins=n_bins)


# shot_band_accuracy


def test_bands_average_the_recall_of_their_classes():
    y_train = ["ant"] * 20 + ["bee"] * 19 + ["cat"] * 5 + ["dog"] * 4
    y_true = np.array(["ant", "ant", "bee", "cat", "cat", "cat", "cat", "dog", "eel"])
    y_pred = np.array(["ant", "bee", "bee", "cat", "dog", "dog", "dog", "dog", "ant"])
    assert shot_band_accuracy(y_true, y_pred, y_train=y_train) == {
        ">= 20": 0.5,
        "5 to 19": (1 + 1 / 4) / 2,
        "1 to 4": 1.0,
        "0": 0.0,
    }


def test_bands_can_be_chosen():
    bands = shot_band_accuracy([0, 1, 2], [0, 1, 1], y_train=[0, 0, 1], bands=(2, 1))
    assert bands == {">= 2": 1.0, "1": 1.0, "0": 0.0}
    bands = shot_band_accuracy([0, 1, 2], [0, 1, 1], y_train=[0, 0, 1], bands=(1,))
    assert bands == {">= 1": 1.0, "0": 0.0}


def test_bands_take_a_class_that_does_not_occur_for_an_error_and_no_more():
    assert shot_band_accuracy([1, 1], [0, 1], y_train=[0, 1])["1 to 4"] == 0.5


def test_a_band_without_test_images_is_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bands = shot_band_accuracy([0], [0], y_train=[0])
    assert np.isnan([bands[">= 20"], bands["5 to 19"], bands["0"]]).all()


@pytest.mark.parametrize("bands", [(), (1, 5), (5, 5), (5, 0), (5, 1, 0)])
def test_bands_must_decrease(bands):
    with pytest.raises(ValueError, match="bands must be positive and decreasing"):
        shot_band_accuracy([0], [0], y_train=[0], bands=bands)


def test_bands_need_a_label_of_every_training_image():
    with pytest.raises(ValueError, match=r"^y_train\[1\] is missing"):
        shot_band_accuracy(["ant"], ["ant"], y_train=["ant", np.nan])


def test_the_scorer_says_which_labels_the_classifier_does_not_know():
    X, y = np.zeros((4, 1)), ["cat", "cow", "cat", "cow"]
    clf = DummyClassifier().fit(X, y)
    with pytest.warns(UndefinedMetricWarning, match="labels 'okapi' of y .* in its class_names"):
        assert harmonic_mean_scorer(clf, X, ["cat", "cow", "okapi", "okapi"]) == 0.0


def test_the_scorer_needs_all_labels():
    clf = DummyClassifier().fit(np.zeros((2, 1)), ["cat", "cow"])
    with pytest.raises(ValueError, match=r"^y\[1\] is missing"):
        harmonic_mean_scorer(clf, np.zeros((2, 1)), ["cat", None])


# joint scorers


class Fixed(ClassifierMixin, BaseEstimator):
    """Knows some classes; the features are their probabilities."""

    def __init__(self, classes):
        self.classes = classes

    def fit(self, X, y):
        self.classes_ = np.array(self.classes)
        return self

    def predict_proba(self, X):
        return np.asarray(X)

    def predict(self, X):
        return self.classes_[np.asarray(X).argmax(axis=1)]


PROBA = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
TRUE = ["ant", "ant", "ant", "bee"]  # the classifier also knows "cat"


@pytest.mark.parametrize(
    "prior, of_ant, of_bee",
    [(None, 1 / 2, 1 / 2), ({"ant": 3, "bee": 1}, 3 / 4, 1 / 4), ({"ant": 0, "bee": 0.1}, 0, 1)],
)
def test_joint_scores_weigh_classes_equally_or_by_the_prior(prior, of_ant, of_bee):
    clf = Fixed(["ant", "bee", "cat"]).fit(PROBA, TRUE)
    accuracy = joint_accuracy_scorer(clf, PROBA, TRUE, class_prior=prior)
    assert accuracy == pytest.approx(of_ant * 1 / 3 + of_bee * 0)
    loss = -joint_log_loss_scorer(clf, PROBA, TRUE, class_prior=prior)
    assert loss == pytest.approx(of_ant * np.log(2 * 4 * 4) / 3 + of_bee * np.log(4))


def test_joint_log_loss_does_not_depend_on_the_order_of_the_classes():
    order = [2, 0, 1]
    a = Fixed(["ant", "bee", "cat"]).fit(PROBA, TRUE)
    b = Fixed(np.array(["ant", "bee", "cat"])[order]).fit(PROBA, TRUE)
    assert joint_log_loss_scorer(a, PROBA, TRUE) == joint_log_loss_scorer(b, PROBA[:, order], TRUE)


def test_joint_scores_count_a_label_that_the_classifier_does_not_know_as_wrong():
    clf = Fixed(["ant", "bee", "cat"]).fit(PROBA, TRUE)
    y = ["ant", "ant", "ant", "auk"]  # between two known labels
    with pytest.warns(UndefinedMetricWarning, match="'auk' of y are not among the classes_"):
        assert joint_accuracy_scorer(clf, PROBA, y) == pytest.approx(1 / 2 * 1 / 3)
    with pytest.warns(UndefinedMetricWarning, match="'auk'"):
        loss = -joint_log_loss_scorer(clf, PROBA, y)
    smallest = np.log(np.finfo(float).eps)
    assert loss == pytest.approx(np.log(32) / 3 / 2 - smallest / 2)


@pytest.mark.parametrize("scorer", [joint_accuracy_scorer, joint_log_loss_scorer])
@pytest.mark.parametrize(
    "prior, message",
    [
        ({"ant": 1}, "no frequency for the label 'bee' of y"),
        ({"ant": 1, "bee": -1}, "must be finite and not negative"),
        ({"ant": 0, "bee": 0}, "one of them positive"),
        ({"ant": 1, "bee": np.nan}, "must be finite"),
    ],
)
def test_joint_scorers_check_the_prior(scorer, prior, message):
    clf = Fixed(["ant", "bee", "cat"]).fit(PROBA, TRUE)
    with pytest.raises(ValueError, match=message):
        scorer(clf, PROBA, TRUE, class_prior=prior)


@pytest.mark.parametrize("scorer", [joint_accuracy_scorer, joint_log_loss_scorer])
def test_joint_scorers_look_into_pipelines_and_searches(scorer):
    X = np.array([[0.9, 0.1], [0.2, 0.8]] * 3)
    y = np.array(["ant", "bee"] * 3)
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipe, {"logisticregression__C": [1.0, 2.0]}, cv=3, scoring=scorer)
    assert np.isfinite(search.fit(X, y).best_score_)
    assert scorer(search, X, y) == scorer(search.best_estimator_, X, y)
