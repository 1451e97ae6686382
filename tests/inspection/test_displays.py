"""Values of the displays, compared with independent computations, and how they are drawn."""

import sys

import numpy as np
import pytest
from long_tail import BASE, DATA, LABELS, NEW, fit, make
from scipy.integrate import trapezoid
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcandle import make_candle_pipeline
from skcandle.exceptions import UnreadableImageWarning
from skcandle.inspection import (
    BaseNewCurveDisplay,
    LongTailDisplay,
    PredictionGridDisplay,
    PrototypeDisplay,
    ReliabilityDisplay,
)
from skcandle.metrics import ausuc_score, expected_calibration_error

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

ON_EMBEDDINGS = [BaseNewCurveDisplay, LongTailDisplay, PrototypeDisplay, ReliabilityDisplay]


@pytest.fixture(scope="module")
def clf():
    return fit()


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def zero_shot():
    """Logits of zero-shot CLIP."""
    text = np.array([DATA.texts[label] for label in LABELS])
    return 100 * DATA.X_test @ text.T


def draw(display, estimator, X=None, y=None, **options):
    X, y = (DATA.X_test, DATA.y_test) if X is None else (X, y)
    return display.from_estimator(estimator, X, y, **options)


# --- what all displays do --------------------------------------------------------------------


@pytest.mark.parametrize("display", ON_EMBEDDINGS)
def test_a_display_makes_a_figure_or_takes_the_axes_it_is_given(clf, display):
    drawn = draw(display, clf)
    assert drawn.figure_ is drawn.ax_.figure
    figure, ax = plt.subplots()
    assert drawn.plot(ax) is drawn
    assert drawn.ax_ is ax
    assert drawn.figure_ is figure
    given = draw(display, clf, ax=ax)
    assert given.ax_ is ax


@pytest.mark.parametrize("display", ON_EMBEDDINGS)
def test_rows_of_nan_are_left_out(clf, display):
    X = np.vstack([DATA.X_test, np.full((3, DATA.X_test.shape[1]), np.nan)])
    y = np.append(DATA.y_test, LABELS[:3])
    some, all_ = draw(display, clf, X, y), draw(display, clf)
    for name in ("recall", "base_accuracy", "image_points"):
        np.testing.assert_array_equal(getattr(some, name, 0), getattr(all_, name, 0))
    assert getattr(some, "curve", (0,))[-1] == getattr(all_, "curve", (0,))[-1]


@pytest.mark.parametrize("display", ON_EMBEDDINGS)
def test_no_finite_row_is_an_error(clf, display):
    with pytest.raises(ValueError, match="none of the images could be read"):
        draw(display, clf, np.full((2, DATA.X_test.shape[1]), np.nan), LABELS[:2])


@pytest.mark.parametrize("display", ON_EMBEDDINGS)
def test_lengths_that_differ_and_a_classifier_that_is_not_fitted_are_errors(clf, display):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        draw(display, clf, DATA.X_test, DATA.y_test[:-1])
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        draw(display, make())


@pytest.mark.parametrize("display", [*ON_EMBEDDINGS, PredictionGridDisplay])
def test_without_matplotlib_the_command_that_installs_it_is_named(clf, display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf'{display.__name__} needs .*"skcandle\[plots\]"'):
        draw(display, clf)


@pytest.mark.parametrize("display", ON_EMBEDDINGS)
def test_a_pipeline_of_images_is_taken_as_well(clf, display):
    pipe = make_pipeline(FunctionTransformer(), clf)
    assert draw(display, pipe).figure_ is not None


@pytest.mark.parametrize(
    "display, attribute",
    [
        (BaseNewCurveDisplay, "is_new_"),
        (LongTailDisplay, "class_count_"),
        (PrototypeDisplay, "prototypes_"),
    ],
)
def test_a_classifier_of_another_library_lacks_what_the_display_needs(display, attribute):
    from sklearn.linear_model import LogisticRegression

    other = LogisticRegression().fit(DATA.X, DATA.y)
    with pytest.raises(TypeError, match=f"LogisticRegression has no {attribute}"):
        draw(display, other)


