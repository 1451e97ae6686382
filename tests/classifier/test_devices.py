"""Devices for training and prediction."""

import numpy as np
import pytest
import torch
from long_tail import BOTH, DATA, fit, make, probas_in_a_fresh_process
from numpy.testing import assert_allclose, assert_array_equal

from skcandle import _devices
from skcandle._devices import (
    SMALL_PRODUCT,
    device_for,
    exact_matmul,
    explained_out_of_memory,
    resolve_device,
)
from skcandle.exceptions import DeviceNotAvailableError


@pytest.fixture(scope="module")
def fitted():
    return fit()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")


@no_cuda
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_cuda_without_cuda(device):
    with pytest.raises(DeviceNotAvailableError, match="is not available: .*device='auto'"):
        fit(device=device)


@pytest.fixture
def cards(monkeypatch):
    """A function that makes PyTorch believe in a number of GPUs."""

    def fake(
        n_devices, built=True, visible=None, current=None, capabilities=((9, 0),), built_for=()
    ):
        monkeypatch.setattr(_devices, "_capabilities_in_machine", lambda: frozenset(capabilities))
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda card: capabilities[card.index]
        )
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built_for))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_devices > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: current is not None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return fake


@pytest.mark.parametrize(
    "machine, message",
    [
        ({"n_devices": 0}, "PyTorch finds no NVIDIA GPU with a working driver"),
        ({"n_devices": 0, "built": False}, "this build of PyTorch does not support CUDA"),
        ({"n_devices": 0, "visible": ""}, "CUDA_VISIBLE_DEVICES='' contains no GPU"),
        ({"n_devices": 0, "visible": "7"}, "CUDA_VISIBLE_DEVICES='7' contains no GPU"),
        ({"n_devices": 1}, "PyTorch finds only 'cuda:0'"),
        ({"n_devices": 2}, "PyTorch finds only 'cuda:0' to 'cuda:1'"),
    ],
)
def test_a_missing_card_is_explained(cards, machine, message):
    cards(**machine)
    with pytest.raises(DeviceNotAvailableError, match=f"'cuda:2' is not available: {message}"):
        resolve_device("cuda:2")


BUILT_FOR = ("sm_75", "sm_80", "sm_90a", "sm_100", "sm_120", "compute_120")


@pytest.mark.parametrize(
    "capabilities, current",
    [([(7, 0)], None), ([(5, 2), (7, 0)], None), ([(7, 0), (9, 0)], 0)],
    ids=["one", "two", "the current one"],
)
def test_a_card_too_old_for_the_build_is_explained(cards, capabilities, current):
    n = len(capabilities)
    cards(n, current=current, capabilities=capabilities, built_for=BUILT_FOR)
    reason = r"capability 7\.0, and this build of PyTorch needs at least 7\.5\."
    with pytest.raises(DeviceNotAvailableError, match=f"'cuda' is not available: .*{reason}"):
        resolve_device("cuda")
    with pytest.warns(UserWarning, match=f"The CPU is used, since .*{reason}"):
        assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    "capabilities, built_for",
    [
        ([(7, 5)], BUILT_FOR),
        ([(12, 1)], BUILT_FOR),
        ([(7, 0), (9, 0)], BUILT_FOR),  # which of the two it is, is not known yet
        ([], BUILT_FOR),
        ([(7, 0)], ["gfx90a"]),
    ],
    ids=["oldest", "newest", "mixed", "no driver library", "ROCm"],
)
def test_other_cards_are_used(cards, capabilities, built_for):
    cards(1, capabilities=capabilities, built_for=built_for)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize("work", [explained_out_of_memory, exact_matmul])
def test_a_card_without_memory_is_explained(monkeypatch, work):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**8, 80 * 10**9))
    message = r"^The GPU 'cuda:0' has too little memory: 0\.1 of 80\.0 GB are free\. .*device='cpu'"
    with pytest.raises(torch.cuda.OutOfMemoryError, match=message):
        with work(torch.device("cuda:0")):
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")


