"""Seconds and memory until a name can be used in a fresh process, compared with scikit-learn.

    python -m benchmarks.speed.imports

Each statement runs in a separate process. Statements take turns, so that other work on the machine
affects them equally. The start-up time of Python is subtracted. Prints a Markdown table.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np

from benchmarks.speed.machine import seconds
from skcandle import CandleClassifier

REFERENCE = "import sklearn.linear_model"
STATEMENTS = [
    "import torch",
    "import open_clip",
    "import skcandle",
    "from skcandle import CandleClassifier",
    "from skcandle import CLIPFeaturizer",
    "from skcandle import make_candle_pipeline",
]
LOAD = "import joblib, numpy; joblib.load({!r}).predict(numpy.eye(8, 16))"
# On Linux, ru_maxrss includes the parent process; VmHWM starts with the program.
PEAK = """
import pathlib, re, resource
status = pathlib.Path("/proc/self/status")
if status.exists():
    print(int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(statement):
    """Seconds and peak resident memory in MB of a process that runs a statement."""
    command = [sys.executable, "-c", f"{statement}\n{PEAK}"]
    duration, done = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    return duration, int(done.stdout.split()[-1]) / 1e6


def saved_classifier(folder):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 16)), np.arange(40) % 4
    path = str(Path(folder) / "classifier.joblib")
    joblib.dump(CandleClassifier(text_encoder=None).fit(X, y), path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes for each statement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = LOAD.format(saved_classifier(folder))
        statements = ["pass", REFERENCE, *STATEMENTS, load]
        found = np.array([[run(s) for s in statements] for _ in range(args.rounds)])
    times = found[:, :, 0] - found[:, :1, 0]
    labels = [*statements[1:-1], "load a saved classifier and predict"]
    print("| statement | seconds | / scikit-learn | MB |\n| --- | ---: | ---: | ---: |")
    for i, label in enumerate(labels, start=1):
        ratio = np.median(times[:, i] / times[:, 1])
        megabytes = np.median(found[:, i, 1])
        print(f"| ``{label}`` | {np.median(times[:, i]):.2f} | {ratio:.2f} | {megabytes:.0f} |")


if __name__ == "__main__":
    main()
