"""Images as people have them, to RGB pixels as CLIP wants them.

An image is read in two steps, since most of the work is in the second and the cache saves it:
:func:`read_image` gets at the content and its digest, :func:`decode_image` makes RGB of it.
"""

import hashlib
import io
import os
import stat
import threading
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from ._file_digests import file_digests
from .exceptions import ImageReadError

KINDS = "a path, a PIL image, encoded bytes, or an array of uint8 and shape (H, W, 3) or (H, W)"
EXIF_ORIENTATION = 0x0112
# How many unreadable images a message lists; the exception has all their positions.
MAX_LISTED = 5

# A PIL image decodes itself, and its EXIF data, at the first use; two threads must not both be
# the first. Images opened here are not shared and need no lock.
_pil_objects = threading.Lock()


class ImageContent(NamedTuple):
    """What an image is made of: its digest, and encoded bytes or RGB pixels.

    The source is None for a file that is known from before and was not read again.
    """

    digest: bytes
    source: bytes | Image.Image | None

    @property
    def n_bytes(self):
        """Memory that the source takes."""
        if isinstance(self.source, Image.Image):
            return 3 * self.source.width * self.source.height
        return len(self.source or b"")


def as_image_list(X):
    """Check the container and the kind of each image; no image is opened.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or one-column DataFrame
        As for :meth:`skcandle.CLIPFeaturizer.transform`.

    Returns
    -------
    images : list
        Of paths, PIL images, bytes and arrays.

    Raises
    ------
    TypeError, ValueError
        If X is no collection of images.
    ImageReadError
        If files are missing or empty; all of them are found before any is read.
    """
    images = _to_list(X)
    if not images:
        raise ValueError("Found array with 0 sample(s): X has no image.")
    unreadable = {}
    for position, image in enumerate(images):
        _check_kind(image, position)
        if isinstance(image, (str, os.PathLike)):
            reason = _file_problem(image)
            if reason:
                unreadable[position] = reason
    if unreadable:
        raise unreadable_error(unreadable, len(images))
    return images


def read_image(image):
    """Content of one image of any kind, with the digest it is cached under.

    The digest of a file is that of its bytes: to know that an image is cached, it need not be
    decoded. The digest of a PIL image or array is that of its RGB pixels, so that the way
    the pixels are held, and what else the object carries, do not matter.

    A file that was read before and did not change since is not read again, and its content is
    without its source; see :func:`reread`.

    Parameters
    ----------
    image : str, path-like, bytes, PIL.Image.Image or ndarray

    Returns
    -------
    content : ImageContent
    """
    if isinstance(image, (str, os.PathLike)):
        return _read_file(image)
    if isinstance(image, bytes):
        return _from_bytes(image)
    if isinstance(image, np.ndarray):
        rgb = _to_rgb(_from_array(image))
    else:
        with _pil_objects:
            image.load()
            rgb = _to_rgb(image)
    digest = hashlib.sha256(b"RGB %d %d " % rgb.size)
    digest.update(rgb.tobytes())
    return ImageContent(digest.digest(), rgb)


def reread(image, content):
    """The content with its source, for a file that :func:`read_image` did not read again."""
    if content.source is not None:
        return content
    with open(image, "rb") as file:
        again = _from_bytes(file.read())
    if again.digest != content.digest:
        raise ValueError("it was changed meanwhile")
    return again


def decode_image(content):
    """RGB image of a content.

    Parameters
    ----------
    content : ImageContent

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB and upright: EXIF orientation applied, transparency on white.
    """
    if isinstance(content.source, Image.Image):
        return content.source
    with Image.open(io.BytesIO(content.source)) as image:
        image.load()
        return _to_rgb(image)


