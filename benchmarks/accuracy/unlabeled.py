"""What unlabelled images add: `add_unlabeled` beside the default and methods of others.

    python -m benchmarks.accuracy.unlabeled --emoji --features FILE.npz [FILE.npz ...]

Half of the test images of each class may be unlabelled images, and everything is measured on the
other half. A cell is a number of labelled images and a scenario, which says what the unlabelled
images are. In the cells "names alone", no image is labelled and every image of a set is a test
image.

--out keeps the results of each cell. Results that exist are not computed again, except for methods
named after --again.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import softmax
from sklearn.metrics import log_loss, recall_score

from benchmarks.accuracy import peers, unlabeled_peers
from benchmarks.accuracy.evaluation import (
    evaluate,
    markdown_table,
    paired_difference,
    plus_minus,
)
from benchmarks.accuracy.novelty import unusual_images
from benchmarks.accuracy.protocol import (
    Features,
    Task,
    draw_task,
    encode_emoji,
    load_features,
    unit,
)
from benchmarks.accuracy.unlabeled_peers import Adapted
from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.datasets import load_emoji
from skcandle.metrics import expected_calibration_error

NAMES_ALONE = "names alone"
REGIMES = {f"{n} a class": {"ratio": 1.0, "max_shots": n} for n in (1, 4, 16)}
REGIMES |= {"ratio 0.02": {"ratio": 0.02}, NAMES_ALONE: {}}
N_MANY = 5000
METHOD, DEFAULT, ZERO_SHOT = "add_unlabeled", "default", "zero_shot"
# Measured quantities and their titles, with labelled images and with names alone.
WITH_LABELS = {
    "joint_harmonic_mean": "joint H",
    "joint_base": "joint base",
    "joint_new": "joint new",
    "base": "base",
    "harmonic_mean": "H",
    "ausuc": "AUSUC",
    "log_loss": "log-loss",
    "ece": "ECE",
    "unlabeled_accuracy": "the unlabelled images",
}
WITHOUT_LABELS = {
    "accuracy": "later test",
    "present_accuracy": "later test, classes present",
    "log_loss": "log-loss",
    "ece": "ECE",
    "unlabeled_accuracy": "the unlabelled images",
}
# A cell is short if the method is worse than its reference by more than this.
LIMITS_WITH_LABELS = {
    "joint_harmonic_mean": 0.005,
    "base": 0.005,
    "joint_new": 0.005,
    "log_loss": 0.005,
}
LIMITS_WITHOUT_LABELS = {"accuracy": 0.01, "present_accuracy": 0.01, "unlabeled_accuracy": 0.01}


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


# --- methods ---------------------------------------------------------------------------------


def default_of(task):
    """The default on the labelled images, or a classifier that knows only names."""
    if len(task.y):
        return peers.candle(task)
    text = dict(zip(task.names, task.T, strict=True))
    return peers.FittedCandle(
        CandleClassifier.from_names(task.names.tolist(), text_encoder=text), task
    )


def default(case):
    """The default without the unlabelled images."""
    fitted = case.default()
    return Adapted(fitted, fitted.predict_proba(case.unlabeled))


def add_unlabeled(case):
    """The default with the unlabelled images."""
    model = case.default().model.add_unlabeled(case.unlabeled)
    fitted = peers.FittedCandle(model, case.task)
    return Adapted(fitted, fitted.predict_proba(case.unlabeled))


def zero_shot(case):
    score = peers.zero_shot(case.task)
    return Adapted(score, softmax(score(case.unlabeled), axis=1))


def of_peer(peer):
    return lambda case: peer(case.task, case.unlabeled)


METHODS = {DEFAULT: default, METHOD: add_unlabeled, ZERO_SHOT: zero_shot}
METHODS |= {peer.__name__: of_peer(peer) for peer in unlabeled_peers.PEERS}


# --- measures --------------------------------------------------------------------------------


def measure(method, case):
    """All measured quantities of a method on a case."""
    adapted, task = method(case), case.task
    if len(task.y):
        row = evaluate(adapted.score, task)
        row = {name: row[name] for name in WITH_LABELS if name in row}
    else:
        row = measure_names_alone(adapted, case)
    listed = case.labels >= 0
    row["unlabeled_accuracy"] = balanced_accuracy(case.labels[listed], adapted.unlabeled[listed])
    row["n_unlabeled"] = len(case.labels)
    return {name: float(value) for name, value in row.items()}


def measure_names_alone(adapted, case):
    task, classes = case.task, np.arange(case.task.n_classes)
    if hasattr(adapted.score, "predict_proba"):
        proba = np.asarray(adapted.score.predict_proba(task.X_test), dtype=float)
        proba /= proba.sum(axis=1, keepdims=True)
    else:
        proba = softmax(np.asarray(adapted.score(task.X_test), dtype=float), axis=1)
    present = np.isin(task.y_test, case.labels)
    return {
        "accuracy": balanced_accuracy(task.y_test, proba),
        "present_accuracy": balanced_accuracy(task.y_test[present], proba[present]),
        "log_loss": log_loss(task.y_test, proba, labels=classes),
        "ece": expected_calibration_error(task.y_test, proba, classes=classes),
    }


def balanced_accuracy(y, proba):
    """Mean recall over the classes in ``y``; NaN without any image."""
    if not len(y):
        return np.nan
    return recall_score(y, proba.argmax(axis=1), labels=np.unique(y), average="macro")


def fill(found, source, regime, scenarios, methods, seed):
    """Add the missing rows of one task to the results of its cells."""
    full = None
    for scenario in scenarios:
        rows = found.setdefault(f"{regime}, {scenario}", {})
        missing = [name for name in methods if len(rows.setdefault(name, [])) == seed]
        if missing:
            full = full or full_case(source.features, regime, seed)
            case = draw_case(source, regime, scenario, seed, full)
            for name in missing:
                rows[name].append(measure(METHODS[name], case))


# --- tables ----------------------------------------------------------------------------------


def scale_of(quantity):
    return 1 if quantity == "log_loss" else 100


def average(rows, quantity):
    return np.mean([row[quantity] for row in rows])


def kind_of(cell):
    """Reference, quantities and limits of a cell."""
    if cell.startswith(NAMES_ALONE):
        return ZERO_SHOT, WITHOUT_LABELS, LIMITS_WITHOUT_LABELS
    return DEFAULT, WITH_LABELS, LIMITS_WITH_LABELS


def change(found, name, quantity, reference):
    """Mean of the reference, and paired difference of a method, in points or as log-loss."""
    scale = scale_of(quantity)
    difference, half = paired_difference(found[reference], found[name], quantity)
    return scale * average(found[reference], quantity), scale * difference, scale * half


def digits(quantity):
    return 3 if quantity == "log_loss" else 1


def change_table(results, reference, quantities):
    """Markdown: the reference and what the method adds, a row for each cell."""
    body = []
    for cell, found in results.items():
        if found.get(METHOD) and found.get(reference):
            cells = []
            for quantity in quantities:
                before, difference, half = change(found, METHOD, quantity, reference)
                n = digits(quantity)
                cells.append(f"{before:.{n}f} {plus_minus(difference, half, digits=n)}")
            body.append([cell, f"{average(found[METHOD], 'n_unlabeled'):.0f}", *cells])
    return markdown_table(["cell", "images", *quantities.values()], body) if body else ""


def method_table(results, quantity):
    """Markdown: the mean of a quantity, a row for each cell and a column for each method."""
    names = [name for name in METHODS if any(found.get(name) for found in results.values())]
    body = [
        [
            cell,
            *(
                f"{scale_of(quantity) * average(found[name], quantity):.{digits(quantity)}f}"
                if found.get(name)
                else ""
                for name in names
            ),
        ]
        for cell, found in results.items()
    ]
    return markdown_table(["cell", *names], body)


def short_cells(results):
    """Lines that name the cells in which the method is worse than the reference by a limit."""
    lines = []
    for cell, found in results.items():
        reference, quantities, limits = kind_of(cell)
        if not (found.get(METHOD) and found.get(reference)):
            continue
        for quantity, limit in limits.items():
            before, difference, half = change(found, METHOD, quantity, reference)
            loss = difference if quantity == "log_loss" else -difference
            if loss > limit * scale_of(quantity):
                n = digits(quantity)
                text = f"{before:.{n}f} {plus_minus(difference, half, digits=n)}"
                lines.append(f"* {cell}: {quantities[quantity]} {text}")
    return lines


def report(name, results):
    """Markdown of one set of features."""
    parts = [f"## {name}"]
    for alone in (False, True):
        cells = {c: f for c, f in results.items() if c.startswith(NAMES_ALONE) == alone}
        if not cells:
            continue
        reference, quantities, _ = kind_of(next(iter(cells)))
        parts.append(f"**{METHOD} beside {reference}**")
        parts.append(change_table(cells, reference, quantities))
        compared = ["accuracy", "present_accuracy"] if alone else ["joint_harmonic_mean"]
        for quantity in [*compared, "log_loss", "unlabeled_accuracy"]:
            parts.append(f"**all methods, {quantities[quantity]}**")
            parts.append(method_table(cells, quantity))
    lines = short_cells(results)
    parts.append("**short cells**\n\n" + ("\n".join(lines) if lines else "none"))
    return "\n\n".join(part for part in parts if part)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", nargs="*", default=[], type=Path, metavar="FILE.npz")
    parser.add_argument("--emoji", action="store_true", help="the images of load_emoji()")
    parser.add_argument("--seeds", type=int, default=10, help="number of random tasks")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--again", nargs="*", default=[], choices=METHODS, help="methods to run again"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep results")
    args = parser.parse_args()
    sources = {path.stem: lambda path=path: feature_source(path) for path in args.features}
    if args.emoji:
        sources["emoji"] = emoji_source
    parts = []
    for set_name, load in sources.items():
        source, path = load(), args.out / f"unlabeled_{set_name}.json" if args.out else None
        found = json.loads(path.read_text()) if path and path.exists() else {}
        chosen = [
            (
                regime,
                [s for s in args.scenarios if regime != NAMES_ALONE or s != "base classes only"],
            )
            for regime in args.regimes
        ]
        for regime, scenarios in chosen:
            for scenario in scenarios:
                for name in args.again:
                    found.get(f"{regime}, {scenario}", {}).pop(name, None)
            for seed in range(args.seeds):
                fill(found, source, regime, scenarios, args.methods, seed)
                if path:
                    args.out.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(found), encoding="utf-8")
        shown = [f"{regime}, {scenario}" for regime, scenarios in chosen for scenario in scenarios]
        results = {
            cell: {name: rows[: args.seeds] for name, rows in found[cell].items()} for cell in shown
        }
        parts.append(report(set_name, results))
    text = "\n\n".join(parts)
    print(text)
    if args.out:
        (args.out / "unlabeled.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
