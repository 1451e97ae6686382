"""Read the content of an image and its digest, so that cached images need not be decoded."""

import hashlib
import io
import os
import stat
from typing import NamedTuple

import numpy as np
from PIL import Image

from .._locks import ForkSafeLock
from .file_digests import file_digests
from .formats import NoImage
from .inputs import DatasetItem, is_encoded, is_open_file
from .pixels import image_from_array, upright_rgb
from .urls import UrlReader, is_remote, local_path

# The largest image that Pillow decodes takes 720 MB as uncompressed RGBA.
MAX_FILE_BYTES = 2**30
# A PIL image decodes its pixels and its EXIF data when they are first used, and an open file has
# one position, so that only one thread may use them. Images opened here are not shared.
_shared_objects = ForkSafeLock()


class ImageContent(NamedTuple):
    """The digest of an image, and its encoded bytes or RGB pixels.

    The data are None for a file whose digest is known, which is not read again.
    """

    digest: bytes
    data: bytes | Image.Image | None

    @property
    def n_bytes(self):
        """Memory for the data, in bytes."""
        if isinstance(self.data, Image.Image):
            return 3 * self.data.width * self.data.height
        return len(self.data or b"")


def read_image(image):
    """Content of one image of any kind, with the digest that is its key in the cache.

    The digest of a file is that of its bytes, so that a cached image need not be decoded. The
    digest of a PIL image or array is that of its RGB pixels; their memory layout and other
    attributes of the object do not matter.

    A file that was read before and has not changed since is not read again, and its content has no
    data; see :func:`reread`.

    Parameters
    ----------
    image : str, path-like, bytes, bytearray, memoryview, binary file, PIL.Image.Image, ndarray, \
            DatasetItem or None
        A string may be a URL. None is a missing image.

    Returns
    -------
    content : ImageContent
    """
    image = _asked_for(image)
    if image is None:
        raise NoImage("it is missing")
    if is_remote(image):
        return _from_bytes(remote_bytes(image, UrlReader()))
    if isinstance(image, (str, os.PathLike)):
        return _read_file(image)
    if is_encoded(image):
        return _from_bytes(encoded_bytes(image))
    if isinstance(image, np.ndarray):
        rgb = upright_rgb(image_from_array(image))
    else:
        with _shared_objects:
            image.load()
            rgb = upright_rgb(image)
    digest = hashlib.sha256(b"RGB %d %d " % rgb.size)
    digest.update(rgb.tobytes())
    return ImageContent(digest.digest(), rgb)


def encoded_bytes(image):
    """Content of an encoded image (see ``is_encoded``), as bytes.

    A file is read from its beginning and keeps its position.
    """
    if not is_open_file(image):
        return bytes(image)
    if getattr(image, "closed", False):
        raise NoImage(f"{name_in_messages(image) or 'the file '}is closed; open it again")
    file = getattr(image, "raw", image)  # the file behind the buffer of open()
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
        raise NoImage(f"its read() must return bytes, got {type(data).__name__}")
    if not data:
        raise NoImage(f"{name_in_messages(image) or 'the file '}is empty (0 bytes)")
    return data


def remote_bytes(url, reader):
    """Content of the file behind a URL, as bytes.

    Parameters
    ----------
    url : str
        One for which :func:`~skcandle._images.urls.is_remote` is true.
    reader : UrlReader

    Returns
    -------
    data : bytes
    """
    data = reader.read(url, MAX_FILE_BYTES + 1)
    if not data:
        raise NoImage(f"{url!r} is empty (0 bytes)")
    if len(data) > MAX_FILE_BYTES:
        raise NoImage(f"{url!r} has more than {MAX_FILE_BYTES / 1e9:.1f} GB, which is the limit")
    return data


def reread(image, content):
    """The content with its data, read again if :func:`read_image` left it out."""
    if content.data is not None:
        return content
    path = _asked_for(image)
    with open(path, "rb", opener=open_without_waiting) as file:
        check_file(path, os.fstat(file.fileno()))
        again = _from_bytes(file.read())
    if again.digest != content.digest:
        raise ValueError("it changed while it was being read")
    return again


def name_in_messages(image):
    """The beginning of a message about an image; empty if the image has no name."""
    path = image if isinstance(image, (str, os.PathLike)) else getattr(image, "filename", "")
    if not path and is_open_file(image):
        path = getattr(image, "name", "")
    return f"the file {os.fspath(path)!r} " if isinstance(path, (str, os.PathLike)) and path else ""


def _asked_for(image):
    """The image, loaded by its dataset if it has one; a path for a URL of a local file."""
    if isinstance(image, DatasetItem):
        with _shared_objects:  # datasets may not be thread-safe
            image = image.image()
    return local_path(image)


def _read_file(path):
    # Known files are opened too, because a network file system may answer os.stat from its cache.
    # os.open takes half the time of open.
    handle = open_without_waiting(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        digest = file_digests.get(status)
        if digest is not None:
            return ImageContent(digest, None)
        check_file(path, status)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            content = _from_bytes(file.read())
    finally:
        os.close(handle)
    if len(content.data) == status.st_size:
        file_digests.put(status, content.digest)
    return content


def open_without_waiting(path, flags):
    """``os.open`` that does not wait for a writer if the path is a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_file(path, status):
    """Raise if a path cannot be an image file, without reading its content."""
    name = repr(os.fspath(path))
    if stat.S_ISDIR(status.st_mode):
        raise NoImage(f"{name} is a folder; list the files in it")
    _check_kind(name, status)
    if status.st_size == 0:
        raise NoImage(f"the file {name} is empty (0 bytes)")


def _check_kind(name, status):
    """Raise for what has no end or needs more memory than an image."""
    if not stat.S_ISREG(status.st_mode):
        raise NoImage(f"{name} is not a regular file but a device, pipe or socket")
    if status.st_size > MAX_FILE_BYTES:
        raise NoImage(
            f"the file {name} has {status.st_size / 1e9:.1f} GB; the limit is "
            f"{MAX_FILE_BYTES / 1e9:.1f} GB"
        )


def _from_bytes(data):
    # Most processors have instructions for SHA-256, which makes it the fastest digest.
    return ImageContent(hashlib.sha256(data).digest(), data)
