"""The fifteen data sets of the paper: their folders, splits and class names.

Folder names are those of torchvision or, as a second choice, those of CoOp (Zhou, Yang, Loy and
Liu, "Learning to prompt for vision-language models", IJCV 2022), on which the paper's code is
based. Corrections of class names also come from CoOp. Prompt templates are in
:data:`skcandle.datasets.TEMPLATES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.paper import official as official
from skcandle.datasets import TEMPLATES


class Layout(NamedTuple):
    """Folder of a data set, and of its images, to which paths in a split file are relative."""

    folder: str
    images: str
    has_official: bool = True  # whether the official split can be read in this layout


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes
    ----------
    name : str
    n_classes : int
    layouts : tuple of Layout
        The first one is recommended if nothing is on disk.
    source : str
        What to unpack, and where to get it.
    official : callable
        Reader of the official split.
    official_name : str
        Name of that split in the table.
    needs : tuple of str
        Files and folders that `official` needs besides the images.
    split_file : str
        CoOp's split, which is preferred if it is present.
    rename : callable
        Maps a class of the official split to its name.
    names : mapping of str to str
        Corrections of individual names.
    ratio : float
        Imbalance ratio of the long tail, as released.
    """

    name: str
    n_classes: int
    layouts: tuple
    source: str
    official: Callable
    official_name: str
    needs: tuple = ()
    split_file: str = ""
    rename: Callable = str
    names: Mapping = field(default_factory=dict)
    ratio: float = 0.02

    @property
    def template(self):
        return TEMPLATES[self.name]


def year_first(name):
    """ "Audi TT RS Coupe 2012" -> "2012 Audi TT RS Coupe"."""
    return " ".join([name.split(" ")[-1], *name.split(" ")[:-1]])


def place_last(name):
    """ "apartment_building/outdoor" -> "outdoor apartment_building"."""
    return " ".join(reversed(name.split("/")))


OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"

