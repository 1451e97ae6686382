"""Thumbnails and names of images."""

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from torch import get_num_threads

from .._images.formats import open_image
from .._images.pixels import decode_image, in_rgb, orientation, turned
from .._images.reading import read_image, reread

WEBP_QUALITY = 70


def thumbnail(image, size):
    """Make a small, upright RGB copy of an image; JPEGs are decoded at reduced scale.

    Parameters
    ----------
    image : str, path-like, bytes, file, PIL.Image.Image or ndarray
        As for :class:`skcandle.CLIPFeaturizer`.
    size : int
        Maximum width and height, in pixels.

    Returns
    -------
    small : PIL.Image.Image
    """
    content = reread(image, read_image(image))
    if isinstance(content.data, Image.Image):
        small = decode_image(content).copy()
    else:
        with open_image(io.BytesIO(content.data)) as opened:
            turn = orientation(opened)
            opened.draft("RGB", (2 * size, 2 * size))
            opened.load()
            small = turned(in_rgb(opened).copy(), turn)
    small.thumbnail((size, size), reducing_gap=2.0)
    return small


def thumbnails(images, positions, size):
    """Make thumbnails as data URIs, in several threads.

    Parameters
    ----------
    images : list
    positions : iterable of int
        Which images; those that can no longer be read are omitted.
    size : int

    Returns
    -------
    uris : dict of int to str
    """
    positions = sorted(set(positions))
    with ThreadPoolExecutor(get_num_threads()) as pool:
        uris = list(pool.map(lambda position: _data_uri(images[position], size), positions))
    return {position: uri for position, uri in zip(positions, uris, strict=True) if uri}


def _data_uri(image, size):
    try:
        small = thumbnail(image, size)
    except MemoryError:
        raise
    except Exception:  # the file was changed or removed after it was encoded
        return None
    file = io.BytesIO()
    small.save(file, "WEBP", quality=WEBP_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def image_path(image):
    """Path of an image, or an empty string if it is not a file."""
    if not isinstance(image, (str, os.PathLike)):
        image = getattr(image, "filename", "") or ""  # a PIL image from a file has it
    if not isinstance(image, (str, os.PathLike)):
        return ""
    # names that are not UTF-8 contain surrogates, which cannot be encoded
    return os.fsencode(image).decode("utf-8", "replace")


def image_name(image, position):
    """Short name of an image: its folder and file name, or its position."""
    path = image_path(image)
    return "/".join(path.replace("\\", "/").split("/")[-2:]) if path else f"image {position}"


def rgb_array(image, size):
    """Pixels of a thumbnail, for a figure; grey if the image cannot be read."""
    try:
        return np.asarray(thumbnail(image, size))
    except MemoryError:
        raise
    except Exception:
        return np.full((size, size, 3), 200, dtype=np.uint8)
