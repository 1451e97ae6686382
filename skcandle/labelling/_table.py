"""The table of labels, which `load_image_table` and spreadsheets read."""

import os
from pathlib import Path

from .._image_files import read_columns
from ..inspection._csv import FORMULA, csv_text

COLUMNS = ("image", "label", "who", "when", "probability")
PERSON, MODEL = "person", "model"


def table_text(rows):
    """The content of a table; rows are tuples of the COLUMNS."""
    return csv_text(COLUMNS, rows)


def labels_in_table(path):
    """What persons said in a table, which may have been edited.

    Parameters
    ----------
    path : Path

    Returns
    -------
    labels : list of (str, str)
        Image, as it is written there, and label.

    Raises
    ------
    ValueError
        If it is a table of another kind.
    """
    try:
        images, labels, who = read_columns(path, COLUMNS[:3])
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} exists, and is not a table of labels from this command. Rename it, or "
            "choose another file with -o."
        ) from error
    rows = zip(images, labels, who, strict=True)
    return [(image, label) for image, label, said_by in rows if said_by == PERSON and label]


def path_in_table(image, folder):
    """Path of an image from the folder of the table, which no spreadsheet reads as a formula."""
    path = Path(os.path.relpath(image, folder)).as_posix()
    return f"./{path}" if path.startswith(FORMULA) else path


def is_text(path):
    """Whether a path can be written in a table: it is valid UTF-8."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # a surrogate, which stands for another byte
        return False
    return True