def test_a_classifier_without_probabilities_is_an_error():
    from sklearn.svm import LinearSVC

    with pytest.raises(TypeError, match="must be a classifier with predict_proba, got LinearSVC"):
        draw(ReliabilityDisplay, LinearSVC().fit(DATA.X, DATA.y))


# --- long tail -------------------------------------------------------------------------------


def test_recall_and_training_images_of_each_class(clf, zero_shot):
    display = draw(LongTailDisplay, clf)
    y_pred, y_zero_shot = clf.predict(DATA.X_test), LABELS[zero_shot.argmax(axis=1)]
    assert display.classes.tolist() == LABELS.tolist()
    for k, label in enumerate(LABELS):
        own = DATA.y_test == label
        assert display.class_count[k] == (DATA.y == label).sum()
        assert display.recall[k] == pytest.approx((y_pred[own] == label).mean())
        assert display.zero_shot_recall[k] == pytest.approx((y_zero_shot[own] == label).mean())


def test_predictions_give_the_same_long_tail_as_the_estimator(clf):
    display = LongTailDisplay.from_predictions(
        DATA.y_test, clf.predict(DATA.X_test), y_train=DATA.y
    )
    expected = draw(LongTailDisplay, clf)
    np.testing.assert_array_equal(display.recall, expected.recall)
    np.testing.assert_array_equal(display.class_count, expected.class_count)
    assert display.zero_shot_recall is None


