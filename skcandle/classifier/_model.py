"""The fitted state of the classifier, and its logits."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import normalize

from .._devices import exact_matmul, threads_for
from ._embeddings import check_sizes, rescale_extreme_rows, unit
from ._logit_weights import (
    BONUS_HALF_COUNT,
    OFFSET_HALF_COUNT,
    LogitWeights,
    prototype_similarity,
    saturation,
)
from ._prototypes import PrototypeSpace, prototypes_of
from ._pseudo_new import balanced_rows
from ._single_images import MAX_IMAGES, SingleImages, fit_single_images, gate, kernel
from ._statistics import ClassStatistics
from ._training_images import embedding_digests
from ._training_set import TrainingSet

# Rows that are compared to single images at once: their similarities stay in the processor's cache.
TERM_ROWS = 128


@dataclass(frozen=True, eq=False)  # hashable, by identity
class CandleModel:
    """The fitted state of a :class:`skcandle.CandleClassifier`, in NumPy arrays only.

    Attributes
    ----------
    space : PrototypeSpace
    text_features : ndarray of shape (n_classes, n_features) or None
    projection : ndarray of shape (n_features, n_features)
        Trained projection of images and prototypes.
    weights : LogitWeights
    statistics : ClassStatistics
        Of the training images.
    single_images : SingleImages or None
    """

    space: PrototypeSpace
    text_features: np.ndarray | None
    projection: np.ndarray
    weights: LogitWeights
    statistics: ClassStatistics
    single_images: SingleImages | None

    @property
    def counts(self):
        """Number of images of each class, of shape (n_classes,)."""
        return self.space.counts

    @property
    def n_unlabeled(self):
        """Number of unlabelled images of each class, of shape (n_classes,)."""
        return np.zeros_like(self.counts)

    @property
    def n_compared(self):
        """Number of similarities of an image that are in memory at once: to classes or images."""
        n_images = 0 if self.single_images is None else len(self.single_images.X)
        return max(len(self.counts), n_images)

    @property
    def image_prototypes(self):
        """Prototypes in the space of the images, of shape (n_classes, n_features)."""
        return self.space.prototypes + self.space.image_mean

    def with_classes(self, n_added, text_features):
        """The same model with further classes that have no image.

        Parameters
        ----------
        n_added : int
        text_features : ndarray of shape (n_added, n_features) or None
            None in a model without text.
        """
        texts = self.text_features
        return replace(
            self,
            space=self.space.with_classes(n_added, text_features),
            text_features=None if texts is None else np.concatenate([texts, text_features]),
            statistics=self.statistics.with_classes(n_added),
        )

    def rows_of(self, X):
        """Embeddings in the number format of the model and, with text, of length one."""
        dtype = self.projection.dtype
        if self.text_features is not None:
            return unit(rescale_extreme_rows(X, dtype))
        check_sizes(X, dtype)
        return X.astype(dtype)

    def with_images(self, X, y, sample_weight, device):
        """The same model with further images; weights and projection do not change.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Rows of length one where there is text.
        y : ndarray of shape (n_samples,)
            Columns of their classes in the model.
        sample_weight : ndarray of shape (n_samples,)
        device : torch.device
            Where the single-image term is fitted.
        """
        data = TrainingSet(X, y, sample_weight, self.text_features, len(self.counts))
        statistics = self.statistics.merged(ClassStatistics.of(data))
        return self._with_statistics(statistics, lambda images: images.joined(data), device)

    def without_images(self, X, y, sample_weight, digests, device):
        """The same model without some of its images, whose projection is not trained.

        Parameters
        ----------
        X, y, sample_weight, device : object
            See :meth:`with_images`.
        digests : ndarray of dtype uint64
            Digests of the rows that the model was fitted on, see :func:`embedding_digests`.
        """
        data = TrainingSet(X, y, sample_weight, self.text_features, len(self.counts))
        statistics = self.statistics.without(ClassStatistics.of(data))

        def rest(images):
            return images.at(~np.isin(embedding_digests(images.X), digests))

        untrained = np.eye(len(self.projection), dtype=self.projection.dtype)
        return replace(self, projection=untrained)._with_statistics(statistics, rest, device)

    def _with_statistics(self, statistics, change, device):
        """The same model with other statistics, and a change of the single images."""
        prototypes = prototypes_of(statistics, self.text_features, self.space.shrinkage)
        images = None
        if self.single_images is not None:
            images = change(self.single_images.images(self.text_features, len(self.counts)))
            images = images.at(balanced_rows(images, MAX_IMAGES))
        columns = np.flatnonzero(statistics.counts)
        return self.with_prototypes(prototypes, statistics, images, columns, device)

    def with_prototypes(self, prototypes, statistics, images, columns, device):
        """The same model with other prototypes, for which the single-image term is fitted again.

        Parameters
        ----------
        prototypes : TrainingPrototypes
        statistics : ClassStatistics
        images : TrainingSet or None
            Images of the term, if there is one.
        columns : ndarray of shape (n_base,)
            Classes with training images.
        device : torch.device
        """
        term = self.single_images
        if term is not None and len(columns):
            term, _ = fit_single_images(
                images, prototypes, columns, self.weights, term.weight, device
            )
        return replace(self, space=prototypes.space, statistics=statistics, single_images=term)

    def half_squares(self, X):
        """Half the squared lengths of images in whitened and projected coordinates."""
        tokens = (X - self.space.image_mean) @ self.space.whitener @ self.projection
        return (tokens**2).sum(axis=1) / 2

    def scorer(self, device):
        """The model on a device. Everything that depends on the classes alone is computed once.

        Parameters
        ----------
        device : torch.device

        Returns
        -------
        scorer : CandleScorer
        """
        return CandleScorer(self, device)


class CandleScorer:
    """A :class:`CandleModel` on a device.

    Parameters
    ----------
    model : CandleModel
    device : torch.device
    """

    def __init__(self, model, device):
        self.device = device
        self.dtype = getattr(torch, model.projection.dtype.name)
        self.weights = model.weights
        self.image_mean = self._tensor(model.space.image_mean)
        self.whitener = self._tensor(model.space.whitener)
        self.projection = self._tensor(model.projection)
        self.texts = None if model.text_features is None else self._tensor(model.text_features)
        self.term = model.single_images
        self.n_compared = model.n_compared
        if self.term is not None:
            self.term_columns = torch.tensor(self.term.columns, device=device)
            self.term_images = self._tensor(self.term.coordinates)
            self.coefficients = self._tensor(self.term.weight * self.term.coefficients)
        counts = self._tensor(model.counts)
        self.bonus_saturation = saturation(counts, BONUS_HALF_COUNT)
        self.offset_saturation = saturation(counts, OFFSET_HALF_COUNT)
        work = self.projection.numel() * len(model.counts)
        with torch.no_grad(), exact_matmul(device), threads_for(work):
            prototypes = self._tensor(model.space.prototypes)
            self.prototypes = self._project(prototypes @ self.whitener)

    def score(self, X):
        """Joint logits of a block of embeddings, for equally frequent classes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes)
        """
        work = X.size * max(X.shape[1], self.n_compared)
        with torch.no_grad(), exact_matmul(self.device), threads_for(work):
            logits, coordinates = self._without_term(self._tensor(X))
            if self.term is not None:
                rows = zip(logits.split(TERM_ROWS), coordinates.split(TERM_ROWS), strict=True)
                for own, u in rows:
                    self._add_term(own, u)
            return logits.cpu().numpy()

    def logits(self, images):
        """Joint logits of a tensor of embeddings, by operations that PyTorch can trace."""
        logits, coordinates = self._without_term(images)
        return logits if self.term is None else self._add_term(logits, coordinates)

    def _without_term(self, images):
        """Logits without the single-image term, and the coordinates in which it compares."""
        text_similarity = None
        if self.texts is not None:
            images = normalize(images, dim=-1)
            text_similarity = images @ self.texts.T
        whitened = (images - self.image_mean) @ self.whitener
        tokens = self._project(whitened)
        logits = self.weights.joint_logits(
            text_similarity,
            prototype_similarity(tokens, self.prototypes),
            self.bonus_saturation,
            self.offset_saturation,
        )
        return logits, whitened if self.term is None else normalize(whitened, dim=-1)

    def _add_term(self, logits, coordinates):
        """Add the single-image term to logits, in place."""
        base, term = self.term_columns, kernel(coordinates, self.term_images) @ self.coefficients
        return logits.index_copy_(1, base, gate(logits.index_select(1, base), term))

    def _project(self, whitened):
        """Project; with text, directions are compared."""
        if self.texts is None:
            return whitened @ self.projection
        return normalize(normalize(whitened, dim=-1) @ self.projection, dim=-1)

    def _tensor(self, array):
        # a copy: fitted arrays may be read-only memory maps
        return torch.tensor(array, device=self.device, dtype=self.dtype)
