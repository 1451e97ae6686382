"""Copies of images, or links to them, in one folder per class."""

import os
import re
import shutil
import tempfile
from pathlib import Path

# Characters that Windows does not allow in names, or that separate the parts of a path.
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
MAX_BYTES = 200  # of a name; most file systems allow 255
UNKNOWN = "unknown"  # folder of images without an answer


def sort_into(folder, files, labels, *, link):
    """Copy or link every image into the folder of its label.

    Files that are already there stay unchanged; a name that is taken gets a number.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    files : list of str
    labels : list of str or None
        None for images without an answer, which have a folder of their own.
    link : bool
        Whether to create symbolic links instead of copies.

    Returns
    -------
    n_files : int
    """
    folder.mkdir(exist_ok=True)
    names = folder_names(labels)
    staged = Path(tempfile.mkdtemp(prefix=".skcandle-", dir=folder))
    try:
        placed = [_place(staged, i, file, link) for i, file in enumerate(files)]
        for name in names.values():
            if (folder / name).is_symlink():
                raise ValueError(
                    f"{str(folder / name)!r} is a symbolic link, which may lead out of the folder."
                )
            (folder / name).mkdir(exist_ok=True)
        for temporary, file, label in zip(placed, files, labels, strict=True):
            place = folder / names[label]
            os.rename(temporary, _free_name(place, Path(file).name))
    finally:
        shutil.rmtree(staged)
    return len(files)


def folder_names(labels):
    """A safe folder name for each label; names differ in more than case.

    Parameters
    ----------
    labels : iterable of str or None

    Returns
    -------
    names : dict of str or None to str
    """
    names, taken = {}, set()
    for label in sorted(set(labels), key=lambda label: (label is None, label)):
        safe = UNKNOWN if label is None else _safe_name(label)
        name, number = safe, 1
        while name.lower() in taken:
            number += 1
            name = f"{safe}-{number}"
        taken.add(name.lower())
        names[label] = name
    return names


def _safe_name(label):
    name = UNSAFE.sub("_", label).strip(" .")
    name = name.encode()[:MAX_BYTES].decode(errors="ignore")
    return f"_{name}" if not name or RESERVED.fullmatch(name) else name


def _place(staged, i, file, link):
    temporary = staged / str(i)
    if link:
        temporary.symlink_to(os.path.abspath(file))
    else:
        shutil.copy2(file, temporary)
    return temporary


def _free_name(folder, name):
    path, number = folder / name, 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path
