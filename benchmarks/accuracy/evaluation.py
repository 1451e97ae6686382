"""Measured quantities of a fitted method on a task, and tables of them over many tasks."""

import time
from dataclasses import replace

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss, recall_score
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks.accuracy.protocol import deal
from skcandle.metrics import base_new_report, expected_calibration_error, shot_band_accuracy

# How each measured quantity is printed; accuracies are percentages.
COLUMNS = {
    "base": "{:.1%}", "new": "{:.1%}", "harmonic_mean": "{:.1%}",
    "joint_base": "{:.1%}", "joint_new": "{:.1%}", "joint_harmonic_mean": "{:.1%}",
    "best_joint_harmonic_mean": "{:.1%}", "ausuc": "{:.1%}",
    "log_loss": "{:.3f}", "ece": "{:.1%}", "fit_seconds": "{:.2f}",
}  # fmt: skip
PAIRED = ["base", "harmonic_mean", "joint_harmonic_mean", "ausuc", "log_loss", "ece"]


def evaluate(score, task):
    """All measured quantities of one fitted method on one task."""
    classes, new = np.arange(task.n_classes), np.arange(task.n_base, task.n_classes)
    scores = np.asarray(score(task.X_test), dtype=float)
    predicted = scores.argmax(axis=1)
    proba = probabilities(score, task.X_test, scores)
    if len(new):
        row = base_new_report(
            task.y_test, scores, classes=classes, new_classes=new, output_dict=True
        )
    else:
        labels = np.unique(task.y_test)
        row = {"base": recall_score(task.y_test, predicted, labels=labels, average="macro")}
    row["log_loss"] = log_loss(task.y_test, proba, labels=classes)
    row["ece"] = expected_calibration_error(task.y_test, proba, classes=classes)
    return row | shot_band_accuracy(task.y_test, predicted, y_train=task.y)


def probabilities(score, X, scores):
    """Probabilities of images: those of the method, or else the softmax of its scores."""
    if not hasattr(score, "predict_proba"):
        return softmax(scores, axis=1)
    proba = np.asarray(score.predict_proba(X), dtype=float)
    return proba / proba.sum(axis=1, keepdims=True)


def run(tasks, methods, scaled=False):
    """Rows of measured quantities, one per task, for each method.

    With `scaled`, also log-loss and calibration error after one temperature for all scores was
    chosen on the training images. The classifier estimates its own.
    """
    rows = {}
    for method in methods:
        rows[method.__name__] = []
        for task in tasks:
            start = time.perf_counter()
            score = method(task)
            seconds = time.perf_counter() - start
            row = evaluate(score, task) | {"fit_seconds": seconds}
            if scaled:
                row |= scaled_probabilities(score, method, task)
            rows[method.__name__].append({name: float(value) for name, value in row.items()})
    return rows


def scaled_probabilities(score, method, task):
    """Log-loss and calibration error, of scores times a factor chosen in cross-validation."""
    if hasattr(score, "predict_proba"):
        proba = np.asarray(score.predict_proba(task.X_test), dtype=float)
    else:
        factor = factor_of_training_images(method, task)
        proba = softmax(factor * np.asarray(score(task.X_test), dtype=float), axis=1)
    classes = np.arange(task.n_classes)
    return {
        "scaled_log_loss": log_loss(task.y_test, proba, labels=classes),
        "scaled_ece": expected_calibration_error(task.y_test, proba, classes=classes),
    }


def factor_of_training_images(method, task, n_folds=3):
    """The factor of the scores with the smallest log-loss of held-out training images.

    All classes count the same. Images are held out in folds; the only image of a class stays in
    training. Without any held-out image the factor is one.
    """
    fold = deal(task.y, n_folds)
    scores, labels = [], []
    for k in range(n_folds):
        held = fold == k
        if held.any():
            kept = replace(task, X=task.X[~held], y=task.y[~held])
            scores.append(np.asarray(method(kept)(task.X[held]), dtype=float))
            labels.append(task.y[held])
    if not scores:
        return 1.0
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    weight = compute_sample_weight("balanced", labels)

    def loss(log_factor):
        own = log_softmax(np.exp(log_factor) * scores, axis=1)[np.arange(len(labels)), labels]
        return -weight @ own

    return float(np.exp(minimize_scalar(loss, bounds=(-7, 3), method="bounded").x))


def mean(rows, column):
    values = [row[column] for row in rows]
    return np.nan if np.isnan(values).all() else np.nanmean(values)


def paired_difference(rows, reference, column):
    """Mean of reference minus method over the tasks, and half its 95 % confidence interval (t)."""
    difference = np.array([b[column] - a[column] for a, b in zip(rows, reference, strict=True)])
    return difference.mean(), half_interval(difference)


def half_interval(values):
    """Half the 95 % confidence interval of a mean (t); NaN for a single value."""
    n = len(values)
    return stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan


def plus_minus(value, half, digits=2, sign="+"):
    """A mean and half its interval as text; the mean alone if a single value has no interval."""
    text = f"{value:{sign}.{digits}f}"
    return text if np.isnan(half) else f"{text} ± {half:.{digits}f}"


def markdown_table(header, body):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(rows, reference):
    """Markdown: main table, accuracy by number of training images, paired differences."""
    first = next(iter(rows.values()))
    columns = [c for c in COLUMNS if c in first[0]]
    bands = [c for c in first[0] if c not in COLUMNS and not np.isnan(mean(first, c))]

    def percent(text):
        return text.removesuffix("%")

    main = markdown_table(
        ["method", *columns],
        [
            [name, *(percent(COLUMNS[c].format(mean(r, c))) for c in columns)]
            for name, r in rows.items()
        ],
    )
    by_band = markdown_table(
        ["accuracy by training images", *bands],
        [[name, *(percent(f"{mean(r, c):.1%}") for c in bands)] for name, r in rows.items()],
    )
    if reference not in rows:
        return f"{main}\n\n{by_band}\n"
    paired = [c for c in PAIRED if c in first[0]]

    def cell(name, column):
        scale = 1 if column == "log_loss" else 100
        difference, half = paired_difference(rows[name], rows[reference], column)
        return plus_minus(scale * difference, scale * half)

    differences = markdown_table(
        [f"{reference} minus", *paired],
        [[name, *(cell(name, c) for c in paired)] for name in rows if name != reference],
    )
    return f"{main}\n\n{by_band}\n\n{differences}\n"
