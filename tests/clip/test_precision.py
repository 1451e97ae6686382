"""Which number format is chosen, what it changes, and what happens where it overflows."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_images
from joblib import Parallel, cpu_count, delayed, parallel_config
from PIL import Image

from skcandle import CLIPFeaturizer, clear_memory, make_candle_pipeline
from skcandle import _devices as devices
from skcandle.clip import _image_pipeline, _model
from skcandle.clip._checkpoint import find_checkpoint, fingerprint, trained_in_bf16
from skcandle.datasets import load_emoji
from skcandle.exceptions import PrecisionWarning

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda:0", "mps"))


@pytest.fixture
def machine(monkeypatch):
    """A function that makes PyTorch believe in other hardware."""

    def fake(cuda=None, mps=False, amx=False, avx512_bf16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: cuda)
        monkeypatch.setattr(devices, "_capabilities_in_machine", frozenset)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        for name, found in [("amx_tile", amx), ("avx512_bf16", avx512_bf16)]:
            monkeypatch.setattr(
                torch.cpu, f"_is_{name}_supported", lambda f=found: f, raising=False
            )

    return fake


@pytest.mark.parametrize(
    "hardware, device, of_others, of_siglip",
    [
        ({}, CPU, "fp32", "fp32"),
        ({"amx": True}, CPU, "bf16", "bf16"),
        ({"avx512_bf16": True}, CPU, "bf16", "bf16"),
        ({"cuda": (6, 1), "amx": True}, CUDA, "fp32", "fp32"),
        ({"cuda": (7, 0)}, CUDA, "fp16", "fp32"),
        ({"cuda": (9, 0)}, CUDA, "fp16", "bf16"),
        ({"mps": True}, MPS, "fp16", "fp32"),
    ],
)
def test_auto_takes_what_the_device_multiplies_natively(
    machine, hardware, device, of_others, of_siglip
):
    machine(**hardware)
    assert devices.resolve_device("auto", metal=True) == device
    assert devices.fastest_precision(device) == of_others
    assert devices.fastest_precision(device, prefer_bf16=True) == of_siglip


class DriverLibrary:
    """Stands for NVIDIA's management library on a machine with GPUs of these generations."""

    def __init__(self, generations, failing=None):
        self.generations = generations
        self.failing = failing

    def __getattr__(self, name):
        if name == self.failing:
            return lambda *args: 1
        return getattr(self, "_" + name)

    def _nvmlInit_v2(self):
        return 0

    def _nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.generations)
        return 0

    def _nvmlDeviceGetHandleByIndex_v2(self, i, handle):
        handle._obj.value = i + 1
        return 0

    def _nvmlDeviceGetCudaComputeCapability(self, handle, major, minor):
        major._obj.value = self.generations[handle.value - 1]
        return 0


@pytest.fixture
def driver(monkeypatch):
    """A function that installs a driver library, and a list of GPUs that CUDA was asked about."""
    asked = []

    def install(*args):
        monkeypatch.setattr("ctypes.CDLL", lambda name: DriverLibrary(*args))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device: asked.append(device) or (7, 5)
        )
        return asked

    devices._capabilities_in_machine.cache_clear()
    yield install
    devices._capabilities_in_machine.cache_clear()


def test_auto_precision_does_not_start_cuda(driver):
    asked = driver([9, 9])
    assert CLIPFeaturizer("ViT-B-16", None)._encoder().precision == "fp16"
    assert devices.fastest_precision(CUDA, prefer_bf16=True) == "bf16"
    assert asked == []


@pytest.mark.parametrize(
    "library",
    [
        ([7, 9],),
        ([],),
        *(
            ([9], name)
            for name in (
                "nvmlInit_v2",
                "nvmlDeviceGetCount_v2",
                "nvmlDeviceGetHandleByIndex_v2",
                "nvmlDeviceGetCudaComputeCapability",
            )
        ),
    ],
)
def test_cuda_is_asked_where_the_driver_does_not_tell_one_generation(driver, library):
    asked = driver(*library)
    assert devices.fastest_precision(CUDA, prefer_bf16=True) == "fp32"
    assert asked == [CUDA]


