"""Time and memory of predicting many rows from a memory-mapped file.

    python -m benchmarks.speed.predict --rows 1000000

Memory is the peak of a fresh process, not counting the pages of the file and the result. It should
not depend on the number of rows. Prints a Markdown table.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.accuracy.protocol import synthetic_task
from benchmarks.speed.machine import resident_mb, seconds
from skcandle import CandleClassifier


def make_files(folder, n_rows, n_classes, d):
    """Write a classifier, fitted in closed form, and a file of embeddings."""
    task = synthetic_task(n_classes, 4 * n_classes, d)
    text = dict(zip(task.names.tolist(), task.T, strict=True))
    clf = CandleClassifier(text_encoder=text, new_classes=task.names[task.n_base :], max_iter=0)
    clf.set_params(prototype_weight=0.1, base_offset=0.0)
    joblib.dump(clf.fit(task.X, task.names[task.y]), folder / "clf.joblib")
    X = open_memmap(folder / "X.npy", mode="w+", dtype=np.float32, shape=(n_rows, d))
    for start in range(0, n_rows, len(task.X_test)):
        X[start : start + len(task.X_test)] = task.X_test[: n_rows - start]
    X.flush()


def measure(folder, method):
    """Seconds, MB besides the file and the result, MB of the file, MB of the result."""
    clf = joblib.load(folder / "clf.joblib")
    X = np.load(folder / "X.npy", mmap_mode="r")
    predict = getattr(clf, method)
    predict(X[:1000])
    before = resident_mb()
    duration, result = seconds(predict, X)
    sizes = X.nbytes / 1e6, result.nbytes / 1e6
    return duration, resident_mb(peak=True) - before - sum(sizes), *sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--classes", type=int, default=100, help="classes with images")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--folder", help="where to create the file (default: a temporary folder)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(*measure(Path(args.measure[0]), args.measure[1]))
        return
    print("| rows | classes | features | method | seconds | MB beside | MB file | MB result |")
    print("| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for n_rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            make_files(Path(folder), n_rows, args.classes, args.features)
            for method in ("predict", "predict_proba"):
                command = [sys.executable, "-m", __spec__.name, "--measure", folder, method]
                values = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()
                cells = [f"{float(value):,.0f}" for value in values]
                shape = f"{n_rows:,} | {args.classes * 11 // 10} | {args.features}"
                print(f"| {shape} | {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
