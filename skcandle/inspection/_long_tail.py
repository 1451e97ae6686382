"""Recall of each class against its number of training images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._labels import label_array
from .._typing import Labels
from ..metrics import _recall
from ._display import Display
from ._fitted import readable_part, zero_shot_log_proba
from ._style import BLUE, GREY, SKY, plain

TICKS = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000])


@dataclass(kw_only=True, eq=False, repr=False)
class LongTailDisplay(Display):
    """Recall of each class against its number of training images.

    New classes, which have none, are at 0. Points are classes. The line is their mean in groups
    of classes with 0, 1, 2, 3 to 4, 5 to 8, ... training images, with 95 % intervals.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create a display.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    class_count : ndarray of shape (n_classes,)
        Number of training images of each class.
    recall : ndarray of shape (n_classes,)
        Share of the test images of each class that were predicted correctly, from 0 to 1.
    zero_shot_recall : ndarray of shape (n_classes,), default=None
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
    skcandle.metrics.shot_band_accuracy : Compute such means.

    Examples
    --------
    >>> from skcandle.inspection import LongTailDisplay
    >>> y_train = ["cat"] * 30 + ["cow"] * 3
    >>> y_true, y_pred = ["cat", "cat", "cow", "okapi"], ["cat", "cow", "cow", "cat"]
    >>> display = LongTailDisplay.from_predictions(y_true, y_pred, y_train=y_train)
    >>> display.classes.tolist(), display.class_count.tolist(), display.recall.tolist()
    (['cat', 'cow', 'okapi'], [30, 3, 0], [0.5, 1.0, 0.0])
    """

    classes: np.ndarray
    class_count: np.ndarray
    recall: np.ndarray
    zero_shot_recall: np.ndarray | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Labels, *, name: str | None = None, ax: Any = None
    ) -> "LongTailDisplay":
        """Draw a fitted classifier of this library, and zero-shot CLIP if it knows class names.

        Parameters
        ----------
        estimator : object
            Fitted pipeline that takes images, or classifier that takes embeddings.
        X : list or array of length n_samples
            Test images, or embeddings. Rows of NaN are ignored.
        y : array-like of shape (n_samples,)
            True labels.
        name : str, default=None
            Name in the legend, by default the class name of the classifier.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : LongTailDisplay
            The display, drawn.
        """
        X, y, classifier = readable_part(estimator, X, label_array(y))
        if not hasattr(classifier, "class_count_"):
            raise TypeError(
                f"{type(classifier).__name__} has no class_count_; use from_predictions with "
                "y_train."
            )
        classes = np.asarray(classifier.classes_)
        counts = dict(zip(classes.tolist(), classifier.class_count_.tolist(), strict=True))
        zero_shot = zero_shot_log_proba(classifier, X)
        return cls._from_counts(
            y,
            classifier.predict(X),
            counts,
            None if zero_shot is None else classes[zero_shot.argmax(axis=1)],
            type(classifier).__name__ if name is None else name,
        ).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Labels,
        y_pred: Labels,
        *,
        y_train: Labels,
        y_pred_zero_shot: Labels | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> "LongTailDisplay":
        """Draw from predicted labels.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,)
            Predicted labels, among all classes.
        y_train : array-like of shape (n_train_samples,)
            Labels of the training images, which are counted.
        y_pred_zero_shot : array-like of shape (n_samples,), default=None
            Labels predicted by zero-shot CLIP, for comparison.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : LongTailDisplay
            The display, drawn.
        """
        labels, counts = np.unique(label_array(y_train, "y_train"), return_counts=True)
        count_of = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        return cls._from_counts(y_true, y_pred, count_of, y_pred_zero_shot, name).plot(ax)

    @classmethod
    def _from_counts(cls, y_true, y_pred, counts, y_pred_zero_shot, name):
        classes, recall = _recall(y_true, y_pred)
        zero_shot = None if y_pred_zero_shot is None else _recall(y_true, y_pred_zero_shot)[1]
        return cls(
            classes=classes,
            class_count=np.array([counts.get(label, 0) for label in classes.tolist()]),
            recall=recall,
            zero_shot_recall=zero_shot,
            name=name,
        )

    def _draw(self, ax):
        plain(ax)
        place = _place(self.class_count)
        if (self.class_count == 0).any():
            ax.axvspan(-0.5, 0.5, color=SKY, alpha=0.18, linewidth=0)
            ax.text(0, 1.06, "new classes", ha="center", va="bottom", fontsize=9)
        jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(place))
        ax.scatter(place + jitter, self.recall, s=16, color=BLUE, alpha=0.3, linewidth=0)
        if self.zero_shot_recall is not None:
            centres, means, _ = _group_means(self.class_count, self.zero_shot_recall)
            ax.plot(centres, means, "s--", color=GREY, markersize=5, label="zero-shot CLIP")
        centres, means, errors = _group_means(self.class_count, self.recall)
        ax.errorbar(
            centres,
            means,
            yerr=_interval(means, errors),
            fmt="o-",
            color=BLUE,
            capsize=3,
            elinewidth=1.2,
            markersize=7,
            linewidth=2,
            label=self.name or "classifier",
            zorder=3,
        )
        ticks = TICKS[self.class_count.max() >= TICKS]
        ax.set_xticks(_place(ticks), ticks)
        fewest, most = _place(self.class_count.min()), _place(self.class_count.max())
        ax.set_xlim(fewest - 0.5, most + 0.5)
        ax.set_ylim(-0.03, 1.05)
        ax.set_xlabel("training images of the class")
        ax.set_ylabel("recall")
        ax.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")


def _place(counts):
    """Position of a count on the logarithmic axis, which includes 0."""
    return np.log2(np.asarray(counts) + 1)


def _interval(means, errors):
    """Lower and upper parts of 95 % intervals, clipped to [0, 1]."""
    return np.array([np.minimum(1.96 * errors, means), np.minimum(1.96 * errors, 1 - means)])


def _group_means(counts, recall):
    """Position, mean and standard error of each group of classes, from few images to many."""
    group = np.where(counts > 0, np.ceil(np.log2(np.maximum(counts, 0.5))) + 1, 0)
    places, means, errors = [], [], []
    for index in np.unique(group):
        inside = recall[group == index]
        places.append(_place(counts[group == index]).mean())
        means.append(inside.mean())
        errors.append(inside.std(ddof=1) / np.sqrt(len(inside)) if len(inside) > 1 else 0.0)
    return np.array(places), np.array(means), np.array(errors)
