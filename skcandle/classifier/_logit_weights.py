r"""How far to trust each group of logits, from the training images alone.

The joint logits of base and new classes are

.. math:: s_k(x) = \frac{a\, z_k(x) + (b + c\, \rho_4(n_k))\, v_k(x)}{T} - g\,\rho_{1/2}(n_k)

with zero-shot similarities `z`, image-to-prototype similarities `v`, and the reliability
:math:`\rho_h(n) = n / (n + h)` of something that was formed from `n` images; it is zero for a new
class. The weights are the regularised maximum-likelihood estimate (of `a`, `b/a`, `c/a`, `g`) of a
conditional logit model on *pseudo-new* episodes: some classes with images are treated as new
ones, and the images of the others are compared to prototypes that were formed without them. Only
the offset `g` is chosen for balanced accuracy instead.
"""

from dataclasses import asdict, astuple, dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

# Images at which the additional weight of a prototype, and the offset, reach half their size.
PROTOTYPE_HALF_WAY = 4.0
OFFSET_HALF_WAY = 0.5
# Prior standard deviations of a, b/a, c/a and g: a handful of tail images cannot carry a free
# choice.
PRIOR_SD = (0.5, 0.05, 0.15, 10.0)
IMAGE_ONLY_PRIOR_SD = (1.0, 1.0, 1.0, 1.0)
# Smoothing of the accuracies from which the offset is chosen, in logits.
OFFSET_BANDWIDTH = 2.0
# Half widths of the grids of nine offsets that are tried one after the other, in logits.
OFFSET_SEARCH = (8.0, 2.0, 0.5)
# Similarities kept for the estimate, over all episodes; bounds time and memory.
MAX_SIMILARITIES = 4_000_000


@dataclass(frozen=True)
class LogitWeights:
    """Weights of the logit groups: a, b, c and g of the module's equation."""

    zero_shot: float = 1.0
    prototype: float = 0.1
    reliability: float = 0.0
    base_offset: float = 0.0

    def as_dict(self):
        """Names and values."""
        return asdict(self)

    def prototype_weights(self, counts):
        """Weight of the image-to-prototype similarity of each class."""
        return self.prototype + self.reliability * reliability(counts, PROTOTYPE_HALF_WAY)

    def offsets(self, counts):
        """What is taken off the logits of each class."""
        return self.base_offset * reliability(counts, OFFSET_HALF_WAY)


@dataclass(frozen=True)
class Episode:
    """Similarities of held-out images to all classes with images.

    Attributes
    ----------
    zero_shot, prototype : ndarray of shape (n_samples, n_classes)
        Similarities divided by the temperature; `zero_shot` is None without text.
    counts : ndarray of shape (n_classes,)
        Images of each class, 0 for a pseudo-new one.
    own_counts : ndarray of shape (n_samples,)
        Images behind the prototype of the class of each image, without the image.
    target : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,)
    """

    zero_shot: np.ndarray | None
    prototype: np.ndarray
    counts: np.ndarray
    own_counts: np.ndarray
    target: np.ndarray
    weight: np.ndarray

    @property
    def hidden(self):
        """Pseudo-new classes."""
        return self.counts == 0

    @property
    def own(self):
        """Index of the entry of each image and its class."""
        return np.arange(len(self.target)), self.target

    def scores(self, weights):
        """Joint logits of the images under some weights."""
        weights = LogitWeights(*map(self.prototype.dtype.type, astuple(weights)))
        scores = weights.prototype_weights(self.counts) * self.prototype
        scores[self.own] += weights.reliability * self._left_out_trust() * self.prototype[self.own]
        scores -= weights.offsets(self.counts)
        if self.zero_shot is not None:
            scores += weights.zero_shot * self.zero_shot
        return scores

    def log_likelihood(self, weights):
        """Weighted log-likelihood of the classes of the images, and its gradient."""
        scores = self.scores(weights)
        scores -= scores.max(axis=1, keepdims=True)
        own = scores[self.own]
        proba = np.exp(scores, out=scores)
        total = proba.sum(axis=1)
        residuals = np.multiply(proba, -(self.weight / total)[:, None], out=proba)
        residuals[self.own] += self.weight
        return self.weight @ (own - np.log(total)), self.gradient(residuals)

    def gradient(self, residuals):
        """Derivatives of the sum of `residuals` times :meth:`scores` by the four weights."""
        by_class = np.einsum("nk,nk->k", residuals, self.prototype)
        by_own = residuals[self.own] * self.prototype[self.own]
        trusted = by_class @ reliability(self.counts, PROTOTYPE_HALF_WAY)
        return np.array(
            [
                0.0 if self.zero_shot is None else np.einsum("nk,nk->", residuals, self.zero_shot),
                by_class.sum(),
                trusted + by_own @ self._left_out_trust(),
                -residuals.sum(axis=0) @ reliability(self.counts, OFFSET_HALF_WAY),
            ]
        )

    def _left_out_trust(self):
        """What the reliability of its own prototype lacks for each image."""
        complete = reliability(self.counts, PROTOTYPE_HALF_WAY)[self.target]
        return reliability(self.own_counts, PROTOTYPE_HALF_WAY) - complete


def reliability(counts, half_way):
    """What `counts` images are worth, from 0 for none to 1; one half at `half_way`."""
    return counts / (counts + half_way)


