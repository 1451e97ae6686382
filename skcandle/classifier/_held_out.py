r"""Scores of held-out training images, and the thresholds that follow from them.

*Novelty*: how little an image looks like any class of the universe. It combines two signals:

* the largest joint logit of the image, for equally frequent classes;
* its largest similarity to a text. Without text, half its squared length in whitened coordinates,
  which the logits do not use.

A logistic regression on the pseudo-new splits of the training images weights them. It separates the
signals of a held-out image while its class is in the universe from those of the same image after
its class has been removed. No image of an unlisted class is needed.

*Gap*: how far the logit of the class of an image is below the largest one.
"""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from .._devices import in_threads_for_data
from .._warnings import warn_user
from ._prototypes import fit_prototypes
from ._pseudo_new import effective_size, splits_of_universe

# Number of stored quantiles: the size of a classifier does not grow with the number of images.
N_SHARES = 1000


@dataclass(frozen=True)
class HeldOutScores:
    """Weights of the novelty signals, and quantiles of the scores of held-out images.

    Attributes
    ----------
    coefficients : ndarray of shape (2,)
    intercept : float
    novelty : ndarray of shape (2, n_shares)
        Quantiles of the novelty at the shares 1 / n_shares, 2 / n_shares, ..., 1. The first row
        is for images whose largest logit is that of a base class, the second for the others. A
        row is infinite if no image shows how images of such classes score.
    gaps : ndarray of shape (2, n_shares)
        Quantiles of the gaps, for images of base classes and of hidden ones. A row is infinite if
        there are no such images.
    n_images : float
        Effective number of images behind the scores.
    n_base_images : float
        Effective number of those that are compared to other images of their class. At most
        `n_images`.
    n_base_classes : int
        Number of classes with images.
    """

    coefficients: np.ndarray
    intercept: float
    novelty: np.ndarray
    gaps: np.ndarray
    n_images: float
    n_base_images: float
    n_base_classes: int

    @classmethod
    def of_names(cls, temperature):
        """Scores of a classifier without images: only the similarity to the texts counts."""
        unknown = np.full((2, N_SHARES), np.inf)
        return cls(np.array([0.0, -1 / temperature]), 0.0, unknown, unknown, 0.0, 0.0, 0)

    def novelty_of(self, signals):
        """Log-odds that the class of an image is not listed, if that has a probability of 1/2.

        Parameters
        ----------
        signals : ndarray of shape (n_samples, 2)

        Returns
        -------
        score : ndarray of shape (n_samples,)
        """
        return signals @ self.coefficients + self.intercept

    def novelty_thresholds(self, rate: float, kinds: np.ndarray, n_base_classes: int) -> np.ndarray:
        """Novelty scores that a given share of images of listed classes exceeds.

        There is a warning if there are too few images for this rate, or none at all.

        Parameters
        ----------
        rate : float
            In (0, 1).
        kinds : ndarray of shape (2,) of bool
            Whether the classifier has base classes, and new classes.
        n_base_classes : int
            Number of classes that have images now.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            For answers with base classes, and with new classes. If there are too few images, the
            largest scores; if there are none, infinity.
        """
        if not isinstance(rate, Real) or not 0 < rate < 1:
            raise ValueError(f"rejection_rate must be a number between 0 and 1, got {rate!r}.")
        n_images = np.array([self.n_base_images, self.n_images])
        thresholds, too_few = self._thresholds(self.novelty, 1 - float(rate), n_images)
        unknown = np.isinf(thresholds)
        if (kinds & unknown).any():
            warn_user(
                f"Answers with {_named(kinds & unknown)} classes are never rejected, because no "
                "held-out image shows how images of such classes score. Fit on images of at least "
                "two classes, with two images of at least one class."
            )
        too_few &= kinds & ~unknown
        if too_few.any():
            n = n_images[too_few].min()
            warn_user(
                f"A rejection_rate of {rate:g} is too low for these training images, which count "
                f"as {n:.3g} images of balanced classes; the thresholds are the largest held-out "
                f"scores. Add images, or set a rejection_rate of at least {1 / (n + 1):.2g}."
            )
        first_images = n_base_classes - self.n_base_classes
        if first_images and (kinds & ~unknown).any():
            classes = "classes" if first_images > 1 else "class"
            warn_user(
                f"{first_images} {classes} got first images from add_images, after the fit that "
                "set the thresholds. More of their images may be rejected than the rejection_rate "
                "allows. Fit again on all images."
            )
        return thresholds

    def gap_thresholds(self, level: float, kinds: np.ndarray) -> np.ndarray:
        """Gaps that a given share of images does not exceed.

        There is a warning if there are too few images for this level, or none at all.

        Parameters
        ----------
        level : float
            In (0, 1).
        kinds : ndarray of shape (2,) of bool
            Whether the classifier has base classes, and new classes.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            For images of base classes, and of new classes. Infinity if there are too few images.
        """
        if not isinstance(level, Real) or not 0 < level < 1:
            raise ValueError(f"confidence_level must be a number between 0 and 1, got {level!r}.")
        n_images = np.full(2, self.n_images)
        thresholds, too_few = self._thresholds(self.gaps, float(level), n_images)
        if self.n_images and too_few.any():
            warn_user(
                f"A confidence_level of {level:g} is too high for these training images, which "
                f"count as {self.n_images:.3g} images of balanced classes; every set holds all "
                "classes. Add images, or set a confidence_level of at most "
                f"{self.n_images / (self.n_images + 1):.2g}."
            )
            return np.full(2, np.inf)
        unknown = kinds & np.isinf(thresholds)
        if unknown.any():
            warn_user(
                f"Every set holds all {_named(unknown)} classes, because no held-out image shows "
                "how images of such classes score. Fit on images of at least two classes."
            )
        return thresholds

    def _thresholds(self, quantiles, level, n_images):
        """Stored quantiles of both rows at a level, and whether there are too few images for it.

        As in split conformal prediction, the new image counts as one more, at infinity: n images
        cannot resolve shares below 1 / (n + 1).
        """
        with np.errstate(divide="ignore"):
            levels = level * (1 + 1 / n_images)
        n_shares = quantiles.shape[1]
        positions = np.ceil(np.minimum(levels, 1) * n_shares - 1e-9).astype(int) - 1
        return quantiles[[0, 1], np.maximum(positions, 0)], levels > 1


