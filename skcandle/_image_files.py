"""Paths and labels of images in folders and tables; each file is opened once."""

import csv
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

from ._images.failures import check_image_file
from ._images.urls import is_url
from ._labels import label_array
from ._typing import Path as PathLike
from ._warnings import warn_user
from .exceptions import ImageReadError, UnreadableImageWarning

# Usual suffixes of image files. Other files are images if Pillow can open them.
SUFFIXES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".png",
    ".ppm", ".pgm", ".tif", ".tiff", ".webp",
)  # fmt: skip
# Files that systems create in folders, besides those that begin with a dot.
SYSTEM_FILES = {"__macosx", "thumbs.db", "desktop.ini"}
IMAGE, LABEL = "image", "label"  # default columns of a table, which may have other names
MAX_LISTED = 10  # files that a message names
BLOCK = 100  # files per task of a thread
N_THREADS = 8  # opening files mostly means waiting for a disk or a server


def load_image_folder(
    path: PathLike,
    *,
    recursive: bool = True,
    suffixes: Sequence[str] | None = None,
    on_error: str = "raise",
) -> Bunch:
    """Load the paths and labels of images in class folders.

    Each folder in `path` is a class, and its name is the label. Every file is opened to read its
    header, but no image is decoded.

    Parameters
    ----------
    path : str or path-like
        A folder with one folder per class, as in ``photos/snow leopard/2021/IMG_1.jpg``. Links to
        folders are followed.

    recursive : bool, default=True
        Whether to look for images at any depth below the class folders, or only directly in them.

    suffixes : list of str, default=None
        Suffixes of image files, such as ``[".jpg", ".png"]``, in upper or lower case. None accepts
        every file that is an image, whatever its name.

    on_error : {"raise", "skip"}, default="raise"
        What to do about files that are broken, empty or unreadable, and about images outside the
        class folders. ``"raise"`` raises an error that names them, ``"skip"`` leaves them out with
        one warning. An image with an intact header may still be broken; `CLIPFeaturizer`, which
        has its own `on_error`, finds it.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        images : list of str
            Paths, sorted by class and name in the same order on every machine.
        target : ndarray of shape (n_images,), dtype str
            Label of each image.
        target_names : ndarray of shape (n_classes,), dtype str
            Labels, sorted.
        empty_names : list of str
            Class folders without images, which can be used as `new_classes`.
        skipped : list of (str, str)
            Path of each file that was left out, and the reason; includes files of other kinds.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `path` does not exist or is not a folder.
    ValueError
        If it contains no image.
    ImageReadError
        If files cannot be used and `on_error` is ``"raise"``.

    See Also
    --------
    load_image_table : Load paths and labels from a table.

    Notes
    -----
    Hidden files and folders, ``__MACOSX`` and ``Thumbs.db`` are ignored. Labels are in Unicode
    normal form C, so that folders created on a Mac and elsewhere have equal labels.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skcandle.datasets import load_emoji, load_image_folder
    >>> emoji = load_emoji()
    >>> with TemporaryDirectory() as folder:
    ...     for i in (0, 300):
    ...         place = Path(folder, emoji.target[i])
    ...         place.mkdir()
    ...         emoji.images[i].save(place / "1.png")
    ...     photos = load_image_folder(folder)
    >>> photos.target_names
    array(['airplane', 'koala'], dtype='<U8')
    >>> len(photos.images), photos.skipped
    (2, [])
    """
    _check_on_error(on_error)
    path = Path(path)
    found = list_class_folders(path, recursive=recursive, suffixes=suffixes)
    what = f"of {len(found.images) + len(found.problems)} images in {str(path)!r}"
    if found.problems and on_error == "raise":
        raise ImageReadError(_message(found.problems, what) + f" {REMEDY}")
    if not found.images:
        raise ValueError(_no_image(path, found.folders, found.problems + found.others))
    if found.problems:
        message = _message(found.problems, what) + " They are left out."
        warn_user(message, UnreadableImageWarning)
    target = np.array(found.labels)
    return Bunch(
        images=found.images,
        target=target,
        target_names=np.unique(target),
        empty_names=sorted(set(found.folders).difference(found.labels)),
        skipped=sorted(found.problems + found.others),
    )


