"""PyTorch settings of the caller do not affect results, and calls do not change any settings."""

import logging
import os
import random
import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from helpers import clip_like, random_images
from long_tail import DATA, make
from PIL import Image, ImageFile
from threadpoolctl import threadpool_limits

import skcandle
from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
)
from skcandle._devices import seeded_defaults
from skcandle.classifier import _projection
from skcandle.clip import _image_pipeline, _model
from skcandle.clip._cache.memory import memory_cache
from skcandle.exceptions import ImageReadError, WeightsNotAvailableError

X, X_TEST = DATA.X.astype("f"), DATA.X_test.astype("f")
IMAGES = random_images(5)


class Images:
    """A featurizer that loads its model in every fit and encodes in every use."""

    def __init__(self, name, precision):
        self.clip = CLIPFeaturizer(name, precision=precision, device="cpu")

    def fit(self, X, y):
        skcandle.clear_memory()
        self.clip.transform(IMAGES)
        return self

    def results(self):
        memory_cache.clear()
        return [self.clip.transform(IMAGES), self.clip.encode_text(["a cat", "a dog"])]


class Classifier:
    """A classifier, possibly a rejecting one."""

    def __init__(self, classifier):
        self.classifier = classifier

    def fit(self, X, y):
        self.classifier.fit(X, y)
        return self

    def results(self):
        scores = getattr(self.classifier, "novelty_score", self.classifier.predict_proba)
        return [self.classifier.predict_proba(X_TEST), scores(X_TEST)]


KINDS = {
    "candle": lambda model: Classifier(make("candle")),
    "images alone": lambda model: Classifier(CandleClassifier(text_encoder=None)),
    "published": lambda model: Classifier(make("published")),
    "rejecting": lambda model: Classifier(RejectingClassifier(make("candle"))),
    "fp32": lambda model: Images(model, "fp32"),
    "bf16": lambda model: Images(model, "bf16"),
}


@contextmanager
def default_dtype(dtype):
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(former)


MODES = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:The training images are worth:UserWarning")
def test_results_do_not_depend_on_the_mode_of_the_caller(mode, kind, tiny_clip):
    def assert_same(estimator):
        for result, other in zip(estimator.results(), expected, strict=True):
            # matrix products may differ in the last bits between calls
            np.testing.assert_allclose(result, other, atol=5e-3 if kind == "bf16" else 1e-6)

    fitted = KINDS[kind](tiny_clip).fit(X, DATA.y)
    expected = fitted.results()
    with MODES[mode]():
        assert_same(fitted)
        inside = KINDS[kind](tiny_clip).fit(X, DATA.y)
        assert_same(inside)
    assert_same(inside)


# --- settings after a call -------------------------------------------------------------------


def settings():
    """Global settings and state of the process or thread."""
    cudnn, state = torch.backends.cudnn, np.random.get_state()
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "precision": (torch.get_float32_matmul_precision(), cudnn.allow_tf32),
        "algorithms": (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic),
        "PyTorch's generator": torch.get_rng_state().tolist(),
        "NumPy's generator": (state[1].tolist(), state[2:]),
        "Python's generator": random.getstate(),
        "NumPy's errors": np.geterr(),
        "NumPy's numbers": np.get_printoptions(),
        "Pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK),
        "warnings": (warnings.filters.copy(), warnings.showwarning),
        "environment": (dict(os.environ), os.getcwd(), sys.path.copy()),
        "logging": (logging.root.level, logging.root.handlers.copy(), logging.root.disabled),
        "scikit-learn": sklearn.get_config(),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "running threads": set(threading.enumerate()),
    }


@pytest.fixture
def unusual(monkeypatch):
    """Settings that differ from all defaults."""
    precision, seed, dtype = torch.get_float32_matmul_precision(), 5, torch.get_default_dtype()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    monkeypatch.setenv("SKCANDLE_TESTS", "1")
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]), np.errstate(divide="print"), np.printoptions(2):
        torch.manual_seed(seed)
        with warnings.catch_warnings(), sklearn.config_context(assume_finite=False):
            warnings.simplefilter("ignore")
            yield
    torch.set_float32_matmul_precision(precision)
    torch.set_default_dtype(dtype)


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def fits_and_predicts(kind, model, patch, folder):
    KINDS[kind](model).fit(X, DATA.y).results()


def fills_a_cache(kind, model, patch, folder):
    clip = CLIPFeaturizer(model, cache=folder / "cache", n_jobs=2, device="cpu")
    clip.transform(IMAGES)


