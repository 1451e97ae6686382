"""Tasks of the accuracy benchmarks: base and new classes drawn from one set of features.

The classes are split at random into two halves, base and new. The numbers of training images of the
base classes form an exponential long tail in random order. New classes have only their name. Every
image outside the training pool is a test image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skcandle.datasets import load_emoji

PROMPT = "a photo of a {}."
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Features:
    """Image embeddings ``X`` with labels ``y``, and text embeddings ``T`` of the class names."""

    X: np.ndarray
    y: np.ndarray
    names: np.ndarray
    T: np.ndarray | None


@dataclass(frozen=True)
class Task:
    """Training and test images of one draw. Labels 0 to ``n_base - 1`` are the base classes."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    T: np.ndarray | None
    names: np.ndarray
    n_base: int

    @property
    def n_classes(self):
        return len(self.names)


def unit(a):
    """Rows of ``a`` scaled to unit length, as float32."""
    a = np.asarray(a, dtype=np.float32)
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def load_features(path, template="first", text=True):
    """Read one feature file, whose format benchmarks/README.rst describes.

    ``template`` is "first", "mean" (the average over all prompt templates), or the text of one.
    With ``text=False``, text embeddings are not read and the file need not have any.
    """
    with np.load(path, allow_pickle=False) as file:
        needed = {"X", "y", "names"} | ({"T", "templates"} if text else set())
        missing = needed - set(file.files)
        if missing:
            raise ValueError(f"{path} lacks the arrays {sorted(missing)}.")
        names, T = file["names"].astype(str), None
        if len(np.unique(names)) < len(names):
            raise ValueError(f"{path} repeats a class name.")
        if text:
            T = choose_template(unit(file["T"]), file["templates"].astype(str), template)
        return Features(unit(file["X"]), file["y"].astype(int), names, T)


def encode_folder(folder, featurizer, template=PROMPT):
    """Features of a folder with one sub-folder of images per class, named after the class."""
    paths = sorted(p for p in Path(folder).glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} has no images in sub-folders.")
    return encode(paths, np.array([p.parent.name for p in paths]), featurizer, template)


def encode_emoji(featurizer, template=PROMPT):
    """Features of the emoji images that come with the library."""
    emoji = load_emoji()
    return encode(emoji.images, emoji.target, featurizer, template)


def encode(images, labels, featurizer, template):
    names, y = np.unique(labels, return_inverse=True)
    prompts = [template.format(name.replace("_", " ")) for name in names]
    X = featurizer.fit_transform(images)
    return Features(unit(X), y, names, unit(featurizer.encode_text(prompts)))


def choose_template(T, templates, template):
    """Text embeddings ``(n_classes, d)`` of one template, or their mean over all."""
    if template == "mean":
        return unit(T.mean(axis=0))
    if template == "first":
        return T[0]
    if template not in templates:
        raise ValueError(f"template={template!r} is not one of {templates.tolist()}.")
    return T[list(templates).index(template)]


def pool_mask(y, n_pool, rng):
    """Mask of the training pool: at most ``n_pool`` images of a class, and four fifths of them."""
    mask = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        mask[members[: min(n_pool, max(1, int(0.8 * len(members))))]] = True
    return mask


def deal(y, n_folds):
    """The fold of each image; -1 for the only image of its class, which stays in training."""
    rng, counts, fold = np.random.default_rng(0), np.bincount(y), np.full(len(y), -1)
    for label in np.flatnonzero(counts > 1):
        fold[rng.permutation(np.flatnonzero(y == label))] = np.arange(counts[label]) % n_folds
    return fold


def draw_task(features, seed, *, ratio=0.02, max_shots=100, n_pool=30, new_classes=True):
    """One random task. The base class at ``rank`` keeps ``n_max * ratio**(rank / (n_base - 1))``.

    ``n_max`` is the median size of the pools of the base classes, but at most ``max_shots``. The
    training pool is the same for every seed. ``ratio=1`` gives balanced tasks. Without text, or
    with ``new_classes=False``, every class is a base class.
    """
    in_pool = pool_mask(features.y, n_pool, np.random.default_rng(0))
    rng = np.random.default_rng(seed)
    n_classes = len(features.names)
    order = rng.permutation(n_classes)
    halves = new_classes and features.T is not None
    n_base = (n_classes + 1) // 2 if halves else n_classes
    y = np.argsort(order)[features.y]
    pool, y_pool = features.X[in_pool], y[in_pool]
    n_max = min(max_shots, int(np.median(np.bincount(y_pool, minlength=n_classes)[:n_base])))
    chosen = []
    for rank, label in enumerate(rng.permutation(n_base)):
        members = rng.permutation(np.flatnonzero(y_pool == label))
        chosen.append(members[: int(max(n_max * ratio ** (rank / max(n_base - 1, 1)), 1))])
    chosen = np.concatenate(chosen)
    return Task(
        X=pool[chosen],
        y=y_pool[chosen],
        X_test=features.X[~in_pool],
        y_test=y[~in_pool],
        T=None if features.T is None else features.T[order],
        names=features.names[order],
        n_base=n_base,
    )


def synthetic_task(n_classes, n_images, d, *, ratio=0.02, n_test=1000, seed=0):
    """A long tail of ``n_classes`` with images, and a tenth as many new classes.

    Concepts and within-class variation lie along few of the ``d`` directions, as in CLIP's
    features. A text is its concept plus noise. The mean image of a class is a linear map of its
    concept plus noise. Texts and images are separated by a modality gap, and images have additional
    noise in all directions. Use it to measure time and memory, and to see whether a method learns.
    """
    rng = np.random.default_rng(seed)
    n_all = n_classes + n_classes // 10
    share = ratio ** np.linspace(0, 1, n_classes)
    counts = 1 + rng.multinomial(n_images - n_classes, share / share.sum())
    y = np.repeat(np.arange(n_classes), counts)
    y_test = rng.integers(n_all, size=n_test)
    spectrum = (1.0 + np.arange(d)) ** -0.75
    spectrum /= np.linalg.norm(spectrum)

    def noise(n):
        return spectrum * rng.normal(size=(n, d))

    concepts = noise(n_all)
    texts = concepts + 0.5 * noise(n_all)
    distortion = rng.normal(size=(d, d)) / np.sqrt(d)
    means = concepts + 0.5 * concepts @ distortion + 0.5 * noise(n_all)
    image_origin, text_origin = np.linalg.qr(rng.normal(size=(d, 2)))[0].T

    def images(labels):
        everywhere = 2 * rng.normal(size=(len(labels), d)) / np.sqrt(d)
        return unit(image_origin + means[labels] + 0.7 * noise(len(labels)) + everywhere)

    names = np.array([f"class {i:04d}" for i in range(n_all)])
    texts = unit(text_origin + texts)
    return Task(images(y), y, images(y_test), y_test, texts, names, n_classes)
