"""Tasks with unlabelled images: which images are labelled, which are not, and which are tested.

Half of the test images of each class may be unlabelled images; the others are the test images. A
scenario says what the unlabelled images are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from benchmarks.accuracy import peers
from benchmarks.accuracy.novelty import unusual_images
from benchmarks.accuracy.protocol import (
    Features,
    Task,
    draw_task,
    encode_emoji,
    load_features,
    unit,
)
from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.datasets import load_emoji

NAMES_ALONE = "names alone"
REGIMES = {f"{n} a class": {"ratio": 1.0, "max_shots": n} for n in (1, 4, 16)}
REGIMES |= {"ratio 0.02": {"ratio": 0.02}, NAMES_ALONE: {}}
N_MANY = 5000


@dataclass(frozen=True)
class Source:
    """A set of features, images without content, and a second domain.

    In the scenario of another domain, tasks are drawn from `home` and the unlabelled images are all
    those of `away`. Without `away`, they are images of `home` with a shift.
    """

    features: Features
    unusual: np.ndarray
    home: Features
    away: Features | None = None


@dataclass(frozen=True)
class Case:
    """A task, unlabelled images, and their classes (-1: not listed). `default` fits the task."""

    task: Task
    unlabeled: np.ndarray
    labels: np.ndarray
    default: Callable


# --- sets of features ------------------------------------------------------------------------


def feature_source(path):
    """A feature file. Noise lies around the mean image, and the blank images are all the same."""
    features, rng = load_features(path), np.random.default_rng(0)
    centre, d = features.X.mean(axis=0), features.X.shape[1]
    length = np.linalg.norm(features.X - centre, axis=1).mean()
    noise = centre + length * unit(rng.normal(size=(90, d)))
    blank = np.repeat(centre + length * unit(rng.normal(size=(1, d))), 90, axis=0)
    return Source(features, unit(np.concatenate([noise, blank])), features)


def emoji_source():
    """The emoji. The second domain is one of their three styles."""
    featurizer = CLIPFeaturizer("emoji-clip", precision="fp32")
    features, unusual = encode_emoji(featurizer), unusual_images(featurizer)
    flat = load_emoji().styles == "fluent-emoji-flat"
    return Source(
        features,
        np.concatenate([X for kind, X in unusual.items() if kind != "negatives of emoji"]),
        replace(features, X=features.X[~flat], y=features.y[~flat]),
        replace(features, X=features.X[flat], y=features.y[flat]),
    )


# --- what the unlabelled images are ----------------------------------------------------------
#
# A scenario takes a case with the full half, a random generator and the source, and returns a case.


def keep(case, mask):
    if not mask.any():
        mask = np.arange(len(mask)) == 0
    return replace(case, unlabeled=case.unlabeled[mask], labels=case.labels[mask])


def add(case, X, labels):
    return replace(
        case,
        unlabeled=np.concatenate([case.unlabeled, X]),
        labels=np.concatenate([case.labels, labels]),
    )


def jittered(X, length, rng):
    """Copies plus noise of this length in a random direction."""
    return unit(X + length * unit(rng.normal(size=X.shape)))


def full_half(case, rng, source):
    return case


def base_classes_only(case, rng, source):
    return keep(case, case.labels < case.task.n_base)


def some_classes(case, rng, source):
    """Images of 30 % of the classes only."""
    n = case.task.n_classes
    return keep(case, np.isin(case.labels, rng.permutation(n)[: max(2, int(0.3 * n))]))


def long_tail(case, rng, source):
    """The class at each rank keeps a share of its images, from 1 down to 0.02."""
    mask, n = np.ones(len(case.labels), dtype=bool), case.task.n_classes
    for rank, label in enumerate(rng.permutation(n)):
        members = np.flatnonzero(case.labels == label)
        mask[members[round(len(members) * 0.02 ** (rank / (n - 1))) :]] = False
    return keep(case, mask)


def share(fraction):
    return lambda case, rng, source: keep(case, rng.random(len(case.labels)) < fraction)


def half_unlisted(case, rng, source):
    """Two fifths of the new classes are not listed; half of the unlabelled images are of these."""
    task = case.task
    n = task.n_classes - round(0.4 * (task.n_classes - task.n_base))
    listed, labels = task.y_test < n, np.where(case.labels < n, case.labels, -1)
    smaller = replace(
        task,
        X_test=task.X_test[listed],
        y_test=task.y_test[listed],
        T=task.T[:n],
        names=task.names[:n],
    )
    own, others = (rng.permutation(np.flatnonzero(mask)) for mask in (labels >= 0, labels < 0))
    chosen = np.concatenate([own[: len(others)], others[: len(own)]])
    return Case(smaller, case.unlabeled[chosen], labels[chosen], cache(lambda: default_of(smaller)))


def noise_and_blank(case, rng, source):
    """Also noise and blank images, at most as many as the others."""
    X = source.unusual[rng.permutation(len(source.unusual))[: len(case.labels)]]
    return add(case, X, np.full(len(X), -1))


def near_copies(case, rng, source):
    """Also near-copies of a single photo, as many as the others."""
    one = rng.integers(len(case.labels))
    X = jittered(np.repeat(case.unlabeled[[one]], len(case.labels), axis=0), 0.05, rng)
    return add(case, X, np.full(len(X), case.labels[one]))


def other_domain(case, rng, source):
    """Images of another style, or images that are all shifted alike.

    The shift has a random direction among the directions in which images vary, and half the mean
    distance of an image from the mean.
    """
    if source.away is not None:
        names = {name: i for i, name in enumerate(case.task.names)}
        labels = np.array([names[name] for name in source.away.names])[source.away.y]
        return replace(case, unlabeled=source.away.X, labels=labels)
    X = source.features.X - source.features.X.mean(axis=0)
    shift = unit(rng.normal(size=len(X)) @ X) * np.linalg.norm(X, axis=1).mean() / 2
    return replace(case, unlabeled=unit(case.unlabeled + shift))


def many(case, rng, source):
    """Copies with noise of the full half, 5,000 images in all."""
    rows = np.resize(np.arange(len(case.labels)), max(N_MANY, len(case.labels)))
    X = jittered(case.unlabeled[rows], 0.1, rng)
    return replace(case, unlabeled=X, labels=case.labels[rows])


SCENARIOS = {
    "full half": full_half,
    "base classes only": base_classes_only,
    "30 % of the classes": some_classes,
    "long tail": long_tail,
    "15 %": share(0.15),
    "5 %": share(0.05),
    "half unlisted": half_unlisted,
    "noise and blank": noise_and_blank,
    "near-copies": near_copies,
    "other domain": other_domain,
    "many": many,
}


def draw_case(source, regime, scenario, seed, full=None):
    """The case of a cell and a seed."""
    if full is None:
        full = full_case(source.features, regime, seed)
    if scenario == "other domain" and source.away is not None:
        full = full_case(source.home, regime, seed)
    rng = np.random.default_rng([seed, list(SCENARIOS).index(scenario)])
    return SCENARIOS[scenario](full, rng, source)


def full_case(features, regime, seed):
    """Half of the test images of each class, rounded down, are unlabelled images."""
    if regime == NAMES_ALONE:
        task = unlabelled_task(features, seed)
    else:
        task = draw_task(features, seed, **REGIMES[regime])
    rng, half = np.random.default_rng(seed), np.zeros(len(task.y_test), dtype=bool)
    for label in range(task.n_classes):
        members = rng.permutation(np.flatnonzero(task.y_test == label))
        half[members[: len(members) // 2]] = True
    rest = replace(task, X_test=task.X_test[~half], y_test=task.y_test[~half])
    return Case(rest, task.X_test[half], task.y_test[half], cache(lambda: default_of(rest)))


def unlabelled_task(features, seed):
    """A task with names only, in random order, whose test images are all images."""
    order = np.random.default_rng(seed).permutation(len(features.names))
    return Task(
        X=features.X[:0],
        y=features.y[:0],
        X_test=features.X,
        y_test=np.argsort(order)[features.y],
        T=features.T[order],
        names=features.names[order],
        n_base=0,
    )


def default_of(task):
    """The default on the labelled images, or a classifier that knows only names."""
    if len(task.y):
        return peers.candle(task)
    text = dict(zip(task.names, task.T, strict=True))
    return peers.FittedCandle(
        CandleClassifier(new_classes=task.names.tolist(), text_encoder=text).fit(
            np.empty((0, task.T.shape[1]), task.T.dtype), []
        ),
        task,
    )
