"""Classes known by name get their first images: `add_images` beside a fit on all images.

    python benchmarks/add_images.py --features FILE.npz ... --emoji --out benchmarks/results

All classes of a task have a long tail of images. Those of a random half come later: the first fit
knows the names of these classes only.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from accuracy import markdown_table
from novelty import interval
from protocol import draw_task, encode_emoji, load_features
from sklearn.metrics import recall_score

from skcandle import CandleClassifier, CLIPFeaturizer

STAGES = ["names only", "add_images", "fit on all images"]


def stages(task, seed):
    """Fitted classifiers at the three stages, seconds of each, and the classes that came later."""
    later = np.random.default_rng([seed, 2]).permutation(task.n_classes)[: task.n_classes // 2]
    texts, is_later = dict(enumerate(task.T)), np.isin(task.y, later)
    fitted, seconds = [], []

    def timed(function):
        start = time.perf_counter()
        fitted.append(function())
        seconds.append(time.perf_counter() - start)

    first = CandleClassifier(new_classes=later.tolist(), text_encoder=texts)
    timed(lambda: first.fit(task.X[~is_later], task.y[~is_later]))
    timed(lambda: first.add_images(task.X[is_later], task.y[is_later]))
    timed(lambda: CandleClassifier(text_encoder=texts).fit(task.X, task.y))
    return fitted, seconds, later


def report(name, features, seeds):
    """Markdown of one set of features."""
    measured = []
    for seed in range(seeds):
        task = draw_task(features, seed, new_classes=False)
        fitted, seconds, later = stages(task, seed)
        rows = []
        for clf, spent in zip(fitted, seconds, strict=True):
            answers = clf.predict(task.X_test)
            recall = recall_score(
                task.y_test, answers, labels=np.arange(task.n_classes), average=None
            )
            earlier = np.setdiff1d(np.arange(task.n_classes), later)
            rows.append([recall.mean(), recall[earlier].mean(), recall[later].mean(), spent])
        measured.append(rows)
    measured = np.array(measured)
    columns = ["all classes", "had images", "came later"]
    body = [
        [
            stage,
            *(interval(measured[:, i, j]) for j in range(3)),
            f"{np.median(measured[:, i, 3]):.3f}",
        ]
        for i, stage in enumerate(STAGES)
    ]
    difference = measured[:, 1, :3] - measured[:, 2, :3]
    body.append(["add_images less the fit", *(interval(d) for d in difference.T), ""])
    return f"## {name}\n\n" + markdown_table(["balanced accuracy", *columns, "seconds"], body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", nargs="*", default=[], type=Path, metavar="FILE.npz")
    parser.add_argument("--emoji", action="store_true", help="the images of load_emoji()")
    parser.add_argument("--seeds", type=int, default=10, help="number of random tasks")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write add_images.md")
    args = parser.parse_args()
    parts = [report(path.stem, load_features(path), args.seeds) for path in args.features]
    if args.emoji:
        features = encode_emoji(CLIPFeaturizer("emoji-clip", precision="fp32"))
        parts.append(report("emoji", features, args.seeds))
    text = "\n\n".join(parts)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "add_images.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
