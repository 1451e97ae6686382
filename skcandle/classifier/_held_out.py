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
        is for images whose largest logit is that of a base class, the second for the others.
    gaps : ndarray of shape (2, n_shares)
        Quantiles of the gaps, for images of base classes and of hidden ones.
    n_images : float
        Effective number of images behind the scores.
    """

    coefficients: np.ndarray
    intercept: float
    novelty: np.ndarray
    gaps: np.ndarray
    n_images: float

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

    def novelty_thresholds(self, rate: float) -> np.ndarray:
        """Novelty scores that a given share of images of listed classes exceeds.

        Parameters
        ----------
        rate : float
            In (0, 1). If there are too few images for this rate, the thresholds are the largest
            scores, and there is a warning.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            For answers with base classes, and with new classes.
        """
        if not isinstance(rate, Real) or not 0 < rate < 1:
            raise ValueError(f"rejection_rate must be a number between 0 and 1, got {rate!r}.")
        thresholds, too_few = self._thresholds(self.novelty, 1 - float(rate))
        if too_few:
            warn_user(
                f"A rejection_rate of {rate:g} is too low for these training images, which count "
                f"as {self.n_images:.3g} images of balanced classes; the thresholds are the "
                "largest held-out scores. Add images, or set a rejection_rate of at least "
                f"{1 / (self.n_images + 1):.2g}."
            )
        return thresholds

    def gap_thresholds(self, level: float) -> np.ndarray:
        """Gaps that a given share of images does not exceed.

        Parameters
        ----------
        level : float
            In (0, 1). If there are too few images for this level, the thresholds are infinite,
            and there is a warning.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            For images of base classes, and of new classes.
        """
        if not isinstance(level, Real) or not 0 < level < 1:
            raise ValueError(f"confidence_level must be a number between 0 and 1, got {level!r}.")
        thresholds, too_few = self._thresholds(self.gaps, float(level))
        if too_few:
            warn_user(
                f"A confidence_level of {level:g} is too high for these training images, which "
                f"count as {self.n_images:.3g} images of balanced classes; every set holds all "
                "classes. Add images, or set a confidence_level of at most "
                f"{self.n_images / (self.n_images + 1):.2g}."
            )
            return np.full(2, np.inf)
        return thresholds

    def _thresholds(self, quantiles, level):
        """Stored quantiles of both sides at a level, and whether there are too few images for it.

        As in split conformal prediction, the new image counts as one more, at infinity: n images
        cannot resolve shares below 1 / (n + 1).
        """
        level = level * (1 + 1 / self.n_images)
        n_shares = quantiles.shape[1]
        position = int(np.ceil(level * n_shares - 1e-9)) - 1
        return quantiles[:, min(max(position, 0), n_shares - 1)], level > 1


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
def fit_held_out_scores(data, shrinkage, weights):
    """Fit the weights of the novelty signals, and collect the scores of held-out images.

    Parameters
    ----------
    data : TrainingSet
    shrinkage : float
    weights : LogitWeights

    Returns
    -------
    scores : HeldOutScores
    """
    parts = [
        _held_out_images(data, split, rows, shrinkage, weights)
        for split, rows in splits_of_universe(data, shrinkage)
    ]
    listed, unlisted, gaps, answered_new, is_new, sample_weight, image_weight = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    sample_weight *= data.sample_weight.sum() / sample_weight.sum()
    coefficients, intercept = _novelty_regression(listed, unlisted, sample_weight, image_weight)
    return HeldOutScores(
        coefficients=coefficients,
        intercept=intercept,
        novelty=quantiles_by_side(listed @ coefficients + intercept, sample_weight, answered_new),
        gaps=quantiles_by_side(gaps, sample_weight, is_new),
        n_images=effective_size(data),
    )


def _held_out_images(data, split, rows, shrinkage, weights):
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
        other = _half_squares(data, rows, shrinkage)
    is_own = np.zeros(logits.shape, dtype=bool)
    is_own[np.arange(len(logits)), split.target] = True
    without = other if other.ndim == 1 else np.where(is_own, -np.inf, other)
    return (
        signals_of(logits, other),
        signals_of(np.where(is_own, -np.inf, logits), without),
        logits.max(axis=1) - logits[is_own],
        split.offset_saturation[logits.argmax(axis=1)] == 0,
        split.hidden[split.target],
        split.sample_weight,
        data.sample_weight[rows],
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


def _half_squares(data, rows, shrinkage):
    """Half squared lengths of images, in whitened coordinates that leave each image out."""
    prototypes = fit_prototypes(data, shrinkage)
    X, y, sample_weight = data.X[rows], data.y[rows], data.sample_weight[rows]
    images, _ = prototypes.transform_left_out(X, y, sample_weight)
    return (prototypes.space.transform_images(X) * images).sum(axis=1) / 2
