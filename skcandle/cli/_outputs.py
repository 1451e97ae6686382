"""Files that are written whole or not at all, and never over others unless told to."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path


def check_output(path, force):
    """An error if a file cannot be written, before there is anything to lose.

    Parameters
    ----------
    path : Path or None
        None, for no file, is fine.
    force : bool
        Whether a file that exists is to be replaced.
    """
    if path is None:
        return
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file in it.")
    if path.exists() and not force:
        raise FileExistsError(f"{str(path)!r} exists; --force replaces it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} for {path.name!r}.")
    os.unlink(_temporary(path))


def check_new_folder(path, force):
    """An error if a folder cannot be made or, without `force`, holds anything."""
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{str(path)!r} is a file; a folder is needed.")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise FileExistsError(f"The folder {str(path)!r} is not empty; --force writes into it.")
    place = path if path.is_dir() else path.parent
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {str(place)!r} for {path.name!r}.")
    os.unlink(_temporary(place / "probe"))


@contextmanager
def replacing(path, force):
    """A temporary file beside `path` that takes its name when the block ends without an error."""
    temporary = _temporary(path)
    try:
        yield temporary
        if path.exists() and not force:  # made by somebody else meanwhile
            raise FileExistsError(f"{str(path)!r} exists; --force replaces it.")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path):
    """A new empty file in the folder of `path`, with its suffix and usual permissions."""
    try:
        handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=".skcandle-", dir=path.parent)
    except OSError as error:
        raise type(error)(
            f"{str(path)!r} cannot be written: {error.strerror} in the folder {str(path.parent)!r}."
        ) from error
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp's are for the user alone
    return Path(name)