def pseudo_new_masks(n_classes, fraction, n_episodes, rng):
    """Which classes each episode hides; none more than once more often than another.

    Returns
    -------
    masks : list of ndarray of shape (n_classes,) of bool
        Empty where fewer than two classes leave nothing to hide.
    """
    if n_classes < 2:
        return []
    n_hidden = min(max(1, round(n_classes * fraction)), n_classes - 1)
    times_hidden, masks = np.zeros(n_classes, dtype=int), []
    for _ in range(n_episodes):
        rarest_first = np.lexsort((rng.uniform(size=n_classes), times_hidden))
        mask = np.isin(np.arange(n_classes), rarest_first[:n_hidden])
        times_hidden += mask
        masks.append(mask)
    return masks


def balanced_weights(target, sample_weight, hidden):
    """Weights under which all classes of a side count the same, and both sides one each."""
    per_class = np.bincount(target, weights=sample_weight, minlength=len(hidden))
    weight = sample_weight / per_class[target]
    for side in (hidden, ~hidden):
        rows = side[target]
        if rows.any():
            weight[rows] /= weight[rows].sum()
    return weight


def balanced_offset(episodes, weights):
    """Offset of base logits at which base and new accuracy have the largest harmonic mean.

    The likelihood prefers the side with the better classifier. Accuracies are smoothed over
    `OFFSET_BANDWIDTH` logits, since a few hundred images make a ragged curve.
    """
    parts = []
    for episode in episodes:
        scores = episode.scores(replace(weights, base_offset=0.0))
        is_new = episode.hidden[episode.target]
        new = np.where(episode.hidden, scores, -np.inf)
        new_won = np.where(is_new & (new.argmax(axis=1) == episode.target), episode.weight, 0)
        shares = reliability(episode.counts, OFFSET_HALF_WAY).astype(scores.dtype)
        scores[:, episode.hidden] = -np.inf
        base_weight = np.where(is_new, 0, episode.weight)
        parts.append((scores, shares, base_weight, new.max(axis=1), new_won, episode.target))

    def harmonic_mean(offset):
        accuracy = np.zeros(2)
        for scores, shares, base_weight, new_best, new_won, target in parts:
            base = scores - scores.dtype.type(offset) * shares
            gap = (base.max(axis=1) - new_best) / OFFSET_BANDWIDTH
            base_won = base_weight * (base.argmax(axis=1) == target)
            accuracy += [base_won @ expit(gap), new_won @ expit(-gap)]
        return accuracy.prod() / max(accuracy.sum(), 1e-12)

    best = weights.base_offset
    if harmonic_mean(best) == 0:  # nothing hidden, or no image that tells
        return best
    for half_width in OFFSET_SEARCH:
        grid = best + np.linspace(-half_width, half_width, 9)
        best = float(max(grid, key=harmonic_mean))
    return best


def fit_logit_weights(episodes, prior, n_classes, *, keep_weights=False, keep_offset=False):
    """Maximise the penalised conditional likelihood of the episodes.

    Parameters
    ----------
    episodes : list of Episode
    prior : LogitWeights
        Mean of the Gaussian prior, and the answer where there are no episodes.
    n_classes : int
        Classes with images; the likelihood weighs as much as two images of each.
    keep_weights, keep_offset : bool, default=False
        Take the weights of the similarities, or the offset, from `prior` as they are.

    Returns
    -------
    weights : LogitWeights
    """
    if not episodes:
        return prior
    image_only = episodes[0].zero_shot is None
    # scale, weights of the prototypes relative to it, offset
    scale = 1.0 if image_only else prior.zero_shot
    mean = [scale, prior.prototype / scale, prior.reliability / scale, prior.base_offset]
    mean = np.array(mean)
    bounds = [(0.05, None), (0.0, None), (0.0, None), (None, None)]
    if image_only:
        bounds = [(1, 1), (0.01, None), (0, 0), (0, 0)]
    if keep_weights:
        bounds[:3] = [(value, value) for value in mean[:3]]
    if keep_offset:
        bounds[3] = (mean[3], mean[3])
    sd = np.array(IMAGE_ONLY_PRIOR_SD if image_only else PRIOR_SD)
    strength = 2 * n_classes / len(episodes)

    def linear(theta):
        return np.array([theta[0], theta[0] * theta[1], theta[0] * theta[2], theta[3]])

    def objective(theta):
        deviation = (theta - mean) / sd
        loss, gradient = deviation @ deviation / 2, np.zeros(4)
        for episode in episodes:
            likelihood, by_weight = episode.log_likelihood(LogitWeights(*linear(theta)))
            loss -= strength * likelihood
            gradient -= strength * by_weight
        zero_shot, prototype, reliable, offset = gradient
        chained = [
            zero_shot + theta[1] * prototype + theta[2] * reliable,
            theta[0] * prototype,
            theta[0] * reliable,
            offset,
        ]
        return loss, np.array(chained) + deviation / sd

    def maximise(start):
        # in units of the prior's standard deviations, in which curvatures are alike
        def scaled(u):
            loss, gradient = objective(mean + sd * u)
            return loss, gradient * sd

        limits = [
            tuple(None if limit is None else (limit - m) / s for limit in pair)
            for pair, m, s in zip(bounds, mean, sd, strict=True)
        ]
        u = (start - mean) / sd
        options = {"ftol": 1e-6}
        result = minimize(scaled, u, jac=True, method="L-BFGS-B", bounds=limits, options=options)
        return mean + sd * result.x

    theta = maximise(mean)
    if not image_only and not keep_offset:
        offset = balanced_offset(episodes, LogitWeights(*linear(theta)))
        bounds[3], theta[3] = (offset, offset), offset
        theta = maximise(theta)
    weights = LogitWeights(*(float(value) for value in linear(theta)))
    return replace(weights, zero_shot=0.0) if image_only else weights