class ClassFolders(NamedTuple):
    """Files in class folders.

    Parameters
    ----------
    images, labels : list of str
        Paths and labels of the images.
    folders : list of str
        Names of all class folders.
    problems, others : list of (str, str)
        Path and reason of each file that should be an image but is not usable, and of each that
        need not be one.
    """

    images: list[str]
    labels: list[str]
    folders: list[str]
    problems: list[tuple[str, str]]
    others: list[tuple[str, str]]


def list_class_folders(path, *, recursive=True, suffixes=None):
    """List the files that :func:`load_image_folder` loads or leaves out.

    Parameters
    ----------
    path : Path
    recursive, suffixes : object
        See :func:`load_image_folder`.

    Returns
    -------
    found : ClassFolders
    """
    check_folder(path)
    endings = None if suffixes is None else _endings(suffixes)
    found = ClassFolders([], [], [], [], [])
    problems, others = found.problems, found.others
    files = []
    for entry in _entries(path, problems):
        if not entry.is_dir():
            files.append((entry.path, None))
            continue
        label = _label(entry.name)
        found.folders.append(label)
        files += [(file, label) for file in _walk(entry.path, recursive, problems, others)]
    kinds = _examine([file for file, _ in files], endings)
    for (file, label), (kind, reason) in zip(files, kinds, strict=True):
        if kind == "other":
            others.append((file, reason))
        elif kind == "broken":
            problems.append((file, reason))
        elif label is None:
            problems.append((file, "is not in a class folder, so it has no class"))
        elif not _is_text(label):
            problems.append((file, "is in a folder whose name is not valid UTF-8"))
        else:
            found.images.append(file)
            found.labels.append(label)
    return found


REMEDY = 'Repair or remove them, or leave them out with on_error="skip".'


def load_image_table(
    table: Any,
    *,
    image: str = IMAGE,
    label: str | None = LABEL,
    root: PathLike | None = None,
    on_error: str = "raise",
) -> Bunch:
    """Load the paths and labels of images from a table.

    Every file is opened to read its header, but no image is decoded. URLs are not opened.

    Parameters
    ----------
    table : str, path-like or DataFrame
        A ``.csv`` or ``.tsv`` file in UTF-8 with a header, a Parquet file, or a DataFrame of pandas
        or polars. The values of a csv file may be separated by commas, semicolons or tabs. Its
        labels are strings, exactly as written, including ``007`` and ``NA``.

    image : str, default="image"
        The column with the paths, in upper or lower case. If there is no column ``"image"``, the
        default stands for the only column that holds names of image files.

    label : str or None, default="label"
        The column with the labels, in upper or lower case, or None if there are no labels. If there
        is no column ``"label"``, the default stands for the only column besides that of the paths.

    root : str or path-like, default=None
        The folder that paths are relative to. None means the folder of the file, or the working
        directory for a DataFrame.

    on_error : {"raise", "skip"}, default="raise"
        What to do about files that are missing, broken, empty or not images, and about rows
        without a label. ``"raise"`` raises an error that names them, ``"skip"`` leaves them out
        with one warning.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        images : list of str
            Paths, in the order of the table.
        target : ndarray of shape (n_images,) or None
            Label of each image; None without `label`.
        target_names : ndarray of shape (n_classes,) or None
            Labels, sorted.
        skipped : list of (str, str)
            Path of each row that was left out, and the reason.

    Raises
    ------
    FileNotFoundError
        If the file of the table does not exist.
    ImportError
        If it is a Parquet file and PyArrow is not installed.
    ValueError
        If the table is empty, or it is not clear which column is meant.
    ImageReadError
        If rows cannot be used and `on_error` is ``"raise"``; `positions` has their numbers.

    See Also
    --------
    load_image_folder : Load paths and labels from class folders.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skcandle.datasets import load_emoji, load_image_table
    >>> with TemporaryDirectory() as folder:
    ...     load_emoji().images[0].save(Path(folder, "1.png"))
    ...     table = Path(folder, "table.csv")
    ...     size = table.write_text("file,kind\\n1.png,airplane\\n")
    ...     photos = load_image_table(table, image="file", label="kind")
    >>> photos.target
    array(['airplane'], dtype='<U8')
    """
    _check_on_error(on_error)
    paths, labels, reasons = list_table(table, image, label, root)
    problems = [(paths[i] or f"row {i}", reason) for i, reason in sorted(reasons.items())]
    kept = [i for i in range(len(paths)) if i not in reasons]
    what = f"of {len(paths)} rows of the table"
    if problems and (on_error == "raise" or not kept):
        remedy = (
            REMEDY if kept else "No row is left. If paths are relative to another folder, set root."
        )
        error = ImageReadError(_message(problems, what) + f" {remedy}")
        error.positions, error.reasons = sorted(reasons), reasons
        raise error
    if problems:
        warn_user(_message(problems, what) + " They are left out.", UnreadableImageWarning)
    target = None if label is None else label_array([labels[i] for i in kept])
    return Bunch(
        images=[paths[i] for i in kept],
        target=target,
        target_names=None if target is None else np.unique(target),
        skipped=problems,
    )


