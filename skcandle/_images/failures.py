"""What is wrong with images that cannot be read, in sentences."""

import os
import re

from PIL import Image

from ..exceptions import ImageReadError, UnreadableImageWarning
from .formats import NoImage, hint_at_format, open_image
from .inputs import DatasetItem, is_encoded
from .reading import check_file, encoded_bytes, name_in_messages, open_without_waiting

URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # Path makes one slash of two
PRINTABLE = re.compile(rb"[^\x00-\x1f\x7f]+")
MAX_PATH = 255  # bytes; longer ones would fill the message
# How many unreadable images a message lists; the exception has all their positions.
MAX_LISTED = 5


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


def unreadable_warning(reasons, n_images):
    """The warning for images that cannot be used and have rows of NaN; see the error."""
    first = min(reasons)
    warning = UnreadableImageWarning(
        f"{len(reasons)} of {n_images} images cannot be read and have rows of NaN; the first is "
        f"image {first}: {reasons[first]}."
    )
    warning.positions = sorted(reasons)
    warning.reasons = reasons
    return warning


def check_image_file(path):
    """What is wrong with a file, as far as its header tells; None if it looks like an image.

    Parameters
    ----------
    path : str

    Returns
    -------
    reason : str or None
        In words that follow on the path, such as "is empty (0 bytes)".
    """
    try:
        check_file(path, os.stat(path))
        with open(path, "rb", opener=open_without_waiting) as file, open_image(file):
            return None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged data
        return without_name(describe_failure(path, error), path)


def without_name(reason, path):
    """What is wrong with a file, in words that follow on its name instead of including it."""
    return reason.removeprefix("the file ").removeprefix(f"{path!r} ")


def describe_failure(image, error):
    """What went wrong with an image, for :func:`unreadable_error`."""
    name = name_in_messages(image)
    if isinstance(error, NoImage):
        return str(error)
    if isinstance(image, DatasetItem):
        kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
        return f"item {image.index} of the dataset gives no image ({kind}{error})"
    if isinstance(error, Image.UnidentifiedImageError):
        hint = hint_at_format(_head(image)) or _hint_at_path(image)
        return f"{name}is not of a known image format{hint}"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        megapixels = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6  # with None, no image is too large
        return (
            f"{name}is too large: the limit is {megapixels:.4g} megapixels ({error}). Scale it "
            "down, or raise PIL.Image.MAX_IMAGE_PIXELS, of which the limit is twice the value"
        )
    if isinstance(error, OSError) and error.strerror:
        if is_url(image):
            return f"{os.fsdecode(image)!r} is a URL; download it first, and give file or bytes"
        return f"{name}cannot be opened ({error.strerror})"
    if isinstance(error, ValueError) and "null byte" in str(error):  # in the name
        return f"{name}cannot be opened ({error})"
    return f"{name}is broken or truncated ({type(error).__name__}: {error})"


def is_url(image):
    """Whether an image is the name of something that is not on this machine."""
    return isinstance(image, (str, os.PathLike)) and bool(URL.match(os.fsdecode(image)))


def _head(image):
    """The first bytes of a file, or of its content."""
    if isinstance(image, (str, os.PathLike)):
        try:  # it may have gone, or changed, meanwhile
            with open(image, "rb", opener=open_without_waiting) as file:
                return file.read(32) or b""
        except OSError:
            return b""
    return encoded_bytes(image)[:32] if is_encoded(image) else b""


def _hint_at_path(image):
    """What to do if bytes that are no image are a path."""
    if not isinstance(image, bytes) or len(image) > MAX_PATH or not PRINTABLE.fullmatch(image):
        return ""
    return (
        f"; bytes are the content of a file: if {image!r} is a path, give it as a string, "
        "os.fsdecode(path)"
    )
