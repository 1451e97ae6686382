"""CandleClassifier compared with every peer: few or many images, short or long tails.

    python -m benchmarks.accuracy.regimes --emoji --features FILE.npz [FILE.npz ...]

Each cell is a number of images per class or an imbalance ratio, with or without new classes, on one
set of features. For each quantity, this prints how far the default is ahead of the best peer
(negative if it is behind), with the 95 % confidence interval of the paired difference over the
tasks. The best peer is chosen by its mean over the same tasks, which favours the peers.

--out also writes a picture and keeps the results of each cell. Results that exist are not computed
again, except for methods named after --again.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.accuracy import peers
from benchmarks.accuracy.evaluation import markdown_table, paired_difference, plus_minus, run
from benchmarks.accuracy.protocol import draw_task, encode_emoji, load_features
from skcandle import CLIPFeaturizer

SHOTS = (1, 2, 4, 8, 16, 30)
RATIOS = (0.01, 0.02, 0.1, 1)
REGIMES = {f"{n} a class": {"ratio": 1.0, "max_shots": n} for n in SHOTS}
REGIMES |= {f"ratio {ratio:g}": {"ratio": ratio, "max_shots": 100} for ratio in RATIOS}
WITH_NEW = ["base", "harmonic_mean", "joint_harmonic_mean", "ausuc"]
# Quantities of cells with and without new classes. For the last two, lower is better.
PROBABILITIES = ["log_loss", "ece", "scaled_log_loss", "scaled_ece"]
QUANTITIES = {True: [*WITH_NEW, *PROBABILITIES], False: ["base", *PROBABILITIES]}
LESS_IS_BETTER = set(PROBABILITIES)
TITLES = {
    "base": "accuracy of base classes",
    "harmonic_mean": "H",
    "joint_harmonic_mean": "joint H",
    "ausuc": "AUSUC",
    "log_loss": "log-loss, the softmax of each peer's scores",
    "ece": "calibration error of these",
    "scaled_log_loss": "log-loss, one temperature of each peer chosen on training images",
    "scaled_ece": "calibration error of these",
}
LIBRARY = "candle"
# The published method is the library's own. Two other methods are nearest class means, which other
# methods improve on.
LEFT_OUT = ["published_candle", "nearest_class_mean", "ss_text"]


def cells():
    """Names and settings of the cells."""
    for new_classes in (True, False):
        for name, settings in REGIMES.items():
            side = "base to new" if new_classes else "all classes"
            yield f"{side}, {name}", settings | {"new_classes": new_classes}


def fill(found, features, settings, methods, seeds, again):
    """Add the missing rows to a cell, method by method."""
    tasks = [draw_task(features, seed, **settings) for seed in range(seeds)]
    for method in methods:
        name = method.__name__
        rows = [] if name in again else found.get(name, [])[:seeds]
        found[name] = rows + run(tasks[len(rows) :], [method], scaled=True)[name]
    return found


def margin(found, quantity):
    """Lead over the best peer in points (or log-loss), half its interval, and the peer's name."""
    sign = -1 if quantity in LESS_IS_BETTER else 1
    scale = 1 if quantity.endswith("log_loss") else 100
    means = {n: sign * np.mean([r[quantity] for r in rows]) for n, rows in found.items()}
    means.pop(LIBRARY)
    best = max(means, key=means.get)
    difference, half = paired_difference(found[best], found[LIBRARY], quantity)
    return sign * scale * difference, scale * half, best


def cells_with(quantity, results):
    """Names of the cells that have results and in which a quantity is measured."""
    names = dict.fromkeys(cell for found in results.values() for cell in found)
    return [cell for cell in names if quantity in QUANTITIES[cell.startswith("base to new")]]


def table(results):
    """Markdown: one table per quantity, with a row per cell and a column per set of features."""

    def text(found, cell, quantity):
        if cell not in found:
            return ""
        lead, half, best = margin(found[cell], quantity)
        return f"{plus_minus(lead, half)} ({best})"

    parts = []
    for quantity, title in TITLES.items():
        body = [
            [cell, *(text(found, cell, quantity) for found in results.values())]
            for cell in cells_with(quantity, results)
        ]
        if body:
            lines = markdown_table(["cell", *results], body)
            parts.append(f"**{title}**, lead over the best peer\n\n{lines}")
    return "\n\n".join(parts)


def draw(results, path):
    """Heat maps of the leads, one for each quantity that is an accuracy."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(WITH_NEW), figsize=(16, 7), layout="constrained")
    for ax, quantity in zip(axes, WITH_NEW, strict=True):
        rows = cells_with(quantity, results)
        values = np.array(
            [
                [margin(f[c], quantity)[0] if c in f else np.nan for f in results.values()]
                for c in rows
            ]
        )
        image = ax.imshow(values, cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
        ax.set_xticks(range(len(results)), list(results), rotation=30, ha="right")
        ax.set_yticks(range(len(rows)), rows, fontsize=8)
        ax.set_title(TITLES[quantity])
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if abs(value) > 2 else "black"
                ax.text(j, i, f"{value:+.1f}", ha="center", va="center", fontsize=8, color=colour)
    fig.colorbar(image, ax=axes, label="points ahead of the best peer", shrink=0.6)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", nargs="*", default=[], type=Path, metavar="FILE.npz")
    parser.add_argument("--emoji", action="store_true", help="the images of load_emoji()")
    parser.add_argument("--seeds", type=int, default=10, help="number of random tasks")
    parser.add_argument(
        "--cells", default="", metavar="TEXT", help="only cells whose name contains this"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"peers (default: all but {', '.join(LEFT_OUT)})",
    )
    parser.add_argument(
        "--again", nargs="*", default=[], metavar="NAME", help="methods to run again"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep results and write a picture")
    args = parser.parse_args()
    sets = {path.stem: load_features(path) for path in args.features}
    if args.emoji:
        sets["emoji"] = encode_emoji(CLIPFeaturizer("emoji-clip", precision="fp32"))
    chosen = args.methods or [m.__name__ for m in peers.WITH_TEXT if m.__name__ not in LEFT_OUT]
    methods = [m for m in peers.WITH_TEXT if m.__name__ in [LIBRARY, *chosen]]
    results = {}
    for name, features in sets.items():
        path = args.out / f"regimes_{name}.json" if args.out else None
        found = json.loads(path.read_text()) if path and path.exists() else {}
        for cell, settings in cells():
            if args.cells in cell:
                rows = fill(
                    found.get(cell, {}), features, settings, methods, args.seeds, args.again
                )
                found[cell] = rows
            if path:
                args.out.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(found), encoding="utf-8")
        results[name] = {cell: rows for cell, rows in found.items() if args.cells in cell}
    text = table(results)
    print(text)
    if args.out:
        (args.out / "regimes.md").write_text(text + "\n", encoding="utf-8")
        draw(results, args.out / "regimes.png")


if __name__ == "__main__":
    main()
