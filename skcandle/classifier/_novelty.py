r"""How little an image looks like any class of the universe, and how little is too little.

Two signals of an image `x` are weighed against each other:

* its largest joint logit over the classes, for equally frequent classes;
* its largest similarity to a text; without text, half its squared length in whitened
  coordinates, which the logits leave out.

The weights are those of a logistic regression on the pseudo-new splits of the training images: the
signals of a held-out image while its class is in the universe, against those of the same image
after its class has been taken out. No image of an unlisted class is needed.
"""

from dataclasses import dataclass

import numpy as np

from ._prototypes import fit_prototypes
from ._pseudo_new import effective_size, splits_of_universe


@dataclass(frozen=True)
class NoveltyScale:
    """Weights of the signals, and scores of held-out images of classes in the universe.

    Attributes
    ----------
    coefficients : ndarray of shape (2,)
    intercept : float
    scores : ndarray of shape (n_scores,)
        Of images that took no part in what they were compared to.
    sample_weight : ndarray of shape (n_scores,)
    answered_new : ndarray of shape (n_scores,) of bool
        Whether the class of the largest logit had no image.
    n_images : float
        How many images the scores are worth.
    """

    coefficients: np.ndarray
    intercept: float
    scores: np.ndarray
    sample_weight: np.ndarray
    answered_new: np.ndarray
    n_images: float

    def score(self, signals):
        """Log-odds that an image is of no class in the universe, if either were as likely.

        Parameters
        ----------
        signals : ndarray of shape (n_samples, 2)

        Returns
        -------
        score : ndarray of shape (n_samples,)
        """
        return signals @ self.coefficients + self.intercept

    def thresholds(self, rate):
        r"""Scores above which a given share of images of listed classes lies.

        The image that is to be judged counts as one more, at infinity, as in split conformal
        prediction: a share below :math:`1 / (n + 1)` of `n` images is more than they can tell.

        Parameters
        ----------
        rate : float
            In (0, 1).

        Returns
        -------
        thresholds : ndarray of shape (2,)
            Where the answer is a base class, and where it is a new one.
        too_few : bool
            Whether the images cannot tell; the thresholds are then the largest scores.
        """
        level = (1 - rate) * (1 + 1 / self.n_images)
        sides = [~self.answered_new, self.answered_new]
        sides = [side if side.any() else np.ones(len(side), dtype=bool) for side in sides]
        found = [weighted_quantile(self.scores[s], self.sample_weight[s], level) for s in sides]
        return np.array(found), level > 1


def weighted_quantile(values, weight, level):
    """Smallest value up to which the share of the weight is at least `level`; at most the last."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(np.searchsorted(share, level), len(values) - 1)])


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


def fit_novelty(data, shrinkage, weights):
    """Weigh the signals, and collect scores of held-out images.

    Parameters
    ----------
    data : TrainingSet
    shrinkage : float
    weights : LogitWeights

    Returns
    -------
    scale : NoveltyScale
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    listed, unlisted, sample_weight, answered_new = [], [], [], []
    for split, rows in splits_of_universe(data, shrinkage):
        logits = split.joint_logits(weights)
        other = split.text_similarity
        if other is None:
            other = _half_squares(data, rows, shrinkage)
        is_own = np.zeros(logits.shape, dtype=bool)
        is_own[np.arange(len(logits)), split.target] = True
        listed.append(signals_of(logits, other))
        answered_new.append(split.offset_share[logits.argmax(axis=1)] == 0)
        without = other if other.ndim == 1 else np.where(is_own, -np.inf, other)
        unlisted.append(signals_of(np.where(is_own, -np.inf, logits), without))
        sample_weight.append(split.sample_weight)
    listed, unlisted = np.concatenate(listed), np.concatenate(unlisted)
    sample_weight = np.concatenate(sample_weight)
    sample_weight *= data.sample_weight.sum() / sample_weight.sum()
    regression = LogisticRegression()
    model = make_pipeline(StandardScaler(), regression)
    model.fit(
        np.concatenate([listed, unlisted]),
        np.repeat([0, 1], len(listed)),
        logisticregression__sample_weight=np.tile(sample_weight, 2),
    )
    coefficients = regression.coef_[0] / model[0].scale_
    intercept = float(regression.intercept_[0] - model[0].mean_ @ coefficients)
    return NoveltyScale(
        coefficients=coefficients,
        intercept=intercept,
        scores=listed @ coefficients + intercept,
        sample_weight=sample_weight,
        answered_new=np.concatenate(answered_new),
        n_images=effective_size(data),
    )


def _half_squares(data, rows, shrinkage):
    """Half squared lengths of images in whitened coordinates that were formed without them."""
    space = fit_prototypes(data, shrinkage)
    X, y, sample_weight = data.X[rows], data.y[rows], data.sample_weight[rows]
    images, _ = space.transform_left_out(X, y, sample_weight)
    return (space.transform_images(X) * images).sum(axis=1) / 2
