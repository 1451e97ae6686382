"""Class prototypes in closed form: shrunk means, a text-to-image map, a shared covariance.

Everything here works on class indices: ``y`` holds positions in the label universe, and a class
without images has a count of 0. Factorisations use NumPy, like the products around them, because
the threads of NumPy's BLAS and of SciPy's would compete for the processors.
"""

from dataclasses import dataclass, replace

import numpy as np

from .._devices import in_threads_for_data
from ._embeddings import unit
from ._statistics import ClassStatistics


@dataclass(frozen=True)
class PrototypeSpace:
    """Prototypes of all classes and the coordinates in which images are compared to them.

    Attributes
    ----------
    counts : ndarray of shape (n_classes,)
        Weight of the images of each class, 0 for a new class.
    image_mean, text_mean : ndarray of shape (n_features,)
        Origins of the images (the mean of the class means) and of the texts.
    text_map : ndarray of shape (n_features, n_features) or None
        Maps a centred text feature to a centred image feature; None without text.
    prototypes : ndarray of shape (n_classes, n_features)
        Centred prototypes; those of new classes are the virtual prototypes.
    shrinkage : float
        Number of images that the prior of a prototype counts as.
    whitener : ndarray of shape (n_features, n_features)
        Inverse square root of the shrunk within-class covariance.
    normalize : bool
        Whether vectors are compared by their direction (with text) or as they are (without).
    """

    counts: np.ndarray
    image_mean: np.ndarray
    text_mean: np.ndarray | None
    text_map: np.ndarray | None
    prototypes: np.ndarray
    shrinkage: float
    whitener: np.ndarray
    normalize: bool

    def transform(self, centred):
        """Whiten centred rows, and scale them to length one if directions are compared."""
        whitened = centred @ self.whitener
        return unit(whitened) if self.normalize else whitened

    def transform_images(self, X):
        """Coordinates of images, of shape (n_samples, n_features)."""
        return self.transform(X - self.image_mean)

    def with_classes(self, n_added, text_features):
        """The same space with further classes that have no image.

        Parameters
        ----------
        n_added : int
        text_features : ndarray of shape (n_added, n_features) or None
        """
        virtual = np.zeros((n_added, len(self.image_mean)), self.prototypes.dtype)
        if text_features is not None:
            virtual = (text_features - self.text_mean) @ self.text_map
        return replace(
            self,
            counts=np.concatenate([self.counts, np.zeros(n_added, self.counts.dtype)]),
            prototypes=np.concatenate([self.prototypes, virtual]),
        )


