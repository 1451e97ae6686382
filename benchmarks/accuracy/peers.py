"""The compared methods, each written from its equations.

A method takes a :class:`protocol.Task`, learns from its training images and texts, and returns a
function ``(n, d) -> (n, n_classes)`` that scores images against all classes, base classes first.
Rows have unit length, so ``X @ T.T`` are cosines; cosines are multiplied by CLIP's factor of 100.
Scores are logits: log-loss and calibration error use their softmax over all classes.

Settings are tuned on the training images only; see :func:`tune`. To add a method, append it to
``WITH_TEXT`` at the end of this file.
"""

import itertools

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks.accuracy.protocol import Task, deal, unit

SCALE = 100.0


def tune(task, fit, n_folds=3, **grid):
    """Fit with the setting from ``grid`` that is best in cross-validation on the training images.

    ``fit(X, y, T, **setting)`` returns a score function. Images of classes with two or more images
    are distributed over the folds; images of classes with a single image always stay in training.
    A setting has to beat all earlier ones in class-balanced accuracy over the base classes. In case
    of a tie, the first value of each list is used, which is the published default.
    """
    values = itertools.product(*grid.values())
    settings = [dict(zip(grid, setting, strict=True)) for setting in values]
    fold = deal(task.y, n_folds)
    held = fold >= 0
    if not held.any():
        return fit(task.X, task.y, task.T, **settings[0])

    def accuracy(setting):
        predicted = np.empty_like(task.y)
        for k in np.unique(fold[held]):
            test = fold == k
            score = fit(task.X[~test], task.y[~test], task.T, **setting)
            predicted[test] = score(task.X[test])[:, : task.n_base].argmax(axis=1)
        return recall_score(
            task.y[held], predicted[held], labels=np.unique(task.y[held]), average="macro"
        )

    return fit(task.X, task.y, task.T, **max(settings, key=accuracy))


def zero_shot(task):
    """Radford et al., "Learning transferable visual models from natural language supervision",
    ICML 2021: the cosine to the text of the class."""
    return lambda Z: SCALE * Z @ task.T.T


def nearest_class_mean(task):
    """Cosine to the mean image of a base class, and to the text of a new class."""
    prototypes = unit([task.X[task.y == label].mean(axis=0) for label in range(task.n_base)])
    if task.T is not None:
        prototypes = np.concatenate([prototypes, task.T[task.n_base :]])
    return lambda Z: SCALE * Z @ prototypes.T


def fit_logistic_regression(X, y, C):
    """Class-balanced logistic regression on ``10 x``, the square root of CLIP's scale."""
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=2000).fit(10 * X, y)

    def score(Z):
        logits = model.decision_function(10 * Z)
        return logits if logits.ndim == 2 else np.stack([-logits, logits], axis=1) / 2

    return score


def logistic_regression(task):
    """Class-balanced logistic regression with C tuned. New classes have their zero-shot logits."""
    score = tune(task, lambda X, y, T, C: fit_logistic_regression(X, y, C), C=[1.0, 0.1, 10.0])
    if task.T is None:
        return score
    return lambda Z: np.concatenate([score(Z), SCALE * Z @ task.T[task.n_base :].T], axis=1)


def gated_logistic_regression(task):
    """:func:`logistic_regression` with a zero-shot gate, which makes the joint space coherent.

    p(base class) = p_zero_shot(any base class) p_logistic_regression(class);
    p(new class) = p_zero_shot(class).
    """
    inner, m = logistic_regression(task), task.n_base

    def score(Z):
        zero = SCALE * Z @ task.T.T
        within = log_softmax(inner(Z)[:, :m], axis=1)
        any_base = logsumexp(zero[:, :m], axis=1, keepdims=True)
        return np.concatenate([any_base + within, zero[:, m:]], axis=1)

    return score


def tip_adapter(task):
    """Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification",
    ECCV 2022.

    100 z T' + alpha exp(-beta (1 - z X')) Y with one-hot labels Y; alpha and beta are tuned.
    """

    def fit(X, y, T, alpha, beta):
        one_hot = np.eye(len(T), dtype=X.dtype)[y]
        return lambda Z: SCALE * Z @ T.T + alpha * np.exp(beta * (Z @ X.T - 1)) @ one_hot

    return tune(task, fit, alpha=[1.0, 0.1, 0.3, 3.0, 10.0, 30.0], beta=[5.5, 2.0, 15.0, 50.0])