TABLE = [
    DataSet(
        name="Caltech101",
        n_classes=100,
        layouts=(
            Layout("caltech101", "101_ObjectCategories"),
            Layout("caltech-101", "101_ObjectCategories", has_official=False),
        ),
        source="caltech-101.zip from https://data.caltech.edu/records/mzrjq-6wc02",
        official=official.caltech101,
        official_name="halves (there is no official split)",
        needs=("101_ObjectCategories/BACKGROUND_Google",),
        split_file="split_zhou_Caltech101.json",
        names={
            "Faces": "face",
            "Leopards": "leopard",
            "Motorbikes": "motorbike",
            "airplanes": "airplane",
        },
    ),
    DataSet(
        name="OxfordPets",
        n_classes=37,
        layouts=(
            Layout("oxford-iiit-pet", "images"),
            Layout("oxford_pets", "images", has_official=False),
        ),
        source=f"images.tar.gz and annotations.tar.gz from {OXFORD}/pets/",
        official=official.of_torchvision("OxfordIIITPet", ["trainval"], "test"),
        official_name="official: trainval, test",
        needs=("annotations/trainval.txt", "annotations/test.txt"),
        split_file="split_zhou_OxfordPets.json",
        rename=str.lower,
    ),
    DataSet(
        name="StanfordCars",
        n_classes=196,
        layouts=(Layout("stanford_cars", ""),),
        source=(
            "cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat "
            "(once at https://ai.stanford.edu/~jkrause/cars/car_dataset.html, now from a copy)"
        ),
        official=official.stanford_cars,
        official_name="official: train, test",
        needs=(
            "cars_train",
            "cars_test",
            "devkit/cars_meta.mat",
            "devkit/cars_train_annos.mat",
            "cars_test_annos_withlabels.mat",
        ),
        split_file="split_zhou_StanfordCars.json",
        rename=year_first,
    ),
    DataSet(
        name="Flowers102",
        n_classes=102,
        layouts=(
            Layout("flowers-102", "jpg"),
            Layout("oxford_flowers", "jpg", has_official=False),
        ),
        source=f"102flowers.tgz, imagelabels.mat and setid.mat from {OXFORD}/flowers/102/",
        official=official.of_torchvision("Flowers102", ["train", "val"], "test"),
        official_name="official: train and val, test",
        needs=("imagelabels.mat", "setid.mat"),
        split_file="split_zhou_OxfordFlowers.json",
        names={"pink-yellow dahlia?": "pink-yellow dahlia"},
    ),
    DataSet(
        name="Food101",
        n_classes=101,
        layouts=(Layout("food-101", "images"),),
        source=("food-101.tar.gz from https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"),
        official=official.of_torchvision("Food101", ["train"], "test"),
        official_name="official: train, test",
        needs=("meta/train.json", "meta/test.json"),
        split_file="split_zhou_Food101.json",
    ),
    DataSet(
        name="FGVCAircraft",
        n_classes=100,
        layouts=(Layout("fgvc-aircraft-2013b", "data/images"),),
        source=f"fgvc-aircraft-2013b.tar.gz from {OXFORD}/fgvc-aircraft/",
        official=official.of_torchvision("FGVCAircraft", ["train"], "test"),
        official_name="official: train, test",
        needs=(
            "data/variants.txt",
            "data/images_variant_train.txt",
            "data/images_variant_test.txt",
        ),
    ),
    DataSet(
        name="SUN397",
        n_classes=397,
        layouts=(Layout("SUN397", ""), Layout("sun397", "SUN397")),
        source=(
            "SUN397.tar.gz and Partitions.zip from https://vision.princeton.edu/projects/2010/SUN/"
        ),
        official=official.sun397,
        official_name="official: partition 1",
        split_file="split_zhou_SUN397.json",
        rename=place_last,
    ),
    DataSet(
        name="DTD",
        n_classes=47,
        layouts=(Layout("dtd/dtd", "images"), Layout("dtd", "images", has_official=False)),
        source=f"dtd-r1.0.1.tar.gz from {OXFORD}/dtd/",
        official=official.of_torchvision("DTD", ["train"], "test"),
        official_name="official: train 1, test 1",
        needs=("labels/train1.txt", "labels/test1.txt"),
        split_file="split_zhou_DescribableTextures.json",
    ),
    DataSet(
        name="EuroSAT",
        n_classes=10,
        layouts=(Layout("eurosat", "2750"),),
        source="EuroSAT.zip (RGB) from https://github.com/phelber/EuroSAT",
        official=official.eurosat,
        official_name="halves (there is no official split)",
        split_file="split_zhou_EuroSAT.json",
        names={
            "AnnualCrop": "Annual Crop Land",
            "HerbaceousVegetation": "Herbaceous Vegetation Land",
            "Highway": "Highway or Road",
            "Industrial": "Industrial Buildings",
            "Pasture": "Pasture Land",
            "PermanentCrop": "Permanent Crop Land",
            "Residential": "Residential Buildings",
            "SeaLake": "Sea or Lake",
        },
    ),
    DataSet(
        name="UCF101",
        n_classes=101,
        layouts=(Layout("ucf101", "UCF-101-midframes"),),
        source=(
            "UCF-101-midframes.zip, the middle frame of each video, linked in "
            f"{official.COOP_PAGE}, and UCF101TrainTestSplits-RecognitionTask.zip from "
            "https://www.crcv.ucf.edu/data/UCF101.php"
        ),
        official=official.ucf101,
        official_name="official: list 1",
        needs=tuple(
            f"ucfTrainTestlist/{name}.txt" for name in ("classInd", "trainlist01", "testlist01")
        ),
        split_file="split_zhou_UCF101.json",
    ),
    DataSet(
        name="ImageNet",
        n_classes=1000,
        layouts=(Layout("imagenet", "train"), Layout("imagenet", "images/train")),
        source=(
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, one folder per class in train "
            "and in val, from https://image-net.org"
        ),
        official=official.imagenet,
        official_name="official: train, val",
        ratio=0.01,
    ),
    DataSet(
        name="ImageNet-V2",
        n_classes=1000,
        layouts=(Layout("imagenetv2", "imagenetv2-matched-frequency-format-val"),),
        source=(
            "imagenetv2-matched-frequency.tar.gz from https://github.com/modestyachts/ImageNetV2"
        ),
        official=official.imagenet_v2,
        official_name="test only",
    ),
    DataSet(
        name="ImageNet-Sketch",
        n_classes=1000,
        layouts=(Layout("imagenet-sketch", "images"), Layout("imagenet-sketch", "sketch")),
        source="ImageNet-Sketch.zip from https://github.com/HaohanWang/ImageNet-Sketch",
        official=official.imagenet_variant,
        official_name="test only",
    ),
    DataSet(
        name="ImageNet-A",
        n_classes=200,
        layouts=(Layout("imagenet-adversarial", "imagenet-a"), Layout("imagenet-a", "")),
        source="imagenet-a.tar from https://github.com/hendrycks/natural-adv-examples",
        official=official.imagenet_variant,
        official_name="test only",
    ),
    DataSet(
        name="ImageNet-R",
        n_classes=200,
        layouts=(Layout("imagenet-rendition", "imagenet-r"), Layout("imagenet-r", "")),
        source="imagenet-r.tar from https://github.com/hendrycks/imagenet-r",
        official=official.imagenet_variant,
        official_name="test only",
    ),
]

DATASETS = {row.name: row for row in TABLE}
VARIANTS = [row.name for row in TABLE if row.official_name == "test only"]
TARGETS = [row.name for row in TABLE if not row.name.startswith("ImageNet")]
