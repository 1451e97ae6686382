"""Accuracy against confidence, over all classes."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.calibration import calibration_curve

from .._labels import label_array
from .._typing import Labels
from ..metrics import expected_calibration_error
from ._display import Display
from ._fitted import readable_part, zero_shot_log_proba
from ._style import BLUE, GREY, SQUARE, plain


class Reliability(NamedTuple):
    """A reliability curve, as :class:`ReliabilityDisplay` draws it.

    Parameters
    ----------
    confidence : ndarray of shape (n_filled_bins,)
        Mean probability of the predicted class in each bin that is not empty.
    accuracy : ndarray of shape (n_filled_bins,)
        Share of correct predictions in the bin.
    n_samples : ndarray of shape (n_filled_bins,)
        Number of samples in the bin.
    ece : float
        Expected calibration error.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    n_samples: np.ndarray
    ece: float


@dataclass(kw_only=True, eq=False, repr=False)
class ReliabilityDisplay(Display):
    """Accuracy against confidence, the probability of the predicted class, over all classes.

    On the diagonal, 80 % of the predictions with a confidence of 80 % are correct; below it, the
    classifier is overconfident. The area of a marker is proportional to the number of images in
    its bin. For the probability of one class out of two, use
    :class:`sklearn.calibration.CalibrationDisplay`.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create a display.

    Parameters
    ----------
    curve : Reliability
        The curve, see :class:`Reliability`.
    zero_shot_curve : Reliability, default=None
        The same for zero-shot CLIP.
    name : str, default=None
        Name of the classifier in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    skcandle.metrics.expected_calibration_error : Compute the error in the legend.

    Examples
    --------
    >>> from skcandle.inspection import ReliabilityDisplay
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]]
    >>> display = ReliabilityDisplay.from_predictions(
    ...     ["a", "b", "b"], y_proba, classes=["a", "b"]
    ... )
    >>> display.curve.accuracy.tolist(), display.curve.n_samples.tolist()
    ([1.0, 0.5], [1, 2])
    """

    _figure_size = SQUARE

    curve: Reliability
    zero_shot_curve: Reliability | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Labels,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
    ) -> "ReliabilityDisplay":
        """Draw a fitted classifier, and zero-shot CLIP if it knows class names.

        Parameters
        ----------
        estimator : object
            Fitted pipeline that takes images, or classifier that takes embeddings.
        X : list or array of length n_samples
            Test images, or embeddings. Rows of NaN are ignored.
        y : array-like of shape (n_samples,)
            True labels.
        n_bins : int, default=10
            Number of bins of equal width between 0 and 1.
        name : str, default=None
            Name in the legend, by default the class name of the classifier.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ReliabilityDisplay
            The display, drawn.
        """
        X, y, classifier = readable_part(estimator, X, label_array(y))
        zero_shot = zero_shot_log_proba(classifier, X)
        return cls.from_predictions(
            y,
            classifier.predict_proba(X),
            classes=classifier.classes_,
            y_proba_zero_shot=None if zero_shot is None else np.exp(zero_shot),
            n_bins=n_bins,
            name=type(classifier).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Labels,
        y_proba: ArrayLike,
        *,
        classes: Labels,
        y_proba_zero_shot: ArrayLike | None = None,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
    ) -> "ReliabilityDisplay":
        """Draw from probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_proba : array-like of shape (n_samples, n_classes)
            Probabilities; every row sums to one.
        classes : array-like of shape (n_classes,)
            Labels of the columns of `y_proba`.
        y_proba_zero_shot : array-like of shape (n_samples, n_classes), default=None
            Probabilities of zero-shot CLIP, for comparison.
        n_bins : int, default=10
            Number of bins of equal width between 0 and 1.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ReliabilityDisplay
            The display, drawn.
        """

        def curve(y_proba):
            return reliability(y_true, y_proba, classes, n_bins)

        return cls(
            curve=curve(y_proba),
            zero_shot_curve=None if y_proba_zero_shot is None else curve(y_proba_zero_shot),
            name=name,
        ).plot(ax)

    def _draw(self, ax):
        ax.plot([0, 1], [0, 1], color="#9A9A9A", linewidth=1, linestyle=":")
        ax.text(0.02, 0.055, "calibrated", color=GREY, fontsize=9, rotation=45)
        if self.zero_shot_curve is not None:
            draw_curve(ax, self.zero_shot_curve, "zero-shot CLIP", GREY, "s", "--")
        draw_curve(ax, self.curve, self.name or "classifier", BLUE, "o", "-")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.set_xlabel("confidence")
        ax.set_ylabel("accuracy")
        legend = ax.legend(loc="upper left", frameon=True, framealpha=0.95, edgecolor="none")
        for handle in legend.legend_handles:
            handle.set_markersize(7)
        plain(ax)


def reliability(y_true, y_proba, classes, n_bins):
    """Compute the reliability curve of the predicted classes."""
    ece = expected_calibration_error(y_true, y_proba, classes=classes, n_bins=n_bins)
    y_proba = np.asarray(y_proba, dtype=np.float64)
    hit = np.asarray(classes)[y_proba.argmax(axis=1)] == label_array(y_true)
    confidence = np.minimum(y_proba.max(axis=1), 1.0)
    accuracy, mean_confidence = calibration_curve(hit, confidence, pos_label=True, n_bins=n_bins)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], confidence)  # as in scikit-learn
    n_samples = np.bincount(bins)
    return Reliability(mean_confidence, accuracy, n_samples[n_samples > 0], ece)


def draw_curve(ax, curve, name, colour, marker, line):
    """Draw a line through the bins, with markers as large as the share of samples in a bin."""
    label = f"{name}, ECE {100 * curve.ece:.1f} %"
    style = {"linestyle": line, "marker": marker, "markersize": 0, "label": label}
    ax.plot(curve.confidence, curve.accuracy, color=colour, **style)
    share = curve.n_samples / curve.n_samples.sum()
    ax.scatter(
        curve.confidence,
        curve.accuracy,
        s=20 + 900 * share,
        color=colour,
        marker=marker,
        alpha=0.75,
        edgecolor="white",
        zorder=3,
    )
