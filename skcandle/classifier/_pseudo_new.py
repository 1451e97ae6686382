"""Pseudo-new splits: some classes with images are treated as if they were new.

In each split some classes are *hidden*: their prototypes are formed from their names alone. Images
of the other classes are compared to prototypes that are formed without the image itself. Every
image thus stands for an unseen image, of a base class or of a new class.
"""

from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from sklearn.utils import check_random_state

from ._logit_weights import (
    BONUS_HALF_COUNT,
    OFFSET_HALF_COUNT,
    own_similarity,
    prototype_similarity,
    saturation,
)
from ._prototypes import prototypes_of
from ._statistics import ClassStatistics

# Maximum number of similarities over all splits, which bounds time and memory.
MAX_SIMILARITIES = 4_000_000


@dataclass(frozen=True)
class PseudoNewSplit:
    """Similarities of images to all classes with images, some of which are hidden.

    Attributes
    ----------
    text_similarity : ndarray of shape (n_samples, n_classes) or None
        None without text.
    prototype_similarity : ndarray of shape (n_samples, n_classes)
    bonus_saturation : ndarray of shape (n_samples, n_classes)
        Saturation of the count behind each prototype. The prototype of the class of an image is
        formed without the image, so its count is lower by one.
    offset_saturation : ndarray of shape (n_classes,)
    hidden : ndarray of shape (n_classes,) of bool
    target : ndarray of shape (n_samples,)
    sample_weight : ndarray of shape (n_samples,)
    """

    text_similarity: np.ndarray | None
    prototype_similarity: np.ndarray
    bonus_saturation: np.ndarray
    offset_saturation: np.ndarray
    hidden: np.ndarray
    target: np.ndarray
    sample_weight: np.ndarray

    def joint_logits(self, weights):
        """Logits of the images under some weights."""
        return weights.joint_logits(
            self.text_similarity,
            self.prototype_similarity,
            self.bonus_saturation,
            self.offset_saturation,
        )

    def log_likelihood(self, weights):
        """Weighted log-likelihood of the classes of the images, and its derivatives.

        Returns
        -------
        value : float
        derivatives : ndarray of shape (4,)
            With respect to 1 / temperature, prototype weight, count bonus and base offset.
        """
        own = np.arange(len(self.target)), self.target
        logits = self.joint_logits(weights)
        logits -= logits.max(axis=1, keepdims=True)
        own_logits = logits[own]
        proba = np.exp(logits, out=logits)
        total = proba.sum(axis=1)
        residuals = np.multiply(proba, -(self.sample_weight / total)[:, None], out=proba)
        residuals[own] += self.sample_weight
        by_prototype = residuals * self.prototype_similarity
        by_weight, by_bonus = by_prototype.sum(), np.vdot(by_prototype, self.bonus_saturation)
        by_inverse = weights.prototype_weight * by_weight + weights.count_bonus * by_bonus
        if self.text_similarity is not None:
            by_inverse += np.vdot(residuals, self.text_similarity)
        derivatives = [
            by_inverse,
            by_weight / weights.temperature,
            by_bonus / weights.temperature,
            -residuals.sum(axis=0) @ self.offset_saturation,
        ]
        return self.sample_weight @ (own_logits - np.log(total)), np.array(derivatives, float)


def pseudo_new_splits(data, shrinkage, rng=None):
    """Splits of the training images that hide classes. Text features are required.

    Which classes are hidden together depends on the images alone, not on the names of the classes
    or the order of the rows.

    Parameters
    ----------
    data : TrainingSet
    shrinkage : float
    rng : numpy.random.Generator, optional
        Draws the classes that are hidden together. None uses a fixed design.

    Returns
    -------
    splits : list of PseudoNewSplit
    """
    data = data.among(np.unique(data.y))
    ranking = _content_ranking(data)
    if rng is not None:
        ranking = rng.permutation(ranking)
    masks = hidden_masks(ranking)
    return _splits(data, _some_images(data, len(masks)), masks, shrinkage)


def split_generator(random_state):
    """Generator for hidden classes from the parameter `random_state`; None for a fixed design."""
    if random_state is None:
        return None
    return np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))


