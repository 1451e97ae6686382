"""Collections of images as people have them, to a list of single images."""

import io
import os

import numpy as np
from PIL import Image

from .._sklearn_private import is_pandas_na, is_scalar_nan

KINDS = (
    "a path, a PIL image, encoded bytes, a file opened in binary mode, or an array of uint8 and "
    "shape (H, W, 3) or (H, W)"
)


def as_image_list(X):
    """Check the container and the kind of each image; no file is touched.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or one-column DataFrame
        As for :meth:`skcandle.CLIPFeaturizer.transform`.

    Returns
    -------
    images : list
        Of paths, PIL images, bytes, files and arrays.

    Raises
    ------
    TypeError, ValueError
        If X is no collection of images.
    """
    images = to_list(X)
    if not images:
        raise ValueError("Found array with 0 sample(s): X has no image.")
    for position, image in enumerate(images):
        check_kind(image, position)
    return images


def to_list(X):
    if isinstance(X, (str, os.PathLike, Image.Image)) or is_encoded(X):
        raise TypeError(
            f"X is a single {type(X).__name__}; a list of images is needed. Use [X] for one image."
        )
    if hasattr(X, "to_numpy"):  # a Series or DataFrame
        if getattr(X, "ndim", len(X.shape)) == 2 and X.shape[1] != 1:
            raise ValueError(
                f"X has {X.shape[1]} columns; select the one with the images, "
                "for example X['path'] or a ColumnTransformer."
            )
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        return _array_to_list(X)
    if not isinstance(X, (list, tuple)):
        raise TypeError(
            f"X is of type {type(X).__name__}; a list, array, Series or one-column DataFrame of "
            "images is needed. Use list(X) for an iterator."
        )
    return list(X)


def _array_to_list(X):
    if X.dtype.kind == "S":
        raise TypeError(
            "X is an array of fixed-width bytes, which loses zeros at the end of an image. "
            "Use a list of bytes, or dtype=object."
        )
    if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OUT":
        X = X[:, 0]
    if X.ndim == 1 and (X.dtype.kind in "OUT" or X.size == 0) or X.ndim == 4:
        return list(X)
    remedy = {
        2: "This looks like features already: leave out CLIPFeaturizer, or pass images.",
        3: "Use [X] for a single image, list(X) for several grey ones.",
    }
    raise ValueError(
        f"X is an array of shape {X.shape} and dtype {X.dtype}; images are an array of shape "
        "(n_images, H, W, 3), or of shape (n_images,) with paths or other objects. "
        f"{remedy.get(X.ndim, '')}".rstrip()
    )


def is_encoded(image):
    """Whether an image is the content of a file: bytes, or a file that is open."""
    return isinstance(image, (bytes, bytearray, memoryview)) or is_open_file(image)


def is_open_file(image):
    """Whether an image is a file that is open, or looks like one."""
    return all(hasattr(image, name) for name in ("read", "seek", "tell"))


def check_kind(image, position):
    if isinstance(image, np.ndarray):
        _check_array(image, position)
    elif is_open_file(image):
        _check_open_file(image, position)
    elif not isinstance(image, (str, os.PathLike, Image.Image)) and not is_encoded(image):
        missing = image is None or is_scalar_nan(image) or is_pandas_na(image)
        found = "missing" if missing else f"of type {type(image).__name__}"
        raise TypeError(f"image {position} is {found}; each image must be {KINDS}.")


def _check_open_file(image, position):
    if isinstance(image, io.TextIOBase):
        raise TypeError(
            f"image {position} is a file opened in text mode; open it in binary mode, with "
            "open(path, 'rb')."
        )
    if not getattr(image, "closed", False) and not getattr(image, "seekable", lambda: True)():
        raise TypeError(
            f"image {position} is a stream that can be read only once; give what read() returns."
        )


def _check_array(image, position):
    if image.dtype != np.uint8:
        raise TypeError(
            f"image {position} is an array of dtype {image.dtype}; pixels are uint8, 0 to 255. "
            "Scale values between 0 and 1 with (255 * image).round().astype('uint8')."
        )
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"image {position} has shape {image.shape}, with its channels first. "
            "Use image.transpose(1, 2, 0)."
        )
    if image.ndim not in (2, 3) or image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"image {position} is an array of shape {image.shape}; the shape of an image is "
            "(H, W, 3), or (H, W) if it is grey."
        )
    if image.size == 0:
        raise ValueError(f"image {position} is an array of shape {image.shape}, without pixels.")
