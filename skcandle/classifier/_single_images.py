r"""What single images add to the prototypes, and the gate that keeps this among base classes.

A class can look several ways, a prototype is one mean. The *single-image term* compares an image
`x` to the training images one by one. With the whitened coordinates of length one `u` of `x`, and
:math:`u_i` of training image `i`,

.. math:: r_k(x) = \sum_i \kappa(u, u_i)\, \alpha_{ik}, \qquad \kappa(u, v) = e^{5 (u^T v - 1)},
          \qquad \alpha = (K + \lambda W^{-1})^{-1} (Y - P),

where `K` holds the kernel between training images, `W` their sample weights, `Y` their classes as
indicators, and `P` the probabilities of those classes by the joint logits when each image is left
out. The target `Y - P` is what the rest of the model gets wrong on images that it has not seen: the
negative gradient of the cross-entropy with respect to the logits. So the term is one step of
gradient boosting (J. Friedman, "Greedy function approximation", 2001) whose base learner is
kernel ridge regression.

The term knows nothing of classes without images. The *gate* therefore lets it move probability
among classes with images only, and leaves the probability of all of them together as it was:

.. math:: s'_k(x) = s_k(x) + w r_k(x) + \log \sum_j e^{s_j(x)} - \log \sum_j e^{s_j(x) + w r_j(x)},

with sums over the classes with images; the logits of all others stay.

An image that is left out of the term has a closed form, too. The weight `w` maximises the
likelihood of the left-out images with a Gaussian prior, like the other weights. The only image of a
class says nothing about it: without that image, the term says nothing about the class.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import softmax

from .._devices import exact_matmul, threads_for
from ._embeddings import unit
from ._pseudo_new import effective_size, left_out_split, share_left
from ._training_set import TrainingSet

# Chosen on the feature sets of the benchmarks: exponents from 2 to 10 and ridges from 0.03 to 1 are
# within 0.5 points of accuracy.
EXPONENT = 5.0
RIDGE = 0.1
# Prior of the weight, in logits. The left-out training images of the benchmarks are most likely
# under means of 12 to 14; half of that is safe where each class has one image.
PRIOR_MEAN, PRIOR_SD = 6.0, 3.0
# Images that are kept; bounds the memory of the model and the time of fit and prediction.
MAX_IMAGES = 5000


def kernel(a, b):
    """Similarity of rows of length one to others, of shape (n_a, n_b)."""
    return (a @ b.T).sub_(1).mul_(EXPONENT).exp_()


def gate(logits, residual):
    """Add the term to logits of the classes with images; their probability in all stays.

    Parameters
    ----------
    logits, residual : Tensor of shape (n_samples, n_base)
        A logit of minus infinity, for a class that is not there, stays.

    Returns
    -------
    logits : Tensor of shape (n_samples, n_base)
    """
    moved = logits + residual
    shift = torch.logsumexp(logits, dim=1) - torch.logsumexp(moved, dim=1)
    return torch.where(torch.isneginf(logits), logits, moved + shift[:, None])


@dataclass(frozen=True)
class SingleImages:
    """The fitted term, and the images from which it can be fitted again.

    Attributes
    ----------
    X : ndarray of shape (n_images, n_features)
    y : ndarray of shape (n_images,)
        Columns of the classes in the model.
    sample_weight : ndarray of shape (n_images,)
    coordinates : ndarray of shape (n_images, n_features)
        Whitened, and of length one.
    coefficients : ndarray of shape (n_images, n_base)
        Alpha.
    columns : ndarray of shape (n_base,)
        Classes with images.
    weight : float
    """

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray
    coordinates: np.ndarray
    coefficients: np.ndarray
    columns: np.ndarray
    weight: float

    @classmethod
    def empty(cls, n_features, dtype, weight):
        """The term of a model without images; images that are added get this weight."""
        nothing = np.zeros((0, n_features), dtype)
        none, coefficients = np.zeros(0, dtype=int), np.zeros((0, 0), dtype)
        return cls(nothing, none, nothing[:, 0], nothing, coefficients, none, weight)

    def images(self, text_features, n_classes):
        """The images as a TrainingSet of a universe."""
        return TrainingSet(self.X, self.y, self.sample_weight, text_features, n_classes)


@dataclass(frozen=True)
class LeftOutTerm:
    """The term, times its weight, of training images that are left out of it.

    Attributes
    ----------
    columns : ndarray of shape (n_base,)
        Classes with images.
    without_image : ndarray of shape (n_images, n_base)
        Each image is left out, one unit of its weight.
    without_class : ndarray of shape (n_images, n_base)
        All images of its class are left out.
    """

    columns: np.ndarray
    without_image: np.ndarray
    without_class: np.ndarray

    def gated(self, logits, rows, hidden, without_class):
        """Logits of left-out images with the term.

        Parameters
        ----------
        logits : ndarray of shape (n_samples, n_classes)
        rows : ndarray of shape (n_samples,)
            Positions of the images.
        hidden : ndarray of shape (n_classes,) of bool
            Classes that are treated as having no image.
        without_class : ndarray of shape (n_samples,) of bool
            For which images their whole class is left out.

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes)
        """
        kept = ~hidden[self.columns]
        columns = self.columns[kept]
        term = np.where(without_class[:, None], self.without_class[rows], self.without_image[rows])[
            :, kept
        ]
        logits = logits.copy()
        base = torch.from_numpy(logits[:, columns])
        logits[:, columns] = gate(base, torch.from_numpy(term)).numpy()
        return logits


def fit_single_images(images, prototypes, columns, weights, weight, device):
    """Fit the term.

    Parameters
    ----------
    images : TrainingSet
        Those that are kept, see :data:`MAX_IMAGES`.
    prototypes : TrainingPrototypes
        Of all classes.
    columns : ndarray of shape (n_base,)
        Classes with training images.
    weights : LogitWeights
    weight : float or "auto"
    device : torch.device

    Returns
    -------
    term : SingleImages or None
        None if its weight is zero. With one class, it is zero until ``add_images`` brings another.
    left_out : LeftOutTerm or None
    """
    n_images, n_features = images.X.shape
    largest = max(
        n_images * max(n_images, n_features), n_features * max(n_features, images.n_classes)
    )
    with threads_for(n_images * largest):
        return _fit(images, prototypes.among(columns), columns, weights, weight, device)


def _fit(images, prototypes, columns, weights, weight, device):
    if weight == 0:
        return None, None
    base = images.among(columns)
    texts = None if base.text_features is None else base.X @ base.text_features.T
    none_hidden = np.zeros(len(columns), dtype=bool)
    split = left_out_split(prototypes, base, none_hidden, texts)
    logits = split.joint_logits(weights).astype(float)
    target = negative_gradient(logits, base.y)
    coordinates = unit(prototypes.space.transform_images(base.X))
    alpha, one, whole = _kernel_ridge(coordinates, target, base.y, base.sample_weight, device)
    if weight == "auto":
        weight = _estimate_weight(logits, one, base, split.sample_weight)
        if weight == 0:
            return None, None
    term = SingleImages(
        images.X,
        images.y,
        images.sample_weight,
        coordinates,
        alpha.astype(images.X.dtype),
        columns,
        float(weight),
    )
    return term, LeftOutTerm(columns, weight * one, weight * whole)


def negative_gradient(logits, y):
    """Y - P: how the cross-entropy wants the logits to change, of shape (n_samples, n_base)."""
    return np.eye(logits.shape[1])[y] - softmax(logits, axis=1)


def _kernel_ridge(coordinates, target, y, sample_weight, device):
    """Coefficients, and predictions without an image and without its class, in closed form.

    With :math:`G = (K + \\lambda W^{-1})^{-1}`, leaving out the rows `c` predicts
    :math:`T_c - G_{cc}^{-1} \\alpha_c` for them. Of an image of weight above one, only one unit is
    left out, as if it were one of several copies.
    """
    n, dtype = len(y), coordinates.dtype
    # a floor, so that many copies of one image, or huge weights, leave a matrix to factorise
    lowest = max(np.finfo(dtype).eps ** 0.5, 4 * n * np.finfo(dtype).eps)
    ridge = np.maximum(RIDGE / sample_weight, lowest)
    with torch.no_grad(), exact_matmul(device):
        u = torch.tensor(coordinates, device=device)
        gram = kernel(u, u)
        gram.diagonal().add_(torch.tensor(ridge, device=device, dtype=u.dtype))
        inverted = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        alpha = (inverted @ torch.tensor(target, device=device, dtype=u.dtype)).cpu().numpy()
        inverse = inverted.cpu().numpy()
    share = np.minimum(1, 1 / sample_weight)
    remaining = 1 - share * (1 - ridge * np.diagonal(inverse))
    one = target - (ridge / remaining)[:, None] * alpha
    whole = target.copy()
    by_class = np.argsort(y, kind="stable")
    _, first, size = np.unique(y[by_class], return_index=True, return_counts=True)
    for n_images in np.unique(size):  # classes of one size at a time: there may be many classes
        rows = by_class[first[size == n_images, None] + np.arange(n_images)]
        inverses = inverse[rows[:, :, None], rows[:, None, :]]
        whole[rows] -= np.linalg.solve(inverses, alpha[rows])
    return alpha, one, whole


def _estimate_weight(logits, left_out, images, balanced_weight):
    """The most probable weight; the posterior is log-concave in it."""
    share = balanced_weight * share_left(images.counts)[images.y]
    if not share.any():
        return PRIOR_MEAN
    share *= effective_size(images, singletons=False) / share.sum()
    own = left_out[np.arange(len(images.y)), images.y]

    def slope(weight):
        expected = (softmax(logits + weight * left_out, axis=1) * left_out).sum(axis=1)
        return share @ (own - expected) - (weight - PRIOR_MEAN) / PRIOR_SD**2

    if slope(0.0) <= 0:
        return 0.0
    # beyond this, the prior outweighs any likelihood
    highest = PRIOR_MEAN + PRIOR_SD**2 * 2 * share.sum() * np.abs(left_out).max()
    return float(brentq(slope, 0.0, highest + 1))
