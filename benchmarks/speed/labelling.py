"""Time from a label to new answers while labelling, without the page.

    python -m benchmarks.speed.labelling

Synthetic features of 512 columns. Before each measurement there are two labels per class. *Label*
is the time until the label is on the disk, *screen* from there to the answers of 100 images with
the classifier that has learned the label, *next 100* the time to choose further images among those
that earlier answers select, and *all* the time to the answers of all images. Medians of ten labels,
and in brackets the processor time of all threads, which other processes disturb less. Prints a
Markdown table.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.protocol import synthetic_task
from benchmarks.speed.machine import processor
from skcandle.labelling import LabellingSession
from skcandle.labelling._journal import Journal

N_LABELS = 10
ON_SCREEN = 100


def make_session(n_images, n_classes, n_features, journal):
    """A session with two labels per class, and the classes of all images."""
    task = synthetic_task(n_classes, 3 * n_classes, n_features)
    names = [f"class {i}" for i in range(len(task.T))]
    rng = np.random.default_rng(0)
    y = rng.integers(len(names), size=n_images)
    X = task.T[y] + rng.normal(size=(n_images, n_features)).astype(np.float32) / 16
    session = LabellingSession(
        range(n_images),
        X,
        classes=names,
        text_encoder=dict(zip(names, task.T, strict=True)),
        journal=journal,
    )
    for label, name in enumerate(names):
        session.label(np.flatnonzero(y == label)[:2], name)
    return session, y


def milliseconds(function, *args):
    """Time that a call takes, and its processor time."""
    start, start_cpu = time.perf_counter(), time.process_time()
    function(*args)
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - start_cpu)


def times(session, y):
    """Milliseconds of each part, of shape (4, 2)."""
    rows, names = [], session.class_names
    milliseconds(lambda: session.answers)
    for image in session.next(N_LABELS, "random"):
        label = milliseconds(session.label, [image], names[y[image]])
        screen = milliseconds(session.answer, range(ON_SCREEN))
        following = milliseconds(lambda: session.next(ON_SCREEN, wait=False))
        rows.append((label, screen, following))
    return [*np.median(rows, axis=0), milliseconds(lambda: session.answers)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 1_000])
    parser.add_argument("--features", type=int, default=512)
    args = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads; milliseconds\n")
    print("| images | classes | label | screen | next 100 | all |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for n_images, n_classes in zip(args.images, args.classes, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder, "labels.journal.jsonl"), Path(folder))
            session, y = make_session(n_images, n_classes, args.features, journal)
            cells = [f"{wall:,.0f} ({cpu:,.0f})" for wall, cpu in times(session, y)]
            session.close()
        print(f"| {n_images:,} | {n_classes:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
