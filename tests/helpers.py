"""Models, images and features for tests.

These are not in conftest.py, because worker processes import modules by name and there are two
modules named conftest.
"""

import json

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file

needs_onnx_exporter = pytest.mark.skipif(
    torch.__version__ < torch.torch_version.TorchVersion("2.9"), reason="needs PyTorch 2.9"
)
TINY_CONFIG = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {
            "layers": 2,
            "width": 64,
            "head_width": 32,
            "image_size": 32,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
}


def save_tiny_clip(folder, seed):
    """A small CLIP with random weights in open_clip's folder format."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(**TINY_CONFIG["model_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps(TINY_CONFIG))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def random_images(n_images, seed=0, size=(48, 40)):
    """RGB images that differ between seeds."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n_images, *size, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


def open_clip_rows(images, model, preprocess):
    """Embeddings computed as in the documentation of open_clip."""
    with torch.no_grad():
        rows = model.eval().encode_image(torch.stack([preprocess(image) for image in images]))
    return (rows / rows.norm(dim=-1, keepdim=True)).numpy()


def clip_like(n_images, n_features=32, *, noise=1.5, gap=1.0, seed=0):
    """Features like CLIP's: two separate cones, and images that depend linearly on the texts.

    Parameters
    ----------
    n_images : sequence of int
        Number of images of each class, possibly 0.
    n_features : int
    noise : float
        Spread of the images within a class, relative to a spread of one between classes.
    gap : float
        Distance between the images and the texts.
    seed : int

    Returns
    -------
    X : ndarray of shape (sum(n_images), n_features)
    y : ndarray of shape (sum(n_images),)
        Class indices, in blocks.
    texts : ndarray of shape (n_classes, n_features)
        All rows have length one.
    """
    rng = np.random.default_rng(seed)
    n_classes = len(n_images)
    classes = rng.normal(size=(n_classes, n_features)) / np.sqrt(n_features)
    distortion = rng.normal(size=(n_features, n_features)) / np.sqrt(n_features)
    image_origin, text_origin = gap * np.linalg.qr(rng.normal(size=(n_features, 2)))[0].T
    y = np.repeat(np.arange(n_classes), n_images)
    X = image_origin + (classes @ (np.eye(n_features) + 0.5 * distortion))[y]
    X = X + noise * rng.normal(size=X.shape) / np.sqrt(n_features)
    texts = text_origin + classes
    return (
        X / np.linalg.norm(X, axis=1, keepdims=True),
        y,
        texts / np.linalg.norm(texts, axis=1, keepdims=True),
    )


def run_command(cache, *args, code=0):
    """Run a command in this process, and raise exceptions that it does not report."""
    from typer.testing import CliRunner

    from skcandle.cli._app import app

    environment = {"SKCANDLE_CACHE": str(cache), "COLUMNS": "200"}
    result = CliRunner().invoke(app, list(map(str, args)), env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    return result
