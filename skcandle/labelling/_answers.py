"""The classifier that follows from labels, and its answers for many images."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from ..classifier import CandleClassifier
from ..classifier._embeddings import unit
from ..classifier._logit_weights import CLIP_TEMPERATURE
from ..classifier._text_features import class_text_encoder

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
WITHOUT_SINGLE_IMAGES = WEIGHTS | {"single_image_weight": 0.0}
# With fewer labels, images without labels teach, too, unless most classes came with a label: then
# many unlabelled images are of classes that have no name yet. In both cases they lowered the
# accuracy on WHU-RS19, since the weights are fixed. The final fit, which estimates them, gained.
LABELS_PER_CLASS = 4
N_UNLABELED = 500  # images that teach without labels while one labels


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
        """The answers for some of the images."""
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
    text_encoder, templates
        As for :class:`CandleClassifier`.
    start : CandleClassifier or None
        A fitted classifier from which the labelling starts.
    sample : ndarray of int
        Rows of the images that teach without labels.
    """

    def __init__(self, X, text_encoder, templates, start, sample):
        self.X = X
        self.text_encoder, self.templates = text_encoder, templates
        self.start = start
        self.sample = sample
        self._vectors: dict[str, np.ndarray] = {}
        self._adapted: tuple[Any, Any] = (None, None)

    def text_features(self, names):
        """Embeddings of class names, of length one, by name; each name is embedded once."""
        unknown = [name for name in names if name not in self._vectors]
        if unknown:
            width = self.X.shape[1]
            encoder, reason = class_text_encoder(self.text_encoder, self.templates, width, "auto")
            if encoder is None:
                raise ValueError(f"Classes need a text_encoder, but {reason}.")
            rows = unit(np.asarray(encoder(unknown, unknown, width), dtype=self.X.dtype))
            self._vectors.update(zip(unknown, rows, strict=True))
        return {name: self._vectors[name] for name in names}

    def word_features(self, words):
        """The embedding of a text, of length one."""
        if not isinstance(words, str) or not words.strip():
            raise ValueError(f"words must be a text to search for, got {words!r}.")
        encode = getattr(self.text_encoder, "encode_text", self.text_encoder)
        if not callable(encode):
            raise ValueError("Search by words needs a text_encoder that embeds any text.")
        return unit(np.asarray(encode([words]), dtype=self.X.dtype))[0]

    def fit(self, class_names, lasting_names, labelled):
        """The classifier, or None if there are less than two classes.

        Parameters
        ----------
        class_names : list of str
        lasting_names : list of str
            Those that did not come with a label.
        labelled : list of (int, str)
            Row and class of each labelled image, in the order in which they were labelled.
        """
        if len(class_names) < 2:
            return None
        weights = WEIGHTS if len(labelled) <= MAX_SINGLE_IMAGES else WITHOUT_SINGLE_IMAGES
        n_needed = LABELS_PER_CLASS * len(class_names)
        if len(labelled) >= n_needed or 2 * len(lasting_names) < len(class_names):
            return self._grown(class_names, sorted(labelled), weights)
        n_first = _rounded_down(len(labelled))
        first, later = sorted(labelled[:n_first]), sorted(labelled[n_first:])
        known = {*lasting_names, *(name for _, name in first)}
        key = [name for name in class_names if name in known], first, weights
        if key != self._adapted[0]:
            unlabeled = self.X[np.setdiff1d(self.sample, [row for row, _ in first])]
            with warnings.catch_warnings():  # the page says how well the classes fit
                warnings.filterwarnings("ignore", "Most unlabelled images look like none")
                self._adapted = key, self._grown(*key).add_unlabeled(unlabeled)
        return self._extended(self._adapted[1], class_names, later)

    def fit_with_weights(self, class_names, labelled):
        """A classifier with estimated weights, which takes longer, or one grown from the start."""
        labelled = sorted(labelled)
        if self.start is not None:
            return self._grown(class_names, labelled)
        y = [name for _, name in labelled]
        classifier = CandleClassifier(
            new_classes=sorted(set(class_names).difference(y)),
            text_encoder=self.text_encoder,
            templates=self.templates,
        )
        return classifier.fit(self.X[[row for row, _ in labelled]], y)

    def _grown(self, names, labelled, weights=WEIGHTS):
        """A classifier that has learned from names and labels only."""
        classifier = self.start
        if classifier is None:
            text = self.text_features(names)
            classifier = CandleClassifier(new_classes=names, text_encoder=text, **weights)
            classifier.fit(self.X[:0], [])
        return self._extended(classifier, names, labelled)

    def _extended(self, classifier, names, labelled):
        """A classifier with further names and labels."""
        known = set(classifier.classes_.tolist())
        new: Any = [name for name in names if name not in known]
        if new:
            classifier = classifier.add_classes(
                new if self.start is not None else self.text_features(new)
            )
        if labelled:
            rows, y = zip(*labelled, strict=True)
            classifier = classifier.add_images(self.X[list(rows)], list(y))
        return classifier


def answers_of(classifier, X, class_names):
    """The :class:`Answers` of a classifier, or None with less than two classes, for rows of X."""
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
