"""Photos in one colour each, and sessions in which the name of a colour finds them."""

import numpy as np
import pytest
from PIL import Image

from skcandle.labelling import LabellingSession

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


def encode_text(prompts):
    """Embeddings of the colours that texts name."""
    return np.array([[colour in prompt for colour in COLOURS] for prompt in prompts]) + 0.01


@pytest.fixture
def folder(tmp_path):
    """Twelve photos: red, green, blue, red, ...; the name of the last is markup."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        colour = rng.integers(0, 50, size=3) + list(COLOURS.values())[i % 3]
        name = f"{i:02}.png" if i < 11 else "<img src=x onerror=alert(1)>.png"
        Image.new("RGB", (600, 400), tuple(map(int, colour))).save(folder / name)
    return folder


@pytest.fixture
def make_session(folder):
    def make(classes=("red", "green")):
        images = sorted(folder.iterdir())
        X = np.array([np.asarray(Image.open(image)).mean(axis=(0, 1)) for image in images])
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        names = [image.name for image in images]
        return LabellingSession(images, X, classes=classes, text_encoder=encode_text, names=names)

    return make


@pytest.fixture
def session(make_session):
    return make_session()