@pytest.mark.parametrize("message, device", [("out of memory", "cpu"), ("bad address", "cuda:0")])
def test_other_errors_stay_as_they_are(message, device):
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        with explained_out_of_memory(torch.device(device)):
            raise RuntimeError(message)


@pytest.mark.parametrize(
    "device, n_multiplications, expected",
    [
        ("auto", SMALL_PRODUCT, "cpu"),
        ("auto", SMALL_PRODUCT + 1, "cuda:0"),
        ("cuda", 1, "cuda:0"),
        (torch.device("cuda"), 1, "cuda:0"),
        ("cpu", 10 * SMALL_PRODUCT, "cpu"),
    ],
)
def test_auto_leaves_small_work_to_the_cpu(cards, device, n_multiplications, expected):
    cards(1)
    assert device_for(device, n_multiplications) == torch.device(expected)


@no_cuda
def test_auto_decides_by_the_size_of_the_data(cards, monkeypatch):
    """Larger work goes to the GPU, which does not exist here."""
    cards(1)
    clf = fit(device="auto")
    clf.predict(DATA.X_test)
    n_images, n_features = DATA.X.shape  # one row is compared with at most so many images
    monkeypatch.setattr(_devices, "SMALL_PRODUCT", n_features * max(n_features, n_images))
    clf.predict(DATA.X_test[:1])
    for work in (lambda: clf.predict(DATA.X_test), lambda: fit(device="auto")):
        with pytest.raises((AssertionError, RuntimeError), match="CUDA|NVIDIA"):
            work()


@pytest.mark.parametrize("device", ["auto", "cuda", torch.device("cuda")])
@pytest.mark.parametrize("current, index", [(None, 0), (0, 0), (1, 1)])
def test_cuda_is_the_current_card(cards, device, current, index):
    cards(2, current=current, capabilities=[(9, 0)] * 2)
    assert resolve_device(device) == torch.device("cuda", index)


@pytest.mark.parametrize("device", ["gpu", "tpu0", ""])
def test_an_invalid_device(device):
    with pytest.raises(DeviceNotAvailableError, match="device must be 'auto', 'cpu', 'cuda'"):
        fit(device=device)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_cpu(fitted, device):
    assert_allclose(fit(device=device).predict_proba(DATA.X), fitted.predict_proba(DATA.X), 1e-4)


@needs_cuda
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-5), (np.float32, 0.02)])
def test_cuda_gives_what_the_cpu_gives(kind, dtype, tolerance):
    options = {"dropout": 0.0} if kind == "published" else {}  # devices draw different numbers
    cpu, cuda = (
        make(kind, device=device, **options).fit(DATA.X.astype(dtype), DATA.y)
        for device in ("cpu", "cuda")
    )
    assert_allclose(cuda.predict_proba(DATA.X_test), cpu.predict_proba(DATA.X_test), atol=tolerance)
    assert_allclose(
        cuda.set_params(device="cpu").predict_proba(DATA.X_test),
        cpu.predict_proba(DATA.X_test),
        atol=tolerance,
    )


@needs_cuda
def test_a_file_written_on_cuda_loads_on_the_cpu(tmp_path):
    classifiers = [fit(kind, device="cuda").set_params(device="auto") for kind in BOTH]
    probas = probas_in_a_fresh_process(classifiers, tmp_path, CUDA_VISIBLE_DEVICES="")
    for clf, proba in zip(classifiers, probas, strict=True):
        assert_allclose(proba, clf.predict_proba(DATA.X_test), atol=1e-5)


@needs_cuda
def test_cuda_is_deterministic():
    first, second = (fit(device="cuda").decision_function(DATA.X_test) for _ in range(2))
    assert_array_equal(first, second)


def test_available_devices_are_used(cards, monkeypatch):
    cards(2, current=0, capabilities=[(9, 0)] * 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceNotAvailableError, match="no Metal device"):
        resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == torch.device("mps")
