"""Files that are written completely or not at all, and never over others by accident."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path


def check_output(path, *, overwrite=False, option="overwrite=True"):
    """Raise an error if a file cannot be written, before there is work to lose.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Whether the file may replace one that exists.
    option : str
        How callers allow that, for the error message.

    Raises
    ------
    OSError
        If the file exists, its folder does not, or nothing can be written there.
    """
    _check_place(path, overwrite, option)
    check_writable(path)


def check_writable(path):
    """Raise an error if no file can be created in the folder of `path`."""
    with _names(path):
        _new_file_beside(path).unlink()


@contextmanager
def replacing(path, *, overwrite=False, option="overwrite=True"):
    """Give a temporary file the name `path` if the block ends without an error.

    Parameters
    ----------
    path, overwrite, option
        As for :func:`check_output`, whose errors it raises.

    Yields
    ------
    temporary : Path
        A new file in the same folder. After an error it is deleted.
    """
    _check_place(path, overwrite, option)
    with _names(path):
        temporary = _new_file_beside(path)
        try:
            yield temporary
            _check_place(path, overwrite, option)  # another process may have created it
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path, content, *, overwrite=False):
    """Write a file.

    Parameters
    ----------
    path : str or path-like
    content : str or bytes
        Text is encoded as UTF-8.
    overwrite : bool
        Whether to replace a file that exists.

    Returns
    -------
    path : Path

    Raises
    ------
    OSError
        If the file exists, its folder does not, or it cannot be written.
    """
    path = Path(path)
    data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)
    return path


def make_folder(folder, *, parents=False):
    """Create a folder if it does not exist; errors name it.

    Parameters
    ----------
    folder : Path
    parents : bool
        Whether to create the folders above it as well.
    """
    try:
        folder.mkdir(parents=parents, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{str(folder)!r} is a file, not a folder.") from None
    except OSError as error:
        raise type(error)(
            f"The folder {str(folder)!r} cannot be created: {error.strerror}."
        ) from error


def _check_place(path, overwrite, option):
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file in it.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} already exists; {option} replaces it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{str(path)!r} cannot be written, because there is no folder {str(path.parent)!r}; "
            "create it first."
        )


@contextmanager
def _names(path):
    """Turn errors of the system into one that names the file that was to be written."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # has a message of its own
            raise
        raise type(error)(
            f"{str(path)!r} cannot be written: {error.strerror}. Choose another folder."
        ) from error


def _new_file_beside(path):
    """Create an empty file in the folder of `path`, with its suffix and usual permissions."""
    handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=".skcandle-", dir=path.parent)
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp grants access to the user only
    return Path(name)