def leave_one_out_split(data, shrinkage):
    """The split that hides no class. All classes must have images.

    Parameters
    ----------
    data : TrainingSet
    shrinkage : float

    Returns
    -------
    split : PseudoNewSplit
    """
    masks = [np.zeros(data.n_classes, dtype=bool)]
    return _splits(data, _some_images(data, 1), masks, shrinkage)[0]


def splits_of_universe(data, images, shrinkage):
    """Splits over the whole universe, including new classes, that hide each class once.

    If nothing can be hidden, because there is no text or only one class has images, there is one
    split that leaves out each image in turn.

    Parameters
    ----------
    data : TrainingSet
        From which prototypes are formed.
    images : TrainingSet
        Those of its images that may be compared to them.
    shrinkage : float

    Returns
    -------
    splits : list of PseudoNewSplit
    rows : ndarray of int
        Positions in `images` of those that the splits are about.
    """
    seen = np.unique(data.y)
    masks = [np.zeros(data.n_classes, dtype=bool)]
    if data.text_features is not None and len(seen) > 1:
        third = np.argsort(_content_ranking(data.among(seen))) % 3
        masks = [np.isin(np.arange(data.n_classes), seen[third == i]) for i in np.unique(third)]
    rows = _some_rows(images.X, MAX_SIMILARITIES // (data.n_classes * len(masks)))
    return _splits(data, images.at(rows), masks, shrinkage), rows


def without_singletons(split, data):
    """The same split, in which the only image of a class has no weight.

    Without that image the prototype of its class is a virtual one. Where all classes have images,
    no class has a virtual prototype, so the image says nothing about the weight of prototypes.

    Parameters
    ----------
    split : PseudoNewSplit
        From :func:`leave_one_out_split`.
    data : TrainingSet

    Returns
    -------
    split : PseudoNewSplit
    """
    share = share_left(np.bincount(data.y, weights=data.sample_weight))
    return replace(split, sample_weight=split.sample_weight * share[split.target])


def effective_size(data, *, singletons=True):
    """Effective number of images of averages in which all classes count the same.

    Kish's effective sample size, :math:`(\\sum w)^2 / \\sum w^2`, for weights that sum to one
    in each class; L. Kish, "Survey sampling", 1965. It equals the number of classes times the
    harmonic mean of their counts.

    Parameters
    ----------
    data : TrainingSet
    singletons : bool, default=True
        Whether the only image of a class counts, see :func:`without_singletons`.

    Returns
    -------
    n_images : float
    """
    counts = np.bincount(data.y, weights=data.sample_weight)
    counts = counts[counts > 0]
    share = np.ones_like(counts) if singletons else share_left(counts)
    return float(share.sum() ** 2 / (share**2 / counts).sum()) if share.any() else 0.0


def share_left(counts):
    """Weight that remains without one image, at most 1; 0 for a class of a single image."""
    return np.clip(counts - 1, 0, 1)


def _some_images(data, n_splits):
    return data.at(_some_rows(data.X, MAX_SIMILARITIES // (data.n_classes * max(n_splits, 1))))


def _splits(data, images, masks, shrinkage):
    text_similarity = None
    if data.text_features is not None:
        text_similarity = images.X @ data.text_features.T
    prototypes = _prototypes_without(data, masks, shrinkage)
    return [
        left_out_split(of_others, images, mask, text_similarity)
        for of_others, mask in zip(prototypes, masks, strict=True)
    ]


def _prototypes_without(data, masks, shrinkage):
    """Prototypes without the images of the classes that each mask hides.

    Classes that the same masks hide form a group, of which statistics are computed once.
    """
    if not len(masks):
        return
    patterns, group = np.unique(masks, axis=1, return_inverse=True)
    group = group.ravel()[data.y]
    parts = [ClassStatistics.of(data.at(group == i)) for i in range(patterns.shape[1])]
    for pattern in patterns:
        shown = [part for part, is_hidden in zip(parts, pattern, strict=True) if not is_hidden]
        yield prototypes_of(ClassStatistics.of_all(shown), data.text_features, shrinkage)


def hidden_masks(ranking):
    """Which classes each split hides: the twelve lines of the affine plane of order three.

    Nine consecutive classes of the ranking are the points of the plane. Every split hides a third
    of them, every class is hidden in four splits, and any two of the nine are hidden together in
    exactly one.

    Parameters
    ----------
    ranking : ndarray of shape (n_classes,)
        Classes in an order in which neighbours are similar.

    Returns
    -------
    masks : list of ndarray of shape (n_classes,) of bool
        Distinct. Lines that would hide no class, or all of them, are left out.
    """
    position = np.argsort(ranking)
    across, down = position % 3, position // 3 % 3
    directions = np.stack([across, across + down, across + 2 * down, down]) % 3
    lines = [direction == offset for direction in directions for offset in np.unique(direction)]
    return list(np.unique([line for line in lines if not line.all()], axis=0))


def _content_ranking(data):
    """Classes from many to few images; ties by the distance of their mean from the centre."""
    totals = np.zeros((data.n_classes, data.X.shape[1]))  # float64: rounding must not reorder
    np.add.at(totals, data.y, data.sample_weight[:, None] * data.X)
    counts = np.bincount(data.y, weights=data.sample_weight)
    means = totals / counts[:, None]
    return np.lexsort((((means - means.mean(axis=0)) ** 2).sum(axis=1), -counts))


def balanced_rows(data, max_rows):
    """Sorted positions of all images, or of as many as allowed, classes filled evenly.

    Rare classes keep all of their images first. Which images of a class are taken depends on a
    checksum of each, not on the order of the rows.

    Parameters
    ----------
    data : TrainingSet
    max_rows : int

    Returns
    -------
    rows : ndarray of int
    """
    if len(data.y) <= max_rows:
        return np.arange(len(data.y))
    checksums = np.array([crc32(row.tobytes()) for row in data.X])
    order = np.lexsort([checksums, data.y])
    first = np.searchsorted(data.y[order], data.y[order])
    rank = np.arange(len(order)) - first  # of each image within its class
    return np.sort(order[np.lexsort([checksums[order], rank])[:max_rows]])


def _some_rows(X, max_rows):
    """Sorted positions of all rows, or of the `max_rows` rows with the smallest checksums."""
    if len(X) <= max(max_rows, 1):
        return np.arange(len(X))
    checksums = [crc32(row.tobytes()) for row in X]
    return np.sort(sorted(range(len(X)), key=checksums.__getitem__)[: max(max_rows, 1)])


def balanced_weights(target, sample_weight, hidden):
    """Weights that make all classes of a side count the same, and sum to one on each side."""
    per_class = np.bincount(target, weights=sample_weight)
    weight = sample_weight / per_class[target]
    for side in (hidden, ~hidden):
        rows = side[target]
        if rows.any():
            weight[rows] /= weight[rows].sum()
    return weight


def left_out_split(prototypes, images, hidden, text_similarity):
    """Compare images to prototypes that are formed without each of them.

    Parameters
    ----------
    prototypes : TrainingPrototypes
        Of all images except those of the hidden classes.
    images : TrainingSet
        Some of these images, and images of hidden classes.
    hidden : ndarray of shape (n_classes,) of bool
    text_similarity : ndarray of shape (n_samples, n_classes) or None

    Returns
    -------
    split : PseudoNewSplit
    """
    space = prototypes.space
    X, y, sample_weight = images.X, images.y, images.sample_weight
    rows = np.empty_like(X)
    rows[hidden[y]] = space.transform_images(X[hidden[y]])
    # images of the other classes are compared to prototypes without them
    seen = np.flatnonzero(~hidden[y])
    rows[seen], own = prototypes.transform_left_out(X[seen], y[seen], sample_weight[seen])
    similarity = prototype_similarity(rows, space.transform(space.prototypes))
    similarity[seen, y[seen]] = own_similarity(rows[seen], own, space.normalize)
    bonus_saturation = np.tile(saturation(space.counts, BONUS_HALF_COUNT), (len(rows), 1))
    remaining = np.maximum(space.counts[y] - np.minimum(sample_weight, 1), 0)
    bonus_saturation[seen, y[seen]] = saturation(remaining[seen], BONUS_HALF_COUNT)
    return PseudoNewSplit(
        text_similarity=text_similarity,
        prototype_similarity=similarity,
        bonus_saturation=bonus_saturation,
        offset_saturation=saturation(space.counts, OFFSET_HALF_COUNT),
        hidden=hidden,
        target=y,
        sample_weight=balanced_weights(y, sample_weight, hidden),
    )
