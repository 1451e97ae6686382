r"""Scores of images that took no part in what they are compared to, and thresholds of them.

*Novelty*: how little an image looks like any class of the universe. Two signals of an image are
weighed against each other:

* its largest joint logit over the classes, for equally frequent classes;
* its largest similarity to a text; without text, half its squared length in whitened
  coordinates, which the logits leave out.

The weights are those of a logistic regression on the pseudo-new splits of the training images: the
signals of a held-out image while its class is in the universe, against those of the same image
after its class has been taken out. No image of an unlisted class is needed.

*Gap*: how far the logit of the class of an image is below the largest one.
"""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from .._warnings import warn_user
from ._prototypes import fit_prototypes
from ._pseudo_new import effective_size, splits_of_universe

# Shares at which quantiles are kept: what a classifier holds does not grow with the images.
N_SHARES = 1000


@dataclass(frozen=True)
class HeldOutScores:
    """Weights of the signals of novelty, and scores of held-out images of listed classes.

    Attributes
    ----------
    coefficients : ndarray of shape (2,)
    intercept : float
    novelty : ndarray of shape (2, n_shares)
        Novelty up to which given shares of the images lie, from 1 / n_shares to all: where the
        largest logit is that of a class with images, and of one without.
    gaps : ndarray of shape (2, n_shares)
        The same of gaps: for images of classes with images, and of hidden ones.
    n_images : float
        How many images the scores are worth.
    """

    coefficients: np.ndarray
    intercept: float
    novelty: np.ndarray
    gaps: np.ndarray
    n_images: float

    def novelty_of(self, signals):
        """Log-odds that an image is of no class in the universe, if either were as likely.

        Parameters
        ----------
        signals : ndarray of shape (n_samples, 2)

        Returns
        -------
        score : ndarray of shape (n_samples,)
        """
        return signals @ self.coefficients + self.intercept

    def novelty_thresholds(self, rate):
        """Novelty above which a given share of images of listed classes lies.

        Parameters
        ----------
        rate : float
            In (0, 1). If there are too few images for it, the thresholds are the largest scores,
            and a warning says so.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            Where the answer is a base class, and where it is a new one.
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

    def gap_thresholds(self, level):
        """Gaps up to which a given share of images lies.

        Parameters
        ----------
        level : float
            In (0, 1). If there are too few images for it, the thresholds are infinite, and a
            warning says so.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            For images of base classes, and of new ones.
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
        """Quantiles of either side, at the next larger share that is stored; are there too few?

        As in split conformal prediction, the image to be judged counts as one more, at infinity:
        n images cannot resolve a share below 1 / (n + 1).
        """
        level = level * (1 + 1 / self.n_images)
        n_shares = quantiles.shape[1]
        position = int(np.ceil(level * n_shares - 1e-9)) - 1
        return quantiles[:, min(max(position, 0), n_shares - 1)], level > 1


def quantiles_by_side(scores, sample_weight, is_new):
    """Weighted quantiles of the scores of either side, of shape (2, n_shares).

    A side without scores has those of the other.
    """
    shares = np.arange(1, N_SHARES + 1) / N_SHARES
    sides = [side if side.any() else np.ones_like(side) for side in (~is_new, is_new)]
    return np.array(
        [weighted_quantiles(scores[side], sample_weight[side], shares) for side in sides]
    )


def weighted_quantiles(values, weight, shares):
    """Smallest values up to which the share of the weight is at least as given."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    positions = np.searchsorted(reached, np.asarray(shares) - 1e-9)  # sums are rounded
    return values[order][np.minimum(positions, len(values) - 1)].astype(float)


def signals_of(logits, other):
    """Signals of images, of shape (n_samples, 2), from logits and from what stands beside them.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
    other : ndarray of shape (n_samples, n_classes) or (n_samples,)
        Similarities to the texts, or half squared lengths.
    """
    other = other.max(axis=1) if other.ndim == 2 else other
    return np.column_stack([logits.max(axis=1), other]).astype(float)


def fit_held_out_scores(data, images, shrinkage, weights, term):
    """Weigh the signals of novelty, and collect scores of held-out images.

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
    from sklearn.linear_model import LogisticRegression  # takes a second to import
    from sklearn.preprocessing import StandardScaler

    listed, unlisted, gaps, answered_new, is_new = [], [], [], [], []
    sample_weight, image_weight = [], []
    splits, rows = splits_of_universe(data, images, shrinkage)
    for split in splits:
        logits = split.joint_logits(weights)
        other = split.text_similarity
        if other is None:
            other = _half_squares(data, images.at(rows), shrinkage)
        is_own = np.zeros(logits.shape, dtype=bool)
        is_own[np.arange(len(logits)), split.target] = True
        without_own = np.where(is_own, -np.inf, logits)
        if term is not None:
            is_hidden = split.hidden[split.target]
            logits = term.gated(logits, rows, split.hidden, without_class=is_hidden)
            everywhere = np.ones_like(is_hidden)
            without_own = term.gated(without_own, rows, split.hidden, without_class=everywhere)
        listed.append(signals_of(logits, other))
        gaps.append(logits.max(axis=1) - logits[is_own])
        is_new.append(split.hidden[split.target])
        answered_new.append(split.offset_saturation[logits.argmax(axis=1)] == 0)
        without = other if other.ndim == 1 else np.where(is_own, -np.inf, other)
        unlisted.append(signals_of(without_own, without))
        sample_weight.append(split.sample_weight)
        image_weight.append(images.sample_weight[rows])
    listed, unlisted = np.concatenate(listed), np.concatenate(unlisted)
    sample_weight = np.concatenate(sample_weight)
    sample_weight *= data.sample_weight.sum() / sample_weight.sum()
    signals = np.concatenate([listed, unlisted])
    with np.errstate(invalid="ignore"):  # the variance of equal signals may be a negative zero
        image_weight = np.tile(np.concatenate(image_weight), 2)
        scaler = StandardScaler().fit(signals, sample_weight=image_weight)
    regression = LogisticRegression().fit(
        scaler.transform(signals),
        np.repeat([0, 1], len(listed)),
        sample_weight=np.tile(sample_weight, 2),
    )
    coefficients = regression.coef_[0] / scaler.scale_
    intercept = float(regression.intercept_[0] - scaler.mean_ @ coefficients)
    return HeldOutScores(
        coefficients=coefficients,
        intercept=intercept,
        novelty=quantiles_by_side(
            listed @ coefficients + intercept, sample_weight, np.concatenate(answered_new)
        ),
        gaps=quantiles_by_side(np.concatenate(gaps), sample_weight, np.concatenate(is_new)),
        n_images=effective_size(data),
    )


def _half_squares(data, images, shrinkage):
    """Half squared lengths of images in whitened coordinates that were formed without them."""
    prototypes = fit_prototypes(data, shrinkage)
    rows, _ = prototypes.transform_left_out(images.X, images.y, images.sample_weight)
    return (prototypes.space.transform_images(images.X) * rows).sum(axis=1) / 2
