"""Which images to label next: `choose_to_label` compared with random choice and uncertainty.

    python -m benchmarks.accuracy.choose_to_label --emoji --features FILE.npz [FILE.npz ...]

All classes are known by name. At the start there are a quarter as many random labelled images as
classes. The pool of unlabelled images has a long tail with a ratio of 0.1. In each round, half as
many images as there are classes are chosen, labelled, and added with `add_images`.
"""

import numpy as np
from sklearn.metrics import recall_score

from benchmarks.accuracy.evaluation import markdown_table
from benchmarks.accuracy.protocol import pool_mask
from benchmarks.accuracy.sections import interval, write_sections
from skcandle import CandleClassifier

MAX_ROUNDS = 8


def at_random(clf, X, n_images, rng):
    return rng.permutation(len(X))[:n_images]


def smallest_margin(clf, X, n_images, rng):
    """Images whose two most probable classes have the closest probabilities (uncertainty)."""
    proba = clf.top_k(X, 2)[1]
    return np.argsort(proba[:, 0] - proba[:, 1])[:n_images]


def choose_to_label(clf, X, n_images, rng):
    return clf.choose_to_label(X, n_images)


STRATEGIES = [at_random, smallest_margin, choose_to_label]


def curve(features, seed, choose):
    """Class-balanced accuracy after each round."""
    rng = np.random.default_rng([seed, 3])
    n_classes, in_pool = len(features.names), pool_mask(features.y, 30, rng)
    test = np.flatnonzero(~in_pool)
    share = 0.1 ** (rng.permutation(n_classes) / (n_classes - 1))
    pool = []
    for label in range(n_classes):
        own = rng.permutation(np.flatnonzero(in_pool & (features.y == label)))
        pool.append(own[: max(1, int(share[label] * len(own)))])
    pool = rng.permutation(np.concatenate(pool))
    start, pool = pool[: max(n_classes // 4, 4)], pool[max(n_classes // 4, 4) :]
    new = np.setdiff1d(np.arange(n_classes), features.y[start])
    clf = CandleClassifier(new_classes=new.tolist(), text_encoder=dict(enumerate(features.T)))
    clf.fit(features.X[start], features.y[start])
    accuracy, n_images, chance = [], max(n_classes // 2, 5), np.random.default_rng([seed, 4])
    while True:
        answers, labels = clf.predict(features.X[test]), np.unique(features.y[test])
        accuracy.append(recall_score(features.y[test], answers, labels=labels, average="macro"))
        if len(pool) < n_images or len(accuracy) == MAX_ROUNDS:
            return accuracy
        chosen = choose(clf, features.X[pool], n_images, chance)
        clf = clf.add_images(features.X[pool[chosen]], features.y[pool[chosen]])
        pool = np.delete(pool, chosen)


def rounds_to_reach(accuracy, goal):
    """Number of rounds, interpolated linearly, after which a mean curve reaches an accuracy."""
    reached = np.flatnonzero(accuracy >= goal)
    if not len(reached):
        return np.nan
    after = reached[0]
    if after == 0:
        return 0.0
    low, high = accuracy[after - 1 : after + 1]
    return after - 1 + (goal - low) / (high - low)


def report(name, features, seeds):
    """Markdown of one set of features."""
    curves = {s.__name__: [curve(features, seed, s) for seed in range(seeds)] for s in STRATEGIES}
    n_rounds = min(len(c) for rows in curves.values() for c in rows)
    curves = {s: np.array([c[:n_rounds] for c in rows]) for s, rows in curves.items()}
    reference = curves["at_random"]
    goal = reference.mean(axis=0)[-1]
    body = []
    for strategy, rows in curves.items():
        lead = (rows - reference)[:, 1:].mean(axis=1)
        share = rounds_to_reach(rows.mean(axis=0), goal) / (n_rounds - 1)
        body.append(
            [
                strategy,
                *(f"{100 * value:.1f}" for value in rows.mean(axis=0)),
                "" if rows is reference else interval(lead),
                "not reached" if np.isnan(share) else f"{share:.0%}",
            ]
        )
    columns = [*(f"round {i}" for i in range(n_rounds)), "mean lead", "labels for the same"]
    return f"## {name}\n\n" + markdown_table(["accuracy", *columns], body)


if __name__ == "__main__":
    write_sections("choose_to_label", __doc__, report)
