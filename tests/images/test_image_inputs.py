"""Containers and kinds of images beside lists of files, and what is said of others."""

import io

import numpy as np
import pytest
import torch
from helpers import random_images
from PIL import Image, features
from sklearn.utils import Bunch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import ToTensor

from skcandle import CLIPFeaturizer
from skcandle._images import formats
from skcandle._images.inputs import as_image_list
from skcandle._images.reading import read_image
from skcandle.exceptions import ImageReadError

IMAGES = random_images(3)
ARRAYS = [np.asarray(image) for image in IMAGES]
TENSOR = torch.from_numpy(np.stack(ARRAYS)).permute(0, 3, 1, 2)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


ENCODED = [encoded(image) for image in IMAGES]


def digests(X):
    return [read_image(image).digest for image in as_image_list(X)]


class Pairs(Dataset):
    """As people write them for torch."""

    def __init__(self, items=None):
        self.items = [(image, 0) for image in IMAGES] if items is None else items
        self.asked = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.items[i]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(image, 0) for image in IMAGES])


# --- torch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("X", [TENSOR, list(TENSOR), TENSOR[:, :, ::1].contiguous()])
def test_tensors_have_their_channels_first(X):
    assert digests(X) == digests(ARRAYS)


def test_grey_tensors():
    grey = TENSOR[:, 0]
    assert digests(list(grey)) == digests(list(grey.numpy()))
    assert digests(TENSOR[:, :1]) == digests(list(grey.numpy()))


@pytest.mark.parametrize("items", [None, IMAGES, [(x, {"boxes": 3}, 1) for x in IMAGES]])
def test_items_of_a_dataset_are_images_or_begin_with_one(items):
    assert digests(Pairs(items)) == digests(IMAGES)


def test_a_dataset_is_asked_for_an_image_when_it_is_its_turn():
    dataset = Pairs()
    images = as_image_list(dataset)
    assert dataset.asked == []
    read_image(images[1])
    assert dataset.asked == [1]


def test_torchvisions_datasets(tmp_path):
    fake = FakeData(size=3, image_size=(3, 20, 24))
    assert digests(fake) == digests([image for image, _ in fake])
    for i, data in enumerate(ENCODED):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / f"{i}.png").write_bytes(data)
    folder = ImageFolder(tmp_path)
    assert as_image_list(folder) == [path for path, _ in folder.samples]
    turned = ImageFolder(tmp_path, transform=lambda image: image.rotate(90, expand=True))
    assert digests(turned) == digests([image.rotate(90, expand=True) for image in IMAGES])


def test_transforms_that_make_floats_are_named_with_the_item(tiny_clip, cold):
    fake = FakeData(size=2, image_size=(3, 20, 24), transform=ToTensor())
    clip = CLIPFeaturizer(tiny_clip, pretrained=None)
    with pytest.raises(ImageReadError, match="item 0 of the dataset .* without transforms"):
        clip.transform(fake)


# --- Hugging Face ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hugging_face():
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": data, "path": None} for data in ENCODED], "label": [0, 1, 2]}
    return datasets.Dataset.from_dict(rows, features=kinds)


def test_datasets_and_columns_of_hugging_face(hugging_face):
    from datasets import Image as Undecoded

    assert digests(hugging_face) == digests(hugging_face["image"]) == digests(IMAGES)
    undecoded = hugging_face.cast_column("image", Undecoded(decode=False))
    assert digests(undecoded["image"]) == digests(ENCODED)


def test_dicts_have_bytes_or_a_path(tmp_path):
    path = tmp_path / "1.png"
    path.write_bytes(ENCODED[1])
    X = [{"bytes": ENCODED[0], "path": "x"}, {"bytes": None, "path": str(path)}, {"path": path}]
    assert digests(X) == digests([ENCODED[0], path, path])