def unreadable_error(reasons, n_images):
    """The error for images that cannot be used.

    Parameters
    ----------
    reasons : dict
        From position to what is wrong, in words that follow on "image 3: ".
    n_images : int

    Returns
    -------
    error : ImageReadError
        With the attributes ``positions``, the sorted list of all positions, and ``reasons``.
    """
    positions = sorted(reasons)
    listed = "; ".join(f"image {i}: {reasons[i]}" for i in positions[:MAX_LISTED])
    more = "; ..." if len(positions) > MAX_LISTED else ""
    error = ImageReadError(
        f"{len(positions)} of {n_images} images cannot be read ({listed}{more}). Repair them "
        "or leave them out, in X and y alike; the attribute `positions` of this error lists them."
    )
    error.positions = positions
    error.reasons = reasons
    return error


def describe_failure(image, error):
    """What went wrong with an image, for :func:`unreadable_error`."""
    path = image if isinstance(image, (str, os.PathLike)) else getattr(image, "filename", "")
    name = f"the file {os.fspath(path)!r} " if path else ""
    if isinstance(error, Image.UnidentifiedImageError):
        return f"{name}is not of a known image format"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        megapixels = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        return (
            f"{name}is too large: the limit is {megapixels:.4g} megapixels ({error}). Scale it "
            "down, or raise PIL.Image.MAX_IMAGE_PIXELS, of which the limit is twice the value"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{name}cannot be opened ({error.strerror})"
    return f"{name}is broken or truncated ({type(error).__name__}: {error})"


def refuse_images(X):
    """Raise where images are given instead of their embeddings."""
    if getattr(X, "ndim", 1) != 1 or isinstance(X, str) or not hasattr(X, "__getitem__"):
        return
    first = next(iter(X), None)
    if isinstance(first, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"X holds images (the first is of type {type(first).__name__}) instead of their "
            "embeddings. Put a CLIPFeaturizer before this classifier, as make_candle_pipeline does."
        )


def _to_list(X):
    if isinstance(X, (str, bytes, bytearray, os.PathLike, Image.Image)):
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


def _check_kind(image, position):
    if isinstance(image, np.ndarray):
        _check_array(image, position)
    elif not isinstance(image, (str, bytes, os.PathLike, Image.Image)):
        missing = image is None or is_scalar_nan(image) or is_pandas_na(image)
        found = "missing" if missing else f"of type {type(image).__name__}"
        raise TypeError(f"image {position} is {found}; each image must be {KINDS}.")


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


def _file_problem(path):
    """What is wrong with a file before its content is looked at, or None."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        return f"the file {os.fspath(path)!r} cannot be opened ({reason})"
    if stat.S_ISDIR(status.st_mode):
        return f"{os.fspath(path)!r} is a folder; list the files in it"
    if status.st_size == 0 and stat.S_ISREG(status.st_mode):
        return f"the file {os.fspath(path)!r} is empty (0 bytes)"
    return None


def _read_file(path):
    # Opened even if it is known: a network file system may answer os.stat from memory. By os.open,
    # which takes half the time of open.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        digest = file_digests.get(status)
        if digest is not None:
            return ImageContent(digest, None)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            content = _from_bytes(file.read())
    finally:
        os.close(handle)
    if len(content.source) == status.st_size:
        file_digests.put(status, content.digest)
    return content


def _from_bytes(data):
    # SHA-256 has instructions of its own in most processors and is the fastest there.
    return ImageContent(hashlib.sha256(data).digest(), data)


def _from_array(array):
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(image):
    """A copy of a decoded image, or the image itself if there is nothing to change."""
    if 0 in image.size:
        raise ValueError(f"its size is {image.size[0]} x {image.size[1]} pixels")
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _from_deep_grey(image)
    if image.mode == "F":
        raise ValueError("pixels are floats, without an agreed range; convert them to uint8")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image):
    """8 of 16 bits; Pillow's own conversion would turn everything above 255 white."""
    # Mode "I" has 32 bits because Pillow has read 16-bit files into it.
    deep = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
    return Image.fromarray(np.uint8((deep + 128) // 257))
