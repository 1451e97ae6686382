"""Images in folders and tables, emoji images, prompt templates, and long-tailed subsets."""

import io
import zipfile
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch, check_random_state

from ._image_files import load_image_folder, load_image_table
from ._labels import label_array
from ._typing import Labels, RandomState

__all__ = ["TEMPLATES", "load_emoji", "load_image_folder", "load_image_table", "make_long_tailed"]

#: Prompt template of each data set; ``{}`` stands for the class name. The templates are from Zhou,
#: Yang, Loy and Liu, "Learning to prompt for vision-language models", IJCV 2022, which derived them
#: from Radford et al., "Learning transferable visual models from natural language supervision",
#: ICML 2021.
TEMPLATES = {
    "Caltech101": "a photo of a {}.",
    "OxfordPets": "a photo of a {}, a type of pet.",
    "StanfordCars": "a photo of a {}.",
    "Flowers102": "a photo of a {}, a type of flower.",
    "Food101": "a photo of {}, a type of food.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "SUN397": "a photo of a {}.",
    "DTD": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "UCF101": "a photo of a person doing {}.",
    "ImageNet": "a photo of a {}.",
    "ImageNet-V2": "a photo of a {}.",
    "ImageNet-Sketch": "a photo of a {}.",
    "ImageNet-A": "a photo of a {}.",
    "ImageNet-R": "a photo of a {}.",
}

_EMOJI_FOLDER = Path(__file__).parent / "data" / "emoji"
_EMOJI_STYLES = ("twemoji", "fluent-emoji", "fluent-emoji-flat")


def load_emoji(*, styles: str | Sequence[str] = _EMOJI_STYLES) -> Bunch:
    """Load the emoji images: 152 classes drawn in three styles.

    The images are part of the library; nothing is downloaded. They suit the bundled model
    ``emoji-clip``, which was trained on other styles.

    =================   ======================
    Classes             152
    Images per class    3 to 39
    Images in total     1455
    Image               64 x 64, RGB, on white
    =================   ======================

    Parameters
    ----------
    styles : str or sequence of str, default=("twemoji", "fluent-emoji", "fluent-emoji-flat")
        Styles to load, in this order. Every class exists in every style, so you can train on one
        style and test on another.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        images : list of PIL.Image.Image
            The images, ordered by style, as given, then by class name.
        target : ndarray of shape (n_samples,), dtype str
            Class name of each image.
        target_names : ndarray of shape (152,), dtype str
            Class names, sorted.
        styles : ndarray of shape (n_samples,), dtype str
            Style of each image.
        DESCR : str
            Description, origin and licences of the images.

    Raises
    ------
    ValueError
        If `styles` is empty or contains an unknown style.

    Notes
    -----
    One emoji in two styles looks more similar than two emoji of one class. A random split of
    several styles therefore measures how well known emoji are recognised in another style.

    Examples
    --------
    >>> from skcandle.datasets import load_emoji
    >>> emoji = load_emoji()
    >>> len(emoji.images), len(emoji.target_names)
    (1455, 152)
    >>> print(emoji.target[0], emoji.styles[0], emoji.images[0].size)
    airplane twemoji (64, 64)
    """
    styles = [styles] if isinstance(styles, str) else list(styles)
    unknown = [style for style in styles if style not in _EMOJI_STYLES]
    if unknown or not styles:
        raise ValueError(f"styles must name some of {_EMOJI_STYLES}. Got {styles!r}.")
    images, target, image_styles = [], [], []
    with zipfile.ZipFile(_EMOJI_FOLDER / "images.zip") as archive:
        paths = sorted(archive.namelist())
        for style in styles:
            for path in [path for path in paths if path.startswith(f"{style}/")]:
                image = Image.open(io.BytesIO(archive.read(path)))
                images.append(image.convert("RGB"))
                target.append(path.split("/")[1])
                image_styles.append(style)
    return Bunch(
        images=images,
        target=np.array(target),
        target_names=np.unique(target),
        styles=np.array(image_styles),
        DESCR=(_EMOJI_FOLDER / "README.rst").read_text(encoding="utf-8"),
    )


