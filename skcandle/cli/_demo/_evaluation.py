"""Draws of the task, the classifiers that are compared, and their measures."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from tqdm.auto import tqdm

from ..._bundled import BUNDLED_MODEL
from ...classifier import CandleClassifier
from ...classifier._zero_shot import zero_shot_logits
from ...clip import CLIPFeaturizer
from ...datasets import load_emoji, make_long_tailed
from ...metrics import base_new_report, shot_band_accuracy
from ...model_selection import base_new_split

ZERO_SHOT, GATED, CANDLE = METHODS = ("zero-shot CLIP", "gated logistic regression", "Candle")
N_MAX = 25  # images of the largest class
BANDS = (10, 3, 1)  # lower bounds on training images per class, see `shot_band_accuracy`
BAND_KEYS = (">= 10", "3 to 9", "1 to 2", "0")
N_TYPED = 8  # names that are added after training


@dataclass(frozen=True)
class Data:
    """Emoji and their embeddings; the rows of `texts` follow `classes`."""

    images: list
    X: np.ndarray
    y: np.ndarray
    classes: np.ndarray
    texts: np.ndarray

    def text_of(self):
        """Text embedding of each class."""
        return dict(zip(self.classes.tolist(), self.texts, strict=True))


@dataclass(frozen=True)
class Draw:
    """Positions of training and test images, and the classes without training images."""

    seed: int
    train: np.ndarray
    test: np.ndarray
    new: np.ndarray


@dataclass(frozen=True)
class TypedNames:
    """Predictions before and after names are added to a classifier without their images.

    `shown` are positions of images, one per name, with their predictions `before` and `after`.
    `counts` are totals over all images of the names and over the test images of the classes that
    had been learned, see :class:`TypedCounts`.
    """

    names: list
    shown: np.ndarray
    before: np.ndarray
    after: np.ndarray
    counts: "TypedCounts"


class TypedCounts(NamedTuple):
    """Numbers of images, and of correct predictions."""

    n_images: int
    n_right: int
    n_known: int
    n_known_before: int
    n_known_after: int


@dataclass(frozen=True)
class Evaluation:
    """Results of all draws.

    Attributes
    ----------
    data : Data
    first : Draw
    measures : dict of str to ndarray of shape (n_draws, n_methods)
    y_true : ndarray of shape (n_draws * n_test,)
    proba : dict of str to ndarray of shape (n_draws * n_test, n_classes)
    typed : list of TypedNames
        One per draw.
    """

    data: Data
    first: Draw
    measures: dict
    y_true: np.ndarray
    proba: dict
    typed: list

    @property
    def n_draws(self):
        return len(self.measures["accuracy"])

    def typed_counts(self):
        """Totals over all draws."""
        return TypedCounts(*np.sum([typed.counts for typed in self.typed], axis=0).tolist())

    def class_counts(self):
        """Number of training images of each class in the first draw, from most to none."""
        y = self.data.y[self.first.train]
        counts = np.array([np.count_nonzero(y == label) for label in self.data.classes])
        return -np.sort(-counts)


def evaluate(n_draws=10):
    """Draw the task several times; fit and evaluate the classifiers on each draw.

    Images and names are embedded once. The seeds of the draws are 0, 1, ...; all parameters of
    the classifiers are fixed.

    Parameters
    ----------
    n_draws : int, default=10
        At least 2.

    Returns
    -------
    evaluation : Evaluation
    """
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}; one draw gives no interval.")
    data = load_data()
    draws = [draw_task(data.y, seed) for seed in range(n_draws)]
    rows: list[list[dict]] = []  # by draw and method
    proba: dict[str, list] = {method: [] for method in METHODS}
    truths, typed = [], []
    for draw in tqdm(draws, desc="draws", disable=None):
        logits = fit_and_score(data, draw)
        rows.append([measure(data, draw, logits[method]) for method in METHODS])
        truths.append(data.y[draw.test])
        typed.append(type_names(data, draw))
        for method in METHODS:
            proba[method].append(softmax(logits[method], axis=1))
    return Evaluation(
        data=data,
        first=draws[0],
        measures={
            key: np.array([[by_method[key] for by_method in row] for row in rows])
            for key in rows[0][0]
        },
        y_true=np.concatenate(truths),
        proba={method: np.concatenate(parts) for method, parts in proba.items()},
        typed=typed,
    )


def load_data():
    """Embed the images and the names of their classes."""
    emoji = load_emoji()
    clip = CLIPFeaturizer(BUNDLED_MODEL)
    return Data(
        images=emoji.images,
        X=clip.fit_transform(emoji.images),
        y=emoji.target,
        classes=emoji.target_names,
        texts=clip.encode_text([f"a photo of a {name}." for name in emoji.target_names]),
    )


def draw_task(y, seed):
    """A third of the images for testing, a third of the classes new, the others a long tail."""
    train, test = train_test_split(
        np.arange(len(y)), test_size=1 / 3, stratify=y, random_state=seed
    )
    base, new = base_new_split(y, new_fraction=1 / 3, random_state=seed)
    train = train[np.isin(y[train], base)]
    tail = make_long_tailed(
        y[train], n_max=N_MAX, imbalance_ratio=1 / N_MAX, order="natural", random_state=seed
    )
    return Draw(seed, train[tail], test, new)


def fit_and_score(data, draw):
    """Logits of the test images over all classes, base and new, by method."""
    X, y, X_test = data.X[draw.train], data.y[draw.train], data.X[draw.test]
    zero_shot = zero_shot_logits(X_test, data.texts)
    candle = CandleClassifier(
        new_classes=draw.new.tolist(), text_encoder=data.text_of(), random_state=draw.seed
    )
    return {
        ZERO_SHOT: zero_shot,
        GATED: gated_logistic_regression(X, y, X_test, zero_shot, ~np.isin(data.classes, draw.new)),
        CANDLE: candle.fit(X, y).predict_log_proba(X_test),
    }


def gated_logistic_regression(X, y, X_test, zero_shot, is_base):
    """Joint log-probabilities; CLIP decides whether an image shows a base class at all.

    p(base class) = p_zero_shot(any base class) p_logistic_regression(class), and
    p(new class) = p_zero_shot(class). Embeddings are multiplied by 10, the square root of the
    factor by which CLIP multiplies cosines, so that the default C suits them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    X_test : ndarray of shape (n_test_samples, n_features)
    zero_shot : ndarray of shape (n_test_samples, n_classes)
        Logits; columns are sorted by class.
    is_base : ndarray of shape (n_classes,), dtype bool

    Returns
    -------
    logits : ndarray of shape (n_test_samples, n_classes)
    """
    regression = LogisticRegression(class_weight="balanced", max_iter=2000).fit(10 * X, y)
    logits = zero_shot.astype(np.float64)
    any_base = logsumexp(logits[:, is_base], axis=1, keepdims=True)
    logits[:, is_base] = any_base + regression.predict_log_proba(10 * X_test)
    return logits


def measure(data, draw, logits):
    """Measures of one method on one draw, in the joint label space; accuracies are from 0 to 1."""
    y_true = data.y[draw.test]
    y_pred = data.classes[logits.argmax(axis=1)]
    report: Any = base_new_report(
        y_true, logits, classes=data.classes, new_classes=draw.new, output_dict=True
    )
    bands = shot_band_accuracy(y_true, y_pred, y_train=data.y[draw.train], bands=BANDS)
    wanted = ("joint_harmonic_mean", "log_loss", "ece")
    return {
        "accuracy": np.mean(y_pred == y_true),
        **bands,
        **{key: report[key] for key in wanted},
    }


def type_names(data, draw):
    """Train without new classes, then add some of them, drawn at random, by name."""
    X, y = data.X[draw.train], data.y[draw.train]
    rng = np.random.default_rng(draw.seed)
    names = rng.choice(draw.new, N_TYPED, replace=False).tolist()
    before = CandleClassifier(text_encoder=data.text_of(), random_state=draw.seed).fit(X, y)
    after = before.add_classes(names)
    of_names = np.flatnonzero(np.isin(data.y, names))
    known = draw.test[~np.isin(data.y[draw.test], draw.new)]
    shown = np.array([rng.choice(np.flatnonzero(data.y == name)) for name in names])

    def n_right(classifier, rows):
        return int(np.count_nonzero(classifier.predict(data.X[rows]) == data.y[rows]))

    return TypedNames(
        names=names,
        shown=shown,
        before=before.predict(data.X[shown]),
        after=after.predict(data.X[shown]),
        counts=TypedCounts(
            n_images=len(of_names),
            n_right=n_right(after, of_names),
            n_known=len(known),
            n_known_before=n_right(before, known),
            n_known_after=n_right(after, known),
        ),
    )
