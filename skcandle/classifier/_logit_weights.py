r"""The joint logits, and the estimate of the weights in them.

The logit of class `k`, base or new, for an image `x` is

.. math:: s_k(x) = \frac{z_k(x) + (b + c\, \rho_4(n_k))\, v_k(x)}{T} - g\, \rho_{1/2}(n_k)

with the image-to-text similarity `z`, the image-to-prototype similarity `v`, and the saturation
:math:`\rho_h(n) = n / (n + h)` of a count of `n` images, which is zero for a new class. The four
weights are estimated on *pseudo-new splits* of the training images (see ``_pseudo_new.py`` and
``_weight_estimation.py``): `T`, `b` and `c` by penalised maximum likelihood of a conditional logit
model, the offset `g` by the largest harmonic mean of base and new accuracy.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import hmean

# Counts at which the count bonus, and the offset, reach half their size.
BONUS_HALF_COUNT = 4.0
OFFSET_HALF_COUNT = 0.5
# Softmax temperature from which "auto" starts: that of CLIP. Without text, similarities are on the
# scale of a log-likelihood.
CLIP_TEMPERATURE = 0.01
IMAGE_ONLY_TEMPERATURE = 1.0
# Prior of T0 / T, b, c and g: a few images of rare classes do not justify a free choice.
DEFAULT_PROTOTYPE_WEIGHT = 0.1
PRIOR_SD = (0.5, 0.05, 0.15, 10.0)
IMAGE_ONLY_PRIOR_SD = (1.0, 1.0, 1.0, 1.0)
# Smoothing of the accuracies from which the offset is chosen, in logits.
OFFSET_BANDWIDTH = 2.0
# Half widths, in logits, of the successive grids of nine offsets.
OFFSET_SEARCH = (8.0, 2.0, 0.5)


@dataclass(frozen=True)
class LogitWeights:
    """Weights in the joint logits: T, b, c and g of the module's equation."""

    temperature: float
    prototype_weight: float
    count_bonus: float = 0.0
    base_offset: float = 0.0

    def joint_logits(
        self, text_similarity, prototype_similarity, bonus_saturation, offset_saturation
    ):
        """Compute the logits of all classes. All logits of a CandleClassifier come from here.

        Parameters
        ----------
        text_similarity : ndarray or Tensor of shape (n_samples, n_classes), or None
            None without text.
        prototype_similarity : ndarray or Tensor of shape (n_samples, n_classes)
        bonus_saturation : ndarray or Tensor of shape (n_classes,) or (n_samples, n_classes)
            Saturation of the count behind each prototype, with half count `BONUS_HALF_COUNT`.
        offset_saturation : ndarray or Tensor of shape (n_classes,)
            Saturation of the count of each class, with half count `OFFSET_HALF_COUNT`.

        Returns
        -------
        logits : ndarray or Tensor of shape (n_samples, n_classes)
        """
        prototype_weight = self.prototype_weight + self.count_bonus * bonus_saturation
        similarity = prototype_weight * prototype_similarity
        if text_similarity is not None:
            similarity = similarity + text_similarity
        return similarity / self.temperature - self.base_offset * offset_saturation


def prototype_similarity(tokens, prototypes):
    r"""Compare images to prototypes: :math:`\langle u, v_k \rangle - \|v_k\|^2 / 2`.

    For rows of length one this is the cosine, up to a constant. Otherwise it is the Gaussian
    discriminant, up to a term that is the same for all classes.

    Parameters
    ----------
    tokens : ndarray or Tensor of shape (n_samples, n_features)
    prototypes : ndarray or Tensor of shape (n_classes, n_features)

    Returns
    -------
    similarity : ndarray or Tensor of shape (n_samples, n_classes)
    """
    return tokens @ prototypes.T - (prototypes**2).sum(1) / 2


def own_similarity(tokens, prototypes, normalize):
    """Compare each image to the prototype in the same row; see `prototype_similarity`.

    Parameters
    ----------
    tokens, prototypes : ndarray or Tensor of shape (n_samples, n_features)
        See :meth:`TrainingPrototypes.transform_left_out`.
    normalize : bool
        Whether prototypes are of length one, each in the metric of its image.

    Returns
    -------
    similarity : ndarray or Tensor of shape (n_samples,)
    """
    half_squares = 0.5 if normalize else (prototypes**2).sum(1) / 2
    return (tokens * prototypes).sum(1) - half_squares


def saturation(counts, half_count):
    """Rises from 0, for no images, to 1, for many; it is 1/2 at `half_count`."""
    return counts / (counts + half_count)


