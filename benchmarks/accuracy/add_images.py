"""The first images of classes known by name: `add_images` compared with a fit on all images.

    python -m benchmarks.accuracy.add_images --emoji --features FILE.npz [FILE.npz ...]

All classes of a task have images, in a long tail. The images of a random half of the classes arrive
later, so the first fit knows only the names of these classes.
"""

import time

import numpy as np
from sklearn.metrics import recall_score

from benchmarks.accuracy.evaluation import markdown_table
from benchmarks.accuracy.protocol import draw_task
from benchmarks.accuracy.sections import interval, write_sections
from skcandle import CandleClassifier

STAGES = ["names only", "add_images", "fit on all images"]


def stages(task, seed):
    """Fitted classifiers at the three stages, their seconds, and the classes that arrived later."""
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


if __name__ == "__main__":
    write_sections("add_images", __doc__, report)
