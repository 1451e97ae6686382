"""Official splits of the data sets, read from disk; nothing is downloaded.

A reader takes the folder of all data sets and the folder of images of its own data set. It returns
a :class:`Split`: class names in the order of the labels, and pairs of path and label for training
and test. The caller checks that the images exist.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from open_clip import IMAGENET_CLASSNAMES
from sklearn.model_selection import train_test_split
from torchvision import datasets


class InputError(Exception):
    """Something on disk or on the command line is wrong; the message says what to do."""


class Split(NamedTuple):
    """Classes in the order of their labels, and ``(path, label)`` of each image."""

    classes: list
    train: list
    test: list


def samples(dataset):
    """Paths and labels of a torchvision data set, which have no common interface for them."""
    for name in ("samples", "_samples"):
        if hasattr(dataset, name):
            return [(str(path), int(label)) for path, label in getattr(dataset, name)]
    paths = dataset._images if hasattr(dataset, "_images") else dataset._image_files
    return list(zip(map(str, paths), dataset._labels, strict=True))


def of_torchvision(name, train, test):
    """Reader of the splits ``train`` (one or several) and ``test`` of a torchvision class."""

    def read(root, images):
        parts = {
            split: getattr(datasets, name)(root, split=split, download=False)
            for split in (*train, test)
        }
        training = [sample for split in train for sample in samples(parts[split])]
        return Split(list(parts[test].classes), training, samples(parts[test]))

    return read


def stanford_cars(root, images):
    """Training and test annotations."""
    train, test = (datasets.StanfordCars(root, split=split) for split in ("train", "test"))
    return Split(list(train.classes), samples(train), samples(test))


def caltech101(root, images):
    """Two halves, as there is no official split; without faces cropped from other images."""
    data = datasets.Caltech101(root, download=False)
    classes = [name for name in data.categories if name != "Faces_easy"]
    found = [
        (str(images / name / f"image_{number:04d}.jpg"), classes.index(name))
        for number, name in zip(data.index, np.array(data.categories)[data.y], strict=True)
        if name in classes
    ]
    return halves(classes, found)


def eurosat(root, images):
    """Two halves, as there is no official split."""
    data = datasets.EuroSAT(root, download=False)
    return halves(data.classes, samples(data))


def halves(classes, found):
    """Half of the images of each class for training, the same half in each run."""
    labels = np.array([label for _, label in found])
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        raise InputError(
            f"The class {classes[counts.argmin()]!r} has {counts.min()} images, too few for a "
            "training and a test set. Unpack the data set again."
        )
    train, test = train_test_split(
        np.arange(len(found)), test_size=0.5, stratify=labels, random_state=0
    )
    return Split(classes, [found[i] for i in np.sort(train)], [found[i] for i in np.sort(test)])


def sun397(root, images):
    """The first of the ten official partitions; its lists may be in or beside the image folder."""
    labels = datasets.SUN397(images.parent, download=False).class_to_idx

    def read(name):
        lists = [folder / name for folder in (images, images.parent) if (folder / name).exists()]
        if not lists:
            raise InputError(
                f"SUN397 has no {name}. Unpack Partitions.zip from "
                f"https://vision.princeton.edu/projects/2010/SUN/ into {images}, or put "
                "split_zhou_SUN397.json there."
            )
        lines = lists[0].read_text(encoding="utf-8").split()
        relative = [line.lstrip("/") for line in lines]
        return [(str(images / path), labels["/".join(path.split("/")[1:-1])]) for path in relative]

    return Split(list(labels), read("Training_01.txt"), read("Testing_01.txt"))


def ucf101(root, images):
    """The first of the three official lists of videos, with the middle frame of each."""
    lists = images.parent / "ucfTrainTestlist"
    index = (line.split() for line in (lists / "classInd.txt").read_text().splitlines() if line)
    labels = {action: int(number) - 1 for number, action in index}
    folders = {action: "_".join(re.findall("[A-Z][^A-Z]*", action)) for action in labels}

    def read(name):
        videos = [line.split()[0] for line in (lists / name).read_text().splitlines() if line]
        pairs = [video.removesuffix(".avi").split("/") for video in videos]
        return [
            (str(images / folders[action] / f"{video}.jpg"), labels[action])
            for action, video in pairs
        ]

    return Split(
        [folders[action] for action in sorted(labels, key=labels.get)],
        read("trainlist01.txt"),
        read("testlist01.txt"),
    )


def imagenet(root, images):
    """Training and validation images; classes are identified by WordNet id."""
    train = class_folders(images)
    test = class_folders(images.parent / "val")
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise InputError(
            f"ImageNet: {images} and {images.parent / 'val'} have different classes, such as "
            f"{odd[0]!r}. Unpack both archives, and sort the validation images into one folder per "
            "class, with the same names as for the training images."
        )
    return Split(train.classes, samples(train), samples(test))


def imagenet_variant(root, images):
    """Test images in folders named after WordNet ids."""
    data = class_folders(images)
    return Split(data.classes, [], samples(data))


def imagenet_v2(root, images):
    """Test images in folders named after the position of the class in the sorted WordNet ids."""
    data, ids = class_folders(images), sorted(imagenet_names(root))
    labels = [int(folder) for folder in data.classes if folder.isdecimal()]
    if sorted(labels) != list(range(len(ids))):
        raise InputError(
            f"ImageNet-V2: {images} has {len(data.classes)} folders, but there are {len(ids)} "
            f"classes, and folders 0 to {len(ids) - 1} are expected. Unpack "
            "imagenetv2-matched-frequency.tar.gz again."
        )
    return Split(ids, [], [(path, labels[position]) for path, position in samples(data)])


def class_folders(folder):
    """A folder with one sub-folder per class, read by torchvision."""
    try:
        return datasets.ImageFolder(folder, allow_empty=True)
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no sub-folders, but must have one per class. Unpack the archive again, "
            "and sort the images into folders named after the classes if the archive does not."
        ) from None


def imagenet_names(root):
    """Name of each ImageNet class by WordNet id, from classnames.txt or from OpenAI's CLIP."""
    folder = Path(root) / "imagenet"
    file = folder / "classnames.txt"
    if file.exists():
        lines = file.read_text(encoding="utf-8").splitlines()
        return dict(line.split(" ", 1) for line in lines if line.strip())
    for train in (folder / "images" / "train", folder / "train"):
        ids = sorted(path.name for path in train.glob("n*")) if train.is_dir() else []
        if len(ids) == len(IMAGENET_CLASSNAMES):
            return dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))
    raise InputError(
        f"The ImageNet classes have no names: put classnames.txt (lines of a WordNet id and a "
        f"name; linked in {COOP_PAGE}) into {folder}, or all 1,000 folders of training images into "
        f"{folder / 'train'}."
    )


COOP_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