def fit_logit_weights(splits, offset_splits, start, n_images, *, fixed=()):
    """Estimate the weights that are not fixed.

    Parameters
    ----------
    splits : list of PseudoNewSplit
        The likelihood of these is maximised.
    offset_splits : list of PseudoNewSplit
        The offset balances base and new classes in these.
    start : LogitWeights
        Mean of the prior and values of fixed weights; returned if there are no splits.
    n_images : float
        How many images the likelihood counts as, over all splits.
    fixed : collection of str
        Names of weights that keep their value in `start`.

    Returns
    -------
    weights : LogitWeights
    """
    if not splits:
        return start
    estimate = _PenalisedLikelihood(splits, start, n_images, fixed)
    # if nothing is hidden, the offset would only separate rare from frequent classes
    weights = estimate.maximise(start, keep_offset=not any(s.hidden.any() for s in splits))
    if "base_offset" not in fixed:
        weights = replace(weights, base_offset=balanced_offset(offset_splits, weights))
        weights = estimate.maximise(weights, keep_offset=True)
    return weights


def fit_temperature(splits, weights, start, n_images):
    """Estimate the temperature alone. See :func:`fit_logit_weights` for the other parameters.

    Parameters
    ----------
    weights : LogitWeights
        All but the temperature are kept.

    Returns
    -------
    weights : LogitWeights
    """
    estimate = _PenalisedLikelihood(splits, start, n_images, {"prototype_weight"})
    return estimate.maximise(weights, keep_offset=True)


class _PenalisedLikelihood:
    """Log-likelihood of the splits minus a Gaussian penalty, as a function of the free weights.

    The optimiser works on ``theta = (T0 / T, b, c, g)``, in units of the standard deviations of
    the prior, so that curvatures are similar.
    """

    def __init__(self, splits, start, n_images, fixed):
        self.splits = splits
        self.reference = start.temperature
        total = sum(split.sample_weight.sum() for split in splits)
        self.strength = n_images / total if total > 0 else 0.0
        image_only = splits[0].text_similarity is None
        self.sd = np.array(IMAGE_ONLY_PRIOR_SD if image_only else PRIOR_SD)
        self.mean = self._theta(start)
        # splits return derivatives with respect to 1 / T, b, c and g
        self.unit = self.sd / [self.reference, 1, 1, 1]
        free = np.array(["temperature" not in fixed, *(["prototype_weight" not in fixed] * 2)])
        self.is_free = np.append(free, "base_offset" not in fixed)
        self.lowest = np.array([0.01 if image_only else 0.05, 0.0, 0.0, -np.inf])

    def maximise(self, weights, keep_offset):
        start = self._theta(weights)
        is_free = self.is_free & [True, True, True, not keep_offset]
        if not is_free.any():
            return weights
        low = np.where(is_free, self.lowest, start)
        high = np.where(is_free, np.inf, start)
        result = minimize(
            self._objective,
            (start - self.mean) / self.sd,
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([(low - self.mean) / self.sd, (high - self.mean) / self.sd]),
            options={"ftol": 1e-6},
        )
        return self._weights(self.mean + self.sd * result.x)

    def _objective(self, u):
        theta = self.mean + self.sd * u
        loss, gradient = u @ u / 2, u.copy()
        for split in self.splits:
            value, derivatives = split.log_likelihood(self._weights(theta))
            loss -= self.strength * value
            gradient -= self.strength * self.unit * derivatives
        return loss, gradient

    def _theta(self, weights):
        return np.array(
            [
                self.reference / weights.temperature,
                weights.prototype_weight,
                weights.count_bonus,
                weights.base_offset,
            ]
        )

    def _weights(self, theta):
        inverse, *others = map(float, theta)
        return LogitWeights(self.reference / inverse, *others)


def balanced_offset(splits, weights):
    """Offset of base logits at which base and new accuracy have the largest harmonic mean.

    The likelihood would favour whichever side has the better classifier. Accuracies are smoothed
    over `OFFSET_BANDWIDTH` logits, because the curve of a few hundred images is ragged.
    """
    curves = [_OffsetCurve(split, replace(weights, base_offset=0.0)) for split in splits]

    def harmonic_mean(offset):
        return hmean(np.sum([curve.accuracies(offset) for curve in curves], axis=0))

    best = weights.base_offset
    if harmonic_mean(best) == 0:  # nothing is hidden, or no image is decisive
        return best
    for half_width in OFFSET_SEARCH:
        grid = best + np.linspace(-half_width, half_width, 9)
        best = float(max(grid, key=harmonic_mean))
    return best


class _OffsetCurve:
    """Smoothed base and new accuracy of one split, as functions of the offset of base classes."""

    def __init__(self, split, weights):
        scores = split.joint_logits(weights)
        is_new = split.hidden[split.target]
        new = np.where(split.hidden, scores, -np.inf)
        self.new_best = new.max(axis=1)
        self.new_hits = np.where(
            is_new & (new.argmax(axis=1) == split.target), split.sample_weight, 0
        )
        self.base = np.where(split.hidden, -np.inf, scores)
        self.sample_weight = split.sample_weight
        self.offset_saturation = split.offset_saturation
        self.target = split.target

    def accuracies(self, offset):
        base = self.base - self.base.dtype.type(offset) * self.offset_saturation
        lead = (base.max(axis=1) - self.new_best) / OFFSET_BANDWIDTH
        base_hits = self.sample_weight * (base.argmax(axis=1) == self.target)
        return base_hits @ expit(lead), self.new_hits @ expit(-lead)
