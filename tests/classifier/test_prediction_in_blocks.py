"""Prediction of many rows in bounded memory."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from helpers import clip_like
from numpy.testing import assert_array_equal

from skcandle import CandleClassifier

N_ROWS, N_CLASSES, D = 200_000, 100, 64
METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
# Memory for one block of rows, besides the file and the result.
ALLOWED_MB = 100

# The peak never falls, so the method with the smallest result comes first.
MEASURE = """
import re
from pathlib import Path
import joblib, numpy as np

def peak_mb():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

clf, X = joblib.load("clf.joblib"), np.load("X.npy", mmap_mode="r")
clf.predict_proba(X[:100])
before = peak_mb()
for method in METHODS:
    result = getattr(clf, method)(X)
    print(peak_mb() - before - (X.nbytes + result.nbytes) / 2**20)
    del result
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fitted classifier and a file of many embeddings."""
    folder = tmp_path_factory.mktemp("streaming")
    X, y, texts = clip_like([3] * N_CLASSES, D)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts)), max_iter=0, device="cpu")
    joblib.dump(clf.fit(X.astype(np.float32), y), folder / "clf.joblib")
    rows = np.random.default_rng(0).integers(len(X), size=N_ROWS)
    np.save(folder / "X.npy", X.astype(np.float16)[rows])
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak memory")
def test_prediction_needs_the_memory_of_one_block(folder):
    path = os.pathsep.join(p for p in (os.getcwd(), os.environ.get("PYTHONPATH")) if p)
    process = subprocess.run(
        [sys.executable, "-c", MEASURE.replace("METHODS", repr(METHODS))],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    beside = dict(zip(METHODS, map(float, process.stdout.split()), strict=True))
    # pages of the file count as memory of the process, so they are subtracted
    assert max(beside.values()) < ALLOWED_MB, beside


@pytest.mark.parametrize("method", METHODS)
def test_a_memory_map_of_half_precision_predicts_as_its_rows_do(method, folder, monkeypatch):
    clf = joblib.load(folder / "clf.joblib")
    monkeypatch.setattr("skcandle.classifier._base.BLOCK_LOGITS", 100 * clf._model.n_compared)
    X = np.load(folder / "X.npy", mmap_mode="r")[:1000]
    one_by_one = np.concatenate([getattr(clf, method)(X[i : i + 100]) for i in range(0, 1000, 100)])
    assert_array_equal(getattr(clf, method)(X), one_by_one)


def test_a_row_that_is_not_finite_is_found_in_a_memory_map(folder):
    clf, X = joblib.load(folder / "clf.joblib"), np.load(folder / "X.npy", mmap_mode="c")
    X[N_ROWS - 1, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        clf.predict(X)