@dataclass(frozen=True)
class TrainingPrototypes:
    """A space, with what is needed to leave single training images out of it.

    Attributes
    ----------
    space : PrototypeSpace
    means : ndarray of shape (n_classes, n_features)
        Centred class means, zero for a class without images.
    held_out_priors : ndarray of shape (n_classes, n_features)
        What each prototype is shrunk towards: the text under a map that was fitted without the
        class. Zero without text.
    scale : float
        Divisor of the scatter in the covariance.
    """

    space: PrototypeSpace
    means: np.ndarray
    held_out_priors: np.ndarray
    scale: float

    def among(self, classes):
        """The same space with some of its classes, in the coordinates of all."""
        space = replace(
            self.space,
            counts=self.space.counts[classes],
            prototypes=self.space.prototypes[classes],
        )
        return replace(
            self,
            space=space,
            means=self.means[classes],
            held_out_priors=self.held_out_priors[classes],
        )

    def transform_left_out(self, X, y, sample_weight):
        r"""Coordinates of training images, and of the prototypes of their classes without them.

        One unit of weight is left out, so that an image of weight two is the same as two
        images. The prototype is formed without the image, from a text map that was fitted without
        the class. The covariance loses :math:`c\, r r^T`, where `r` is the residual of the image
        from its class mean. Otherwise the image, which pulls the covariance towards itself,
        would look closer to its class than an unseen one. This rank-one change (Sherman and
        Morrison, 1950) turns the scalar product into :math:`a^T M b`, `M` = `I` + g r r^T in
        whitened coordinates.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        y : ndarray of shape (n_samples,)
        sample_weight : ndarray of shape (n_samples,)

        Returns
        -------
        images : ndarray of shape (n_samples, n_features)
            Images times `M`: the scalar product of one with a prototype is that of the metric.
        own_prototypes : ndarray of shape (n_samples, n_features)
        """
        # everything is linear, so classes are whitened before they are repeated for each image
        whitener = self.space.whitener
        rows = (X - self.space.image_mean) @ whitener
        means, priors = (self.means @ whitener)[y], (self.held_out_priors @ whitener)[y]
        counts = self.space.counts[y]
        left_out = np.minimum(sample_weight, 1)
        remaining = np.maximum(counts - left_out, 0)
        total = counts[:, None] * means - left_out[:, None] * rows
        own = shrink(total, remaining[:, None], priors, self.space.shrinkage)
        residuals = rows - means
        share = left_out * counts / np.where(remaining > 0, remaining, np.inf) / self.scale
        gain = share / np.maximum(1 - share * _dot(residuals, residuals), 1e-3)

        def metric(vectors):
            return vectors + (gain * _dot(vectors, residuals))[:, None] * residuals

        images = metric(rows)
        if self.space.normalize:
            images = images / _length(_dot(rows, images))
            own = own / _length(_dot(own, metric(own)))
        return images, own


def _dot(a, b):
    return np.einsum("nd,nd->n", a, b)


def _length(squares):
    return np.sqrt(np.maximum(squares, 1e-24))[:, None]


@in_threads_for_data
def fit_prototypes(data, shrinkage):
    r"""Prototypes of all classes from the images of some.

    With class means :math:`m_k` of :math:`n_k` images and texts :math:`t_k`, all centred,

    .. math:: \mu_k = \frac{n_k m_k + \kappa\, t_k A}{n_k + \kappa}

    where `A` maps texts to images (:func:`text_to_image`). For a new class this is the *virtual
    prototype* :math:`t_k A`.

    Parameters
    ----------
    data : TrainingSet
    shrinkage : float
        :math:`\kappa \ge 0`. Without text it is replaced by the James-Stein estimate.

    Returns
    -------
    prototypes : TrainingPrototypes
    """
    return prototypes_of(ClassStatistics.of(data), data.text_features, shrinkage)


def prototypes_of(statistics, text_features, shrinkage):
    """Prototypes of all classes from the statistics of the images.

    Parameters
    ----------
    statistics : ClassStatistics
    text_features : ndarray of shape (n_classes, n_features) or None
    shrinkage : float

    Returns
    -------
    prototypes : TrainingPrototypes
    """
    counts, scatter = statistics.counts, statistics.scatter_beyond_rounding()
    seen = counts > 0
    image_mean = statistics.means[seen].mean(axis=0)
    means = np.where(seen[:, None], statistics.means - image_mean, 0)
    freedom = max(float(counts.sum()) - float(seen.sum()), 0.0)
    if text_features is None:
        text_mean = text_map = None
        priors = held_out = np.zeros_like(means)
        kappa = james_stein(means[seen], counts[seen], float(np.trace(scatter)), freedom)
    else:
        kappa = shrinkage
        text_mean = text_features[seen].mean(axis=0)
        centred = text_features - text_mean
        trust = counts[seen] / (counts[seen] + kappa)
        text_map, held_out_seen = text_to_image(centred[seen], means[seen], trust)
        priors = centred @ text_map
        held_out = priors.copy()
        held_out[seen] = held_out_seen
    weight = counts[:, None]
    space = PrototypeSpace(
        counts=counts,
        image_mean=image_mean,
        text_mean=text_mean,
        text_map=text_map,
        prototypes=shrink(weight * means, weight, priors, kappa),
        shrinkage=kappa,
        whitener=whitening_matrix(scatter, freedom),
        normalize=text_features is not None,
    )
    return TrainingPrototypes(space, means, held_out, freedom + means.shape[1])


