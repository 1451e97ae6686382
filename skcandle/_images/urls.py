"""Images behind URLs, which fsspec reads."""

import os
import re
import stat
import threading

from .formats import NoImage

# At least two letters, because one may be a drive of Windows.
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z][a-z0-9+.-]+::.*://", re.IGNORECASE)
URL_AS_PATH = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.IGNORECASE)
LOCAL = re.compile(r"file:/|local://")  # Spark names files with one slash
# What may precede "::". Others write files (simplecache), or read devices and pipes (dir), and with
# fsspec 2024.5, reference:// runs code that is in the file it reads.
ARCHIVES = ("zip", "tar", "libarchive")


def is_url(image):
    """Whether an image is a URL."""
    return isinstance(image, str) and bool(SCHEME.match(image) or LOCAL.match(image))


def is_remote(image):
    """Whether an image is a URL of something else than a local file."""
    return is_url(image) and LOCAL.match(image) is None


def was_url(path):
    """Whether a path seems to be a URL that lost a slash, as in ``Path("s3://bucket/1.png")``."""
    is_path = isinstance(path, (str, os.PathLike)) and not is_url(path)
    return is_path and URL_AS_PATH.match(os.fsdecode(path)) is not None


def local_path(image):
    """The path of a URL of a local file; any other image as it is."""
    return _path_of(image) if is_url(image) and not is_remote(image) else image


def _path_of(url):
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem._strip_protocol(url)


class UrlReader:
    """Reads URLs, for the images of one call.

    Nothing is kept between calls: what is behind a URL may change, and only its content tells. An
    archive is opened once, and read by one thread at a time.
    """

    def __init__(self):
        self._archives = {}
        self._lock = threading.Lock()

    def read(self, url, max_bytes):
        """Read at most so many bytes.

        Parameters
        ----------
        url : str
            One for which :func:`is_remote` is true.
        max_bytes : int

        Returns
        -------
        data : bytes

        Raises
        ------
        NoImage
            If they cannot be read; the text says why.
        """
        try:
            return self._read(url, max_bytes)
        except (MemoryError, NoImage):
            raise
        except ImportError as error:
            raise NoImage(
                f"{url!r} needs a package that is not installed ({error}): pip install "
                "'skcandle[fsspec]' adds those for s3:// and https://"
            ) from error
        except Exception as error:  # file systems raise errors of any type
            reason = f"{type(error).__name__}: {error}".rstrip(".")
            raise NoImage(f"{url!r} cannot be opened ({reason})") from error

    def _read(self, url, max_bytes):
        from fsspec.core import url_to_fs

        first, _, archive = url.partition("::")
        if not archive:
            file_system, path = url_to_fs(url)
            return file_system.cat_file(path, end=max_bytes)
        protocol = first.partition("://")[0]
        _check_chain(url)
        with self._lock:
            if (protocol, archive) not in self._archives:
                self._archives[protocol, archive] = url_to_fs(url)[0]
            file_system = self._archives[protocol, archive]
            return file_system.cat_file(file_system._strip_protocol(first), end=max_bytes)


def _check_chain(url):
    """Raise unless a URL with "::" is of a file in an archive, which is a regular file if local."""
    *containers, last = url.split("::")
    if any(part.partition("://")[0] not in ARCHIVES for part in containers):
        raise NoImage(f"{url!r} cannot be opened; only {', '.join(ARCHIVES)} may precede '::'")
    if not is_remote(last) and not stat.S_ISREG(os.stat(_path_of(last)).st_mode):
        raise NoImage(f"{url!r} cannot be opened; {last!r} is not a regular file")