def test_what_of_hugging_face_is_no_column_says_which_to_select(hugging_face):
    from datasets import DatasetDict

    splits = DatasetDict({"test": hugging_face})
    assert_advice_works("Select a split and a column, for example X['test']['image']", splits)
    assert_advice_works("Use [row['image'] for row in X]", hugging_face.to_iterable_dataset())
    with pytest.raises(ValueError, match=r"columns \['label'\]; select .* X\['path'\]"):
        as_image_list(hugging_face.remove_columns("image"))


# --- columns ---------------------------------------------------------------------------------


def test_columns_of_polars():
    pl = pytest.importorskip("polars")
    structs = [{"bytes": data, "path": "x"} for data in ENCODED]
    for X in (pl.Series(ENCODED), pl.DataFrame({"image": ENCODED}), pl.Series(structs)):
        assert digests(X) == digests(ENCODED)
    assert as_image_list(pl.Series(["a.png", "b.png"])) == ["a.png", "b.png"]
    with pytest.raises(TypeError, match="image 1 is missing"):
        as_image_list(pl.Series(["a.png", None]))
    table = pl.DataFrame({"path": ENCODED, "label": [1, 2, 3]})
    assert_advice_works("select the one with the images, for example X['path']", table)
    assert_advice_works("use X.collect()", pl.LazyFrame({"image": ENCODED}))


def test_columns_of_pyarrow():
    pa = pytest.importorskip("pyarrow")
    structs = pa.array([{"bytes": data, "path": "x"} for data in ENCODED])
    table = pa.table({"path": ENCODED})
    for X in (pa.array(ENCODED), pa.chunked_array([ENCODED]), structs, table):
        assert digests(X) == digests(ENCODED)
    two = table.append_column("label", pa.array([1, 2, 3]))
    assert_advice_works("select the one with the images, for example X['path']", two)


def test_a_pandas_column_of_dicts():
    pd = pytest.importorskip("pandas")
    X = pd.Series([{"bytes": data, "path": "x"} for data in ENCODED])
    assert digests(X) == digests(ENCODED)


# --- other kinds: what the message says to write works ---------------------------------------


