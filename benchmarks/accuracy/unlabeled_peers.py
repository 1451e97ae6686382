"""Methods that learn from unlabelled images, each written from its equations.

A method takes a :class:`protocol.Task` and unlabelled images ``(n, d)`` of unit length. It learns
from both and returns :class:`Adapted`. Labelled images may be missing, in which case all classes
are known by name only. No method sees the test images.
"""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from benchmarks.accuracy import peers
from benchmarks.accuracy.protocol import unit

N_ROUNDS, N_INNER_ROUNDS = 10, 5
N_NEIGHBORS = 3
N_CONFIDENT = 8
SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Adapted:
    """Scores of other images, as in peers.py, and probabilities of the unlabelled images."""

    score: Callable
    unlabeled: np.ndarray


def transclip(task, U):
    """Zanella, Gérin and Ben Ayed, "Boosting vision-language models with transduction",
    NeurIPS 2024 (TransCLIP).

    A mixture of one Gaussian N(mu_k, S) per class, with a diagonal covariance that all classes
    share. The assignments z_i of the unlabelled images minimise the mean over these images of

        -z_i log p_i - z_i sum_j w_ij z_j + z_i log z_i - lam z_i log y_i

    with densities p_ik = N(f_i; mu_k, S), zero-shot probabilities y_i, and cosines w_ij to the
    three nearest neighbours. The mean over the labelled images of -z_i log p_i, with their labels
    as z_i, is added with weight gamma. The updates alternate for ten rounds:

        z_i ~ y_i^lam exp(log p_i + sum_j w_ij z_j), for all images at once, five times;
        mu, S: weighted means, where an unlabelled image counts 1 / n and a labelled one gamma / m.

    mu starts at the mean of the labelled images of a class or else of its eight most confident
    unlabelled ones, and S at 1 / d. lam is 1/2, or 1 without labelled images. The paper chooses
    gamma on validation images. Here it is 0.2; between 0.002 and 1, joint H changes by at most 5
    points. The paper answers for the unlabelled images only. Other images get y^lam p.
    """
    prior = zero_shot_prior(task)
    return mixture(task, U, prior, lam=0.5 if len(task.y) else 1.0, gamma=0.2)


def zero_shot_prior(task):
    """Function that returns the logarithms of the zero-shot probabilities of images."""
    T = task.T.astype(float)
    return lambda Z: log_softmax(peers.SCALE * Z @ T.T, axis=1)


def mixture(task, U, prior, lam, gamma):
    """:func:`transclip` with any classifier that returns log-probabilities as ``prior``."""
    X, log_prior = task.X.astype(float), lam * prior(U)
    U = U.astype(float)
    W, one_hot = affinities(U), np.eye(task.n_classes)[task.y]
    means = U[np.argsort(-log_prior, axis=0)[:N_CONFIDENT]].mean(axis=0)
    if gamma:
        means = weighted_means(one_hot, X, means)
    variances, z = np.full((1, U.shape[1]), 1 / U.shape[1]), softmax(log_prior, axis=1)
    rows = np.concatenate([X, U])
    share = np.repeat([gamma / max(len(X), 1), 1 / len(U)], [len(X), len(U)])
    for _ in range(N_ROUNDS):
        z = assignments(log_prior + log_density(U, means, variances), W, z)
        weights = share[:, None] * np.concatenate([one_hot, z])
        means = weighted_means(weights, rows, means)
        variances = residual_sums(weights, rows, means).sum(axis=0, keepdims=True) / weights.sum()
        variances = np.maximum(variances, SMALLEST_VARIANCE)
    return Adapted(lambda Z: lam * prior(Z) + log_density(Z.astype(float), means, variances), z)


def stata(task, U, alpha=1.0):
    """Zanella, Fuchs, De Vleeschouwer and Ben Ayed, "Realistic test-time adaptation of
    vision-language models", CVPR 2025 (StatA).

    The objective of :func:`transclip` with lam = 1, a sum over the images in place of the mean, a
    diagonal covariance S_k for each class, and a statistical anchor: alpha times the sum over the
    classes of KL(N(t_k, A_k) || N(mu_k, S_k)). t_k is the text of the class, and A_k the variance
    of the images around it, weighted by their zero-shot probabilities. The minimisers are in
    :func:`anchored_gaussians`.

    The paper has no labelled images. Here they count like unlabelled ones whose z_i is known.
    Other images get y p, as with :func:`transclip`.
    """
    X, T, U = (a.astype(float) for a in (task.X, task.T, U))
    prior, W, one_hot = zero_shot_prior(task), affinities(U), np.eye(len(T))[task.y]
    log_prior, rows = prior(U), np.concatenate([X, U])
    z, means = np.exp(log_prior), T
    weights = np.exp(prior(rows))
    total = weights.sum(axis=0)[:, None]
    anchor = np.maximum(residual_sums(weights, rows, T) / total, SMALLEST_VARIANCE)
    variances = anchor
    for _ in range(N_ROUNDS):
        z = assignments(log_prior + log_density(U, means, variances), W, z)
        weights = np.concatenate([one_hot, z])
        means, variances = anchored_gaussians(weights, rows, T, anchor, alpha)
    return Adapted(lambda Z: prior(Z) + log_density(Z.astype(float), means, variances), z)