def ridge_precision(residuals):
    """Kubokawa and Srivastava's estimate of the precision: d ((N - 1) S + tr(S) I)^-1.

    S is the covariance of the N centred rows; the inverse is taken on the N x N side.
    """
    n, d = residuals.shape
    trace = (residuals**2).sum() / max(n - 1, 1)
    if trace == 0:
        return np.eye(d, dtype=residuals.dtype)
    inner = np.linalg.solve(trace * np.eye(n) + residuals @ residuals.T, residuals)
    return d / trace * (np.eye(d) - residuals.T @ inner)


def gaussian_weights(means, precision):
    """Weights and biases of the discriminant of Gaussians with equal priors and one precision."""
    W = means @ precision
    return W, -0.5 * (W * means).sum(axis=1) - np.log(len(means))


def gda(task, n_neighbors=64, n_texts=16):
    """Wang et al., "A hard-to-beat baseline for training-free CLIP-based adaptation", ICLR 2024.

    100 z T' + alpha (z W' + b), the Gaussian discriminant with the class means and the shared
    precision. Base-to-new variant: the sample of a new class consists of the 64 training images
    nearest to its text (at most half of all images) and 16 copies of the text. The precision is the
    average over the new classes, with deviations from the text. alpha is tuned.
    """

    def fit(X, y, T, alpha):
        m = y.max() + 1
        X = X.astype(float)
        means = np.stack([X[y == label].mean(axis=0) for label in range(m)])
        W, b = gaussian_weights(means, ridge_precision(X - means[y]))
        texts, k = T[m:].astype(float), min(n_neighbors, max(len(X) // 2, 1))
        near = np.argsort(-texts @ X.T, axis=1)[:, :k]
        if len(texts):
            new_means = (X[near].sum(axis=1) + n_texts * texts) / (k + n_texts)
            precision = sum(ridge_precision(X[i] - t) for i, t in zip(near, texts, strict=True))
            W_new, b_new = gaussian_weights(new_means, precision / len(texts))
            W, b = np.concatenate([W, W_new]), np.concatenate([b, b_new])
        return lambda Z: SCALE * Z @ T.T + alpha * (Z @ W.T + b)

    return tune(task, fit, alpha=[0.1, 1e-4, 1e-3, 1e-2, 1.0, 10.0, 100.0])


def proker(task):
    """Bendou et al., "ProKeR: a kernel perspective on few-shot adaptation of large vision-language
    models", CVPR 2025.

    Kernel ridge regression whose penalty is the distance to the zero-shot function f = z T':
    f(z) + k(z, X) (K + lam I)^-1 (Y - f(X)) with k(x, z) = exp(-beta (1 - x z')). beta and lam are
    tuned. There is no variant for new classes: they keep f, and the residual is learned for the
    others.
    """

    def fit(X, y, T, beta, lam):
        residual = np.eye(len(T), dtype=X.dtype)[y] - X @ T.T
        residual[:, y.max() + 1 :] = 0
        K = np.exp(beta * (X @ X.T - 1)) + lam * np.eye(len(X))
        dual = np.linalg.solve(K, residual)
        return lambda Z: SCALE * (Z @ T.T + np.exp(beta * (Z @ X.T - 1)) @ dual)

    return tune(task, fit, beta=[2.0, 0.5, 8.0], lam=[0.1, 0.01, 1.0, 10.0])


def cross_modal_probe(task):
    """Lin et al., "Multimodality helps unimodality: cross-modal few-shot learning with multimodal
    models", CVPR 2023.

    One linear classifier without intercept over all classes, trained on images and class texts.
    Both modalities have the same total weight, and the images of a class share its weight. C is
    tuned.
    """

    def fit(X, y, T, C):
        rows, labels = 10 * np.concatenate([X, T]), np.concatenate([y, np.arange(len(T))])
        weight = np.concatenate(
            [compute_sample_weight("balanced", y), np.full(len(T), len(X) / len(T))]
        )
        model = LogisticRegression(C=C, fit_intercept=False, max_iter=2000)
        model.fit(rows, labels, sample_weight=weight)
        return lambda Z: 10 * Z @ model.coef_.T

    return tune(task, fit, C=[1.0, 0.1, 10.0])


def clap(task):
    """Silva-Rodríguez et al., "A closer look at the few-shot adaptation of large vision-language
    models", CVPR 2024.

    A linear probe that starts at the texts and stays near them. It minimises the mean cross-entropy
    of 100 z unit(w_k) plus the sum of lambda_k |w_k - t_k|^2, where lambda_k is the mean zero-shot
    probability of class k over its images. Nothing is tuned. New classes keep their text.
    """
    X, y = torch.from_numpy(task.X).double(), torch.from_numpy(task.y)
    T = torch.from_numpy(task.T).double()
    own = torch.softmax(SCALE * X @ T.T, dim=1)[torch.arange(len(y)), y]
    counts = torch.bincount(y, minlength=len(T)).clamp(min=1)
    penalty = torch.zeros(len(T), dtype=torch.double).index_add(0, y, own) / counts
    W = T.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([W], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        logits = SCALE * X @ torch.nn.functional.normalize(W, dim=1).T
        value = torch.nn.functional.cross_entropy(logits, y)
        value = value + (penalty * ((W - T) ** 2).sum(dim=1)).sum()
        value.backward()
        return value

    optimiser.step(loss)
    weights = W.detach().numpy().astype(task.X.dtype)
    weights[task.n_base :] = task.T[task.n_base :]
    weights = unit(weights)
    return lambda Z: SCALE * Z @ weights.T


def ss_text(task):
    """Silva-Rodríguez et al., "Few-shot, now for real: medical VLMs adaptation without balanced
    sets or validation", MICCAI 2025, with the class-wise multipliers 1 / n_k, without repulsion.

    w_k = t_k + 100 n_k / n times the sum of the images of class k. Nothing is tuned.
    """
    sums = np.zeros_like(task.T)
    np.add.at(sums, task.y, task.X)
    share = np.bincount(task.y, minlength=task.n_classes) / len(task.y)
    weights = unit(task.T + SCALE * share[:, None] * sums)
    return lambda Z: SCALE * Z @ weights.T


def shrunk_prototypes(X, y, T, kappa=4.0, lam=1.0):
    """Image prototypes of all classes of ``T``, relative to the mean of the class means.

    The ridge map A takes centred texts to centred class means, weighted by n / (n + kappa) and
    shrunk towards the identity. A class with n images has the prototype
    (n (mean - centre) + kappa (t - centre_t) A) / (n + kappa), so a new class has (t - centre_t) A.
    """
    counts = np.bincount(y, minlength=len(T))
    seen, d = counts > 0, T.shape[1]
    means = np.stack([X[y == label].mean(axis=0) for label in np.flatnonzero(seen)])
    n = counts[seen, None]
    centre, texts = means.mean(axis=0), T - T[seen].mean(axis=0)
    weighted = texts[seen] * n / (n + kappa)
    gram = weighted.T @ texts[seen]
    ridge = lam * np.trace(gram) / min(seen.sum(), d) * np.eye(d)
    prototypes = texts @ np.linalg.solve(gram + ridge, weighted.T @ (means - centre) + ridge)
    prototypes[seen] = (n * (means - centre) + kappa * prototypes[seen]) / (n + kappa)
    return prototypes, centre


def closed_form(task, alpha=0.1):
    """Zero-shot cosine plus a tenth of the centred cosine to :func:`shrunk_prototypes`."""
    prototypes, centre = shrunk_prototypes(task.X, task.y, task.T)
    directions = unit(prototypes)
    return lambda Z: SCALE * (Z @ task.T.T + alpha * unit(Z - centre) @ directions.T)


def closed_form_calibrated(task):
    """:func:`closed_form` with the offset of :func:`with_offset`."""
    return with_offset(closed_form)(task)


def with_offset(method):
    """``method`` with an offset from :func:`pseudo_new_offset` subtracted from base scores."""

    def calibrated(task):
        score, offset = method(task), pseudo_new_offset(task, method)
        return lambda Z: score(Z) - offset * (np.arange(task.n_classes) < task.n_base)

    calibrated.__name__ = f"{method.__name__} + offset"
    return calibrated


def pseudo_new_offset(task, method, n_repeats=6, window=11):
    """Offset between base and new scores, estimated on the training images only.

    An offset moves the decision between base and pseudo-new classes on the held-out images of
    ``n_repeats`` tasks from :func:`hide_classes`. The offset with the best harmonic mean of the two
    class-balanced accuracies is used, smoothed over ``window`` neighbouring offsets.
    """
    rng, gaps, lost, won = np.random.default_rng(0), [], [], []
    for _ in range(n_repeats):
        inner = hide_classes(task, rng)
        m, truth = inner.n_base, inner.y_test
        scores, new = method(inner)(inner.X_test), truth >= inner.n_base
        weight = compute_sample_weight("balanced", truth)
        for side in (new, ~new):
            weight[side] /= max(weight[side].sum(), 1e-12)
        lost.append(weight * (scores[:, :m].argmax(axis=1) == truth))
        won.append(weight * (scores[:, m:].argmax(axis=1) + m == truth))
        gaps.append(scores[:, :m].max(axis=1) - scores[:, m:].max(axis=1))
    gaps, lost, won = map(np.concatenate, (gaps, lost, won))
    order = np.argsort(gaps)
    base = lost.sum() - np.concatenate([[0], np.cumsum(lost[order])])
    new = np.concatenate([[0], np.cumsum(won[order])])
    harmonic = 2 * base * new / np.maximum(base + new, 1e-12)
    padded = np.pad(harmonic, window // 2, mode="edge")
    smooth = np.convolve(padded, np.full(window, 1 / window), "valid")
    return np.concatenate([[gaps.min() - 1], gaps[order]])[smooth.argmax()]


def hide_classes(task, rng):
    """A task among base classes that hides half of them, and half of the images of the rest."""
    new = np.zeros(task.n_base, dtype=bool)
    new[rng.permutation(task.n_base)[: max(1, round(task.n_base / 2))]] = True
    held = new[task.y]
    for label in np.flatnonzero(~new):
        members = rng.permutation(np.flatnonzero(task.y == label))
        held[members[: len(members) // 2]] = True
    order = np.argsort(new, kind="stable")
    y = np.argsort(order)[task.y]
    return Task(
        X=task.X[~held],
        y=y[~held],
        X_test=task.X[held],
        y_test=y[held],
        T=task.T[order],
        names=task.names[order],
        n_base=int((~new).sum()),
    )


class FittedCandle:
    """Scores of a fitted classifier of the library, with columns in the order of the task."""

    def __init__(self, model, task):
        self.model = model
        self.columns = np.searchsorted(model.classes_, task.names)

    @classmethod
    def fit(cls, model, task):
        labels = task.names
        text = None if task.T is None else dict(zip(labels, task.T, strict=True))
        model.set_params(new_classes=labels[task.n_base :].tolist() or None, text_encoder=text)
        return cls(model.fit(task.X, labels[task.y]), task)

    def __call__(self, Z):
        scores = self.model.decision_function(Z)
        if scores.ndim == 1:  # scikit-learn's form for two classes
            scores = np.stack([-scores, scores], axis=1) / 2
        return scores[:, self.columns]

    def predict_proba(self, Z):
        return self.model.predict_proba(Z)[:, self.columns]


def candle(task):
    """This library with its default settings."""
    from skcandle import CandleClassifier

    return FittedCandle.fit(CandleClassifier(), task)


def published_candle(task):
    """Shi et al., "Efficient and long-tailed generalization for pre-trained vision-language
    model", KDD 2024, as published: :class:`skcandle.PublishedCandleClassifier`."""
    from skcandle import PublishedCandleClassifier

    return FittedCandle.fit(PublishedCandleClassifier(random_state=0), task)


WITH_TEXT = [
    zero_shot,
    nearest_class_mean,
    logistic_regression,
    gated_logistic_regression,
    tip_adapter,
    gda,
    proker,
    cross_modal_probe,
    clap,
    ss_text,
    closed_form,
    closed_form_calibrated,
    published_candle,
    candle,
]
WITHOUT_TEXT = [nearest_class_mean, logistic_regression, candle]
