"""Training and test images of a data set on disk, from CoOp's split file or the official split."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.paper.official import COOP_PAGE, InputError, Split, imagenet_names


@dataclass(frozen=True)
class ImageSet:
    """Training and test images of a data set.

    Attributes
    ----------
    data : DataSet
    split : str
        Name of the split, for the table.
    ids : list of str
        Identifier of each class, in the order of the labels. For the ImageNet family these are
        WordNet ids.
    names : list of str
        Name of each class for prompts.
    train, test : ndarray of str objects
        Paths.
    y_train, y_test : ndarray of int
    """

    data: object
    split: str
    ids: list
    names: list
    train: np.ndarray
    y_train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray


def read_images(data, root):
    """Images of a data set, after checking that none are missing.

    Parameters
    ----------
    data : DataSet
    root : path-like
        Folder of all data sets.

    Returns
    -------
    images : ImageSet

    Raises
    ------
    InputError
        If images or classes are missing. The message says which files to put where.
    """
    root = Path(root)
    layout = find_layout(data, root)
    folder = root / layout.folder
    split_file = folder / data.split_file if data.split_file else None
    if split_file is not None and split_file.is_file():
        split, name = read_split_file(split_file, folder / layout.images), data.split_file
        names = [correct(data, class_name) for class_name in split.classes]
    else:
        split, name = read_official(data, root, layout), data.official_name
        if data.name.startswith("ImageNet"):
            names = names_of_ids(split.classes, root)
        else:
            names = [correct(data, data.rename(class_name)) for class_name in split.classes]
    ids = [
        class_name if data.name.startswith("ImageNet") else f"{label:03d} {class_name}"
        for label, class_name in enumerate(split.classes)
    ]
    check_classes(data, split, name, folder)
    check_images(data, split, name, folder)
    train, y_train = columns(split.train)
    test, y_test = columns(split.test)
    return ImageSet(data, name, ids, names, train, y_train, test, y_test)


def find_layout(data, root):
    """The layout of a data set on disk."""
    for layout in data.layouts:
        if (root / layout.folder / layout.images).is_dir():
            return layout
    folder, images = data.layouts[0].folder, data.layouts[0].images
    there = [layout for layout in data.layouts if (root / layout.folder).is_dir()]
    if there:
        raise InputError(
            f"{data.name} is only partly unpacked: {root / there[0].folder} has no "
            f"{there[0].images}. Unpack {data.source} again to create "
            f"{root / there[0].folder / there[0].images}."
        )
    raise InputError(
        f"{data.name} is not in {root}: unpack {data.source} to create {root / folder / images}."
    )


def read_split_file(path, images):
    """One of CoOp's split files: lists of ``[path, label, name]``; validation is ignored."""
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        train, test = (
            [(str(images / image), int(label), name) for image, label, name in parts[side]]
            for side in ("train", "test")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a split file ({type(error).__name__}: {error}). Get it again from "
            f"{COOP_PAGE}, or remove it to use the official split."
        ) from error
    names = {label: name for _, label, name in train + test}
    classes = [names.get(label, "") for label in range(max(names, default=-1) + 1)]
    return Split(classes, [row[:2] for row in train], [row[:2] for row in test])


def read_official(data, root, layout):
    """The official split, if its files exist."""
    folder = root / layout.folder
    if not layout.has_official:
        raise InputError(
            f"{data.name} in {folder} has no {data.split_file}. Put it there (linked in "
            f"{COOP_PAGE}), or rename the folder to {root / data.layouts[0].folder} to use the "
            "official split."
        )
    missing = [name for name in data.needs if not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{data.name} is only partly unpacked: {folder} has no {missing[0]}. Unpack "
            f"{data.source} into {folder}" + or_split_file(data) + "."
        )
    try:
        return data.official(root, folder / layout.images)
    except (RuntimeError, OSError, KeyError) as error:
        raise InputError(
            f"{data.name} in {folder} cannot be read ({type(error).__name__}: {error}). Unpack "
            f"{data.source} again" + or_split_file(data) + "."
        ) from error


def or_split_file(data):
    return f", or put {data.split_file} there (linked in {COOP_PAGE})" if data.split_file else ""


def names_of_ids(ids, root):
    """Names of the classes of the ImageNet family."""
    names = imagenet_names(root)
    unknown = [id for id in ids if id not in names]
    if unknown:
        raise InputError(
            f"The folder {unknown[0]!r} is not an ImageNet class listed in classnames.txt. Remove "
            "the folder, or add its line to classnames.txt."
        )
    return [words(names[id]) for id in ids]


def correct(data, name):
    """Name of a class in prompts, with spaces instead of underscores, as in the released code."""
    return words(data.names.get(name, name))


def words(name):
    return name.replace("_", " ").strip()


def check_classes(data, split, name, folder):
    """Check the number of classes, and that each has training and test images."""
    n_found = len(split.classes)
    if n_found != data.n_classes:
        raise InputError(
            f"{data.name} has {data.n_classes} classes, but {n_found} in {folder} (split: {name}). "
            f"It is only partly unpacked or contains other folders. Unpack {data.source} again."
        )
    sides = {"training": split.train, "test": split.test}
    if not split.train:  # a variant of ImageNet
        del sides["training"]
    for side, found in sides.items():
        counts = np.bincount(columns(found)[1], minlength=n_found)
        if not counts.all():
            label = int(counts.argmin())
            raise InputError(
                f"{data.name}: the class {split.classes[label]!r} (label {label}) has no {side} "
                f"image in the split {name}. " + remedy(data, name, folder)
            )


def check_images(data, split, name, folder):
    """Check that all images are on disk."""
    missing = [path for path, _ in split.train + split.test if not Path(path).is_file()]
    if missing:
        n_all = len(split.train) + len(split.test)
        raise InputError(
            f"{data.name}: the split {name} lists {missing[0]}, which does not exist "
            f"({len(missing)} of {n_all} images are missing). " + remedy(data, name, folder)
        )


def remedy(data, name, folder):
    text = f"Unpack {data.source} again, into {folder}"
    if name == data.split_file:
        text += f", or get another {name} (linked in {COOP_PAGE})"
    return text + "."


def columns(pairs):
    """Paths and labels as arrays."""
    paths = np.array([path for path, _ in pairs], dtype=object)
    return paths, np.array([label for _, label in pairs], dtype=int)
