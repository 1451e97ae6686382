"""Messages on images that cannot be read."""

import os
import re

from PIL import Image

from ..exceptions import ImageReadError, UnreadableImageWarning
from .formats import NoImage, hint_at_format, open_image
from .inputs import DatasetItem, is_encoded
from .reading import check_file, encoded_bytes, name_in_messages, open_without_waiting
from .urls import UrlReader, is_remote, local_path, was_url

PRINTABLE = re.compile(rb"[^\x00-\x1f\x7f]+")
MAX_PATH = 255  # bytes; a longer path would fill the message
# How many unreadable images a message lists; the exception has the positions of all.
MAX_LISTED = 5


def unreadable_error(reasons, n_images):
    """The error for images that cannot be read.

    Parameters
    ----------
    reasons : dict
        What is wrong, by position, as the end of a sentence that begins with "image 3: ".
    n_images : int

    Returns
    -------
    error : ImageReadError
        Its attributes are ``positions``, the sorted list of all positions, and ``reasons``.
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


def unreadable_warning(reasons, n_images):
    """The warning for images that cannot be read and have rows of NaN; see the error."""
    first = min(reasons)
    warning = UnreadableImageWarning(
        f"{len(reasons)} of {n_images} images cannot be read and have rows of NaN; the first is "
        f"image {first}: {reasons[first]}."
    )
    warning.positions = sorted(reasons)
    warning.reasons = reasons
    return warning


def check_image_file(path):
    """Find what is wrong with a file from its header, or None if it looks like an image.

    Parameters
    ----------
    path : str

    Returns
    -------
    reason : str or None
        The end of a sentence that begins with the path, such as "is empty (0 bytes)".
    """
    try:
        check_file(path, os.stat(path))
        with open(path, "rb", opener=open_without_waiting) as file, open_image(file):
            return None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any type on damaged data
        return without_name(describe_failure(path, error), path)


def without_name(reason, path):
    """Remove the name of the file from a sentence on what is wrong with it."""
    return reason.removeprefix("the file ").removeprefix(f"{path!r} ")


def describe_failure(image, error):
    """Explain why an image cannot be read, for :func:`unreadable_error`."""
    name = name_in_messages(image)
    if isinstance(error, NoImage):
        return str(error)
    if isinstance(image, DatasetItem):
        kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
        return f"item {image.index} of the dataset is not an image ({kind}{error})"
    if isinstance(error, Image.UnidentifiedImageError):
        hint = hint_at_format(_head(image)) or _hint_at_path(image)
        return f"{name}is not of a known image format{hint}"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        megapixels = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6  # with None, no image is too large
        return (
            f"{name}is too large: the limit is {megapixels:.4g} megapixels ({error}). Scale it "
            "down, or increase PIL.Image.MAX_IMAGE_PIXELS, which is half the limit"
        )
    if isinstance(error, OSError) and error.strerror:
        if was_url(image):
            return f"{name}cannot be opened; a URL needs two slashes, and Path drops one"
        return f"{name}cannot be opened ({error.strerror})"
    if isinstance(error, ValueError) and "null byte" in str(error):  # in the name
        return f"{name}cannot be opened ({error})"
    return f"{name}is broken or truncated ({type(error).__name__}: {error})"


def _head(image):
    """The first bytes of a file or of encoded bytes."""
    if is_remote(image):
        try:
            return UrlReader().read(image, 32)
        except NoImage:
            return b""
    if isinstance(image, (str, os.PathLike)):
        try:  # it may have been removed or changed in the meantime
            with open(local_path(image), "rb", opener=open_without_waiting) as file:
                return file.read(32) or b""
        except OSError:
            return b""
    return encoded_bytes(image)[:32] if is_encoded(image) else b""


def _hint_at_path(image):
    """What to do if bytes that are not an image are a path."""
    if not isinstance(image, bytes) or len(image) > MAX_PATH or not PRINTABLE.fullmatch(image):
        return ""
    return (
        f"; bytes must be the content of a file: if {image!r} is a path, convert it to a string "
        "with os.fsdecode(path)"
    )
