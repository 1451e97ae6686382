"""The settings of the paper: which images are used for training, what is tested, and how.

Base classes are the first half of the classes in label order. Few-shot training images are drawn at
random. A long tail starts from at most 100 images per class. From the largest class to the
smallest, the number of images falls exponentially from the size of the largest.
"""

from dataclasses import replace

import numpy as np
from scipy.special import softmax
from scipy.stats import hmean
from sklearn.utils import gen_batches

from benchmarks.accuracy.protocol import Task, unit
from benchmarks.paper.official import InputError
from skcandle.datasets import make_long_tailed
from skcandle.metrics import base_new_report, expected_calibration_error
from skcandle.model_selection import base_new_split

MAX_IMAGES = 100  # of a class in a long tail
SETTINGS = {
    "base-to-new": "--shots images of each base class; tests on base and new classes",
    "long-tail": "a long tail of base classes; tests on base and new classes",
    "few-shot": "--shots images of each class; tests on all classes",
    "cross-dataset": "a long tail of ImageNet; tests on data sets known by class names only",
    "domain": "a long tail of ImageNet; tests on its variants",
}
OF_IMAGENET = ("cross-dataset", "domain")
WITH_NEW_CLASSES = ("base-to-new", "long-tail")
# Quantities in the order of the table; all except seconds are between 0 and 1.
MEASURED = {
    True: ("base", "new", "H", "H_joint", "AUSUC", "ECE", "seconds"),
    False: ("accuracy", "ECE", "seconds"),
}


def n_base_classes(setting, n_classes):
    """Number of classes with training images, which are the first ones."""
    if setting not in WITH_NEW_CLASSES:
        return n_classes
    return len(base_new_split(np.arange(n_classes), order="sorted")[0])


def draw_training(images, n_base, seed, *, shots=None, ratio=None):
    """Positions of training images: ``shots`` of each class, or a tail of imbalance ``ratio``.

    Parameters
    ----------
    images : ImageSet
    n_base : int
        Only the first classes have training images.
    seed : int
    shots, ratio : int, float
        Exactly one of the two.

    Returns
    -------
    positions : ndarray of shape (n_selected,)
    """
    base = np.flatnonzero(images.y_train < n_base)
    y = images.y_train[base]
    if shots is None:
        return base[draw_tail(y, ratio, seed)]
    counts = np.bincount(y, minlength=n_base)
    if counts.min() < shots:
        raise InputError(
            f"{images.data.name}: the class {images.names[counts.argmin()]!r} has {counts.min()} "
            f"training images (split: {images.split}), fewer than --shots {shots}. Choose --shots "
            f"{counts.min()} or fewer."
        )
    return base[make_long_tailed(y, imbalance_ratio=1, n_max=shots, random_state=seed)]


def draw_tail(y, ratio, seed):
    """Positions of a long tail that keeps the order of the class sizes."""
    rng = np.random.RandomState(seed)
    most = make_long_tailed(y, imbalance_ratio=1, n_max=MAX_IMAGES, random_state=rng)
    tail = make_long_tailed(
        y[most], imbalance_ratio=ratio, n_max="max", order="natural", random_state=rng
    )
    return most[tail]


class EncodedSet:
    """Embeddings of a data set: texts, test images, and the training images of each seed.

    Parameters
    ----------
    images : ImageSet
    positions : dict of int to ndarray
        Positions of the training images for each seed; empty if none are needed.
    featurizer : CLIPFeaturizer
    """

    def __init__(self, images, positions, featurizer):
        self.images, self.positions = images, positions
        template = images.data.template
        prompts = [template.replace("{}", name) for name in images.names]
        self.T = unit(featurizer.encode_text(prompts))
        self.X_test = unit(featurizer.transform(images.test))
        self.needed = np.unique(np.concatenate([[], *positions.values()])).astype(int)
        if len(self.needed):
            self.X_needed = unit(featurizer.transform(images.train[self.needed]))

    def training(self, seed):
        """Embeddings and labels of the training images of a seed."""
        positions = self.positions[seed]
        return (
            self.X_needed[np.searchsorted(self.needed, positions)],
            self.images.y_train[positions],
        )

    @property
    def labels(self):
        """One label per class, different from those of all other data sets."""
        return [f"{self.images.data.name} {id}" for id in self.images.ids]


def own_task(encoded, n_base, seed):
    """Training and test images of one data set, whose first classes are base classes."""
    X, y = encoded.training(seed)
    return Task(
        X=X,
        y=y,
        X_test=encoded.X_test,
        y_test=encoded.images.y_test,
        T=encoded.T,
        names=np.array(encoded.labels),
        n_base=n_base,
    )


def cross_task(source, target, seed):
    """Training images of the source, with the classes and test images of the target as new."""
    n_base = len(source.T)
    return replace(
        own_task(source, n_base, seed),
        X_test=target.X_test,
        y_test=target.images.y_test + n_base,
        T=np.concatenate([source.T, target.T]),
        names=np.array(source.labels + target.labels),
    )


def domain_task(source, target, seed):
    """Training images of the source, and test images of a variant with some of its classes.

    Returns
    -------
    task : Task
    columns : ndarray of int
        Classes of the variant among those of the source, ascending.
    """
    position = {id: label for label, id in enumerate(source.images.ids)}
    unknown = [id for id in target.images.ids if id not in position]
    if unknown:
        raise InputError(
            f"{target.images.data.name} has the class {unknown[0]!r}, for which ImageNet has no "
            "training images. Unpack ImageNet again."
        )
    columns = np.array([position[id] for id in target.images.ids])
    task = replace(
        own_task(source, len(source.T), seed),
        X_test=target.X_test,
        y_test=columns[target.images.y_test],
    )
    return task, np.sort(columns)


def scores_of(score, X, n_rows=4096):
    """Scores against all classes, computed in blocks of rows."""
    blocks = [np.asarray(score(X[rows]), dtype=float) for rows in gen_batches(len(X), n_rows)]
    return np.concatenate(blocks)


def evaluate_base_new(scores, y, n_base):
    """Accuracy over images in separate spaces, and quantities of the joint space.

    The joint ones come from :func:`skcandle.metrics.base_new_report` and are averages over classes.
    """
    of_base, classes = y < n_base, np.arange(scores.shape[1])
    base = np.mean(scores[of_base, :n_base].argmax(axis=1) == y[of_base])
    new = np.mean(scores[~of_base, n_base:].argmax(axis=1) + n_base == y[~of_base])
    report = base_new_report(
        y, scores, classes=classes, new_classes=classes[n_base:], output_dict=True
    )
    return {
        "base": float(base),
        "new": float(new),
        "H": float(hmean([base, new])),
        "H_joint": report["joint_harmonic_mean"],
        "AUSUC": report["ausuc"],
        "ECE": report["ece"],
    }


def evaluate_among(scores, y, columns):
    """Accuracy over images, and calibration, when choosing among ``columns`` (ascending)."""
    columns = np.arange(scores.shape[1])[columns]
    proba = softmax(scores[:, columns], axis=1)
    return {
        "accuracy": float(np.mean(columns[proba.argmax(axis=1)] == y)),
        "ECE": expected_calibration_error(y, proba, classes=columns),
    }
