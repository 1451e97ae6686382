"""Outputs that are never written over others unless told to."""

from contextlib import contextmanager

from .. import _files


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
    _temporary(path).unlink()


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
    _temporary(place / "probe").unlink()


@contextmanager
def replacing(path, force):
    """A temporary file beside `path` that takes its name when the block ends without an error."""
    with _files.replacing(path, _temporary(path)) as temporary:
        yield temporary
        if path.exists() and not force:  # made by somebody else meanwhile
            raise FileExistsError(f"{str(path)!r} exists; --force replaces it.")


def _temporary(path):
    """A new file beside `path`, or an error that names the folder."""
    try:
        return _files.new_file_beside(path)
    except OSError as error:
        raise type(error)(
            f"{str(path)!r} cannot be written: {error.strerror} in the folder {str(path.parent)!r}."
        ) from error
