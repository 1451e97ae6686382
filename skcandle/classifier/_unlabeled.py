r"""What images without labels teach: prototypes whose labels are partly missing.

The class of an unlabelled image `x` is a missing value. *Expectation-maximisation* (Dempster, Laird
and Rubin, 1977) repeats two steps until the answers stop changing:

* E: the classifier answers. With its probabilities :math:`p_k(x)`, the image counts

  .. math:: r_k(x) = c\, \ell(x)\, p_k(x) \; [p_k(x) > 1/5]

  images of class `k`, where :math:`\ell(x)` is the probability that its class is listed at all
  (``novelty_score``), and `c` = 1/2, because errors of the answers are correlated.
* M: prototypes, text map and covariance are formed from labelled images and from unlabelled ones
  with these weights, in closed form.

All classes are equally frequent in the E step, as everywhere else in the classifier. Frequencies
that are estimated from the unlabelled images gave lower accuracy, or the same, wherever measured.

Unlabelled images say nothing about a class that they do not show. Let :math:`p` be the answers
before, :math:`\tilde p` the answers with the new prototypes, and :math:`n_k` the number of
unlabelled images that are probably of class `k`. Then

.. math:: q_k(x) = (1 - e_k)\, p_k(x) + e_k\, \tilde p_k(x)\,
          \frac{\sum_j e_j\, p_j(x)}{\sum_j e_j\, \tilde p_j(x)}, \qquad
          e_k = \frac{n_k^2}{n_k^2 + (0.5 + 0.3 s)^2}

are the answers after. Classes with labelled images have :math:`e_k = 1`. So probability moves
between classes in proportion to the evidence for them; a class without any keeps its probability.
Some images of other classes are mistaken for class `k`, and the more the larger these classes are.
Evidence is therefore relative to the size `s` of the class of an average image,
:math:`\sum_k n_k^2 / \sum_k n_k`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import softmax

from ._model import CandleModel
from ._prototypes import PrototypeSpace, prototypes_of
from ._statistics import ClassStatistics

# Constants were chosen on tasks of the WHU sets of the benchmarks, so that figures for these sets
# are slightly optimistic.
# How many labelled images an unlabelled one counts as, if its class were known: 1 is 0.5 points
# better in joint H where images of all classes are added, and worse where those of some are.
IMAGE_WEIGHT = 0.5
# Answers below this probability teach nothing.
LEAST_PROBABILITY = 0.2
# Answers above this probability are evidence that a class occurs among the unlabelled images. It is
# half certain at half such an image plus this share of the size of the class of an average image.
EVIDENCE_PROBABILITY = 0.8
HALF_IMAGE, MISTAKEN_SHARE = 0.5, 0.3
# Rounds end when the answers of the images change by less than this on average.
TOLERANCE = 2e-3
MAX_ROUNDS = 20


@dataclass(frozen=True, eq=False)  # hashable, by identity
class AdaptedModel:
    """A model that has learned from unlabelled images.

    It has the methods and attributes of a :class:`CandleModel`.

    Attributes
    ----------
    before : CandleModel
        Without the unlabelled images.
    after : CandleModel
        With their prototypes.
    unlabeled : ClassStatistics
        Of the unlabelled images, with the weights r.
    n_unlabeled : ndarray of shape (n_classes,)
        Number of unlabelled images that are probably of each class.
    """

    before: CandleModel
    after: CandleModel
    unlabeled: ClassStatistics
    n_unlabeled: np.ndarray

    @classmethod
    def of(cls, before, unlabeled, n_unlabeled, device):
        """Form the prototypes of labelled and unlabelled images."""
        prototypes, statistics = _prototypes_of_both(before, unlabeled)
        term, images = before.single_images, None
        if term is not None:
            images = term.images(before.text_features, len(before.counts))
        columns = np.flatnonzero(before.counts)
        after = before.with_prototypes(prototypes, statistics, images, columns, device)
        return cls(before, after, unlabeled, n_unlabeled)

    @property
    def counts(self):
        """Number of labelled images of each class, of shape (n_classes,)."""
        return self.before.counts

    @property
    def text_features(self):
        return self.before.text_features

    @property
    def single_images(self):
        return self.before.single_images

    @property
    def image_prototypes(self):
        return self.after.image_prototypes

    @property
    def n_compared(self):
        return self.before.n_compared

    @property
    def evidence(self):
        """How certain it is that images of each class were among those learned from; e."""
        n_images = self.n_unlabeled.astype(float)
        average_size = n_images @ (n_images / max(n_images.sum(), 1e-12))
        half = HALF_IMAGE + MISTAKEN_SHARE * average_size
        # hypot, because squares of huge weights overflow
        evidence = np.where(self.counts > 0, 1, (n_images / np.hypot(n_images, half)) ** 2)
        return evidence.astype(self.n_unlabeled.dtype)

    def rows_of(self, X):
        return self.before.rows_of(X)

    def half_squares(self, X):
        return self.after.half_squares(X)

    def with_classes(self, n_added, text_features):
        return AdaptedModel(
            self.before.with_classes(n_added, text_features),
            self.after.with_classes(n_added, text_features),
            self.unlabeled.with_classes(n_added),
            np.concatenate([self.n_unlabeled, np.zeros(n_added, self.n_unlabeled.dtype)]),
        )

    def with_images(self, X, y, sample_weight, device):
        before = self.before.with_images(X, y, sample_weight, device)
        return AdaptedModel.of(before, self.unlabeled, self.n_unlabeled, device)

    def without_images(self, X, y, sample_weight, digests, device):
        before = self.before.without_images(X, y, sample_weight, digests, device)
        return AdaptedModel.of(before, self.unlabeled, self.n_unlabeled, device)

    def scorer(self, device):
        return AdaptedScorer(self, device)


class AdaptedScorer:
    """An :class:`AdaptedModel` on a device."""

    def __init__(self, model, device):
        self.device = device
        self.before, self.after = model.before.scorer(device), model.after.scorer(device)
        self.evidence = torch.tensor(model.evidence, device=device, dtype=self.before.dtype)

    def score(self, X):
        """Joint logits of a block of embeddings, see :meth:`CandleScorer.score`."""
        before, after = (torch.from_numpy(s.score(X)) for s in (self.before, self.after))
        return mixed_logits(before, after, self.evidence.cpu()).numpy()

    def logits(self, images):
        """Joint logits of a tensor of embeddings, see :meth:`CandleScorer.logits`."""
        return mixed_logits(self.before.logits(images), self.after.logits(images), self.evidence)


def mixed_logits(before, after, evidence):
    """Logarithms of q, up to the sum that the logits before had.

    Parameters
    ----------
    before, after : Tensor of shape (n_samples, n_classes)
    evidence : Tensor of shape (n_classes,)
        In [0, 1], and not all zero.

    Returns
    -------
    logits : Tensor of shape (n_samples, n_classes)
    """
    moved, kept = torch.log(evidence), torch.log1p(-evidence)
    after = after + moved
    shift = torch.logsumexp(before + moved, dim=1) - torch.logsumexp(after, dim=1)
    # not logaddexp, which overflows in an ONNX file
    return torch.logsumexp(torch.stack([before + kept, after + shift[:, None]]), dim=0)


def learn_from_unlabeled(model, blocks, weight, columns, device):
    """Learn from unlabelled images.

    Parameters
    ----------
    model : CandleModel or AdaptedModel
    blocks : callable
        Returns an iterator over pairs of a slice and the rows of images in it, rows of length one
        where there is text.
    weight : ndarray of shape (n_samples,)
        How much each image counts: the probability that its class is listed.
    columns : ndarray of int
        Classes that images may be of.
    device : torch.device

    Returns
    -------
    model : AdaptedModel
    """
    before, earlier = model, None
    if isinstance(model, AdaptedModel):
        before, earlier = model.before, model.unlabeled
    answering, answers = model, None
    for _ in range(MAX_ROUNDS):
        sums, previous = _SoftSums(before, columns, weight), answers
        answers = sums.add(answering.scorer(device), blocks)
        unlabeled = sums.statistics()
        if earlier is not None:
            unlabeled = earlier.merged(unlabeled)
        if not unlabeled.counts.any():
            return model
        if previous is not None and answers.change(previous, weight) < TOLERANCE:
            break
        prototypes, statistics = _prototypes_of_both(before, unlabeled)
        # the rounds do without the single-image term, which would have to be fitted in each
        answering = replace(
            before, space=prototypes.space, statistics=statistics, single_images=None
        )
    n_unlabeled = (model.n_unlabeled + sums.n_images).astype(before.projection.dtype)
    learned = AdaptedModel.of(before, unlabeled, n_unlabeled, device)
    return learned if learned.evidence.any() else model


def _prototypes_of_both(before, unlabeled):
    """Prototypes and statistics of labelled and unlabelled images."""
    statistics = before.statistics.merged(unlabeled)
    return prototypes_of(statistics, before.text_features, before.space.shrinkage), statistics


@dataclass(frozen=True)
class _Answers:
    """The most probable class of each image, and its probability."""

    best: np.ndarray
    probability: np.ndarray

    def change(self, other, weight):
        """Mean change of the answers, in [0, 2]."""
        total = weight.sum()
        differs = np.abs(self.probability - other.probability) + (self.best != other.best)
        return float(weight @ differs / total) if total > 0 else 0.0


class _SoftSums:
    """Sums over unlabelled images, from which their statistics follow; one block in memory."""

    def __init__(self, model, columns, weight):
        n_classes, n_features = model.space.prototypes.shape
        self.origin, self.columns, self.weight = model.space.image_mean, columns, weight
        self.dtype = model.projection.dtype
        self.counts = np.zeros(n_classes)
        self.n_images = np.zeros(n_classes)
        self.totals = np.zeros((n_classes, n_features))
        self.squares = np.zeros((n_features, n_features))

    def add(self, scorer, blocks):
        """Add all images, with the answers of a scorer, which are returned."""
        best = np.zeros(len(self.weight), dtype=np.int32)
        probability = np.zeros(len(self.weight), dtype=np.float32)
        for rows, X in blocks():
            proba = softmax(scorer.score(X)[:, self.columns], axis=1)
            best[rows], probability[rows] = proba.argmax(axis=1), proba.max(axis=1)
            certain = np.where(proba > EVIDENCE_PROBABILITY, proba, 0)
            self.n_images[self.columns] += self.weight[rows] @ certain
            counted = IMAGE_WEIGHT * self.weight[rows, None]
            share = np.where(proba > LEAST_PROBABILITY, proba, 0) * counted
            share, centred = share.astype(self.dtype), X - self.origin
            self.counts[self.columns] += share.sum(axis=0)
            self.totals[self.columns] += share.T @ centred
            weighted = np.sqrt(share.sum(axis=1))[:, None] * centred
            self.squares += weighted.T @ weighted
        return _Answers(best, probability)

    def statistics(self):
        seen = self.counts[:, None] > 0
        means = np.divide(self.totals, self.counts[:, None], where=seen, out=self.totals * 0)
        between = np.sqrt(self.counts)[:, None] * means
        scatter = self.squares - between.T @ between
        rounding = np.finfo(self.dtype).eps ** 0.5
        if np.trace(scatter) <= rounding * np.trace(self.squares):
            scatter = np.zeros_like(scatter)  # each class has copies of one image
        return ClassStatistics(
            self.counts.astype(self.dtype),
            np.where(seen, means + self.origin, 0).astype(self.dtype),
            scatter.astype(self.dtype),
        )


def model_of_names(text_features, shrinkage, weights, term=None):
    """A model without any image. Its answers are those of zero-shot CLIP.

    All prototypes are the origin, to which all images are equally similar.

    Parameters
    ----------
    text_features : ndarray of shape (n_classes, n_features)
    shrinkage : float
    weights : LogitWeights
    term : SingleImages, optional
        Empty, for images that are added.

    Returns
    -------
    model : CandleModel
    """
    n_classes, n_features = text_features.shape
    dtype = text_features.dtype
    nothing = np.zeros((n_features, n_features), dtype)
    counts, origin = np.zeros(n_classes, dtype), np.zeros((n_classes, n_features), dtype)
    space = PrototypeSpace(
        counts=counts,
        image_mean=np.zeros(n_features, dtype),
        text_mean=text_features.mean(axis=0),
        text_map=nothing,
        prototypes=origin,
        shrinkage=shrinkage,
        whitener=np.eye(n_features, dtype=dtype),
        normalize=True,
    )
    statistics = ClassStatistics(counts, origin, nothing)
    identity = np.eye(n_features, dtype=dtype)
    return CandleModel(space, text_features, identity, weights, statistics, term)