def test_means_are_drawn_in_groups_that_double():
    counts = np.array([0, 0, 1, 2, 3, 4, 5, 8, 9])
    recall = np.array([0.0, 0.5, 0.2, 0.4, 0.6, 1.0, 0.1, 0.3, 0.7])
    display = LongTailDisplay(classes=np.arange(9), class_count=counts, recall=recall).plot()
    (line,) = [line for line in display.ax_.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(line.get_ydata(), [0.25, 0.2, 0.4, 0.8, 0.2, 0.7])
    places = [np.log2(1 + np.array(group)).mean() for group in ([0], [1], [2], [3, 4], [5, 8], [9])]
    np.testing.assert_allclose(line.get_xdata(), places)


# --- base and new ----------------------------------------------------------------------------


def test_operating_point_is_the_accuracy_of_predict(clf):
    display = draw(BaseNewCurveDisplay, clf)
    y_pred, is_new = clf.predict(DATA.X_test), np.isin(DATA.y_test, NEW)
    base, new = display.operating_point
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert base == pytest.approx(balanced_accuracy_score(DATA.y_test[~is_new], y_pred[~is_new]))
        assert new == pytest.approx(balanced_accuracy_score(DATA.y_test[is_new], y_pred[is_new]))


def test_area_under_the_curve_and_the_curve_of_zero_shot(clf, zero_shot):
    display = draw(BaseNewCurveDisplay, clf)
    universe = {"classes": LABELS, "new_classes": NEW}
    logits = clf.decision_function(DATA.X_test)
    assert display.ausuc == pytest.approx(ausuc_score(DATA.y_test, logits, **universe))
    base, new, _ = display.zero_shot_curve
    expected = ausuc_score(DATA.y_test, zero_shot, **universe)
    assert trapezoid(base, new) == pytest.approx(expected)


def test_the_legend_names_the_classifier_and_its_area(clf):
    display = draw(BaseNewCurveDisplay, clf, name="mine")
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert f"mine, AUSUC {100 * display.ausuc:.1f} %" in texts


# --- reliability -----------------------------------------------------------------------------


def test_bins_of_confidence_and_accuracy(clf, zero_shot):
    display = draw(ReliabilityDisplay, clf, n_bins=5)
    for curve, proba in (
        (display.curve, clf.predict_proba(DATA.X_test)),
        (display.zero_shot_curve, np.exp(zero_shot) / np.exp(zero_shot).sum(axis=1, keepdims=True)),
    ):
        confidence, hit = proba.max(axis=1), LABELS[proba.argmax(axis=1)] == DATA.y_test
        bins = [(confidence > k / 5) & (confidence <= (k + 1) / 5) for k in range(5)]
        bins = [inside for inside in bins if inside.any()]
        np.testing.assert_allclose(curve.confidence, [confidence[b].mean() for b in bins])
        np.testing.assert_allclose(curve.accuracy, [hit[b].mean() for b in bins])
        assert curve.n_samples.tolist() == [b.sum() for b in bins]
        gaps = np.abs(curve.confidence - curve.accuracy)
        assert curve.ece == pytest.approx(gaps @ curve.n_samples / len(hit))
        ece = expected_calibration_error(DATA.y_test, proba, classes=LABELS, n_bins=5)
        assert curve.ece == pytest.approx(ece)


def test_scores_that_are_not_probabilities_are_an_error(clf):
    with pytest.raises(ValueError, match="y_proba must contain probabilities"):
        ReliabilityDisplay.from_predictions(
            DATA.y_test, clf.decision_function(DATA.X_test), classes=LABELS
        )


# --- prototypes ------------------------------------------------------------------------------


def test_the_map_is_the_plane_in_which_prototypes_differ_most(clf):
    shown = [*BASE[:3], *NEW[:2]]
    display = draw(PrototypeDisplay, clf, classes=shown)
    assert display.classes.tolist() == sorted(shown)
    assert display.is_new.tolist() == [False, False, False, True, True]
    prototypes = clf.prototypes_ / np.linalg.norm(clf.prototypes_, axis=1, keepdims=True)
    some = prototypes[np.isin(LABELS, shown)]
    plane = PCA(2).fit(some)
    np.testing.assert_allclose(display.prototype_points, plane.transform(some))
    inside = np.isin(DATA.y_test, shown)
    np.testing.assert_allclose(display.image_points, plane.transform(DATA.X_test[inside]))
    assert display.classes[display.image_classes].tolist() == DATA.y_test[inside].tolist()
    moved = clf.text_features_ - clf.text_features_.mean(axis=0) + prototypes.mean(axis=0)
    expected = plane.transform(moved[np.isin(LABELS, shown)])
    np.testing.assert_allclose(display.text_points, expected, atol=1e-12)


def test_by_default_half_of_the_classes_on_the_map_are_new(clf):
    display = draw(PrototypeDisplay, clf)
    assert display.is_new.tolist() == [False] * 4 + [True] * 4


def test_another_reducer_sees_all_points(clf):
    display = draw(PrototypeDisplay, clf, reducer=TruncatedSVD(2, random_state=0))
    assert display.image_points.shape == (8 * 25, 2)
    assert display.text_points.shape == display.prototype_points.shape == (8, 2)


def test_a_classifier_without_text_has_no_names_on_the_map():
    clf = make(text_encoder=None, new_classes=None).fit(DATA.X, DATA.y)
    seen = np.isin(DATA.y_test, BASE)
    display = draw(PrototypeDisplay, clf, DATA.X_test[seen], DATA.y_test[seen])
    assert display.text_points is None
    assert "name" not in [t.get_text() for t in display.ax_.get_legend().get_texts()]


@pytest.mark.parametrize(
    "classes, message",
    [
        (["gnu", *BASE], "'gnu', which is not one of the classes_"),
        (BASE[:1], "1 labels that can be drawn; .* 2 to 8"),
        (LABELS, "12 labels that can be drawn; .* 2 to 8"),
    ],
)
def test_classes_that_cannot_be_drawn_on_the_map(clf, classes, message):
    with pytest.raises(ValueError, match=message):
        draw(PrototypeDisplay, clf, classes=classes)


# --- images ----------------------------------------------------------------------------------

IMAGES = list(np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8))
CLASSES = ["cat", "cow", "dog"]
PROBA = np.array(
    [
        [0.9, 0.05, 0.05],
        [0.1, 0.8, 0.1],
        [0.2, 0.1, 0.7],
        [0.4, 0.3, 0.3],
        [np.nan] * 3,
        [0.0, 0.4, 0.6],
    ]
)
TRUE = ["cat", "dog", "cat", "cat", "cow", "dog"]