def list_table(table, image, label, root=None):
    """List the images of a table, row by row; see :func:`load_image_table`.

    Returns
    -------
    paths : list of str
        Empty for a row without a path.
    labels : list
        All None without `label`.
    reasons : dict of int to str
        What is wrong with rows that cannot be used.
    """
    names = [image] if label is None else [image, label]
    columns, default_root = _read_table(table, names)
    root = Path(default_root if root is None else root)
    values = columns[0]
    labels = [None] * len(values) if label is None else columns[1]
    reasons = {}
    paths = []
    for i, value in enumerate(values):
        if isinstance(value, (str, os.PathLike)) and os.fspath(value):
            paths.append(str(value if is_url(value) else root / value))
        else:
            paths.append("")
            reasons[i] = f"has no path in the column {image!r}"
        if label is not None and _is_missing(labels[i]):
            reasons[i] = f"has no label in the column {label!r}"
    found = _examine(paths, None, skip=reasons)
    for i, (kind, reason) in enumerate(found):
        if kind in ("broken", "other"):
            reasons[i] = reason
    return paths, labels, reasons


def find_images(path):
    """Find all images below a folder, with or without classes.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    images : list of str
        Sorted paths.
    problems : list of (str, str)
        Path of each image that cannot be used, and the reason.
    """
    path = Path(path)
    check_folder(path)
    problems: list[tuple[str, str]] = []
    images = []
    files = list(_walk(path, True, problems, []))
    for file, (kind, reason) in zip(files, _examine(files, None), strict=True):
        if kind == "image":
            images.append(file)
        elif kind == "broken":
            problems.append((file, reason))
    if not images and not problems:
        raise ValueError(f"The folder {str(path)!r} contains no image.")
    return images, problems


def check_folder(path):
    """Raise an error unless the path is a folder."""
    if not path.exists():
        raise FileNotFoundError(f"The folder {str(path)!r} does not exist.")
    if not path.is_dir():
        raise NotADirectoryError(f"{str(path)!r} must be a folder of images, not a file.")


def _check_on_error(on_error):
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}.')


def _endings(suffixes):
    if isinstance(suffixes, str):
        raise TypeError(f"suffixes must be a list; use [{suffixes!r}].")
    return tuple(f".{suffix.lower().lstrip('.')}" for suffix in suffixes)


