"""What belongs to the whole process: where warnings point, locks after a fork, precision."""

import inspect
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skcandle import CandleClassifier, _devices
from skcandle._devices import exact_matmul, seeded_defaults
from skcandle._locks import ForkSafeLock
from skcandle.clip import _model
from skcandle.clip._cache.memory import memory_cache
from skcandle.exceptions import TextFeaturesWarning

X, Y = np.random.default_rng(0).normal(size=(8, 5)), ["ant", "bee"] * 4


def through_fit():
    CandleClassifier().fit(X, Y)


def through_a_pipeline():
    make_pipeline(CandleClassifier()).fit(X, Y)


def through_a_search():
    GridSearchCV(CandleClassifier(), {"margin": [1.0]}, cv=2).fit(X, Y)


@pytest.mark.parametrize("call", [through_fit, through_a_pipeline, through_a_search])
def test_a_warning_points_at_the_line_of_the_caller(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    caught = [w for w in caught if issubclass(w.category, TextFeaturesWarning)]
    _, line = inspect.getsourcelines(call)
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line + 1)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    "lock", [_model._loading, memory_cache._lock, ForkSafeLock()], ids=["loading", "memory", "new"]
)
def test_a_lock_that_a_thread_holds_is_open_after_a_fork(lock):
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends the child if it waits
        with lock:
            os._exit(0)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        release.set()
        thread.join()


def test_precision_is_exact_while_any_thread_asks_for_it_and_then_as_before():
    cuda, former = torch.device("cuda"), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with exact_matmul(cuda):
            with exact_matmul(cuda):
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert _devices._n_exact == 0
    finally:
        torch.set_float32_matmul_precision(former)


def test_the_encoder_computes_exactly(monkeypatch, tiny_clip, cold):
    from helpers import random_images

    from skcandle import CLIPFeaturizer

    inside = []
    monkeypatch.setattr(_model, "exact_matmul", lambda d: inside.append(d) or exact_matmul(d))
    CLIPFeaturizer(tiny_clip, device="cpu").transform(random_images(2))
    assert inside == [torch.device("cpu")]


def test_threads_do_not_draw_from_the_seed_of_another_one():
    def draw(seed):
        with seeded_defaults(seed):
            return [torch.rand(()).item() for _ in range(200)]

    before, interval = torch.get_rng_state(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            drawn = list(pool.map(draw, [0, 1] * 20))
    finally:
        sys.setswitchinterval(interval)
    assert drawn == [draw(0), draw(1)] * 20
    assert torch.equal(torch.get_rng_state(), before)
