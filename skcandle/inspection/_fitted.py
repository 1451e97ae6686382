"""Parts of a fitted pipeline: embeddings, the classifier, and zero-shot CLIP for comparison."""

import numpy as np
from scipy.special import log_softmax
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._embeddings import model_of
from .._labels import is_textual
from ..classifier._base import check_made_by
from ..classifier._zero_shot import zero_shot_logits


def split_pipeline(estimator):
    """Split a fitted pipeline into the steps that compute embeddings, and the classifier.

    Parameters
    ----------
    estimator : object
        A fitted pipeline, or a search over one.

    Returns
    -------
    featurizer : Pipeline
    classifier : object

    Raises
    ------
    TypeError
        If it is not a pipeline of at least two steps, or its last step has no `predict_proba`.
    NotFittedError
        If the classifier is not fitted.
    """
    pipe = best_estimator(estimator)
    if not isinstance(pipe, Pipeline) or len(pipe.steps) < 2:
        raise TypeError(
            "pipe must be a fitted pipeline of a featurizer and a classifier, as "
            f"make_candle_pipeline makes, got {type(pipe).__name__}."
        )
    return pipe[:-1], check_classifier(pipe[-1])


def embeddings_and_classifier(estimator, X):
    """Embeddings that the last step of an estimator receives, and that step.

    Parameters
    ----------
    estimator : object
        A fitted pipeline, which takes images, a fitted classifier, which takes embeddings, or a
        search over either.
    X : list or array
        Images or embeddings.

    Returns
    -------
    X : ndarray or DataFrame of shape (n_samples, n_features)
    classifier : object

    Raises
    ------
    ModelError
        If embeddings are known to be from another CLIP than those of the fit.
    """
    estimator = best_estimator(estimator)
    if not isinstance(estimator, Pipeline):
        classifier = check_classifier(estimator)
        check_made_by(model_of(X), classifier)
        return X, classifier
    featurizer, classifier = split_pipeline(estimator)
    return featurizer.transform(X), classifier


def readable_part(estimator, X, y):
    """Embeddings and labels of the readable images, and the classifier.

    Parameters
    ----------
    estimator, X : object
        See :func:`embeddings_and_classifier`.
    y : array-like of shape (n_samples,)

    Returns
    -------
    X : ndarray or DataFrame of shape (n_readable, n_features)
    y : ndarray of shape (n_readable,)
    classifier : object
    """
    check_consistent_length(X, y)
    X, classifier = embeddings_and_classifier(estimator, X)
    readable = is_readable(X)
    if not readable.any():
        raise ValueError("X has no row of finite numbers; none of the images could be read.")
    return rows_of(X, readable), np.asarray(y)[readable], classifier


def is_readable(X):
    """Which rows are finite; a featurizer may return rows of NaN for unreadable images."""
    return np.isfinite(np.asarray(X, dtype=float)).all(axis=1)


def rows_of(X, mask):
    """Rows of an array, or of a DataFrame, whose column names are kept for the classifier."""
    return X if mask.all() else (X if hasattr(X, "iloc") else np.asarray(X))[mask]


def shown_labels(classifier):
    """How to display each of `classes_`: strings as they are, numbers by their class names.

    Parameters
    ----------
    classifier : object
        Fitted.

    Returns
    -------
    labels : ndarray of shape (n_classes,)
    """
    classes, names = np.asarray(classifier.classes_), getattr(classifier, "class_names_", None)
    if names is None or is_textual(classes):
        return classes
    return np.array([name if isinstance(name, str) else ", ".join(name) for name in names])


def shown_as(classifier, y):
    """Labels as :func:`shown_labels` displays them.

    Parameters
    ----------
    classifier : object
        Fitted.
    y : ndarray of shape (n_samples,)

    Returns
    -------
    y : ndarray of shape (n_samples,)
        If classes are displayed by name, unknown numbers become strings of digits.
    """
    shown = shown_labels(classifier)
    if not is_textual(shown) or is_textual(np.asarray(classifier.classes_)):
        return y
    names = dict(zip(classifier.classes_.tolist(), shown.tolist(), strict=True))
    return np.array([names.get(label, str(label)) for label in y.tolist()])


def zero_shot_log_proba(classifier, X):
    """Log-probabilities of zero-shot CLIP, at its own temperature.

    Parameters
    ----------
    classifier : object
        Fitted. It has `text_features_` if it knows the names of its classes.
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    log_proba : ndarray of shape (n_samples, n_classes) or None
        Columns follow `classes_`. None without text.
    """
    text = getattr(classifier, "text_features_", None)
    if text is None:
        return None
    return log_softmax(zero_shot_logits(X, text), axis=1)


def best_estimator(estimator):
    """The best estimator of a search; any other estimator is returned unchanged."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    return estimator


def check_classifier(classifier):
    """Return a fitted classifier with `predict_proba`; anything else is an error."""
    if not hasattr(classifier, "predict_proba"):
        raise TypeError(
            "The last step must be a classifier with predict_proba, got "
            f"{type(classifier).__name__}."
        )
    check_is_fitted(classifier)
    return classifier
