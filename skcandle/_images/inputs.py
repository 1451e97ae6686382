"""From a collection of images of any kind to a list of single images."""

import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .._sklearn_private import is_pandas_na, is_scalar_nan

KINDS = (
    "a path, a URL, a PIL image, encoded bytes, a file opened in binary mode, a dict with bytes or "
    "path, an array of uint8 and shape (H, W, 3) or (H, W), or a tensor of uint8 and shape "
    "(3, H, W)"
)


@dataclass(frozen=True)
class DatasetItem:
    """An image of a dataset that loads its images on access.

    Attributes
    ----------
    dataset : object with ``__getitem__``
        Its items are images or tuples that begin with an image.
    index : int
    """

    dataset: Any
    index: int

    def image(self):
        """Load the image, which is not a DatasetItem itself."""
        item = self.dataset[self.index]
        image = as_image(item[0] if isinstance(item, (tuple, list)) and item else item)
        check_kind(image, self.index)
        return image


def as_image_list(X, *, allow_missing=False, allow_empty=False):
    """Check the container and the kind of each image, without touching a file.

    Parameters
    ----------
    X : list, tuple, ndarray, Series, one-column DataFrame, dataset or column
        As for :meth:`skcandle.CLIPFeaturizer.transform`.
    allow_missing : bool, default=False
        Whether an image may be missing (None, NaN or NA); it is then None.
    allow_empty : bool, default=False
        Whether there may be no image at all.

    Returns
    -------
    images : list
        Of paths, PIL images, bytes, files, arrays, items of datasets, and None.

    Raises
    ------
    TypeError, ValueError
        If X is not a collection of images.
    """
    images = to_list(X)
    if not images and not allow_empty:
        raise ValueError("Found array with 0 sample(s): X must have at least one image.")
    for position, image in enumerate(images):
        if allow_missing and is_missing(image):
            images[position] = None
        else:
            check_kind(image, position)
    return images


def to_list(X):
    """The elements of a collection; tensors and dicts are converted to images."""
    return [as_image(image) for image in _elements(X)]


def _elements(X):
    if isinstance(X, (str, os.PathLike, Image.Image)) or is_encoded(X):
        remedy = "Use [X] for one image."
        if isinstance(X, (str, os.PathLike)) and os.path.isdir(X):
            remedy = "Use skcandle.datasets.load_image_folder(X).images for a folder."
        raise TypeError(f"X must be a list of images, got a single {type(X).__name__}. {remedy}")
    if isinstance(X, (list, tuple)):
        return X
    if isinstance(X, np.ndarray):
        return _array_to_list(X)
    if _is_tensor(X):
        return _tensor_to_list(X)
    library = _library(X)
    if library in ("polars", "pyarrow"):
        return _column_to_list(X, library)
    if hasattr(X, "to_numpy"):  # a Series or DataFrame
        if getattr(X, "ndim", len(X.shape)) == 2:
            _check_one_column(X.shape[1])
        return _array_to_list(X.to_numpy())
    if library == "datasets" and not isinstance(X, Mapping) and hasattr(X, "__len__"):
        return _hugging_face_to_list(X)
    if library != "dask" and _is_dataset(X):
        return _dataset_to_list(X)
    raise TypeError(
        "X must be a list, array, Series, one-column DataFrame or dataset of images, got "
        f"{type(X).__name__}. {_remedy(X, library)}".rstrip()
    )


def _remedy(X, library):
    """What to pass instead of X: an expression that works for its type."""
    if library == "datasets" and isinstance(X, Mapping):
        return f"Select a split and a column, for example X[{next(iter(X), 'train')!r}]['image']."
    if isinstance(X, Mapping) and hasattr(X, "images"):
        return "Use X.images."
    if isinstance(X, Mapping):
        return "Use list(X.values()) for the images of a dict."
    if isinstance(X, (set, frozenset)):
        return "A set has no order; use sorted(X) for paths."
    if library == "dask":
        return "Use X.compute(), or skcandle.scale_out for data larger than memory."
    if type(X).__name__ == "DataLoader":
        return "Use its dataset, X.dataset."
    if library == "datasets":
        return "Use [row['image'] for row in X] for an iterable dataset."
    if _is_dataset(X, sized=False):
        return "Use [image for image, _ in X] for an iterable dataset of pairs."
    if hasattr(X, "__array__"):
        return "Use numpy.asarray(X)."
    return "Use list(X) for an iterator." if hasattr(X, "__iter__") else ""


