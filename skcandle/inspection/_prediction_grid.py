"""Images with their predictions and confidences."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, check_random_state, check_scalar

from .._images.inputs import as_image_list
from .._labels import label_array
from .._typing import Images, Labels, RandomState
from ._display import Display, require_matplotlib
from ._fitted import is_readable, rows_of, shown_as, shown_labels, split_pipeline
from ._style import BLUE, GREY, VERMILION, WIDTH, shortened
from ._thumbnails import rgb_array

SELECTIONS = ("right", "wrong", "confident_errors", "least_certain", "random")
NEED_LABELS = ("right", "wrong", "confident_errors")
PIXELS = 160  # per image in the grid


@dataclass(kw_only=True, eq=False, repr=False)
class PredictionGridDisplay(Display):
    """Images with the prediction of a classifier and its confidence.

    A blue check mark stands for a correct prediction, a vermilion cross for a wrong one, with the
    true label below.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create a display.

    Parameters
    ----------
    images : list
        Images, in the order in which they are drawn.
    y_pred : ndarray of shape (n_images,)
        Predicted labels.
    confidence : ndarray of shape (n_images,)
        Their probabilities.
    y_true : ndarray of shape (n_images,), default=None
        True labels.
    positions : ndarray of shape (n_images,), default=None
        Positions of the images in the input.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes whose area the grid takes.
    axes_ : ndarray of shape (n_images,)
        Axes of the images.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    ImageReport : A page with errors and other findings.

    Examples
    --------
    >>> from skcandle.datasets import load_emoji
    >>> from skcandle.inspection import PredictionGridDisplay
    >>> images = load_emoji().images[:3]
    >>> y_proba = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    >>> display = PredictionGridDisplay.from_predictions(
    ...     images, y_proba, classes=["cat", "cow"], y_true=["cat", "cat", "cat"], show="wrong"
    ... )
    >>> sorted(display.positions.tolist()), display.y_pred.tolist()
    ([1, 2], ['cow', 'cow'])
    """

    images: list
    y_pred: np.ndarray
    confidence: np.ndarray
    y_true: np.ndarray | None = None
    positions: np.ndarray | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Images,
        y: Labels | None = None,
        *,
        show: str = "random",
        n_images: int = 18,
        random_state: RandomState = 0,
        ax: Any = None,
    ) -> "PredictionGridDisplay":
        """Draw predictions of a fitted pipeline.

        Parameters
        ----------
        estimator : object
            Fitted pipeline of a featurizer and a classifier.
        X : list or array of length n_samples
            Images. Those that the featurizer turns into NaN are ignored.
        y : array-like of shape (n_samples,), default=None
            True labels.
        show : str, default="random"
            Which images, see :meth:`from_predictions`.
        n_images : int, default=18
            Maximum number of images.
        random_state : int, RandomState instance or None, default=0
            Controls the choice of ``"right"``, ``"wrong"`` and ``"random"`` images.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : PredictionGridDisplay
            The display, drawn.
        """
        require_matplotlib(cls.__name__)
        images = as_image_list(X)
        check_consistent_length(images, y)
        featurizer, classifier = split_pipeline(estimator)
        rows = featurizer.transform(images)
        readable = is_readable(rows)
        y_proba = np.full((len(images), len(classifier.classes_)), np.nan)
        if readable.any():
            y_proba[readable] = classifier.predict_proba(rows_of(rows, readable))
        return cls.from_predictions(
            images,
            y_proba,
            classes=shown_labels(classifier),
            y_true=None if y is None else shown_as(classifier, label_array(y)),
            show=show,
            n_images=n_images,
            random_state=random_state,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        images: Images,
        y_proba: ArrayLike,
        *,
        classes: Labels,
        y_true: Labels | None = None,
        show: str = "random",
        n_images: int = 18,
        random_state: RandomState = 0,
        ax: Any = None,
    ) -> "PredictionGridDisplay":
        """Draw from probabilities.

        Parameters
        ----------
        images : list or array of length n_samples
            As for :class:`~skcandle.CLIPFeaturizer`.
        y_proba : array-like of shape (n_samples, n_classes)
            Probabilities. Images with a row of NaN are ignored.
        classes : array-like of shape (n_classes,)
            Labels of the columns of `y_proba`.
        y_true : array-like of shape (n_samples,), default=None
            True labels.
        show : str, default="random"
            ``"right"`` and ``"wrong"`` choose randomly among the correct and the wrong predictions,
            ``"random"`` among all. ``"confident_errors"`` shows the wrong predictions with the
            highest confidence, ``"least_certain"`` the predictions with the lowest. ``"right"``,
            ``"wrong"`` and ``"confident_errors"`` need `y_true`.
        n_images : int, default=18
            Maximum number of images.
        random_state : int, RandomState instance or None, default=0
            Controls the choice of ``"right"``, ``"wrong"`` and ``"random"`` images.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : PredictionGridDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `show` is unknown or needs labels, `n_images` is not positive, lengths do not
            agree, or no image remains.
        """
        images, classes = as_image_list(images), np.asarray(classes)
        y_proba = np.asarray(y_proba, dtype=float)
        y_true = None if y_true is None else label_array(y_true, "y_true")
        check_consistent_length(images, y_proba, y_true)
        if y_proba.ndim != 2 or y_proba.shape[1] != len(classes):
            raise ValueError(
                f"y_proba has shape {y_proba.shape} for {len(classes)} classes; it must have one "
                "column per class."
            )
        check_scalar(n_images, "n_images", Integral, min_val=1)
        if show not in SELECTIONS:
            raise ValueError(f"show must be one of {', '.join(SELECTIONS)}, got {show!r}.")
        if y_true is None and show in NEED_LABELS:
            raise ValueError(
                f"show={show!r} needs true labels; pass them, or choose another value."
            )
        answered = np.flatnonzero(np.isfinite(y_proba).all(axis=1))
        y_pred, confidence = classes[y_proba.argmax(axis=1)], y_proba.max(axis=1)
        hit = None if y_true is None else y_pred == y_true
        chosen = _select(show, answered, confidence, hit, random_state)[:n_images]
        if not len(chosen):
            raise ValueError(f"There is no image to draw with show={show!r}.")
        return cls(
            images=[images[i] for i in chosen],
            y_pred=y_pred[chosen],
            confidence=confidence[chosen],
            y_true=None if y_true is None else y_true[chosen],
            positions=chosen,
        ).plot(ax)

    def plot(self, ax: Any = None, *, n_columns: int = 6) -> "PredictionGridDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes whose area the grid takes; by default in a new figure.
        n_columns : int, default=6
            Images per row.

        Returns
        -------
        display : PredictionGridDisplay
            The display itself.
        """
        require_matplotlib(type(self).__name__)
        from matplotlib.gridspec import GridSpecFromSubplotSpec

        check_scalar(n_columns, "n_columns", Integral, min_val=1)
        n_columns = min(n_columns, len(self.images))
        n_rows = -(-len(self.images) // n_columns)
        ax = self._set_axes(ax, (WIDTH, n_rows * (WIDTH / 6 + 0.55)))
        ax.set_axis_off()
        cells = GridSpecFromSubplotSpec(
            n_rows, n_columns, subplot_spec=ax.get_subplotspec(), hspace=0.12, wspace=0.05
        )
        axes = []
        for index, image in enumerate(self.images):
            cell = self.figure_.add_subplot(cells[divmod(index, n_columns)])
            cell.imshow(rgb_array(image, PIXELS))
            cell.set_xticks([])
            cell.set_yticks([])
            cell.spines[:].set_visible(False)
            self._label(cell, index)
            axes.append(cell)
        self.axes_ = np.array(axes)
        return self

    def _label(self, cell, index):
        confidence = f"{100 * self.confidence[index]:.0f} %"
        options = {"parse_math": False, "fontsize": 9}
        answer = shortened(self.y_pred[index], 14)
        if self.y_true is None:
            cell.set_title(f"{answer}\n{confidence}", **options)
            return
        right = self.y_pred[index] == self.y_true[index]
        colour, mark = (BLUE, "\u2713") if right else (VERMILION, "\u2717")
        cell.set_title(f"{mark} {answer}\n{confidence}", color=colour, **options)
        if not right:
            truth = shortened(self.y_true[index], 14)
            cell.set_xlabel(f"is {truth}", color=GREY, labelpad=2, **options)


def _select(show, answered, confidence, hit, random_state):
    """Positions of the images, in the order in which they are shown."""
    if show == "least_certain":
        return answered[np.argsort(confidence[answered], kind="stable")]
    if show == "confident_errors":
        wrong = answered[~hit[answered]]
        return wrong[np.argsort(-confidence[wrong], kind="stable")]
    if show in ("right", "wrong"):
        answered = answered[hit[answered] == (show == "right")]
    return check_random_state(random_state).permutation(answered)