def _named(kinds):
    """Names of some kinds of classes."""
    return " or ".join(name for name, chosen in zip(("base", "new"), kinds, strict=True) if chosen)


def quantiles_by_side(scores, sample_weight, is_new):
    """Weighted quantiles of the scores of base and of new classes, of shape (2, n_shares).

    If one of them has no scores, those of the other are used for both.
    """
    shares = np.arange(1, N_SHARES + 1) / N_SHARES
    sides = [side if side.any() else np.ones_like(side) for side in (~is_new, is_new)]
    return np.array(
        [weighted_quantiles(scores[side], sample_weight[side], shares) for side in sides]
    )


def weighted_quantiles(values, weight, shares):
    """Smallest values at which the cumulative share of the weight reaches each of `shares`."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    positions = np.searchsorted(reached, np.asarray(shares) - 1e-9)  # rounding errors
    return values[order][np.minimum(positions, len(values) - 1)].astype(float)


def signals_of(logits, other):
    """Novelty signals of images, of shape (n_samples, 2).

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
    other : ndarray of shape (n_samples, n_classes) or (n_samples,)
        Similarities to the texts, or half squared lengths.
    """
    other = other.max(axis=1) if other.ndim == 2 else other
    return np.column_stack([logits.max(axis=1), other]).astype(float)


@in_threads_for_data
def fit_held_out_scores(data, images, shrinkage, weights, term):
    """Fit the weights of the novelty signals, and collect the scores of held-out images.

    Parameters
    ----------
    data : TrainingSet
    images : TrainingSet
        Those of its images that the term is about.
    shrinkage : float
    weights : LogitWeights
    term : LeftOutTerm or None

    Returns
    -------
    scores : HeldOutScores
    """
    splits, rows = splits_of_universe(data, images, shrinkage)
    parts = [
        _held_out_images(data, images.at(rows), rows, split, shrinkage, weights, term)
        for split in splits
    ]
    listed, unlisted, gaps, answered_new, is_new, sample_weight, image_weight = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    sample_weight *= data.sample_weight.sum() / sample_weight.sum()
    coefficients, intercept = _novelty_regression(listed, unlisted, sample_weight, image_weight)
    n_images, n_base_classes = effective_size(data), int(np.count_nonzero(data.counts))
    n_base_images = min(n_images, effective_size(data, singletons=False))
    novelty = quantiles_by_side(listed @ coefficients + intercept, sample_weight, answered_new)
    gaps = quantiles_by_side(gaps, sample_weight, is_new)
    if data.text_features is not None and n_base_classes == 1:
        # No class can be hidden. The only prototype is the centre of the images, from which an
        # image that is left out points away.
        n_base_images = 0.0
        novelty[1] = gaps[1] = np.inf
    if n_base_images == 0:  # without its only image, a class is a new one
        novelty[0] = np.inf
    return HeldOutScores(
        coefficients=coefficients,
        intercept=intercept,
        novelty=novelty,
        gaps=gaps,
        n_images=n_images,
        n_base_images=n_base_images,
        n_base_classes=n_base_classes,
    )


def _held_out_images(data, images, rows, split, shrinkage, weights, term):
    """Signals, gaps and weights of the images of one split.

    Returns
    -------
    listed, unlisted : ndarray of shape (n_samples, 2)
        Signals with the class of the image in the universe, and with this class removed.
    gaps : ndarray of shape (n_samples,)
    answered_new, is_new : ndarray of shape (n_samples,) of bool
        Whether the class of the largest logit, and the class of the image, is without images.
    sample_weight, image_weight : ndarray of shape (n_samples,)
        Weight of the image in the split, and in the training set.
    """
    logits = split.joint_logits(weights)
    other = split.text_similarity
    if other is None:
        other = _half_squares(data, images, shrinkage)
    is_own = np.zeros(logits.shape, dtype=bool)
    is_own[np.arange(len(logits)), split.target] = True
    without_own = np.where(is_own, -np.inf, logits)
    if term is not None:
        is_hidden = split.hidden[split.target]
        logits = term.gated(logits, rows, split.hidden, is_hidden)
        without_own = term.gated(without_own, rows, split.hidden, np.ones_like(is_hidden))
    without = other if other.ndim == 1 else np.where(is_own, -np.inf, other)
    return (
        signals_of(logits, other),
        signals_of(without_own, without),
        logits.max(axis=1) - logits[is_own],
        split.offset_saturation[logits.argmax(axis=1)] == 0,
        split.hidden[split.target],
        split.sample_weight,
        images.sample_weight,
    )


def _novelty_regression(listed, unlisted, sample_weight, image_weight):
    """Coefficients and intercept of the signals, for unlisted against listed classes."""
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.preprocessing import StandardScaler

    signals = np.concatenate([listed, unlisted])
    with np.errstate(invalid="ignore"):  # the variance of equal signals may be a negative zero
        scaler = StandardScaler().fit(signals, sample_weight=np.tile(image_weight, 2))
    regression = LogisticRegression().fit(
        scaler.transform(signals),
        np.repeat([0, 1], len(listed)),
        sample_weight=np.tile(sample_weight, 2),
    )
    coefficients = regression.coef_[0] / scaler.scale_
    return coefficients, float(regression.intercept_[0] - scaler.mean_ @ coefficients)


def _half_squares(data, images, shrinkage):
    """Half squared lengths of images, in whitened coordinates that leave each image out."""
    prototypes = fit_prototypes(data, shrinkage)
    rows, _ = prototypes.transform_left_out(images.X, images.y, images.sample_weight)
    return (prototypes.space.transform_images(images.X) * rows).sum(axis=1) / 2
