"""Images as people have them, to RGB pixels as CLIP wants them.

An image is read in two steps, since most of the work is in the second and the cache saves it:
:func:`read_image` gets at the content and its digest, :func:`decode_image` makes RGB of it.
"""

import hashlib
import io
import os
import re
import stat
from typing import NamedTuple

import numpy as np
from PIL import Image

from .._locks import ForkSafeLock
from ..exceptions import ImageReadError, UnreadableImageWarning
from ._cache.file_digests import file_digests
from ._image_formats import NoImage, hint_at_format, open_image
from ._image_input import DatasetItem, is_encoded, is_open_file

EXIF_ORIENTATION = 0x0112
# From an orientation to what makes the image upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # Path makes one slash of two
PRINTABLE = re.compile(rb"[^\x00-\x1f\x7f]+")
MAX_PATH = 255  # bytes; longer ones would fill the message
# Of a file. An image of as many pixels as Pillow decodes takes 720 MB in RGBA, uncompressed.
MAX_FILE_BYTES = 2**30
# How many unreadable images a message lists; the exception has all their positions.
MAX_LISTED = 5

# A PIL image decodes itself, and its EXIF data, at the first use; two threads must not both be
# the first, nor move in a file at once. Images opened here are not shared and need no lock.
_shared_objects = ForkSafeLock()


class ImageContent(NamedTuple):
    """What an image is made of: its digest, and encoded bytes or RGB pixels.

    The data are None for a file that is known from before and was not read again.
    """

    digest: bytes
    data: bytes | Image.Image | None

    @property
    def n_bytes(self):
        """Memory that the data take."""
        if isinstance(self.data, Image.Image):
            return 3 * self.data.width * self.data.height
        return len(self.data or b"")


def read_image(image):
    """Content of one image of any kind, with the digest it is cached under.

    The digest of a file is that of its bytes: to know that an image is cached, it need not be
    decoded. The digest of a PIL image or array is that of its RGB pixels, so that the way
    the pixels are held, and what else the object carries, do not matter.

    A file that was read before and did not change since is not read again, and its content is
    without its data; see :func:`reread`.

    Parameters
    ----------
    image : str, path-like, bytes, bytearray, memoryview, binary file, PIL.Image.Image, ndarray, \
            DatasetItem or None
        None is an image that is missing.

    Returns
    -------
    content : ImageContent
    """
    image = _asked_for(image)
    if image is None:
        raise NoImage("it is missing")
    if isinstance(image, (str, os.PathLike)):
        return _read_file(image)
    if is_encoded(image):
        return _from_bytes(encoded_bytes(image))
    if isinstance(image, np.ndarray):
        rgb = _to_rgb(_from_array(image))
    else:
        with _shared_objects:
            image.load()
            rgb = _to_rgb(image)
    digest = hashlib.sha256(b"RGB %d %d " % rgb.size)
    digest.update(rgb.tobytes())
    return ImageContent(digest.digest(), rgb)


def encoded_bytes(image):
    """Content of an image for which ``is_encoded``, as bytes.

    A file is read from its beginning, and its position is then what it was.
    """
    if not is_open_file(image):
        return bytes(image)
    if getattr(image, "closed", False):
        raise NoImage(f"{_name_in_messages(image) or 'the file '}is closed; open it again")
    file = getattr(image, "raw", image)  # of what open() returns
    if isinstance(file, io.FileIO):
        _check_kind(repr(file.name), os.fstat(file.fileno()))
    with _shared_objects:
        position = image.tell()
        try:
            image.seek(0)
            data = image.read()
        finally:
            image.seek(position)
    if not isinstance(data, bytes):
        raise NoImage(f"its read() gives {type(data).__name__}, not bytes")
    if not data:
        raise NoImage(f"{_name_in_messages(image) or 'the file '}is empty (0 bytes)")
    return data


def reread(image, content):
    """The content with its data, for a file that :func:`read_image` did not read again."""
    if content.data is not None:
        return content
    path = _asked_for(image)
    with open(path, "rb", opener=_open_without_waiting) as file:
        _check_file(path, os.fstat(file.fileno()))
        again = _from_bytes(file.read())
    if again.digest != content.digest:
        raise ValueError("it was changed meanwhile")
    return again


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
        _check_file(path, os.stat(path))
        with open(path, "rb", opener=_open_without_waiting) as file, open_image(file):
            return None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged data
        return without_name(describe_failure(path, error), path)


