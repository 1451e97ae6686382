"""What a fitted pipeline says about images: embeddings, answers, and how new an image is."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.preprocessing import normalize

from .._sklearn_private import wrap_data_with_container
from ..classifier import RejectingClassifier
from ..classifier._out_of_fold import training_images
from ..classifier._training_images import content_digests
from ._fitted import is_readable, rows_of, shown_as, shown_labels, zero_shot_log_proba


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
    n_training : int
        Number of training images among them.
    is_cross_validated : bool
        Whether the answers for these are those of classifiers that did not see them.
    """

    positions: np.ndarray
    X: np.ndarray
    classes: np.ndarray
    y_proba: np.ndarray
    y: np.ndarray | None
    zero_shot: np.ndarray | None
    novelty: np.ndarray
    n_training: int
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
    contents : ndarray of shape (n_images,) or None
        Digests of the images, if the first step tells them.
    """
    from ..clip._featurizer import embed_images, is_featurizer  # open_clip takes seconds to import

    clip = featurizer[0]
    if not is_featurizer(clip):
        return featurizer.transform(images), {}, None
    result = embed_images(clip, images)
    contents = content_digests(result.digests)
    readable = result.readable
    if not readable:
        raise result.error()
    rows = wrap_data_with_container("transform", result.rows[readable], images, clip)
    if len(featurizer) > 1:
        rows = featurizer[1:].transform(rows)
    if not result.reasons:
        return rows, {}, contents
    if hasattr(rows, "iloc"):  # a DataFrame, whose column names the classifier may know
        return rows.set_axis(readable).reindex(range(len(images))), result.reasons, contents
    everything = np.full((len(images), rows.shape[1]), np.nan, dtype=rows.dtype)
    everything[readable] = rows
    return everything, result.reasons, contents


def answer(classifier, rows, y, is_training="auto", contents=None):
    """Answers of a fitted classifier.

    Parameters
    ----------
    classifier : object
    rows : ndarray or DataFrame of shape (n_images, n_features)
        At least one row is finite.
    y : ndarray of shape (n_images,) or None
        Given labels.
    is_training : bool or "auto"
        Whether these are training images; ``"auto"`` compares them with the training images.
    contents : ndarray of shape (n_images,) or None
        See :func:`embed`.

    Returns
    -------
    answers : Answers
    """
    readable = is_readable(rows)
    X, y = rows_of(rows, readable), None if y is None else y[readable]
    y_proba, n_training, copies = classifier.predict_proba(X), 0, None
    if is_training:
        contents = None if contents is None else contents[readable]
        candle = classifier
        if isinstance(classifier, RejectingClassifier):
            candle = classifier.estimator_
        found, copies = training_images(candle, np.asarray(X), contents)
        n_training = len(X) if is_training is True else int(found.sum())
        for fold, copy in copies or ():
            is_in_fold = np.isin(np.arange(len(y_proba)), fold)
            y_proba[is_in_fold] = copy.predict_proba(rows_of(X, is_in_fold))
    zero_shot = zero_shot_log_proba(classifier, X)
    classes = shown_labels(classifier)
    return Answers(
        positions=np.flatnonzero(readable),
        X=normalize(np.asarray(X)),
        classes=classes,
        y_proba=y_proba,
        y=None if y is None else shown_as(classifier, y),
        zero_shot=None if zero_shot is None else classes[zero_shot.argmax(axis=1)],
        novelty=_novelty(classifier, X),
        n_training=n_training,
        is_cross_validated=copies is not None and n_training == int(found.sum()),
    )


def _novelty(classifier, X):
    """Largest joint logit with its sign turned, unless the classifier has a score of its own."""
    if hasattr(classifier, "novelty_score"):
        return np.asarray(classifier.novelty_score(X), dtype=float)
    if hasattr(classifier, "decision_function") and len(classifier.classes_) > 2:
        return -np.asarray(classifier.decision_function(X), dtype=float).max(axis=1)
    return 1 - np.asarray(classifier.predict_proba(X), dtype=float).max(axis=1)
