"""The command line of benchmarks that write one Markdown section per set of features."""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.accuracy.evaluation import half_interval, plus_minus
from benchmarks.accuracy.protocol import encode_emoji, load_features
from skcandle import CLIPFeaturizer


def interval(values, scale=100):
    """Mean, and half its 95 % confidence interval (t)."""
    values = scale * np.asarray(values)
    return plus_minus(values.mean(), half_interval(values), digits=1, sign="")


def write_sections(name, doc, report, emoji_extras=None):
    """Run a benchmark on the sets that the command line names, and print or write ``NAME.md``.

    Parameters
    ----------
    name : str
        Name of the file.
    doc : str
        Docstring of the benchmark; its first line becomes the description of the command.
    report : callable
        Takes the name of a set, its features and a number of tasks, and returns a section.
    emoji_extras : callable, optional
        Takes the featurizer and returns an additional argument of `report` for the emoji.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--features", nargs="*", default=[], type=Path, metavar="FILE.npz")
    parser.add_argument("--emoji", action="store_true", help="the images of load_emoji()")
    parser.add_argument("--seeds", type=int, default=10, help="number of random tasks")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {name}.md")
    args = parser.parse_args()
    parts = [report(path.stem, load_features(path), args.seeds) for path in args.features]
    if args.emoji:
        featurizer = CLIPFeaturizer("emoji-clip", precision="fp32")
        extras = [] if emoji_extras is None else [emoji_extras(featurizer)]
        parts.append(report("emoji", encode_emoji(featurizer), args.seeds, *extras))
    text = "\n\n".join(parts)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
