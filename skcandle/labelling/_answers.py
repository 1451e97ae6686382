"""The classifier that follows from labels, and its answers for many images."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..classifier import CandleClassifier
from ..classifier._embeddings import unit
from ..classifier._logit_weights import CLIP_TEMPERATURE

# Weights of the logits, until enough labels for an estimate are there: the priors of the estimates,
# and an offset of one because the first images of a class say little about all of them.
WEIGHTS: dict[str, Any] = {
    "temperature": CLIP_TEMPERATURE,
    "prototype_weight": 0.1,
    "base_offset": 1.0,
    "single_image_weight": 6.0,
    "max_iter": 0,
}
# With more labels, images are compared to prototypes alone: the single-image term would take longer
# than a person waits.
MAX_SINGLE_IMAGES = 1000
# With fewer labels, images without labels teach, too, unless most classes came with a label: then
# many unlabelled images are of classes that have no name yet. In both cases they lowered the
# accuracy on WHU-RS19, since the weights are fixed. The final fit, which estimates them, gained.
LABELS_PER_CLASS = 4
WITHOUT_SINGLE_IMAGES = WEIGHTS | {"single_image_weight": 0.0}


class Answers(NamedTuple):
    """Answers for some images, one entry per image.

    Parameters
    ----------
    label : ndarray of shape (n,) of int
        Positions in `class_names`; -1 while there is no class. The only class is every answer.
    probability : ndarray of shape (n,)
        Probability of that class, in [0, 1].
    doubt : ndarray of shape (n,)
        One minus the difference of the two largest probabilities, in [0, 1].
    novelty : ndarray of shape (n,)
        Minus the largest logit: higher for images that look less like any class.
    """

    label: np.ndarray
    probability: np.ndarray
    doubt: np.ndarray
    novelty: np.ndarray

    def at(self, rows):
        """The answers of some of the images."""
        return Answers(*(column[rows] for column in self))


class Learner:
    """Makes the classifier that follows from labels.

    It is a function of the classes and the labels, not of how they came about. Nothing is trained,
    so it takes a fraction of a second. While labels are few and the names known, it also learns
    from images without labels, see :meth:`CandleClassifier.add_unlabeled`. This takes longer, so it
    is repeated only after every eighth label if there are from 32 to 63, every 16th up to 127, and
    so on; later labels are added to what was found.

    Parameters
    ----------
    X : ndarray of shape (n_images, n_features)
        Embeddings of all images, of length one.
    text_features_of : callable
        Takes a list of class names; returns their embeddings.
    start : CandleClassifier or None
        A fitted classifier from which the labelling starts.
    sample : ndarray of int
        Rows of the images that teach without labels.
    """

    def __init__(
        self,
        X: np.ndarray,
        text_features_of: Callable,
        start: CandleClassifier | None,
        sample: np.ndarray,
    ) -> None:
        self.X = X
        self.start = start
        self.sample = sample
        self._text_features_of = text_features_of
        self._vectors: dict[str, np.ndarray] = {}
        self._adapted: tuple[Any, CandleClassifier | None] = (None, None)

    def text_features(self, names):
        """Embeddings of class names, of length one; each name is embedded once."""
        unknown = [name for name in names if name not in self._vectors]
        if unknown:
            rows = unit(np.asarray(self._text_features_of(unknown), dtype=self.X.dtype))
            self._vectors.update(zip(unknown, rows, strict=True))
        return dict(zip(names, map(self._vectors.get, names), strict=True))

    def fit(self, class_names, lasting_names, labelled):
        """Make the classifier.

        Parameters
        ----------
        class_names : list of str
        lasting_names : list of str
            Those that did not come with a label.
        labelled : list of (int, str)
            Row and class of each labelled image, in the order in which they were labelled.

        Returns
        -------
        classifier : CandleClassifier or None
            None if there are less than two classes.
        """
        if len(class_names) < 2:
            return None
        weights = WEIGHTS if len(labelled) <= MAX_SINGLE_IMAGES else WITHOUT_SINGLE_IMAGES
        n_needed = LABELS_PER_CLASS * len(class_names)
        if len(labelled) >= n_needed or 2 * len(lasting_names) < len(class_names):
            return self.grown(class_names, sorted(labelled), weights)
        n_first = _rounded_down(len(labelled))
        first, later = sorted(labelled[:n_first]), sorted(labelled[n_first:])
        known = {*lasting_names, *(name for _, name in first)}
        key = [name for name in class_names if name in known], first, weights
        if key != self._adapted[0]:
            labelled_rows = [row for row, _ in first]
            unlabeled = self.X[np.setdiff1d(self.sample, labelled_rows)]
            with warnings.catch_warnings():  # the page says how well the classes fit
                warnings.filterwarnings("ignore", "Most unlabelled images look like none")
                self._adapted = key, self.grown(*key).add_unlabeled(unlabeled)
        return self._with_images(self._with_names(self._adapted[1], class_names), later)

    def grown(self, names, labelled, weights=WEIGHTS):
        """A classifier that has learned from names and labels only."""
        classifier = self.start
        if classifier is None:
            text = self.text_features(names)
            classifier = CandleClassifier(new_classes=names, text_encoder=text, **weights)
            classifier.fit(self.X[:0], [])
        return self._with_images(self._with_names(classifier, names), labelled)

    def _with_names(self, classifier, names):
        known = set(classifier.classes_.tolist())
        new: Any = [name for name in names if name not in known]
        if new and self.start is None:
            new = self.text_features(new)
        return classifier.add_classes(new) if new else classifier

    def _with_images(self, classifier, labelled):
        if not labelled:
            return classifier
        rows, names = zip(*labelled, strict=True)
        return classifier.add_images(self.X[list(rows)], list(names))


def answers_of(classifier, X, class_names):
    """Answers of a classifier for images.

    Parameters
    ----------
    classifier : CandleClassifier or None
        None if there are less than two classes.
    X : ndarray of shape (n, n_features)
    class_names : list of str

    Returns
    -------
    answers : Answers
    """
    if classifier is None or not len(X):  # the only class is the answer
        n_classes, nothing = len(class_names), np.zeros(len(X), dtype=np.float32)
        return Answers(np.full(len(X), n_classes - 1), nothing + n_classes, nothing + 1, nothing)
    best, *rest = classifier._in_blocks(X, _summary)
    positions = {name: i for i, name in enumerate(class_names)}
    columns = np.array([positions[name] for name in classifier.classes_.tolist()])
    return Answers(columns[best], *rest)


def _summary(logits):
    """The fields of :class:`Answers` from logits, with columns of the classifier as labels."""
    rows, best = np.arange(len(logits)), logits.argmax(axis=1)
    largest = logits[rows, best]
    proba = np.exp(logits - largest[:, None])
    proba /= proba.sum(axis=1, keepdims=True)
    first = proba[rows, best]
    proba[rows, best] = 0
    return best, first, 1 - (first - proba.max(axis=1)), -largest


def _rounded_down(n):
    """The integer n with all but its first three binary digits set to zero."""
    unused = max(n.bit_length() - 3, 0)
    return n >> unused << unused
