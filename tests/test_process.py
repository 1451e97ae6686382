"""What belongs to the whole process: where warnings point, locks after a fork, precision."""

import inspect
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

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


CUDA = torch.device("cuda")


def fp32_settings():
    """What PyTorch would use now, and the settings that others inherit from."""
    backends = torch.backends
    if not _devices.HAS_FP32_PRECISION:
        return torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    named = [backends, backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.mkldnn]
    return [setting.fp32_precision for setting in named]


@pytest.fixture
def initial_precision():
    """Start with PyTorch's own settings, and return to them."""

    def reset():
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        if _devices.HAS_FP32_PRECISION:
            for name in ("", ".cuda.matmul", ".cudnn", ".cudnn.conv", ".cudnn.rnn", ".mkldnn"):
                attrgetter(f"backends{name}")(torch).fp32_precision = "none"
            torch.backends.mkldnn.matmul.fp32_precision = "none"
            torch.backends.cudnn.conv.fp32_precision = "tf32"
            torch.backends.cudnn.rnn.fp32_precision = "tf32"

    reset()
    yield
    reset()


def check_precision():
    former = fp32_settings()
    with exact_matmul(CUDA):
        with exact_matmul(CUDA):
            assert _devices._precision() == _devices.EXACT
        assert _devices._precision() == _devices.EXACT
        assert torch.backends.cudnn.deterministic
    assert fp32_settings() == former
    assert not torch.backends.cudnn.deterministic
    assert _devices._n_exact == 0


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_precision_is_exact_while_any_thread_asks_for_it_and_then_as_before(
    precision, initial_precision
):
    torch.set_float32_matmul_precision(precision)
    check_precision()
    assert torch.get_float32_matmul_precision() == precision


@pytest.mark.parametrize("allowed", [True, False])
def test_permission_for_tf32_in_convolutions_is_as_before_after_exact_products(
    allowed, initial_precision
):
    torch.backends.cudnn.allow_tf32 = allowed
    check_precision()
    assert torch.backends.cudnn.allow_tf32 == allowed


@pytest.mark.skipif(not _devices.HAS_FP32_PRECISION, reason="needs PyTorch 2.9")
@pytest.mark.parametrize("name", ["", ".cuda.matmul", ".cudnn", ".cudnn.conv"])
@pytest.mark.parametrize("value", ["tf32", "ieee"])
def test_the_precision_of_the_caller_is_as_before_after_exact_products(
    name, value, initial_precision
):
    attrgetter(f"backends{name}")(torch).fp32_precision = value
    check_precision()


@pytest.mark.skipif(not _devices.HAS_FP32_PRECISION, reason="needs PyTorch 2.9")
def test_a_later_choice_for_all_devices_counts_after_exact_products(initial_precision):
    torch.backends.fp32_precision = "tf32"
    check_precision()
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


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
