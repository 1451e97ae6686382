"""What a command writes, and that nothing is overwritten without ``--force``."""

from .. import _files

OVERWRITE = "--force"
MODEL_SUFFIX = ".skops"


def check_output(path, force):
    """Raise an error if a file cannot be written, before there is work to lose.

    Parameters
    ----------
    path : Path or None
        None, for no file, is fine.
    force : bool
        Whether the file may replace one that exists.
    """
    if path is not None:
        _files.check_output(path, overwrite=force, option=OVERWRITE)


def check_model_output(path, force):
    """Raise an error if a model cannot be written, or another format seems to be expected."""
    if path.suffix.lower() != MODEL_SUFFIX:
        raise ValueError(f"{str(path)!r} must end in {MODEL_SUFFIX}, the format of model files.")
    check_output(path, force)


def check_new_folder(path, force):
    """Raise an error if a folder cannot be created or, without `force`, is not empty."""
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{str(path)!r} is a file, not a folder.")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise FileExistsError(f"The folder {str(path)!r} is not empty; {OVERWRITE} adds to it.")
    if not path.is_dir() and not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder {str(path)!r} cannot be created, because there is no folder "
            f"{str(path.parent)!r}; create it first."
        )
    _files.check_writable(path / "file" if path.is_dir() else path)


def replacing(path, force):
    """Give a temporary file the name `path` if the block ends without an error."""
    return _files.replacing(path, overwrite=force, option=OVERWRITE)