def shrink(total, weight, prior, kappa):
    """Mean of `weight` observations that sum to `total` and `kappa` observations at `prior`."""
    denominator = weight + kappa
    empty = denominator <= 0
    return np.where(empty, prior, (total + kappa * prior) / np.where(empty, np.inf, denominator))


def text_to_image(text, image, weight, ridge=1.0):
    r"""Weighted ridge regression from text to image that is shrunk to the identity.

    .. math:: A = \arg\min_A \sum_k w_k \|m_k - t_k A\|^2 + r \|A - I\|_F^2

    with `r` = `ridge` times the mean eigenvalue of :math:`\sum_k w_k t_k^T t_k`.

    Parameters
    ----------
    text, image : ndarray of shape (n_seen, n_features)
        Centred text features and class means of the classes with images.
    weight : ndarray of shape (n_seen,)
    ridge : float, default=1.0

    Returns
    -------
    text_map : ndarray of shape (n_features, n_features)
    held_out : ndarray of shape (n_seen, n_features)
        Each text under the map that was fitted without its class.
    """
    n_seen, n_features = text.shape
    identity = np.eye(n_features, dtype=text.dtype)
    root = np.sqrt(weight)[:, None]
    weighted, residual = root * text, root * (image - text)
    r = ridge * float((weighted**2).sum()) / min(n_seen, n_features)
    if r <= 0:  # there is one class, whose text is the origin: the map cannot be estimated
        return identity, text.copy()
    # solve the smaller of two equivalent systems, over classes or over features
    if n_seen <= n_features:
        gram = weighted @ weighted.T
        inverse = np.linalg.inv(gram + r * np.eye(n_seen, dtype=text.dtype))
        residual_map = weighted.T @ (inverse @ residual)
        leverage = _dot(gram, inverse.T)
    else:
        inverse = np.linalg.inv(weighted.T @ weighted + r * identity)
        residual_map = inverse @ (weighted.T @ residual)
        leverage = _dot(weighted @ inverse, weighted)
    error = image - text - text @ residual_map
    return identity + residual_map, image - error / (1 - leverage)[:, None]


def whitening_matrix(scatter, freedom):
    r"""Square root of the inverse within-class covariance, shrunk to a multiple of the identity.

    The covariance of the scatter `S` with `f` degrees of freedom and mean variance :math:`s^2`
    is :math:`(S + d s^2 I) / (f + d)`: the ridge estimator of Kubokawa and Srivastava (2008),
    used for CLIP features by Wang et al., "A hard-to-beat baseline for training-free CLIP-based
    adaptation", ICLR 2024. All square roots give the same similarities; Cholesky's is cheap.
    """
    n_features = len(scatter)
    identity = np.eye(n_features, dtype=scatter.dtype)
    variance = float(np.trace(scatter)) / max(freedom, 1.0) / n_features
    if freedom <= 0 or variance <= np.finfo(scatter.dtype).tiny:
        return identity
    # with many images the ridge would become too small for a stable inverse
    ridge = max(n_features, float(np.finfo(scatter.dtype).eps) ** 0.5 * freedom)
    covariance = (scatter + ridge * variance * identity) / (freedom + ridge)
    # The Cholesky factor of the inverse, from an upper triangular factor of the covariance: the
    # inverse itself is not formed, because rounding might make it indefinite.
    upper = np.linalg.cholesky(covariance[::-1, ::-1])[::-1, ::-1]
    return np.linalg.inv(upper).T


def james_stein(means, counts, scatter, freedom):
    """Number of images that the prior counts as: within-class over between-class variance."""
    if freedom <= 0 or scatter <= 0:
        return 0.0
    within = scatter / freedom
    between = (means**2).sum() / max(len(means) - 1, 1) - within * np.mean(1 / counts)
    return float(within / max(between, within / 1e6))
