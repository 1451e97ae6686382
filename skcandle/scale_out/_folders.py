"""Folders of data sets, on a file system or behind a URL."""

import pathlib

from .._images.urls import is_remote, local_path, was_url


def as_folder(folder):
    """The path of a folder, which has the methods of :class:`pathlib.Path`.

    Parameters
    ----------
    folder : str or path-like
        A path, or a URL such as ``"s3://bucket/embeddings"``.

    Returns
    -------
    path : pathlib.Path or upath.UPath
        Absolute, because a worker process may have another working directory.

    Raises
    ------
    ImportError
        If a URL needs a package that is not installed.
    ValueError
        If the folder is a URL that went through :class:`pathlib.Path`.
    """
    if was_url(folder):
        raise ValueError(
            f"The folder {str(folder)!r} is not a URL, which needs two slashes, and Path drops "
            "one. Use a string."
        )
    if not is_remote(folder):
        return pathlib.Path(local_path(folder)).expanduser().absolute()
    try:
        from upath import UPath

        path = UPath(folder)
        path.fs.invalidate_cache()  # needs the package of the file system
    except ImportError as error:
        raise ImportError(
            f"The folder {folder!r} needs a package that is not installed ({error}). "
            "`pip install 'skcandle[fsspec]'` adds those for s3:// and https://."
        ) from error
    return path
