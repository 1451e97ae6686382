"""Methods that learn from unlabelled images, each written from its equations.

A method takes a :class:`protocol.Task` and unlabelled images ``(n, d)`` of unit length. It learns
from both and returns :class:`Adapted`. Labelled images may be missing, in which case all classes
are known by name only. No method sees the test images.
"""

from collections.abc import Callable
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


@dataclass(frozen=True)
class Adapted:
    """Scores of other images, as in peers.py, and probabilities of the unlabelled images."""

    score: Callable
    unlabeled: np.ndarray


def transclip(task, U):
    """Zanella, Gérin and Ben Ayed, "Boosting vision-language models with transduction",
    NeurIPS 2024 (TransCLIP).

    A mixture of one Gaussian N(mu_k, S) per class with a diagonal covariance S that all classes
    share. The assignments z_i of the unlabelled images minimise the sum over these images of

        -z_i log p_i / n - z_i sum_j w_ij z_j + z_i log z_i - lam z_i log y_i

    with the densities p_ik = N(f_i; mu_k, S), the zero-shot probabilities y_i and the cosines w_ij
    of the three nearest neighbours. Labelled images add -gamma / m sum z_i log p_i with their
    labels as z_i. In turn, z_i ~ y_i^lam exp(log p_i + sum_j w_ij z_j) for all images at once (five
    times), and mu and S are weighted means, where an unlabelled image counts 1 / n and a labelled
    one gamma / m (ten rounds). mu starts at the mean of the labelled images of a class or else of
    its eight most confident unlabelled ones, and S at 1 / d. lam is 1 without labelled images and
    1/2 with them. The paper chooses gamma on validation images; here it is tuned on the training
    images. Other images get y^lam p.
    """
    W = affinities(U)
    if not len(task.y):
        return Adapted(*fit_transclip(task.X, task.y, task.T, U, W, lam=1.0, gamma=0.0))

    def fit(X, y, T, gamma):
        score, own = fit_transclip(X, y, T, U, W, lam=0.5, gamma=gamma)
        score.own = own
        return score

    score = peers.tune(task, fit, gamma=[0.02, 0.002, 0.01, 0.2, 1.0])
    return Adapted(score, score.own)


def fit_transclip(X, y, T, U, W, lam, gamma):
    """Score function, and assignments of the unlabelled images ``U``."""
    X, T, U = (a.astype(float) for a in (X, T, U))
    one_hot, log_prior = np.eye(len(T))[y], zero_shot_log_probabilities(U, T)
    confident = np.argsort(-log_prior, axis=0)[:N_CONFIDENT]
    means = U[confident].mean(axis=0)
    seen = np.unique(y)
    means[seen] = weighted_means(one_hot, X, means)[seen]
    variances, z = np.full((1, U.shape[1]), 1 / U.shape[1]), np.exp(log_prior)
    rows = np.concatenate([X, U])
    share = np.repeat([gamma / max(len(X), 1), 1 / len(U)], [len(X), len(U)])
    for _ in range(N_ROUNDS):
        z = assignments(lam * log_prior + log_density(U, means, variances), W, z)
        weights = share[:, None] * np.concatenate([one_hot, z])
        means = weighted_means(weights, rows, means)
        variances = residual_sums(weights, rows, means).sum(axis=0, keepdims=True) / weights.sum()
        variances = np.maximum(variances, 1e-8)

    def score(Z):
        Z = Z.astype(float)
        return lam * zero_shot_log_probabilities(Z, T) + log_density(Z, means, variances)

    return score, z


def stata(task, U, alpha=1.0):
    """Zanella, Fuchs, De Vleeschouwer and Ben Ayed, "Realistic test-time adaptation of
    vision-language models", CVPR 2025 (StatA).

    The objective of :func:`transclip` with lam = 1, one diagonal covariance S_k for each class, and
    a statistical anchor: alpha times the sum over the classes of KL(N(t_k, A_k) || N(mu_k, S_k)),
    where t_k is the text and A_k the variance of the images around it, weighted by the zero-shot
    probabilities. Its minimisers are, with n_k = sum_i z_ik and b_k = n_k / (n_k + alpha),

        mu_k = b_k mean_k + (1 - b_k) t_k,
        S_k = b_k mean_k((f - mu_k)^2) + (1 - b_k) (A_k + (t_k - mu_k)^2).

    The paper has no labelled images. Here they count like unlabelled ones whose z_i is known.
    """
    X, T, U = (a.astype(float) for a in (task.X, task.T, U))
    W, log_prior = affinities(U), zero_shot_log_probabilities(U, T)
    one_hot, rows = np.eye(len(T))[task.y], np.concatenate([X, U])
    z = np.exp(log_prior)
    means = T
    weights = np.concatenate([np.exp(zero_shot_log_probabilities(X, T)), z])
    total = np.maximum(weights.sum(axis=0), 1e-12)[:, None]
    anchor = variances = np.maximum(residual_sums(weights, rows, T) / total, 1e-8)
    for _ in range(N_ROUNDS):
        z = assignments(log_prior + log_density(U, means, variances), W, z)
        weights = np.concatenate([one_hot, z])
        total = weights.sum(axis=0)[:, None] + alpha
        means = (weights.T @ rows + alpha * T) / total
        anchored = alpha * (anchor + (T - means) ** 2)
        variances = np.maximum((residual_sums(weights, rows, means) + anchored) / total, 1e-8)

    def score(Z):
        Z = Z.astype(float)
        return zero_shot_log_probabilities(Z, T) + log_density(Z, means, variances)

    return Adapted(score, z)


def affinities(U):
    """Cosines ``(n, n)`` of each image with its nearest neighbours, zero elsewhere."""
    n_neighbors = min(N_NEIGHBORS, len(U) - 1)
    if n_neighbors == 0:
        return csr_array((1, 1))
    W = kneighbors_graph(U, n_neighbors, mode="distance").tocsr()
    W.data = np.maximum(1 - W.data**2 / 2, 0)
    return W


def zero_shot_log_probabilities(Z, T):
    return log_softmax(peers.SCALE * Z @ T.T, axis=1)


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


def log_probabilities(model, transform):
    return lambda Z: np.log(np.maximum(model.predict_proba(transform(Z)), 1e-12))


def self_training(task, U):
    """Yarowsky, "Unsupervised word sense disambiguation rivaling supervised methods", ACL 1995:
    :class:`sklearn.semi_supervised.SelfTrainingClassifier` with its defaults.

    Class-balanced logistic regression on ten times the :func:`centred_points`.
    """
    points, labels, centred = centred_points(task, U)
    regression = LogisticRegression(class_weight="balanced", max_iter=2000)
    model = SelfTrainingClassifier(regression).fit(10 * points, labels)
    return Adapted(
        log_probabilities(model, lambda Z: 10 * centred(Z)), model.predict_proba(10 * centred(U))
    )


def label_spreading(task, U):
    """Zhou et al., "Learning with local and global consistency", NIPS 2003:
    :class:`sklearn.semi_supervised.LabelSpreading` with its defaults, on :func:`centred_points`."""
    points, labels, centred = centred_points(task, U)
    model = LabelSpreading(max_iter=1000).fit(points, labels)
    return Adapted(log_probabilities(model, centred), model.label_distributions_[-len(U) :])


PEERS = [transclip, stata, self_training, label_spreading]