def make_long_tailed(
    y: Labels,
    *,
    imbalance_ratio: float = 0.02,
    n_max: int | str | None = None,
    order: str | Labels = "random",
    random_state: RandomState = None,
) -> np.ndarray:
    """Select a subset whose class sizes decrease exponentially from head to tail.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.

    imbalance_ratio : float, default=0.02
        Size of the last class relative to the first, in (0, 1]. With 1, all classes get the same
        size.

    n_max : int, "max" or None, default=None
        Size of the first class: a number, ``"max"`` for the size of the largest class of `y`, or
        None for the median size of the classes of `y`.

    order : {"random", "given", "natural"} or array-like of shape (n_classes,), default="random"
        Order of the classes from head to tail: random, by first appearance in `y` (``"given"``),
        from the largest class of `y` to the smallest (``"natural"``, with ties in sorted order), or
        a list of all labels.

    random_state : int, RandomState instance or None, default=None
        Controls a random `order` and the choice of images within a class.

    Returns
    -------
    indices : ndarray of shape (n_selected,)
        Sorted indices into `y`.

    Raises
    ------
    ValueError
        If `y` is empty or has missing labels, a parameter is out of range, or `order` does not list
        each class exactly once.
    TypeError
        If labels are neither all strings nor all numbers.

    See Also
    --------
    skcandle.model_selection.base_new_split : Choose classes that keep no images.

    Notes
    -----
    Class :math:`i = 0, \\ldots, C - 1` keeps :math:`\\max(1, \\lfloor n_{max}\\,
    r^{i / (C - 1)} \\rfloor)` images, where :math:`r` is the imbalance ratio, or all of its
    images if it has fewer. This is the usual construction of long-tailed benchmarks [1]_.

    References
    ----------
    .. [1] Cui, Jia, Lin, Song and Belongie, "Class-balanced loss based on effective number of
       samples", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle.datasets import make_long_tailed
    >>> y = np.repeat(["cat", "cow", "dog"], 100)
    >>> indices = make_long_tailed(y, imbalance_ratio=0.01, order=["dog", "cat", "cow"])
    >>> np.unique(y[indices], return_counts=True)
    (array(['cat', 'cow', 'dog'], dtype='<U3'), array([ 10,   1, 100]))
    """
    if not isinstance(imbalance_ratio, Real) or not 0 < imbalance_ratio <= 1:
        raise ValueError(f"imbalance_ratio must be in (0, 1], got {imbalance_ratio!r}.")
    if n_max not in (None, "max") and (not isinstance(n_max, Integral) or n_max < 1):
        raise ValueError(f'n_max must be a positive integer, "max" or None, got {n_max!r}.')
    y = label_array(y)
    if not len(y):
        raise ValueError("y must not be empty.")
    rng = check_random_state(random_state)
    classes, first, y, counts = np.unique(
        y, return_index=True, return_inverse=True, return_counts=True
    )
    ranking = _ranking(classes, first, counts, order, rng)
    if n_max is None:
        n_max = int(np.median(counts))
    elif n_max == "max":
        n_max = counts.max()
    sizes = n_max * imbalance_ratio ** np.linspace(0, 1, len(classes))
    sizes = np.maximum(sizes.astype(int), 1)
    kept = [
        rng.permutation(np.flatnonzero(y == label))[:size]
        for label, size in zip(ranking, sizes, strict=True)
    ]
    return np.sort(np.concatenate(kept))


def _ranking(classes, first, counts, order, rng):
    """Positions in ``classes`` from head to tail."""
    if isinstance(order, str):
        if order == "random":
            return rng.permutation(len(classes))
        if order == "given":
            return np.argsort(first)
        if order == "natural":
            return np.argsort(-counts, kind="stable")
        raise ValueError(
            f'order must be "random", "given", "natural" or a list of labels, got {order!r}.'
        )
    order = np.ravel(order).tolist()
    missing = set(classes.tolist()).difference(order)
    if missing or len(order) != len(classes):
        raise ValueError(
            f"order must list each of the {len(classes)} labels of y exactly once; it has "
            f"{len(order)} entries and lacks {len(missing)} of the labels."
        )
    return np.searchsorted(classes, order)
