"""Files that are written as a whole or not at all, and tables that spreadsheets may open."""

import csv
import io
from pathlib import Path

from .._files import new_file_beside, replacing

# What a spreadsheet takes for the start of a formula; see OWASP, "CSV injection".
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_atomically(path, text, *, overwrite=False):
    """Write a text file in UTF-8.

    Parameters
    ----------
    path : str or path-like
    text : str
    overwrite : bool
        Whether to replace a file that is there.

    Returns
    -------
    path : Path

    Raises
    ------
    OSError
        If the file exists, its folder does not, or it cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file in it.")
    if not overwrite and path.exists():
        raise FileExistsError(
            f"The file {str(path)!r} exists; give another name, or overwrite=True."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder {str(path.parent)!r} does not exist; make it first, or give another name."
        )
    try:
        with replacing(path, new_file_beside(path)) as temporary:
            temporary.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise type(error)(
            f"{str(path)!r} cannot be written ({error.strerror or error}); give a name in a folder "
            "in which you may write."
        ) from error
    return path


def csv_text(header, rows):
    """A table as CSV, in which no cell begins like a formula.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequences

    Returns
    -------
    text : str
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180
    writer.writerow(header)
    writer.writerows([[harmless(cell) for cell in row] for row in rows])
    return file.getvalue()


def harmless(cell):
    """A cell, with a quotation mark in front of a text that a spreadsheet would compute."""
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return "'" + cell
    return cell