def _check_one_column(n_columns):
    if n_columns != 1:
        raise ValueError(
            f"X must have one column, got {n_columns}; select the one with the images, for example "
            "X['path'] or a ColumnTransformer."
        )


def _library(X):
    return type(X).__module__.partition(".")[0]


def _is_tensor(X):
    torch = sys.modules.get("torch")  # without the import there is no tensor
    return torch is not None and isinstance(X, torch.Tensor)


def _is_dataset(X, sized=True):
    """Whether X is a torch dataset, with a length or, if not `sized`, without one."""
    torch_data = sys.modules.get("torch.utils.data")
    is_torchs = torch_data is not None and isinstance(X, torch_data.Dataset)
    if not sized:
        return is_torchs and not hasattr(X, "__len__")
    # torch also accepts datasets without its base class
    is_like_one = hasattr(X, "__getitem__") and not hasattr(X, "__array__")
    return (is_torchs or is_like_one) and hasattr(X, "__len__") and not isinstance(X, Mapping)


def _array_to_list(X):
    if X.dtype.kind == "S":
        raise TypeError(
            "X must not be an array of fixed-width bytes, which drops zeros at the end of images. "
            "Use a list of bytes, or dtype=object."
        )
    if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OUT":
        X = X[:, 0]
    if X.ndim == 1 and (X.dtype.kind in "OUT" or X.size == 0) or X.ndim == 4:
        return list(X)
    remedy = {
        2: "If these are features, leave out CLIPFeaturizer.",
        3: "Use [X] for a single image, or list(X) for several grey images.",
    }
    raise ValueError(
        "An array of images must have shape (n_images, H, W, 3), or (n_images,) with paths or "
        f"other objects, got shape {X.shape} and dtype {X.dtype}. {remedy.get(X.ndim, '')}".rstrip()
    )


def _tensor_to_list(X):
    if X.ndim == 4:
        return list(X)
    remedy = {
        2: "If these are features, leave out CLIPFeaturizer.",
        3: "Use [X] for a single image, or list(X) for several grey images.",
    }
    raise ValueError(
        f"A tensor of images must have shape (n_images, 3, H, W) and dtype uint8, got shape "
        f"{tuple(X.shape)} and dtype {X.dtype}. {remedy.get(X.ndim, '')}".rstrip()
    )


def _column_to_list(X, library):
    if hasattr(X, "collect") and not hasattr(X, "to_numpy"):
        raise TypeError(f"X must not be a {library} {type(X).__name__}; use X.collect().")
    if len(getattr(X, "shape", ())) == 2:  # a table
        _check_one_column(X.shape[1])
        X = X[X.columns[0]] if library == "polars" else X.column(0)
    if not hasattr(X, "to_pylist") and not hasattr(X, "to_list"):
        raise TypeError(f"X must be a column, got a {library} {type(X).__name__}.")
    return X.to_pylist() if library == "pyarrow" else X.to_list()


def _hugging_face_to_list(X):
    columns = getattr(X, "column_names", None)
    if columns is not None:
        images = [name for name, kind in X.features.items() if type(kind).__name__ == "Image"]
        if len(images) != 1:
            raise ValueError(
                f"X must have one column of images, got the columns {columns!r}; select one, for "
                f"example with X[{(images or ['path'])[0]!r}]."
            )
        X = X[images[0]]
    return [DatasetItem(X, i) for i in range(len(X))]


def _dataset_to_list(X):
    # torchvision's folders have the paths of their images, whose cache look-up needs no decoding
    is_plain = getattr(X, "transform", 0) is None and getattr(X, "transforms", None) is None
    samples = getattr(X, "samples", None)
    if _library(X) == "torchvision" and is_plain and isinstance(samples, list):
        return [path for path, *_ in samples]
    return [DatasetItem(X, i) for i in range(len(X))]


