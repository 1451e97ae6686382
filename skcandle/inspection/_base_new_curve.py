"""Base accuracy against new accuracy as the offset between them moves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import auc

from .._labels import label_array
from .._typing import Labels
from ..metrics import base_new_curve
from ._display import Display
from ._fitted import readable_part, zero_shot_log_proba
from ._style import BLUE, GREY, ORANGE, SQUARE, plain


@dataclass(kw_only=True, eq=False, repr=False)
class BaseNewCurveDisplay(Display):
    """Base accuracy against new accuracy as an offset is added to the scores of all new classes.

    The operating point is that of `predict`, at the offset of 0. The area under the curve (AUSUC)
    evaluates the scores independently of the offset. Grey lines join points of equal harmonic mean.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create a display.

    Parameters
    ----------
    base_accuracy, new_accuracy, offsets : ndarray of shape (n_offsets,)
        See :func:`skcandle.metrics.base_new_curve`.
    zero_shot_curve : tuple of ndarray, default=None
        Base accuracy, new accuracy and offsets of zero-shot CLIP.
    name : str, default=None
        Name of the classifier in the legend.

    Attributes
    ----------
    ausuc : float
        Area under the curve, between 0 and 1.
    operating_point : tuple of float
        Base and new accuracy at the offset of 0.
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    skcandle.metrics.base_new_curve : The curve.
    skcandle.metrics.ausuc_score : The area.

    Examples
    --------
    >>> from skcandle.inspection import BaseNewCurveDisplay
    >>> y_score = [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [4.0, 0.0, 2.5]]
    >>> display = BaseNewCurveDisplay.from_predictions(
    ...     ["a", "b", "c"], y_score, classes=["a", "b", "c"], new_classes=["c"]
    ... )
    >>> display.ausuc, display.operating_point
    (0.5, (1.0, 0.0))
    """

    _figure_size = SQUARE

    base_accuracy: np.ndarray
    new_accuracy: np.ndarray
    offsets: np.ndarray
    zero_shot_curve: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        self.ausuc = float(auc(self.new_accuracy, self.base_accuracy))
        self.operating_point = _at_zero(self.base_accuracy, self.new_accuracy, self.offsets)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Labels, *, name: str | None = None, ax: Any = None
    ) -> "BaseNewCurveDisplay":
        """Draw a fitted classifier of this library, and zero-shot CLIP if it knows class names.

        Parameters
        ----------
        estimator : object
            Fitted pipeline that takes images, or classifier that takes embeddings.
        X : list or array of length n_samples
            Test images, or embeddings, of base and new classes. Rows of NaN are ignored.
        y : array-like of shape (n_samples,)
            True labels.
        name : str, default=None
            Name in the legend, by default the class name of the classifier.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : BaseNewCurveDisplay
            The display, drawn.
        """
        X, y, classifier = readable_part(estimator, X, label_array(y))
        if not hasattr(classifier, "is_new_"):
            raise TypeError(
                f"{type(classifier).__name__} has no is_new_; use from_predictions with "
                "new_classes."
            )
        return cls.from_predictions(
            y,
            classifier.predict_log_proba(X),
            classes=classifier.classes_,
            new_classes=classifier.classes_[classifier.is_new_],
            y_score_zero_shot=zero_shot_log_proba(classifier, X),
            name=type(classifier).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Labels,
        y_score: ArrayLike,
        *,
        classes: Labels,
        new_classes: Labels,
        y_score_zero_shot: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> "BaseNewCurveDisplay":
        """Draw from logits over base and new classes.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels, with at least one base class and one new class.
        y_score : array-like of shape (n_samples, n_classes)
            Logits, or logarithms of probabilities.
        classes : array-like of shape (n_classes,)
            Labels of the columns of `y_score`.
        new_classes : array-like of shape (n_new_classes,)
            Labels out of `classes` that had no training image.
        y_score_zero_shot : array-like of shape (n_samples, n_classes), default=None
            Logits of zero-shot CLIP, for comparison.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : BaseNewCurveDisplay
            The display, drawn.
        """

        def curve(y_score):
            return base_new_curve(y_true, y_score, classes=classes, new_classes=new_classes)

        base, new, offsets = curve(y_score)
        return cls(
            base_accuracy=base,
            new_accuracy=new,
            offsets=offsets,
            zero_shot_curve=None if y_score_zero_shot is None else curve(y_score_zero_shot),
            name=name,
        ).plot(ax)

    def _draw(self, ax):
        _draw_harmonic_means(ax)
        if self.zero_shot_curve is not None:
            base, new, offsets = self.zero_shot_curve
            label = f"zero-shot CLIP, AUSUC {100 * auc(new, base):.1f} %"
            ax.plot(base, new, "--", color=GREY, linewidth=1.5, label=label)
            ax.plot(*_at_zero(base, new, offsets), "s", color=GREY, markersize=8)
        label = f"{self.name or 'classifier'}, AUSUC {100 * self.ausuc:.1f} %"
        ax.plot(self.base_accuracy, self.new_accuracy, color=BLUE, linewidth=2.2, label=label)
        ax.plot(
            *self.operating_point,
            marker="o",
            linestyle="none",
            color=ORANGE,
            markeredgecolor="black",
            markersize=11,
            label="operating point (offset 0)",
            zorder=4,
        )
        ax.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.03), aspect="equal")
        ax.set_xlabel("accuracy on base classes")
        ax.set_ylabel("accuracy on new classes")
        ax.legend(loc="lower left", frameon=True, framealpha=0.95, edgecolor="none")
        plain(ax)
        ax.grid(False)


def _at_zero(base, new, offsets):
    """Base and new accuracy at the offset 0."""
    index = np.searchsorted(offsets, 0, side="right") - 1
    return float(base[index]), float(new[index])


def _draw_harmonic_means(ax):
    """Draw lines of equal harmonic mean, each labelled at the right edge."""
    for mean in np.arange(0.2, 1.0, 0.2):
        base = np.linspace(mean / (2 - mean), 1, 100)
        ax.plot(base, mean * base / (2 * base - mean), color="#DCDCDC", linewidth=1, zorder=0)
        ax.text(
            1.0,
            mean / (2 - mean),
            f" H {100 * mean:.0f} %",
            color=GREY,
            fontsize=8,
            ha="right",
            va="bottom",
        )
