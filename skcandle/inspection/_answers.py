"""What a fitted pipeline says about images: embeddings, answers, and how new an image is."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from .._sklearn_private import wrap_data_with_container
from ..classifier import CandleClassifier
from ._fitted import is_readable, rows_of, shown_as, shown_labels, zero_shot_log_proba

N_FOLDS = 5


@dataclass(frozen=True)
class Answers:
    """Answers for the images that could be read.

    Attributes
    ----------
    positions : ndarray of shape (n_readable,) of int
        Positions among all images.
    X : ndarray of shape (n_readable, n_features)
        Unit rows.
    classes : ndarray of shape (n_classes,)
        Labels as readers are shown them, as in `y` and `zero_shot`.
    y_proba : ndarray of shape (n_readable, n_classes)
    y : ndarray of shape (n_readable,) or None
        Given labels.
    zero_shot : ndarray of shape (n_readable,) or None
        Answers of zero-shot CLIP.
    novelty : ndarray of shape (n_readable,)
        The larger, the less an image looks like any class.
    is_training : bool
        Whether these are the training images.
    is_cross_validated : bool
        Whether each answer is that of a classifier that did not see the image.
    """

    positions: np.ndarray
    X: np.ndarray
    classes: np.ndarray
    y_proba: np.ndarray
    y: np.ndarray | None
    zero_shot: np.ndarray | None
    novelty: np.ndarray
    is_training: bool
    is_cross_validated: bool

    @cached_property
    def y_pred(self):
        """Most probable class, of shape (n_readable,)."""
        return self.classes[self.y_proba.argmax(axis=1)]

    @cached_property
    def confidence(self):
        """Its probability, of shape (n_readable,)."""
        return self.y_proba.max(axis=1)


def embed(featurizer, images):
    """Embeddings of all images, with rows of NaN for those that cannot be read.

    Parameters
    ----------
    featurizer : Pipeline
        Steps before the classifier.
    images : list
        See :func:`skcandle._images.inputs.as_image_list`.

    Returns
    -------
    rows : ndarray or DataFrame of shape (n_images, n_features)
    reasons : dict of int to str
        What is wrong with the images that cannot be read, as far as the first step tells it.
    """
    from ..clip._featurizer import embed_images, is_featurizer  # open_clip takes seconds to import

    clip = featurizer[0]
    if not is_featurizer(clip):
        return featurizer.transform(images), {}
    result = embed_images(clip, images)
    readable = result.readable
    if not readable:
        raise result.error()
    rows = wrap_data_with_container("transform", result.rows[readable], images, clip)
    if len(featurizer) > 1:
        rows = featurizer[1:].transform(rows)
    if not result.reasons:
        return rows, {}
    if hasattr(rows, "iloc"):  # a DataFrame, whose column names the classifier may know
        return rows.set_axis(readable).reindex(range(len(images))), result.reasons
    everything = np.full((len(images), rows.shape[1]), np.nan, dtype=rows.dtype)
    everything[readable] = rows
    return everything, result.reasons


def answer(classifier, rows, y, is_training="auto"):
    """Answers of a fitted classifier.

    Parameters
    ----------
    classifier : object
    rows : ndarray or DataFrame of shape (n_images, n_features)
        At least one row is finite.
    y : ndarray of shape (n_images,) or None
        Given labels.
    is_training : bool or "auto"
        Whether these are the training images.

    Returns
    -------
    answers : Answers
    """
    readable = is_readable(rows)
    if is_training == "auto":
        is_training = y is not None and _counts_agree(classifier, y[readable])
    X, y = rows_of(rows, readable), None if y is None else y[readable]
    y_proba = None
    if is_training and y is not None:
        y_proba = out_of_fold_proba(classifier, np.asarray(X), y)
    zero_shot = zero_shot_log_proba(classifier, X)
    classes = shown_labels(classifier)
    return Answers(
        positions=np.flatnonzero(readable),
        X=normalize(np.asarray(X)),
        classes=classes,
        y_proba=classifier.predict_proba(X) if y_proba is None else y_proba,
        y=None if y is None else shown_as(classifier, y),
        zero_shot=None if zero_shot is None else classes[zero_shot.argmax(axis=1)],
        novelty=_novelty(classifier, X),
        is_training=bool(is_training),
        is_cross_validated=y_proba is not None,
    )


def out_of_fold_proba(classifier, X, y):
    """Probabilities of each image by a classifier that was fitted without it.

    A :class:`skcandle.CandleClassifier` keeps the weights it has estimated and the projection is
    not trained, so that a fold takes no longer than a closed form. A class all of whose images
    are in a fold is a new class there.

    Parameters
    ----------
    classifier : object
        Fitted.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)

    Returns
    -------
    y_proba : ndarray of shape (n_samples, n_classes) or None
        None for other classifiers, without text, and for a single image.
    """
    text = getattr(classifier, "text_features_", None)
    if not isinstance(classifier, CandleClassifier) or text is None or len(y) < 2:
        return None
    classes = classifier.classes_.tolist()
    names = classes if classifier.class_names_ is None else classifier.class_names_
    copy = clone(classifier).set_params(
        new_classes=None,
        class_names=dict(zip(classes, names, strict=True)),
        text_encoder=dict(zip(classes, text, strict=True)),
        temperature=classifier.temperature_,
        prototype_weight=classifier.prototype_weight_,
        base_offset=classifier.base_offset_,
        max_iter=0,
        verbose=0,
    )
    y_proba = np.empty((len(y), len(classes)))
    for train, test in KFold(min(N_FOLDS, len(y)), shuffle=True, random_state=0).split(X):
        y_proba[test] = clone(copy).fit(X[train], y[train]).predict_proba(X[test])
    return y_proba


def _counts_agree(classifier, y):
    """Whether every class has as many images here as it had in training."""
    if not hasattr(classifier, "class_count_"):
        return False
    labels, counts = np.unique(y, return_counts=True)
    trained = ~classifier.is_new_
    return np.array_equal(labels, classifier.classes_[trained]) and np.array_equal(
        counts, classifier.class_count_[trained]
    )


def _novelty(classifier, X):
    """Largest joint logit with its sign turned, unless the classifier has a score of its own."""
    if hasattr(classifier, "novelty_score"):
        return np.asarray(classifier.novelty_score(X), dtype=float)
    if hasattr(classifier, "decision_function") and len(classifier.classes_) > 2:
        return -np.asarray(classifier.decision_function(X), dtype=float).max(axis=1)
    return 1 - np.asarray(classifier.predict_proba(X), dtype=float).max(axis=1)
