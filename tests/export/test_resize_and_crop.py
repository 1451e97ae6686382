"""Pixels for an exported file are those of the featurizer."""

import json

import numpy as np
import pytest
from helpers import random_images
from numpy.testing import assert_array_equal
from PIL import Image

from skcandle._images.reading import read_image
from skcandle.clip._preprocessing import Preprocessing
from skcandle.export import resize_and_crop


@pytest.mark.parametrize("size", [(48, 40), (40, 48), (32, 32), (20, 90), (91, 33), (31, 31)])
@pytest.mark.parametrize(
    "config",
    [
        {"size": 32},
        {"size": (32, 32), "resize_mode": "squash"},
        {"size": 32, "interpolation": "bilinear"},
        {"size": 32, "resize_mode": "longest", "fill_color": 200},
        {"size": (24, 40)},
        {"size": (40, 24), "resize_mode": "longest"},
    ],
)
def test_pixels_are_those_of_exact_preprocessing(config, size):
    [image] = random_images(1, size=size)
    preprocess = Preprocessing(config)
    geometry = json.loads(json.dumps(preprocess.geometry))  # as in the metadata of a file
    expected = preprocess(read_image(image), exact=True)
    assert_array_equal(resize_and_crop(image, **geometry), expected)


def odd_images():
    [image] = random_images(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent = image.convert("RGBA")
    transparent.putalpha(image.convert("L"))
    palette = image.convert("P")
    palette.info["transparency"] = 3
    yield "exif", image, {"format": "PNG", "exif": exif}
    yield "transparent", transparent, {"format": "PNG"}
    yield "palette", palette, {"format": "PNG", "transparency": 3}
    yield "grey", image.convert("L"), {"format": "PNG"}
    yield "cmyk", image.convert("CMYK"), {"format": "TIFF"}


@pytest.mark.parametrize(("image", "options"), [o[1:] for o in odd_images()])
def test_files_in_other_modes_become_the_same_pixels(image, options, tmp_path):
    path = tmp_path / "image"
    image.save(path, **options)
    preprocess = Preprocessing({"size": 32})
    expected = preprocess(read_image(path), exact=True)
    with Image.open(path) as image:
        assert_array_equal(resize_and_crop(image, **preprocess.geometry), expected)


def test_default_preprocessing_differs_by_at_most_one_level():
    [image] = random_images(1, size=(301, 207))
    preprocess = Preprocessing({"size": 32})
    quick = preprocess(read_image(image), exact=False).numpy().astype(int)
    assert np.abs(quick - resize_and_crop(image, **preprocess.geometry)).max() <= 1