def grid(**options):
    return PredictionGridDisplay.from_predictions(
        IMAGES, PROBA, classes=CLASSES, **{"y_true": TRUE} | options
    )


@pytest.mark.parametrize(
    "show, positions",
    [
        ("confident_errors", [1, 2]),
        ("least_certain", [3, 5, 2, 1, 0]),
    ],
)
def test_images_in_order(show, positions):
    assert grid(show=show).positions.tolist() == positions


@pytest.mark.parametrize(
    "show, positions", [("right", {0, 3, 5}), ("wrong", {1, 2}), ("random", {0, 1, 2, 3, 5})]
)
def test_images_at_random(show, positions):
    display = grid(show=show)
    assert set(display.positions.tolist()) == positions
    again = grid(show=show)
    assert display.positions.tolist() == again.positions.tolist()


def test_answers_are_written_with_their_confidence_and_what_they_should_have_been():
    display = grid(show="confident_errors")
    assert [ax.get_title() for ax in display.axes_] == ["✗ cow\n80 %", "✗ dog\n70 %"]
    assert [ax.get_xlabel() for ax in display.axes_] == ["is dog", "is cat"]
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array(), IMAGES[1])
    right = grid(show="right").axes_[0]
    assert right.get_title().startswith("✓ ")
    assert right.get_xlabel() == ""


def test_without_labels_no_answer_is_marked():
    display = grid(y_true=None, show="least_certain", n_images=1)
    assert display.axes_[0].get_title() == "cat\n40 %"


def test_a_grid_takes_the_place_of_axes():
    figure, (left, right) = plt.subplots(1, 2)
    display = grid(ax=right)
    assert display.figure_ is figure
    assert display.ax_ is right
    assert all(ax.get_position().x0 >= right.get_position().x0 - 0.01 for ax in display.axes_)
    assert display.plot(left, n_columns=2) is display


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_names_are_not_read_as_formulas():
    names = ["$x^2$ {", "a\nb", "c" * 40]
    display = PredictionGridDisplay.from_predictions(
        IMAGES, PROBA, classes=names, show="least_certain"
    )
    display.figure_.canvas.draw()
    titles = {ax.get_title().split("\n")[0] for ax in display.axes_}
    assert titles == {"$x^2$ {", "a b", "c" * 13 + "…"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_images": 0}, "n_images == 0, must be >= 1"),
        ({"show": "all"}, "show must be one of right, wrong"),
        ({"y_true": None, "show": "wrong"}, "show='wrong' needs true labels"),
        ({"y_true": TRUE[:-1]}, "inconsistent numbers of samples"),
        ({"classes": CLASSES[:2]}, r"shape \(6, 3\) for 2 classes"),
        ({"y_true": ["gnu"] * 6, "show": "right"}, "There is no image to draw"),
    ],
)
def test_grids_that_cannot_be_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        PredictionGridDisplay.from_predictions(
            IMAGES, PROBA, **{"classes": CLASSES, "y_true": TRUE} | options
        )


def test_a_grid_of_images_needs_a_pipeline(clf):
    with pytest.raises(TypeError, match="must be a fitted pipeline .* got CandleClassifier"):
        PredictionGridDisplay.from_estimator(clf, IMAGES)


def test_a_grid_without_any_readable_image_is_an_error(tmp_path):
    pipe = make_candle_pipeline("emoji-clip", new_classes=["dog"]).set_params(clip__on_error="nan")
    images = list(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8))
    pipe.fit(images, ["cat", "cow"] * 2)
    with (
        pytest.raises(ValueError, match="no image to draw"),
        pytest.warns(UnreadableImageWarning),
    ):
        PredictionGridDisplay.from_estimator(pipe, [b"no image"], ["cat"])


def test_classes_that_all_have_images_make_no_column_of_new_ones(clf):
    base = np.isin(DATA.y_test, BASE)
    display = draw(LongTailDisplay, clf.restrict(BASE), DATA.X_test[base], DATA.y_test[base])
    assert "new classes" not in [text.get_text() for text in display.ax_.texts]
    assert "new classes" in [text.get_text() for text in draw(LongTailDisplay, clf).ax_.texts]
