"""The images of a folder, and the table of their labels."""

import os
from pathlib import Path

from .._image_files import find_images, read_columns
from ..cli._images import encode
from ..inspection._csv import FORMULA, csv_text

COLUMNS = ("image", "label", "who", "when", "probability")
PERSON, MODEL = "person", "model"


def table_text(rows):
    """The content of a table; rows are tuples of the COLUMNS."""
    return csv_text(COLUMNS, rows)


def labels_in_table(path):
    """What persons said in a table, which may have been edited: pairs of an image and a label.

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


def readable_images(folder, clip):
    """Paths, embeddings and digests of the images that can be used, and what others lack."""
    found, problems = find_images(folder)
    files = [file for file in found if _is_text(file)]
    problems += [
        (file, "has a name that is not valid UTF-8") for file in found if not _is_text(file)
    ]
    X, reasons, contents = encode(clip.fit(files), files) if files else ((), {}, ())
    problems += [(files[i], reason) for i, reason in reasons.items()]
    kept = [i for i in range(len(files)) if i not in reasons]
    if not kept:
        raise ValueError(f"None of the images in {str(folder)!r} can be read.")
    return [files[i] for i in kept], X[kept], contents[kept], problems


def _is_text(path):
    """Whether a path can be written in a table: it is valid UTF-8."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # a surrogate, which stands for another byte
        return False
    return True