def assert_advice_works(advice, X):
    """The message has the advice, whose part in Python gives the images."""
    with pytest.raises((TypeError, ValueError)) as caught:
        as_image_list(X)
    assert advice in str(caught.value)
    start = min(i for i in (advice.find(s) for s in ("X", "[", "list(", "numpy.")) if i >= 0)
    expression = advice[start:]
    expression = expression.split(",")[0] if "compute" in expression else expression
    names = {"X": X, "numpy": np, "sorted": sorted, "list": list}
    assert digests(eval(expression, names)) in (digests(IMAGES), digests(ENCODED))


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def __getitem__(self, i):
        return Foreign(self.array[i])

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    "advice, X",
    [
        ("list(X)", iter(IMAGES)),
        ("list(X)", map(Image.fromarray, ARRAYS)),
        ("list(X.values())", dict(enumerate(IMAGES))),
        ("X.images", Bunch(images=IMAGES, target=[0, 1, 2])),
        ("X.dataset", DataLoader(Pairs(), batch_size=2)),
        ("[image for image, _ in X]", Stream()),
        ("[image for image, _ in X]", [(image, 0) for image in IMAGES]),
        ("numpy.asarray(X)", Foreign(np.stack(ARRAYS))),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_to_write_instead(advice, X):
    assert_advice_works(advice, X)


def test_what_to_write_instead_of_collections_of_dask():
    pytest.importorskip("dask")
    pytest.importorskip("pyarrow")
    import dask.array
    import dask.bag
    import dask.dataframe
    import pandas as pd

    assert_advice_works("X.compute()", dask.bag.from_sequence(IMAGES))
    assert_advice_works("X.compute()", dask.array.from_array(np.stack(ARRAYS)))
    paths = dask.dataframe.from_pandas(pd.Series(["a.png"]), npartitions=1)
    with pytest.raises(TypeError, match=r"Use X.compute\(\), or skcandle.scale_out"):
        as_image_list(paths)


def test_what_to_write_instead_of_a_set_or_a_folder(tmp_path):
    (tmp_path / "cat").mkdir()
    path = tmp_path / "cat" / "1.png"
    path.write_bytes(ENCODED[0])
    with pytest.raises(TypeError, match=r"use sorted\(X\) for paths"):
        as_image_list({str(path)})
    assert digests(sorted({str(path)})) == digests(ENCODED[:1])
    with pytest.raises(TypeError, match=r"load_image_folder\(X\).images for a folder"):
        as_image_list(tmp_path)
    from skcandle.datasets import load_image_folder

    assert digests(load_image_folder(tmp_path).images) == digests(ENCODED[:1])


@pytest.mark.parametrize(
    "image, error, advice, write",
    [
        (TENSOR[0] / 255, TypeError, "(255 * image).round().byte()",
         lambda image: (255 * image).round().byte()),
        (TENSOR[0].permute(1, 2, 0), ValueError, "image.permute(2, 0, 1)",
         lambda image: image.permute(2, 0, 1)),
        (Foreign(ARRAYS[0]), TypeError, "numpy.asarray(image)", np.asarray),
    ],
    ids=["float tensor", "channels last", "foreign"],
)  # fmt: skip
def test_what_to_write_instead_of_an_image(image, error, advice, write):
    with pytest.raises(error) as caught:
        as_image_list([IMAGES[1], image])
    assert "image 1 " in str(caught.value) and advice in str(caught.value)
    assert digests([write(image)]) == digests(ARRAYS[:1])


@pytest.mark.parametrize(
    "X, error, message",
    [
        (TENSOR[0], ValueError, r"shape \(3, 48, 40\) .* \[X\] for a single image"),
        (torch.zeros(5, 64), ValueError, "If these are features"),
        ([torch.zeros(2, 9, 9, dtype=torch.uint8)], ValueError, r"tensor of shape \(2, 9, 9\)"),
        ([torch.zeros(9, dtype=torch.uint8)], ValueError, r"tensor of shape \(9,\)"),
        (5, TypeError, "X must be a list, .* of images, got int.$"),
    ],
)
def test_what_is_no_collection_of_tensors(X, error, message):
    with pytest.raises(error, match=message):
        as_image_list(X)


# --- formats ---------------------------------------------------------------------------------


def test_avif_is_read():
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    assert CLIPFeaturizer("emoji-clip").transform([encoded(IMAGES[0], "AVIF")]).shape == (1, 128)


def test_heic_is_read_where_pillow_heif_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    plain = Image.new("RGB", (64, 64), (200, 30, 30))
    clip = CLIPFeaturizer("emoji-clip")
    rows = clip.transform([encoded(plain, "HEIF", quality=95), plain])
    assert rows[0] @ rows[1] > 0.99


@pytest.mark.parametrize("brand, name", [(b"heic", "HEIC"), (b"avif", "AVIF"), (b"mif1", "HEIF")])
def test_a_format_that_is_not_installed_is_named_with_its_extra(tmp_path, brand, name, monkeypatch):
    def unknown(file):
        raise Image.UnidentifiedImageError("cannot identify")

    monkeypatch.setattr(formats.Image, "open", unknown)
    data = b"\0\0\0\x18ftyp" + brand + bytes(100)
    path = tmp_path / "photo.heic"
    path.write_bytes(data)
    for image in (path, data, io.BytesIO(data)):
        message = rf"image format: {name} needs pip install -U pillow 'skcandle\[heif\]'"
        with pytest.raises(ImageReadError, match=message):
            CLIPFeaturizer("emoji-clip").transform([image])


def test_what_of_a_library_of_columns_is_none():
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match="X must be a column, got a pyarrow Schema"):
        as_image_list(pa.schema([("image", pa.string())]))
