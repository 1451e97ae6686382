"""Prediction sets over base and new classes: coverage and size.

    python -m benchmarks.accuracy.conformal --emoji --features FILE.npz [FILE.npz ...]

Compares `predict_set` with split conformal prediction. The latter holds out a third of the images
of each class with three or more images, and uses them to calibrate how probable a class must be to
enter a set. New classes have no such images.
"""

import numpy as np

from benchmarks.accuracy.evaluation import markdown_table
from benchmarks.accuracy.protocol import draw_task
from benchmarks.accuracy.sections import interval, write_sections
from skcandle import CandleClassifier

LEVELS = [0.8, 0.9, 0.95]


def fit(task, rows):
    texts, new = dict(enumerate(task.T)), np.setdiff1d(np.arange(task.n_classes), task.y[rows])
    return CandleClassifier(new_classes=new.tolist(), text_encoder=texts).fit(
        task.X[rows], task.y[rows]
    )


def predict_set(task, seed):
    """The sets of the library, from all training images."""
    clf = fit(task, np.arange(len(task.y)))
    return lambda level: clf.predict_set(task.X_test, level)


def split_conformal(task, seed):
    """Sets calibrated on a third of the training images, by one minus the class probability."""
    rng, calibrating = np.random.default_rng(seed), np.zeros(len(task.y), dtype=bool)
    for label in range(task.n_base):
        own = rng.permutation(np.flatnonzero(task.y == label))
        calibrating[own[: len(own) // 3]] = True
    clf = fit(task, ~calibrating)
    proba = clf.predict_proba(task.X[calibrating])
    scores = np.sort(1 - proba[np.arange(len(proba)), task.y[calibrating]])

    def sets(level):
        rank = int(np.ceil(level * (len(scores) + 1)))
        threshold = scores[rank - 1] if rank <= len(scores) else np.inf
        return 1 - clf.predict_proba(task.X_test) <= threshold

    return sets


METHODS = {"predict_set": predict_set, "split conformal": split_conformal}


def measure(task, sets):
    """Coverage and size for base and for new classes, averaged over the classes of each kind."""
    covered = sets[np.arange(len(sets)), task.y_test]
    classes, size = np.unique(task.y_test), sets.sum(axis=1)
    by_class = np.array(
        [[covered[task.y_test == k].mean(), size[task.y_test == k].mean()] for k in classes]
    )
    is_base = classes < task.n_base
    base, new = by_class[is_base].mean(axis=0), by_class[~is_base].mean(axis=0)
    return [base[0], new[0], base[1], new[1]]


def report(name, features, seeds):
    """Markdown of one set of features."""
    measured = {(method, level): [] for level in LEVELS for method in METHODS}
    for seed in range(seeds):
        task = draw_task(features, seed)
        for method, make in METHODS.items():
            sets = make(task, seed)
            for level in LEVELS:
                measured[method, level].append(measure(task, sets(level)))
    body = []
    for (method, level), rows in measured.items():
        rows = np.array(rows)
        coverage = [interval(rows[:, i]) for i in (0, 1)]
        body.append(
            [f"{method}, {level:.0%}", *coverage, *(interval(rows[:, i], 1) for i in (2, 3))]
        )
    columns = ["coverage, base", "new", "classes in a set, base", "new"]
    return f"## {name}\n\n" + markdown_table(["level", *columns], body)


if __name__ == "__main__":
    write_sections("conformal", __doc__, report)
