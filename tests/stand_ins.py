"""Small stand-ins for the fifteen data sets of the paper, in their real directory structure.

Emoji replace the photographs. All images of a class come from one emoji class, so that the classes
can be learned. Every data set has a few classes with real names.
"""

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.io import savemat
from torchvision.datasets import Flowers102

from skcandle.datasets import load_emoji

N_TRAIN, N_TEST = 4, 2
N_IMAGES = N_TRAIN + N_TEST
IMAGENET = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark"}
N_CLASSES = {"EuroSAT": 5, "ImageNet-A": 2, "ImageNet-R": 2} | dict.fromkeys(
    ["ImageNet", "ImageNet-V2", "ImageNet-Sketch"], 3
)


def smaller(table):
    """The table of data sets with the numbers of classes of the stand-ins."""
    return {name: replace(data, n_classes=N_CLASSES.get(name, 4)) for name, data in table.items()}


@cache
def emoji_classes():
    """Images of the emoji classes with enough images."""
    emoji = load_emoji()
    names, counts = np.unique(emoji.target, return_counts=True)
    positions = (np.flatnonzero(emoji.target == name) for name in names[counts >= 2 * N_IMAGES])
    return [[emoji.images[i] for i in found] for found in positions]


def save(path, label, number):
    """Save image ``number`` of the class ``label``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    emoji_classes()[label][number].save(path)


def encoded(label, numbers):
    """Sorted contents of the JPEG files that :func:`save` writes for images of a class."""
    files = []
    for number in numbers:
        file = io.BytesIO()
        emoji_classes()[label][number].save(file, "JPEG")
        files.append(file.getvalue())
    return sorted(files)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def class_folders(folder, names, pattern="{name}/{number:04d}.jpg", numbers=range(N_IMAGES)):
    """Write one folder of images per class."""
    for label, name in enumerate(names):
        for number in numbers:
            save(folder / pattern.format(name=name, number=number), label, number)


def both_sides(names):
    """Label, name and number of each image, and whether it is a training image."""
    for label, name in enumerate(names):
        for number in range(N_IMAGES):
            yield label, name, number, number < N_TRAIN


def caltech101(root):
    names = ["BACKGROUND_Google", "Faces", "Faces_easy", "Motorbikes", "accordion", "wild_cat"]
    for label, name in enumerate(names):
        for number in range(N_IMAGES):
            path = root / "caltech101/101_ObjectCategories" / name / f"image_{number + 1:04d}.jpg"
            save(path, label, number)


def oxford_pets(root):
    lines = {True: [], False: []}
    names = ["Abyssinian", "american_bulldog", "Bengal", "wheaten_terrier"]
    for label, name, number, training in both_sides(names):
        save(root / f"oxford-iiit-pet/images/{name}_{number}.jpg", label, number)
        lines[training].append(f"{name}_{number} {label + 1} 1 1")
    folder = root / "oxford-iiit-pet/annotations"
    write(folder / "trainval.txt", "\n".join(lines[True]))
    write(folder / "test.txt", "\n".join(lines[False]))


def stanford_cars(root):
    names = ["Acura RL Sedan 2012", "Audi TT RS Coupe 2012", "BMW X3 SUV 2012", "Ram C-V Van 2009"]
    folder, rows = root / "stanford_cars", {True: [], False: []}
    for label, _, number, training in both_sides(names):
        file = f"{label:02d}{number:03d}.jpg"
        save(folder / ("cars_train" if training else "cars_test") / file, label, number)
        rows[training].append((file, label + 1))
    dtype = [("fname", object), ("class", object)]
    (folder / "devkit").mkdir()
    for file, training in (
        ("devkit/cars_train_annos.mat", True),
        ("cars_test_annos_withlabels.mat", False),
    ):
        savemat(folder / file, {"annotations": np.array(rows[training], dtype=dtype)})
    savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array(names, dtype=object)})


def flowers102(root):
    folder, labels, ids = root / "flowers-102", [], {True: [], False: []}
    for label, _, number, training in both_sides(range(4)):
        labels.append(label + 1)
        ids[training].append(len(labels))
        save(folder / f"jpg/image_{len(labels):05d}.jpg", label, number)
    train = ids[True]
    savemat(folder / "imagelabels.mat", {"labels": np.array(labels)})
    savemat(folder / "setid.mat", {"trnid": train[::2], "valid": train[1::2], "tstid": ids[False]})


def food101(root):
    lists = {True: {}, False: {}}
    for label, name, number, training in both_sides(["apple_pie", "beignets", "sushi", "waffles"]):
        save(root / f"food-101/images/{name}/{number}.jpg", label, number)
        lists[training].setdefault(name, []).append(f"{name}/{number}")
    write(root / "food-101/meta/train.json", json.dumps(lists[True]))
    write(root / "food-101/meta/test.json", json.dumps(lists[False]))


def fgvc_aircraft(root):
    folder, lines = root / "fgvc-aircraft-2013b/data", {True: [], False: []}
    names = ["707-320", "Boeing 717", "DHC-8-100", "F-16A+B"]
    for label, name, number, training in both_sides(names):
        save(folder / f"images/{label}{number:06d}.jpg", label, number)
        lines[training].append(f"{label}{number:06d} {name}")
    write(folder / "variants.txt", "\n".join(names))
    write(folder / "images_variant_train.txt", "\n".join(lines[True]))
    write(folder / "images_variant_test.txt", "\n".join(lines[False]))


def sun397(root):
    lines = {True: [], False: []}
    names = ["/a/abbey", "/a/apartment_building/outdoor", "/b/bar", "/y/youth_hostel"]
    for label, name, number, training in both_sides(names):
        save(root / f"SUN397{name}/sun_{label}{number}.jpg", label, number)
        lines[training].append(f"{name}/sun_{label}{number}.jpg")
    write(root / "SUN397/ClassName.txt", "\n".join(names))
    write(root / "SUN397/Training_01.txt", "\n".join(lines[True]))
    write(root / "SUN397/Testing_01.txt", "\n".join(lines[False]))


def dtd(root):
    lines = {True: [], False: []}
    for label, name, number, training in both_sides(["banded", "dotted", "lined", "polka-dotted"]):
        save(root / f"dtd/dtd/images/{name}/{name}_{number:04d}.jpg", label, number)
        lines[training].append(f"{name}/{name}_{number:04d}.jpg")
    write(root / "dtd/dtd/labels/train1.txt", "\n".join(lines[True]))
    write(root / "dtd/dtd/labels/test1.txt", "\n".join(lines[False]))


def eurosat(root):
    names = ["AnnualCrop", "Forest", "Highway", "River", "SeaLake"]
    class_folders(root / "eurosat/2750", names, "{name}/{name}_{number}.jpg", range(2 * N_TEST))


def ucf101(root):
    folder, lines = root / "ucf101", {True: [], False: []}
    names = ["ApplyEyeMakeup", "Archery", "HandstandPushups", "YoYo"]
    frames = ["Apply_Eye_Makeup", "Archery", "Handstand_Pushups", "Yo_Yo"]
    for label, name, number, training in both_sides(names):
        video = f"v_{name.replace('Handstand', 'HandStand')}_g{number:02d}_c01"
        save(folder / "UCF-101-midframes" / frames[label] / f"{video}.jpg", label, number)
        lines[training].append(f"{name}/{video}.avi" + f" {label + 1}" * training)
    lists = folder / "ucfTrainTestlist"
    write(lists / "classInd.txt", "\n".join(f"{i} {name}" for i, name in enumerate(names, 1)))
    write(lists / "trainlist01.txt", "\n".join(lines[True]))
    write(lists / "testlist01.txt", "\n".join(lines[False]))


def imagenet(root):
    class_folders(root / "imagenet/train", IMAGENET, "{name}/{name}_{number}.JPEG", range(N_TRAIN))
    test = range(N_TRAIN, N_IMAGES)
    class_folders(root / "imagenet/val", IMAGENET, "{name}/ILSVRC2012_val_{number:08d}.JPEG", test)
    lines = [f"{id} {name}" for id, name in IMAGENET.items()]
    write(root / "imagenet/classnames.txt", "\n".join(lines))


def imagenet_variants(root):
    new = range(N_IMAGES, N_IMAGES + N_TEST)  # images that are not in ImageNet
    v2 = root / "imagenetv2/imagenetv2-matched-frequency-format-val"
    class_folders(v2, range(3), "{name}/{number}.jpeg", new)
    class_folders(root / "imagenet-sketch/images", IMAGENET, "{name}/sketch_{number}.JPEG", new)
    for folder in ("imagenet-adversarial/imagenet-a", "imagenet-rendition/imagenet-r"):
        class_folders(root / folder, list(IMAGENET)[:2], numbers=new)
        write(root / folder / "README.txt", "about the images")


def adapt_torchvision(monkeypatch):
    """Let torchvision read a stand-in of Flowers102, whose names and checksums it contains."""
    files = {key: (name, None) for key, (name, _) in Flowers102._file_dict.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", files)
    names = ["pink primrose", "sweet pea", "rose", "lotus"]
    monkeypatch.setattr(Flowers102, "classes", names, raising=False)  # not in older versions


BUILDERS = [
    caltech101, oxford_pets, stanford_cars, flowers102, food101, fgvc_aircraft, sun397, dtd,
    eurosat, ucf101, imagenet, imagenet_variants,
]  # fmt: skip


def build_all(root):
    """Write all fifteen data sets."""
    for build in BUILDERS:
        build(Path(root))
    return Path(root)


def write_split_file(images, folder, path):
    """Write the official split of a data set as one of CoOp's split files."""
    parts = {
        side: [
            [Path(file).relative_to(folder).as_posix(), int(label), images.names[label]]
            for file, label in zip(files, labels, strict=True)
        ]
        for side, files, labels in (
            ("train", images.train, images.y_train),
            ("test", images.test, images.y_test),
        )
    }
    write(path, json.dumps(parts | {"val": []}))