def without_name(reason, path):
    """What is wrong with a file, in words that follow on its name instead of including it."""
    return reason.removeprefix("the file ").removeprefix(f"{path!r} ")


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
    if isinstance(content.data, Image.Image):
        return content.data
    with open_image(io.BytesIO(content.data)) as image:
        image.load()
        return _to_rgb(image)


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
    name = _name_in_messages(image)
    if isinstance(error, NoImage):
        return str(error)
    if isinstance(image, DatasetItem):
        kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
        return f"item {image.index} of the dataset gives no image ({kind}{error})"
    if isinstance(error, Image.UnidentifiedImageError):
        hint = hint_at_format(_head(image)) or _hint_at_path(image)
        return f"{name}is not of a known image format{hint}"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        megapixels = 2 * Image.MAX_IMAGE_PIXELS / 1e6
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


def _name_in_messages(image):
    """How a message on an image begins; empty for what has no name."""
    path = image if isinstance(image, (str, os.PathLike)) else getattr(image, "filename", "")
    if not path and is_open_file(image):
        path = getattr(image, "name", "")
    return f"the file {os.fspath(path)!r} " if isinstance(path, (str, os.PathLike)) and path else ""


def is_url(image):
    """Whether an image is the name of something that is not on this machine."""
    return isinstance(image, (str, os.PathLike)) and bool(URL.match(os.fsdecode(image)))


def _asked_for(image):
    """The image, made by its dataset if it has one."""
    if not isinstance(image, DatasetItem):
        return image
    with _shared_objects:  # datasets need not be made for several threads
        return image.image()


def _head(image):
    """The first bytes of a file, or of its content."""
    if isinstance(image, (str, os.PathLike)):
        try:  # it may have gone, or changed, meanwhile
            with open(image, "rb", opener=_open_without_waiting) as file:
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


def _read_file(path):
    # Opened even if it is known: a network file system may answer os.stat from memory. By os.open,
    # which takes half the time of open.
    handle = _open_without_waiting(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        digest = file_digests.get(status)
        if digest is not None:
            return ImageContent(digest, None)
        _check_file(path, status)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            content = _from_bytes(file.read())
    finally:
        os.close(handle)
    if len(content.data) == status.st_size:
        file_digests.put(status, content.digest)
    return content


def _open_without_waiting(path, flags):
    """``os.open`` that does not wait for somebody to write to a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_file(path, status):
    """An error for what is no image file before its content is looked at."""
    name = repr(os.fspath(path))
    if stat.S_ISDIR(status.st_mode):
        raise NoImage(f"{name} is a folder; list the files in it")
    _check_kind(name, status)
    if status.st_size == 0:
        raise NoImage(f"the file {name} is empty (0 bytes)")


def _check_kind(name, status):
    """An error for what would be read for ever, or into more memory than an image needs."""
    if not stat.S_ISREG(status.st_mode):
        raise NoImage(f"{name} is no regular file but a device, pipe or socket")
    if status.st_size > MAX_FILE_BYTES:
        raise NoImage(
            f"the file {name} has {status.st_size / 1e9:.1f} GB; no more than "
            f"{MAX_FILE_BYTES / 1e9:.1f} GB are read"
        )


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
    return in_rgb(turned(image, orientation(image)))


def orientation(image):
    """How EXIF data say an image is to be turned, from 1 (not at all) to 8.

    Data that are damaged say nothing, and cost no image whose pixels decode.
    """
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # of all kinds, as from other damaged data
        return 1
    return value if value in range(1, 9) else 1


def turned(image, orientation):
    """The image as an EXIF orientation says it is to be turned."""
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def in_rgb(image):
    """The image in mode RGB, transparency on white."""
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
    deep = np.array(image, dtype=np.int32)
    np.clip(deep, 0, 65535, out=deep)
    deep += 128
    deep //= 257
    return Image.fromarray(deep.astype(np.uint8))