def anchored_gaussians(weights, rows, T, anchor, alpha):
    """Means and variances ``(K, d)`` that minimise StatA's objective.

    With n_k the weight of a class, mean_k the weighted mean over the rows, and
    b_k = n_k / (n_k + alpha):

        mu_k = b_k mean_k(f) + (1 - b_k) t_k,
        S_k = b_k mean_k((f - mu_k)^2) + (1 - b_k) (A_k + (t_k - mu_k)^2).
    """
    total = weights.sum(axis=0)[:, None] + alpha
    means = (weights.T @ rows + alpha * T) / total
    anchored = alpha * (anchor + (T - means) ** 2)
    variances = (residual_sums(weights, rows, means) + anchored) / total
    return means, np.maximum(variances, SMALLEST_VARIANCE)


def affinities(U):
    """Cosines ``(n, n)`` of each image with its nearest neighbours, zero elsewhere."""
    n_neighbors = min(N_NEIGHBORS, len(U) - 1)
    if n_neighbors == 0:
        return csr_array((1, 1))
    W = kneighbors_graph(U, n_neighbors, mode="distance").tocsr()
    W.data = np.maximum(1 - W.data**2 / 2, 0)
    return W


def log_density(Z, means, variances):
    """Log-densities ``(n, K)`` of diagonal Gaussians, up to a constant.

    ``variances`` is ``(K, d)``, or ``(1, d)`` if the classes share them.
    """
    precision = 1 / variances
    squares = Z**2 @ precision.T - 2 * Z @ (means * precision).T
    return 0.5 * (np.log(precision).sum(axis=1) - squares - (means**2 * precision).sum(axis=1))


def assignments(logits, W, z):
    """z_i ~ exp(logits_i + sum_j w_ij z_j) for all images at once, a few times."""
    for _ in range(N_INNER_ROUNDS):
        z = softmax(logits + W @ z, axis=1)
    return z


def weighted_means(weights, rows, otherwise):
    """Means ``(K, d)`` of the rows; a class without any weight gets that of ``otherwise``."""
    total = weights.sum(axis=0)[:, None]
    means = weights.T @ rows / np.where(total > 0, total, 1)
    return np.where(total > 0, means, otherwise)


def residual_sums(weights, rows, means):
    """Sums ``(K, d)`` of the weighted squares of the rows around the mean of each class."""
    squares = weights.T @ rows**2 - 2 * means * (weights.T @ rows)
    return squares + weights.sum(axis=0)[:, None] * means**2


def centred_points(task, U):
    """Images, texts and labels for methods without text, and the same map for other images.

    Labelled points are the labelled images, and the text of each class as one more point. Images
    and texts are centred, each by their own mean: without this, every text is farther from every
    image than two images are from each other.
    """
    centre = np.concatenate([task.X, U]).mean(axis=0)

    def centred(Z):
        return unit(Z - centre).astype(float)

    texts = unit(task.T - task.T.mean(axis=0)).astype(float)
    points = np.concatenate([centred(task.X), texts, centred(U)])
    labels = np.concatenate([task.y, np.arange(task.n_classes), np.full(len(U), -1)])
    return points, labels, centred


@contextmanager
def few_points_per_class():
    """Ignore the warning that so many classes might be a regression problem."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        yield


def log_probabilities(model, transform):
    return lambda Z: np.log(np.maximum(model.predict_proba(transform(Z)), 1e-12))


def self_training(task, U):
    """Yarowsky, "Unsupervised word sense disambiguation rivaling supervised methods", ACL 1995:
    :class:`sklearn.semi_supervised.SelfTrainingClassifier` with its defaults.

    Class-balanced logistic regression on ten times the :func:`centred_points`.
    """
    points, labels, centred = centred_points(task, U)
    regression = LogisticRegression(class_weight="balanced", max_iter=2000)
    with few_points_per_class():
        model = SelfTrainingClassifier(regression).fit(10 * points, labels)
    return Adapted(
        log_probabilities(model, lambda Z: 10 * centred(Z)), model.predict_proba(10 * centred(U))
    )


def label_spreading(task, U):
    """Zhou et al., "Learning with local and global consistency", NIPS 2003:
    :class:`sklearn.semi_supervised.LabelSpreading` with its defaults, on :func:`centred_points`."""
    points, labels, centred = centred_points(task, U)
    with few_points_per_class():
        model = LabelSpreading(max_iter=1000).fit(points, labels)
    return Adapted(log_probabilities(model, centred), model.label_distributions_[-len(U) :])


PEERS = [transclip, stata, self_training, label_spreading]
