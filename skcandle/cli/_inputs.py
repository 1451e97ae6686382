"""Checks of what a command reads, before anything that takes seconds to import."""

import os
import zipfile

TABLES = (".csv", ".tsv", ".parquet", ".pq")


def check_model(path):
    """Raise an error if a path cannot be a model file."""
    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give a model file first, or class names with --classes."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if not zipfile.is_zipfile(path):  # as files of skops are
        raise ValueError(
            f"{str(path)!r} is not a model file; `skcandle fit PHOTOS -o FILE` writes one."
        )


def check_labelled(path):
    """Raise an error if a path is neither a table nor a folder with class folders."""
    if is_table(path):
        check_file(path)
    elif not path.exists():
        raise FileNotFoundError(f"The folder {str(path)!r} does not exist.")
    elif not path.is_dir():
        raise NotADirectoryError(
            f"{str(path)!r} must be a folder with one folder per class, or a table whose name ends "
            f"in {', '.join(TABLES[:-1])} or {TABLES[-1]}."
        )
    else:
        _check_class_folders(path)


def check_unlabelled(paths):
    """Raise an error if a folder or table does not exist, or none of the images does.

    A single missing image is not an error: it gets a row that says so.
    """
    for path in paths:
        if is_table(path):
            check_file(path)
        elif not path.suffix and not path.exists():
            raise FileNotFoundError(f"The folder {str(path)!r} does not exist.")
    if not any(path.exists() for path in paths):
        raise FileNotFoundError(f"The file {str(paths[0])!r} does not exist.")


def check_file(path):
    """Raise an error if there is no such file; None is fine."""
    if path is not None and not path.is_file():
        raise FileNotFoundError(f"The file {str(path)!r} does not exist.")


def is_table(path):
    """Whether a path is that of a table, by its suffix."""
    return path.suffix.lower() in TABLES and not path.is_dir()


def _check_class_folders(path):
    with os.scandir(path) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    if shown and not any(entry.is_dir() for entry in shown):
        raise ValueError(
            f"The folder {str(path)!r} must have one folder per class, as in "
            f"{str(path / 'cat' / '1.jpg')!r}. A table of images and labels works, too. "
            "`skcandle predict` takes images without classes."
        )
