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
    probabilities,
)
from benchmarks.accuracy.unlabeled_cases import (
    NAMES_ALONE,
    REGIMES,
    SCENARIOS,
    draw_case,
    emoji_source,
    feature_source,
    full_case,
)
from benchmarks.accuracy.unlabeled_peers import Adapted
from skcandle.metrics import expected_calibration_error

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


# --- methods ---------------------------------------------------------------------------------


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


def transclip_after_default(case):
    """TransCLIP with the probabilities of the default in place of the zero-shot ones.

    The labelled images count in these probabilities only.
    """

    def prior(Z):
        return np.log(np.maximum(case.default().predict_proba(Z), 1e-12))

    return unlabeled_peers.mixture(case.task, case.unlabeled, prior, lam=1.0, gamma=0.0)


def of_peer(peer):
    return lambda case: peer(case.task, case.unlabeled)


METHODS = {DEFAULT: default, METHOD: add_unlabeled, ZERO_SHOT: zero_shot}
METHODS |= {peer.__name__: of_peer(peer) for peer in unlabeled_peers.PEERS}
METHODS["transclip_after_default"] = transclip_after_default


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
    proba = probabilities(adapted.score, task.X_test, adapted.score(task.X_test))
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


def complete(found, cells, seeds):
    """Rows of the cells, for methods with results of all tasks."""
    return {
        cell: {name: rows[:seeds] for name, rows in found[cell].items() if len(rows) >= seeds}
        for cell in (f"{regime}, {scenario}" for regime, scenario in cells)
    }


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


def method_table(results, reference, quantity):
    """Markdown: the reference and what each method adds, a row for each cell."""
    n = digits(quantity)
    others = [name for name in METHODS if name != reference]
    others = [name for name in others if any(found.get(name) for found in results.values())]

    def text(found, name):
        if not found.get(name):
            return ""
        _, difference, half = change(found, name, quantity, reference)
        return plus_minus(difference, half, digits=n)

    body = [
        [
            cell,
            f"{scale_of(quantity) * average(found[reference], quantity):.{n}f}",
            *(text(found, name) for name in others),
        ]
        for cell, found in results.items()
        if found.get(reference)
    ]
    return markdown_table(["cell", reference, *others], body) if body else ""


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
        tables = {f"{METHOD} beside {reference}": change_table(cells, reference, quantities)}
        compared = ["accuracy", "present_accuracy"] if alone else ["joint_harmonic_mean"]
        for quantity in [*compared, "log_loss", "unlabeled_accuracy"]:
            title = f"all methods, {quantities[quantity]}"
            tables[title] = method_table(cells, reference, quantity)
        parts += [f"**{title}**\n\n{table}" for title, table in tables.items() if table]
    if any(METHOD in found for found in results.values()):
        lines = short_cells(results)
        parts.append("**short cells**\n\n" + ("\n".join(lines) if lines else "none"))
    return "\n\n".join(parts)


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
    shown = [
        (regime, scenario)
        for regime in args.regimes
        for scenario in args.scenarios
        if (regime, scenario) != (NAMES_ALONE, "base classes only")
    ]
    parts = []
    for name, load in sources.items():
        path = args.out / f"unlabeled_{name}.json" if args.out else None
        found = json.loads(path.read_text()) if path and path.exists() else {}
        source = load()
        for regime, scenario in shown:
            for method in args.again:
                found.get(f"{regime}, {scenario}", {}).pop(method, None)
        for regime in args.regimes:
            scenarios = [scenario for of, scenario in shown if of == regime]
            for seed in range(args.seeds):
                fill(found, source, regime, scenarios, args.methods, seed)
                if path:
                    args.out.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(found), encoding="utf-8")
        parts.append(report(name, complete(found, shown, args.seeds)))
    text = "\n\n".join(parts)
    print(text)
    if args.out:
        (args.out / "unlabeled.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
