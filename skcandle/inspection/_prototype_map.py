"""A two-dimensional map of images, prototypes and names."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from .._labels import label_array
from .._typing import Labels
from ._display import Display
from ._fitted import readable_part, shown_labels
from ._style import PALETTE, WIDTH, shortened

N_CLASSES = len(PALETTE)


@dataclass(kw_only=True, eq=False, repr=False)
class PrototypeDisplay(Display):
    """Images, prototypes and names of some classes on a map.

    The map shows what the classifier compares: images (dots), the prototypes of base classes
    (squares), the virtual prototypes of new classes (stars), which are predicted from their names,
    and the names themselves (triangles), each with a line to its prototype. CLIP embeds texts and
    images in two regions far apart; the map moves all names by the difference between the mean of
    the prototypes and the mean of the names.

    Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    is_new : ndarray of shape (n_classes,) of bool
        Whether a class has no training image.
    image_points : ndarray of shape (n_images, 2)
        Positions of the images.
    image_classes : ndarray of shape (n_images,)
        Index into `classes` of the class of each image.
    prototype_points : ndarray of shape (n_classes, 2)
        Positions of the prototypes.
    text_points : ndarray of shape (n_classes, 2), default=None
        Positions of the names; None for a classifier without text.
    names : ndarray of shape (n_classes,), default=None
        Texts beside the prototypes, by default `classes`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Figure of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import CandleClassifier
    >>> from skcandle.inspection import PrototypeDisplay
    >>> rng = np.random.default_rng(0)
    >>> text = dict(zip(["ant", "bee", "cat", "dog"], rng.normal(size=(4, 16))))
    >>> y = np.repeat(["ant", "bee", "cat", "dog"], 5)
    >>> X = np.stack([text[name] for name in y]) + rng.normal(size=(20, 16))
    >>> clf = CandleClassifier(new_classes=["dog"], text_encoder=text).fit(X[:15], y[:15])
    >>> display = PrototypeDisplay.from_estimator(clf, X, y)
    >>> display.classes[display.is_new].tolist(), display.image_points.shape
    (['dog'], (20, 2))
    """

    _figure_size = (WIDTH, 0.75 * WIDTH)

    classes: np.ndarray
    is_new: np.ndarray
    image_points: np.ndarray
    image_classes: np.ndarray
    prototype_points: np.ndarray
    text_points: np.ndarray | None = None
    names: np.ndarray | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Labels,
        *,
        classes: Labels | None = None,
        reducer: Any = None,
        ax: Any = None,
    ) -> "PrototypeDisplay":
        """Draw a fitted classifier of this library.

        Parameters
        ----------
        estimator : object
            Fitted pipeline that takes images, or classifier that takes embeddings.
        X : list or array of length n_samples
            Images, or embeddings. Rows of NaN are ignored.
        y : array-like of shape (n_samples,)
            Their labels.
        classes : array-like of shape (n_classes,), default=None
            Up to 8 labels to draw. By default those with the most images in `y`, half of them new
            classes if there are enough.
        reducer : transformer, default=None
            Reduces to two dimensions, for example ``TSNE(perplexity=5)``; a clone of it is fitted
            on all points to draw. By default a PCA that is fitted on the prototypes.
        ax : matplotlib Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : PrototypeDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the classifier has no prototypes.
        ValueError
            If `classes` are not 2 to 8 classes of the classifier.
        """
        X, y, classifier = readable_part(estimator, X, label_array(y))
        if not hasattr(classifier, "prototypes_"):
            raise TypeError(
                f"{type(classifier).__name__} has no prototypes_; a CandleClassifier has them."
            )
        columns = _columns(classifier, y, classes)
        shown = classifier.classes_[columns]
        inside = np.isin(y, shown)
        images, prototypes, text = np.asarray(X)[inside], classifier.prototypes_, None
        if classifier.text_features_ is not None:  # which compares directions only
            images, prototypes = normalize(images), normalize(prototypes)
            text = classifier.text_features_
            text = (text - text.mean(axis=0) + prototypes.mean(axis=0))[columns]
        points = [images, prototypes[columns], *([] if text is None else [text])]
        image_points, prototype_points, *text_points = _project(points, reducer)
        return cls(
            classes=shown,
            is_new=classifier.is_new_[columns],
            image_points=image_points,
            image_classes=np.searchsorted(shown, y[inside]),
            prototype_points=prototype_points,
            text_points=text_points[0] if text_points else None,
            names=shown_labels(classifier)[columns],
        ).plot(ax)

    def _draw(self, ax):
        names = self.classes if self.names is None else self.names
        points = np.concatenate([self.image_points, self.prototype_points])
        left, right = points[:, 0].min(), points[:, 0].max()
        for index, (label, is_new) in enumerate(zip(names, self.is_new, strict=True)):
            colour = PALETTE[index % len(PALETTE)]
            images = self.image_points[self.image_classes == index]
            ax.scatter(*images.T, s=24, color=colour, alpha=0.45, linewidth=0)
            marker, size = ("*", 300) if is_new else ("s", 95)
            place = self.prototype_points[index]
            ax.scatter(*place, s=size, marker=marker, color=colour, edgecolor="black", zorder=4)
            side = -1 if place[0] > left + 0.8 * (right - left) else 1  # within the frame
            ax.annotate(
                shortened(label, 18),
                place,
                xytext=(8 * side, 6),
                ha="right" if side < 0 else "left",
                textcoords="offset points",
                fontsize=10,
                color="black",
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
                parse_math=False,
                zorder=5,
            )
            if self.text_points is not None:
                name = self.text_points[index]
                line = np.transpose([name, place])
                ax.plot(*line, color=colour, linewidth=1, alpha=0.6, zorder=2)
                ax.scatter(
                    *name,
                    s=70,
                    marker="^",
                    color=colour,
                    edgecolor="black",
                    zorder=3,
                )
        self._legend(ax)
        ax.margins(x=0.1, y=0.08)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#BDBDBD")

    def _legend(self, ax):
        kinds = [("o", 5, "image"), ("s", 9, "prototype")]
        if self.is_new.any():
            kinds.append(("*", 14, "virtual prototype"))
        if self.text_points is not None:
            kinds.append(("^", 8, "name"))
        for marker, size, label in kinds:
            ax.plot([], [], marker, color="#9A9A9A", markersize=size, label=label)
        ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=len(kinds),
            frameon=False,
            handletextpad=0.2,
        )


def _columns(classifier, y, classes):
    """Sorted columns of the classes to draw."""
    if classes is None:
        counts = np.array([np.count_nonzero(y == label) for label in classifier.classes_])
        order = np.argsort(-counts, kind="stable")
        order = order[counts[order] > 0]
        new, base = order[classifier.is_new_[order]], order[~classifier.is_new_[order]]
        n_new = min(len(new), max(N_CLASSES // 2, N_CLASSES - len(base)))
        columns = np.sort(np.concatenate([new[:n_new], base[: N_CLASSES - n_new]]))
    else:
        classes = label_array(classes, "classes")
        unknown = np.setdiff1d(classes, classifier.classes_).tolist()
        if unknown:
            raise ValueError(f"classes contains {unknown[0]!r}, which is not one of the classes_.")
        columns = np.flatnonzero(np.isin(classifier.classes_, classes))
    if not 2 <= len(columns) <= N_CLASSES:
        raise ValueError(
            f"classes has {len(columns)} labels that can be drawn; the map has colours for 2 to "
            f"{N_CLASSES} of them."
        )
    return columns


def _project(points, reducer):
    """Project each array of points to two dimensions."""
    if reducer is None:
        # the plane in which the prototypes differ most, rather than single images
        reducer = PCA(2).fit(points[1])
        return [reducer.transform(array) for array in points]
    together = clone(reducer).fit_transform(np.concatenate(points))
    return np.split(together, np.cumsum([len(array) for array in points])[:-1])
