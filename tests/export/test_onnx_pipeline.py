"""Pipelines from pixels to classes as ONNX files, which run where there is no PyTorch."""

import inspect
import json
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
from helpers import needs_onnx_exporter, run_command
from numpy.testing import assert_allclose, assert_array_equal

from skcandle import RejectingClassifier, make_candle_pipeline
from skcandle.clip._checkpoint import embedding_dim, find_checkpoint
from skcandle.clip._identity import identify
from skcandle.datasets import load_emoji
from skcandle.export import resize_and_crop, to_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = [pytest.mark.slow, needs_onnx_exporter]

ANIMALS = ["bear", "bird", "cat", "cow", "dog", "horse", "pig", "sheep"]
EMOJI = load_emoji()
KNOWN = np.flatnonzero(np.isin(EMOJI.target, ANIMALS))
TRAIN, TEST = KNOWN[::2], np.flatnonzero(np.isin(EMOJI.target, [*ANIMALS, "snake", "pizza"]))[1::2]


def images(positions):
    return [EMOJI.images[i] for i in positions]


@pytest.fixture(scope="module")
def pipe():
    pipe = make_candle_pipeline("emoji-clip", new_classes=["snake"], random_state=0)
    pipe.set_params(clip__precision="fp32")
    pipe.set_params(candle=RejectingClassifier(pipe["candle"], rejection_rate=0.1))
    return pipe.fit(images(TRAIN), EMOJI.target[TRAIN])


@pytest.fixture(scope="module")
def path(pipe, tmp_path_factory):
    return to_onnx(pipe, tmp_path_factory.mktemp("onnx") / "model.onnx")


def run(path, images):
    """Labels and probabilities of the file, with pixels as its metadata describe."""
    session = onnxruntime.InferenceSession(path)
    geometry = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    pixels = np.stack([resize_and_crop(image, **geometry) for image in images])
    return session.run(["label", "probabilities"], {"pixels": pixels})


def test_a_file_gives_the_answers_of_the_pipeline(pipe, path):
    label, proba = run(path, images(TEST))
    assert_allclose(proba, pipe.predict_proba(images(TEST)), atol=1e-3)
    assert_array_equal(label, pipe.predict(images(TEST)))
    assert {"unknown", "snake", "dog"} < set(label)


WITHOUT_PYTORCH = """
import sys
for name in ("torch", "torchvision", "open_clip", "sklearn", "scipy", "skcandle"):
    sys.modules[name] = None  # importing it is an error
import json
from collections.abc import Sequence
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

{resize_and_crop}

path, *files = sys.argv[1:]
session = onnxruntime.InferenceSession(path)
geometry = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
pixels = np.stack([resize_and_crop(Image.open(file), **geometry) for file in files])
label, proba = session.run(["label", "probabilities"], {{"pixels": pixels}})
print(json.dumps([label.tolist(), proba.tolist()]))
"""


def test_a_process_without_pytorch_gives_the_same_answers(pipe, path, tmp_path):
    files = [tmp_path / f"{i}.png" for i in TEST]
    for file, image in zip(files, images(TEST), strict=True):
        image.save(file)
    code = WITHOUT_PYTORCH.format(resize_and_crop=inspect.getsource(resize_and_crop))
    command = [sys.executable, "-c", code, path, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    label, proba = json.loads(done.stdout)
    assert label == pipe.predict(files).tolist()
    assert_allclose(proba, pipe.predict_proba(files), atol=1e-3)


def test_metadata_identify_the_clip(path):
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    identity = identify(find_checkpoint("emoji-clip", None), "emoji-clip")
    assert metadata["clip"] == "emoji-clip"
    assert metadata["clip_fingerprint"] in identity.fingerprints


# The smallest model of each family. A busy machine needs minutes for each, so only one runs without
# `-m large`.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "model_name",
    [
        "MobileCLIP2-S0",
        *(
            pytest.param(name, marks=pytest.mark.large)
            for name in ("ViT-B-32", "RN50", "ViT-B-16-SigLIP", "convnext_tiny")
        ),
    ],
)
def test_every_kind_of_image_encoder_is_exported(model_name, tmp_path):
    pipe = make_candle_pipeline(model_name, pretrained=None, new_classes=["snake"])
    # names as random vectors, since the tokenizer of SigLIP would have to be downloaded
    vectors = np.random.default_rng(0).normal(size=(9, embedding_dim(model_name)))
    texts = dict(zip([*ANIMALS, "snake"], vectors, strict=True))
    pipe.set_params(candle__text_encoder=texts)
    # random weights give nearly equal embeddings, whose differences a low temperature amplifies
    pipe.set_params(clip__precision="fp32", candle__temperature=0.1, candle__max_iter=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random weights
        pipe.fit(images(TRAIN), EMOJI.target[TRAIN])
        expected = pipe.predict_proba(images(TEST[:6]))
        label, proba = run(to_onnx(pipe, tmp_path / "model.onnx"), images(TEST[:6]))
    assert expected.std(axis=0).max() > 0.01  # not the same for all images
    assert_allclose(proba, expected, atol=1e-3)
    assert_array_equal(label, pipe.classes_[expected.argmax(axis=1)])


def test_the_command_exports_a_model_and_its_head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_here = partial(run_command, "cache")
    for name in ("bear", "cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in np.flatnonzero(EMOJI.target == name)[:3]:
            EMOJI.images[i].save(tmp_path / "photos" / name / f"{i}.png")
    run_here("fit", "photos", "-o", "model.skops", "--new", "snake", "--model", "emoji-clip")
    run_here("export", "model.skops", "-o", "model.onnx")
    run_here("export", "model.skops", "-o", "head.onnx", "--head-only")
    for file, name in (("model.onnx", "pixels"), ("head.onnx", "embeddings")):
        session = onnxruntime.InferenceSession(file)
        assert [node.name for node in session.get_inputs()] == [name]
        metadata = session.get_modelmeta().custom_metadata_map
        assert json.loads(metadata["classes"]) == ["bear", "cat", "snake"]
        assert metadata["clip"] == "emoji-clip"
    again = run_here("export", "model.skops", "-o", "head.onnx", code=1)
    assert "already exists; --force replaces it" in again.stderr
    wrong = run_here("export", "model.skops", "-o", "head.skops", code=2)
    assert "must end in .onnx" in wrong.stderr