def ends_while_it_trains(kind, model, patch, folder):
    part = "_image_loss" if kind != "published" else "__init__"
    owner = _projection.ProjectionObjective if kind != "published" else torch.nn.MultiheadAttention
    patch.setattr(owner, part, interrupt)
    with pytest.raises(KeyboardInterrupt):
        KINDS[kind](model).fit(X, DATA.y)


def ends_while_it_predicts(kind, model, patch, folder):
    fitted = KINDS[kind](model).fit(X, DATA.y)
    patch.setattr("skcandle.classifier._base._one_column_of_two", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.classifier.decision_function(X_TEST)


def ends_while_it_encodes(kind, model, patch, folder):
    patch.setattr(_model.LoadedModel, "_encode_part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        KINDS[kind](model).fit(X, DATA.y)


def ends_while_it_decodes(kind, model, patch, folder):
    patch.setattr(_image_pipeline, "reread", interrupt)
    with pytest.raises(KeyboardInterrupt):
        KINDS[kind](model).fit(X, DATA.y)


def cannot_read_an_image(kind, model, patch, folder):
    with pytest.raises(ImageReadError):
        CLIPFeaturizer(model, device="cpu").transform([*IMAGES, b"not an image"])


def cannot_load_the_weights(kind, model, patch, folder):
    source = Path(model.removeprefix("local-dir:"))
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsNotAvailableError):
        CLIPFeaturizer(f"local-dir:{folder}", device="cpu").transform(IMAGES)


@pytest.mark.parametrize(
    "kind, work",
    [
        *((kind, fits_and_predicts) for kind in KINDS),
        ("fp32", fills_a_cache),
        ("candle", ends_while_it_trains),
        ("published", ends_while_it_trains),
        ("candle", ends_while_it_predicts),
        ("fp32", ends_while_it_encodes),
        ("fp32", ends_while_it_decodes),
        ("fp32", cannot_read_an_image),
        ("fp32", cannot_load_the_weights),
    ],
)
def test_a_call_does_not_change_settings_of_the_process(
    kind, work, tiny_clip, tmp_path, unusual, cold, monkeypatch
):
    before = settings()
    with monkeypatch.context() as patch:
        work(kind, tiny_clip, patch, tmp_path)
    after = settings()
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.parametrize("kind", ["published", "fp32"])
def test_only_one_thread_at_a_time_changes_settings(kind, tiny_clip, cold):
    work = threading.Thread(target=lambda: KINDS[kind](tiny_clip).fit(X, DATA.y))
    with seeded_defaults(0):
        work.start()
        work.join(0.5)
        assert work.is_alive()
    work.join()


# --- threads ---------------------------------------------------------------------------------


@contextmanager
def threads(n_threads):
    """Use a number of threads in PyTorch and NumPy."""
    former = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(former)


def results_in_both_precisions(model):
    """Probabilities of classifiers, and rows of images and prompts."""
    n_images = np.r_[np.arange(1, 31), [0] * 10]
    X, y, texts = clip_like(n_images + 4, 64, noise=4.0, seed=1)
    train = np.concatenate([np.arange(n + 4) for n in n_images]) < n_images[y]
    options = {"new_classes": list(range(30, 40)), "text_encoder": dict(enumerate(texts))}
    published = PublishedCandleClassifier(max_iter=3, random_state=0, **options)
    classifiers = {
        "candle": CandleClassifier(**options),
        "images alone": CandleClassifier(text_encoder=None),
        "published": published,
    }
    results = {
        f"{name}, {dtype}": clf.fit(X[train].astype(dtype), y[train]).predict_proba(X[~train])
        for name, clf in classifiers.items()
        for dtype in "fd"
    }
    clip = CLIPFeaturizer(model, precision="fp32", device="cpu")
    memory_cache.clear()
    return results | {"images": clip.transform(IMAGES), "text": clip.encode_text(["a cat"])}


@pytest.mark.slow
def test_one_thread_and_two_agree(tiny_clip, cold):
    results = []
    for n_threads in (1, 2):
        with threads(n_threads):
            results.append(results_in_both_precisions(tiny_clip))
    assert (
        0.1 < results[0]["candle, d"].max(axis=1).mean() < 0.9
    )  # not all probabilities are 0 or 1
    for name, one in results[0].items():
        tolerance = 3e-3 if name.endswith("f") else 1e-5
        np.testing.assert_allclose(results[1][name], one, atol=tolerance, err_msg=name)