def as_image(image):
    """Convert a tensor or a dict to an image; return other kinds as they are."""
    if _is_tensor(image):
        return _from_tensor(image)
    if isinstance(image, Mapping) and {"bytes", "path"} & image.keys():
        data = image.get("bytes")
        return image.get("path") if data is None else data
    return image


def _from_tensor(image):
    """Convert a tensor to an array with channels last; return invalid ones, to be refused."""
    is_coloured = image.ndim == 3 and image.shape[0] in (1, 3, 4)
    if image.dtype != sys.modules["torch"].uint8 or not (is_coloured or image.ndim == 2):
        return image
    return (image.permute(1, 2, 0) if is_coloured else image).numpy(force=True)


def is_missing(image):
    return image is None or is_scalar_nan(image) or is_pandas_na(image)


def is_encoded(image):
    """Whether an image is the content of a file: bytes or an open file."""
    return isinstance(image, (bytes, bytearray, memoryview)) or is_open_file(image)


def is_open_file(image):
    """Whether an image is an open file, or has its methods."""
    return all(hasattr(image, name) for name in ("read", "seek", "tell"))


def check_kind(image, position):
    if isinstance(image, np.ndarray):
        _check_array(image, position)
    elif _is_tensor(image):
        _refuse_tensor(image, position)
    elif is_open_file(image):
        _check_open_file(image, position)
    elif isinstance(image, (tuple, list)):
        raise TypeError(
            f"image {position} must not be a {type(image).__name__}; for pairs of image and label, "
            "use [image for image, _ in X]."
        )
    elif not isinstance(image, (str, os.PathLike, Image.Image, DatasetItem)) and not is_encoded(
        image
    ):
        found = "missing" if is_missing(image) else f"of type {type(image).__name__}"
        remedy = " Use numpy.asarray(image)." if hasattr(image, "__array__") else ""
        raise TypeError(f"image {position} is {found}; each image must be {KINDS}.{remedy}")


def _check_open_file(image, position):
    if isinstance(image, io.TextIOBase):
        raise TypeError(
            f"image {position} must be opened in binary mode, not text mode: use open(path, 'rb')."
        )
    if not getattr(image, "closed", False) and not getattr(image, "seekable", lambda: True)():
        raise TypeError(
            f"image {position} is a stream that can be read only once; use the result of read()."
        )


def _check_array(image, position):
    if image.dtype != np.uint8:
        raise TypeError(
            f"image {position} must have dtype uint8, with values from 0 to 255, got an array of "
            f"{image.dtype}. Scale values between 0 and 1 with "
            "(255 * image).round().astype('uint8')."
        )
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"image {position} must have its channels last, got an array of shape {image.shape}. "
            "Use image.transpose(1, 2, 0)."
        )
    if image.ndim not in (2, 3) or image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"image {position} must have shape (H, W, 3), or (H, W) if it is grey, got an array of "
            f"shape {image.shape}."
        )
    if image.size == 0:
        raise ValueError(f"image {position} has no pixels: its shape is {image.shape}.")


def _refuse_tensor(image, position):
    """Raise for a tensor that :func:`as_image` did not convert."""
    shape = tuple(image.shape)
    if image.ndim == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        raise ValueError(
            f"image {position} must have its channels first, got a tensor of shape {shape}. "
            "Use image.permute(2, 0, 1)."
        )
    if image.ndim not in (2, 3) or image.ndim == 3 and shape[0] not in (1, 3, 4):
        raise ValueError(
            f"image {position} must have shape (3, H, W), or (H, W) if it is grey, got a tensor of "
            f"shape {shape}."
        )
    raise TypeError(
        f"image {position} must have dtype uint8, with values from 0 to 255, got a tensor of "
        f"{image.dtype}. Use images without transforms, or scale values between 0 and 1 with "
        "(255 * image).round().byte()."
    )
