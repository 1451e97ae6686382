"""Seconds and memory until a name can be used in a fresh process, compared with scikit-learn.

    python -m benchmarks.speed.imports

The command ``skcandle``, which starts with imports too, is in the same table; ``predict`` finds its
embedding in the cache. Each statement runs in a separate process. Statements take turns, so that
other work on the machine affects them equally. The start-up time of Python is subtracted. Prints a
Markdown table.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np

from benchmarks.speed.machine import seconds
from skcandle import CandleClassifier, make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.hub._model_files import to_bytes

REFERENCE = "import sklearn.linear_model"
STATEMENTS = [
    "import sklearn",
    "import torch",
    "import open_clip",
    "import skcandle",
    "from skcandle import CandleClassifier",
    "from skcandle import CLIPFeaturizer",
    "from skcandle import make_candle_pipeline",
]
COMMANDS = [
    "skcandle --help",
    "skcandle predict model.skops",  # wrong: the photos are missing
    "skcandle info model.skops",
    "skcandle predict model.skops photo.png",
]
COMMAND = """
import contextlib, io, os, sys
os.environ["SKCANDLE_CACHE"] = os.path.join({folder!r}, "cache")
os.chdir({folder!r})
sys.argv = {command!r}.split()
from skcandle.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""
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


def prepare_command(folder):
    """Write a fitted pipeline and a photo whose embedding is cached."""
    emoji = load_emoji()
    rows = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    pipe = make_candle_pipeline("emoji-clip", new_classes=["strawberry"])
    pipe.fit([emoji.images[i] for i in rows], emoji.target[rows])
    Path(folder, "model.skops").write_bytes(to_bytes(pipe))
    emoji.images[rows[0]].save(Path(folder, "photo.png"))
    run(COMMAND.format(folder=folder, command=COMMANDS[-1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes for each statement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = LOAD.format(saved_classifier(folder))
        prepare_command(folder)
        commands = [COMMAND.format(folder=folder, command=command) for command in COMMANDS]
        statements = ["pass", REFERENCE, *STATEMENTS, load, *commands]
        found = np.array([[run(s) for s in statements] for _ in range(args.rounds)])
    times = found[:, :, 0] - found[:, :1, 0]
    labels = [REFERENCE, *STATEMENTS, "load a saved classifier and predict", *COMMANDS]
    print("| statement | seconds | / scikit-learn | MB |\n| --- | ---: | ---: | ---: |")
    for i, label in enumerate(labels, start=1):
        ratio = np.median(times[:, i] / times[:, 1])
        megabytes = np.median(found[:, i, 1])
        print(f"| ``{label}`` | {np.median(times[:, i]):.2f} | {ratio:.2f} | {megabytes:.0f} |")


if __name__ == "__main__":
    main()