def test_an_older_pytorch_knows_no_unit_for_bf16(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert devices.fastest_precision(CPU) == "fp32"


def test_without_onednn_there_is_no_fast_bf16(machine, monkeypatch):
    machine(amx=True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert devices.fastest_precision(CPU) == "fp32"


def test_only_the_image_encoder_takes_the_gpu_of_a_mac(machine):
    machine(mps=True)
    assert devices.resolve_device("auto") == CPU
    assert CLIPFeaturizer("emoji-clip")._encoder().device == MPS
    machine(mps=True, cuda=(8, 0))
    assert devices.resolve_device("auto", metal=True) == CUDA


@pytest.mark.parametrize(
    "name, expected",
    [("ViT-B-16-SigLIP", True), ("ViT-SO400M-14-SigLIP2", True), ("ViT-B-16", False)],
)
def test_siglip_is_known_by_its_configuration(name, expected):
    assert trained_in_bf16(find_checkpoint(name, None)) == expected


def test_formats_and_exactness_have_their_own_fingerprints():
    checkpoint = find_checkpoint("emoji-clip", None)
    prints = {
        fingerprint(checkpoint, precision, exact)
        for precision in ("fp32", "bf16", "fp16")
        for exact in (False, True)
    }
    assert len(prints) == 6


@pytest.mark.parametrize("name, expected", [("emoji-clip", "fp32"), ("RN50", "bf16")])
def test_models_of_small_images_stay_in_fp32(machine, name, expected):
    machine(amx=True)
    encoder = CLIPFeaturizer(name, None)._encoder()
    assert (encoder.precision, encoder.exact) == (expected, False)


def test_fp32_is_exact_and_auto_is_not(machine):
    machine()
    exact, fast = (CLIPFeaturizer("emoji-clip", precision=p)._encoder() for p in ("fp32", "auto"))
    assert (exact.precision, exact.exact) == ("fp32", True)
    assert (fast.precision, fast.exact) == ("fp32", False)
    assert exact.fingerprint != fast.fingerprint
    assert exact.text_fingerprint == fast.text_fingerprint == exact.fingerprint


def test_prompts_are_encoded_in_fp32_whatever_the_precision_and_once(tiny_clip, cold, monkeypatch):
    encode, n_passes = _model.LoadedModel.encode_tokens, 0

    def counting(self, tokens):
        nonlocal n_passes
        n_passes += 1
        return encode(self, tokens)

    monkeypatch.setattr(_model.LoadedModel, "encode_tokens", counting)
    rows = [CLIPFeaturizer(tiny_clip, precision=p).encode_text(["a cat"]) for p in ("bf16", "fp32")]
    np.testing.assert_array_equal(*rows)
    assert n_passes == 1


def test_the_text_encoder_of_a_model_in_16_bits_holds_no_image_encoder(tiny_clip, cold):
    clip = CLIPFeaturizer(tiny_clip, precision="bf16")
    clip.encode_text(["a cat"])
    clip.transform(random_images(1))
    text, images = _model._loaded.values()
    assert text.module.visual is None
    assert next(text.module.parameters()).dtype == torch.float32
    assert images.module.visual is not None


def test_a_model_in_fp32_is_loaded_once_for_images_and_text(tiny_clip, cold):
    clip = CLIPFeaturizer(tiny_clip, precision="fp32")
    clip.encode_text(["a cat"])
    clip.transform(random_images(1))
    assert len(_model._loaded) == 1


@pytest.fixture(scope="module")
def emoji():
    return load_emoji()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_rows_in_16_bits_are_close(emoji, precision):
    images = emoji.images[:200]
    exact, fast = (
        CLIPFeaturizer("emoji-clip", None, precision=p).transform(images)
        for p in ("fp32", precision)
    )
    assert np.einsum("ij,ij->i", exact, fast).min() > 0.999
    assert np.any(exact != fast)


@pytest.mark.slow
def test_a_pipeline_fitted_in_one_format_works_in_another(emoji):
    rng = np.random.default_rng(0)
    chosen = np.flatnonzero(np.isin(emoji.target, np.unique(emoji.target)[:40]))
    train, test = np.split(rng.permutation(chosen), [len(chosen) // 2])
    images = list(emoji.images)
    pipe = make_candle_pipeline("emoji-clip", class_names=emoji.target_names)
    pipe.set_params(clip__precision="fp32")
    pipe.fit([images[i] for i in train], emoji.target[train])
    probas = [
        pipe.set_params(clip__precision=precision).predict_proba([images[i] for i in test])
        for precision in ("fp32", "bf16", "auto")
    ]
    for proba in probas[1:]:
        assert np.mean(proba.argmax(axis=1) != probas[0].argmax(axis=1)) <= 0.01
        np.testing.assert_allclose(proba, probas[0], atol=0.05)


@pytest.mark.slow
def test_batches_move_rows_in_bf16_by_rounding_alone(tiny_clip):
    images = random_images(33)
    one, many = (CLIPFeaturizer(tiny_clip, precision="bf16", batch_size=size) for size in (1, 33))
    rows = many.transform(images)
    clear_memory()
    assert np.einsum("ij,ij->i", one.transform(images), rows).min() > 0.9999


def overflowing(encode, broken):
    """An image encoder that overflows in 16 bits for images of one colour."""

    def encode_images(self, pixels):
        rows = encode(self, pixels).clone()
        if self.dtype != torch.float32 or broken:
            rows[[len(torch.unique(image)) == 1 for image in pixels]] = np.nan
        return rows

    return encode_images


def test_what_overflows_in_16_bits_is_encoded_again_in_fp32(tiny_clip, cold, monkeypatch):
    encode = _model.LoadedModel.encode_images
    monkeypatch.setattr(_model.LoadedModel, "encode_images", overflowing(encode, broken=False))
    grey = [Image.new("RGB", (40, 40), (level,) * 3) for level in (10, 200)]
    images = [*random_images(3), *grey, *random_images(3, seed=1)]
    clip = CLIPFeaturizer(tiny_clip, precision="bf16", batch_size=4)
    with pytest.warns(
        PrecisionWarning, match="overflows in 'bf16' for some images.*precision='fp32'"
    ) as caught:
        rows = clip.transform(images)
    assert len(caught) == 1
    exact = CLIPFeaturizer(tiny_clip, precision="fp32").transform(images)
    np.testing.assert_allclose(rows[3:5], exact[3:5], atol=1e-6)
    assert np.einsum("ij,ij->i", rows, exact).min() > 0.999


def test_what_overflows_in_fp32_is_an_error(tiny_clip, cold, monkeypatch):
    encode = _model.LoadedModel.encode_images
    monkeypatch.setattr(_model.LoadedModel, "encode_images", overflowing(encode, broken=True))
    with pytest.raises(ValueError, match="not finite because its weights are damaged"):
        CLIPFeaturizer(tiny_clip, precision="bf16").transform([Image.new("RGB", (40, 40))])


def rows_of(images, name, precision):
    clear_memory()
    return CLIPFeaturizer(name, precision=precision, batch_size=4).transform(images)


WORKERS = """
import sys
from multiprocessing import get_context

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config

sys.path.insert(0, sys.argv[1])
from helpers import random_images
from skcandle import CLIPFeaturizer


def rows():
    clip = CLIPFeaturizer(sys.argv[2], precision=sys.argv[3], batch_size=4)
    return clip.transform(random_images(9))


if __name__ == "__main__":
    with get_context("fork").Pool(1) as pool:  # before PyTorch has threads, which do not survive it
        forked = pool.apply(rows)
    with get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(rows)
    (loky,) = Parallel(n_jobs=2)([delayed(rows)()])
    here = rows()
    for there in (forked, spawned, loky):
        assert np.einsum("ij,ij->i", here, there).min() > float(sys.argv[4])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.parametrize("precision, least", [("fp32", 0.999999), ("auto", 0.9999)])
def test_workers_of_every_kind_encode_the_same_rows(tiny_clip, tmp_path, precision, least):
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    tests = Path(__file__).parents[1]
    command = [sys.executable, script, tests, tiny_clip, precision, str(least)]
    subprocess.run(command, check=True, cwd=tests.parent)


@pytest.mark.parametrize(
    "n_jobs, context, nested, expected",
    [
        (None, None, False, "PyTorch's"),
        (None, 3, False, 3),
        (None, 1, False, 1),
        (2, None, False, 2),
        (-1, None, False, "all"),
        (None, None, True, 1),
        (2, None, True, 2),
    ],
)
def test_number_of_threads(n_jobs, context, nested, expected, monkeypatch):
    def found():
        if nested:
            call = delayed(_image_pipeline.n_threads)(n_jobs)
            return Parallel(n_jobs=2, backend="threading")([call, call])[0]
        return _image_pipeline.n_threads(n_jobs)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    if expected == "PyTorch's":
        assert found() == 1
        monkeypatch.undo()
        expected = min(cpu_count(), torch.get_num_threads())
    expected = cpu_count() if expected == "all" else expected
    if context is None:
        assert found() == expected
    else:
        with parallel_config(n_jobs=context):
            assert found() == expected


@pytest.mark.parametrize("n_jobs, expected", [(4, 4), (-1, cpu_count()), (-999, 1)])
def test_a_process_that_may_not_start_others_starts_threads(n_jobs, expected, monkeypatch):
    daemon = type("Daemon", (), {"daemon": True, "name": "SpawnPoolWorker-1"})()
    monkeypatch.setattr(multiprocessing.process, "_current_process", daemon)
    assert multiprocessing.current_process().daemon
    assert _image_pipeline.n_threads(n_jobs) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize(
    "precision, least", [("fp32", 0.999999), ("fp16", 0.9999), ("bf16", 0.9996)]
)
def test_cuda_gives_what_the_cpu_gives(emoji, precision, least):
    images = emoji.images[:100]
    cpu = CLIPFeaturizer("emoji-clip", None, device="cpu", precision="fp32").transform(images)
    clear_memory()
    cuda = CLIPFeaturizer("emoji-clip", None, device="cuda", precision=precision)
    assert np.einsum("ij,ij->i", cpu, cuda.transform(images)).min() > least