def _entries(folder, problems):
    """Entries of a folder that are not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        problems.append((os.fspath(folder), f"cannot be listed ({error.strerror})"))
        return []
    return sorted(found, key=lambda entry: entry.name)


def _is_hidden(name):
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def _walk(folder, recursive, problems, others, above=()):
    """Files below a folder; links to a folder above it are not followed."""
    try:
        status = os.stat(folder)
    except OSError as error:
        problems.append((os.fspath(folder), f"cannot be opened ({error.strerror})"))
        return
    if (status.st_dev, status.st_ino) in above:
        return
    above = (*above, (status.st_dev, status.st_ino))
    for entry in _entries(folder, problems):
        if not entry.is_dir():
            yield entry.path
        elif recursive:
            yield from _walk(entry.path, recursive, problems, others, above)
        else:
            others.append((entry.path, "is a folder, which recursive=False leaves out"))


def _label(name):
    return unicodedata.normalize("NFC", name)


def _is_text(name):
    try:
        name.encode()
    except UnicodeEncodeError:  # a surrogate, which stands for a byte that is not UTF-8
        return False
    return True


def _is_missing(label):
    return label is None or label != label or (isinstance(label, str) and not label.strip())


def _examine(paths, endings, skip=()):
    """(kind, reason) of each path; "other" is a file that need not be an image."""

    def examine(block):
        return [("", "") if i in skip else _kind(paths[i], endings) for i in block]

    blocks = [range(len(paths))[i : i + BLOCK] for i in range(0, len(paths), BLOCK)]
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(chain.from_iterable(pool.map(examine, blocks)))


def _kind(path, endings):
    is_named = path.lower().endswith(SUFFIXES if endings is None else endings)
    if endings is not None and not is_named:
        return "other", "its suffix is not in suffixes"
    if is_url(path):
        return "image", ""
    reason = check_image_file(path)
    if reason is None:
        return "image", ""
    return ("broken" if is_named else "other"), reason


def read_columns(table, names):
    """Read the columns of a table, one list each; see :func:`load_image_table`."""
    return _read_table(table, names)[0]


def _read_table(table, names):
    """Values of the columns, and the folder that their paths are relative to."""
    if not isinstance(table, (str, os.PathLike)):
        if not hasattr(table, "columns"):
            raise TypeError(
                f"table must be a csv or Parquet file or a DataFrame, got {type(table).__name__}."
            )
        found = list(table.columns)
        return _named_columns(found, table.__getitem__, names, "The DataFrame"), Path()
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"The file {str(path)!r} does not exist.")
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet_columns(path, names), path.parent
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(
            f"The name of a table must end in .csv, .tsv or .parquet, got {str(path)!r}."
        )
    return _csv_columns(path, names), path.parent


def _csv_columns(path, names):
    separators = "\t,;" if path.suffix.lower() == ".tsv" else ",;\t"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(separators, key=header.count))
            found = list(reader.fieldnames or [])
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} must be a table in UTF-8 ({error}).") from error

    def read(name):
        return [row[name] for row in rows]

    return _named_columns(found, read, names, f"The table {str(path)!r}")


def _parquet_columns(path, names):
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need PyArrow: pip install pyarrow, or use a .csv file."
        ) from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{str(path)!r} is not a Parquet file ({error}).") from error

    def read(name):
        return (value.as_py() for value in file.read(columns=[name])[name])

    with file:
        return _named_columns(file.schema_arrow.names, read, names, f"The table {str(path)!r}")


def _named_columns(found, read, names, table):
    """Values of the columns that names stand for; `read` returns those of one column."""
    columns = []
    for name in names:
        column = _column(found, read, name, names)
        if column is None:
            listed = ", ".join(map(repr, found[:MAX_LISTED])) or "none"
            raise ValueError(
                f"{table} has no column {name!r}; its columns are {listed}. Set image and label "
                "to the columns with the paths and labels."
            )
        columns.append(list(read(column)))
    if not columns[0]:
        raise ValueError(f"{table} has no rows.")
    return columns


def _column(found, read, name, names):
    """The column that a name stands for, or None; see :func:`load_image_table`."""
    if name in found:
        return name
    candidates = [column for column in found if str(column).strip().lower() == name.lower()]
    if not candidates and name == IMAGE:
        candidates = [column for column in found if _are_image_files(read(column))]
    if not candidates and name == LABEL == names[-1] and len(names) == 2:
        paths = _column(found, read, names[0], names[:1])
        candidates = [column for column in found if column != paths]
    return candidates[0] if len(candidates) == 1 else None


def _are_image_files(values):
    """Whether all values, except missing ones, are names of image files."""
    given = (value for value in values if not _is_missing(value))
    are = [isinstance(value, str) and value.lower().endswith(SUFFIXES) for value in given]
    return bool(are) and all(are)


def _message(problems, what):
    """A sentence that counts the files and names the first."""
    listed = "; ".join(f"{path!r} {reason}" for path, reason in sorted(problems)[:MAX_LISTED])
    more = "; ..." if len(problems) > MAX_LISTED else ""
    return f"{len(problems)} {what} cannot be used ({listed}{more})."


def _no_image(path, folders, left_out):
    sentence = f"The folder {str(path)!r} contains no image."
    if not folders:
        return f"{sentence} It needs one folder per class, as in {str(path / 'cat' / '1.jpg')!r}."
    return (
        f"{sentence} Its {len(folders)} folders (such as {folders[0]!r}) contain "
        f"{len(left_out) or 'no'} files, none of which is an image."
    )
