"""Predictions for images with labels, and the lines that sum them up."""

import warnings
from typing import NamedTuple

import numpy as np

from ._printable import printable

MAX_CONFUSIONS = 5  # listed by an evaluation
# Lower bounds of the numbers of training images, as in `skcandle.metrics.shot_band_accuracy`.
BANDS = {">= 20": 20, "5 to 19": 5, "1 to 4": 1, "0": 0}


class Predictions(NamedTuple):
    """Predictions for images.

    Parameters
    ----------
    log_proba : ndarray of shape (n_images, n_classes)
    is_rejected : ndarray of shape (n_images,) of bool
        Images that a RejectingClassifier gives no label.
    n_training : int
        Number of training images.
    is_out_of_fold : bool
        Whether the predictions for training images are those of copies of the model without them.
    """

    log_proba: np.ndarray
    is_rejected: np.ndarray
    n_training: int
    is_out_of_fold: bool


def predictions(classifier, X, contents, is_training=None, unlabelled=None):
    """Predict images, and training images as if the classifier had not seen them.

    Parameters
    ----------
    classifier : RejectingClassifier, CandleClassifier or PublishedCandleClassifier
    X : ndarray of shape (n_images, n_features)
    contents : ndarray of shape (n_images,)
        Digests of the images.
    is_training : bool or None
        Whether all or none are training images; None recognises them.
    unlabelled : ndarray of shape (n_unlabelled, n_features) or None
        Embeddings from which each copy of the model learns.

    Returns
    -------
    predictions : Predictions
    """
    from ..classifier._out_of_fold import training_images

    candle = getattr(classifier, "estimator_", classifier)
    thresholds = getattr(classifier, "thresholds_", None)
    log_proba, is_rejected = candle.predict_log_proba(X), rejected(classifier, X)
    if is_training is False:
        return Predictions(log_proba, is_rejected, 0, False)
    found, copies = training_images(candle, X, contents)
    for rows, smaller in copies or ():
        if unlabelled is not None:
            with warnings.catch_warnings():  # the model itself has warned
                warnings.simplefilter("ignore")
                smaller = smaller.add_unlabeled(unlabelled)
        log_proba[rows] = smaller.predict_log_proba(X[rows])
        is_rejected[rows] = _above(thresholds, smaller, X[rows])
    n_training = len(X) if is_training else int(found.sum())
    is_out_of_fold = copies is not None and n_training == int(found.sum())
    return Predictions(log_proba, is_rejected, n_training, is_out_of_fold)


def rejected(classifier, X):
    """Which images a RejectingClassifier gives no label; none for other classifiers."""
    candle = getattr(classifier, "estimator_", classifier)
    return _above(getattr(classifier, "thresholds_", None), candle, X)


def _above(thresholds, candle, X):
    if thresholds is None:
        return np.zeros(len(X), dtype=bool)
    score, is_new = candle.novelty_score(X, return_is_new=True)
    return score > thresholds[is_new.astype(int)]


def provenance(found):
    """A sentence on training images among the images, or None if there are none."""
    n_images = len(found.log_proba)
    if not found.n_training:
        return None
    which = f"{found.n_training} of the {n_images}"
    if found.n_training == n_images:
        which = f"all {n_images}"
    if found.is_out_of_fold:
        return (
            f"The model was fitted on {which} images. These are predicted with copies of the "
            "model without them, in five folds."
        )
    return (
        f"The model was fitted on {which} images. Predictions for these are better than for new "
        "images, so all numbers are optimistic."
    )


def score_lines(found, candle, y):
    """Yield accuracies and log-losses, over all images and by number of training images.

    Parameters
    ----------
    found : Predictions
    candle : CandleClassifier or PublishedCandleClassifier
    y : ndarray of shape (n_images,) of str
    """
    classes = np.array(list(map(str, candle.classes_)))
    column = np.array([classes.tolist().index(label) for label in y])
    is_right = found.log_proba.argmax(axis=1) == column
    loss = -found.log_proba[np.arange(len(y)), column].astype(float)
    n_images = np.bincount(column, minlength=len(classes))
    with np.errstate(invalid="ignore"):  # classes without images here are NaN
        recall, class_loss = (
            np.bincount(column, weights=values, minlength=len(classes)) / n_images
            for values in (is_right, loss)
        )
    yield f"images                     {len(y)}"
    yield f"accuracy                   {is_right.mean():.3f}"
    yield f"mean per-class accuracy    {np.nanmean(recall):.3f}"
    yield f"log-loss                   {loss.mean():.3f}"
    if found.is_rejected.any():
        answered = ~found.is_rejected
        yield f"images without a label     {found.is_rejected.sum()}"
        if answered.any():
            yield f"accuracy of the others     {is_right[answered].mean():.3f}"
    yield "\ntraining images per class  accuracy  log-loss  (means of classes)"
    end = np.inf
    for name, low in BANDS.items():
        inside = (n_images > 0) & (candle.class_count_ >= low) & (candle.class_count_ < end)
        if inside.any():
            yield f"{name:<27}{recall[inside].mean():<10.3f}{class_loss[inside].mean():.3f}"
        end = low


def base_new_lines(found, candle, y):
    """Yield the accuracies of base and new classes, if there are images of both."""
    from ..metrics import base_new_report

    classes = np.array(list(map(str, candle.classes_)))
    new = classes[candle.is_new_]
    if 0 < np.isin(y, new).sum() < len(y):
        yield f"\n{base_new_report(y, found.log_proba, classes=classes, new_classes=new)}"


def confusion_lines(found, candle, y):
    """Yield the pairs of classes that are most often confused."""
    classes = np.array(list(map(str, candle.classes_)))
    predicted = classes[found.log_proba.argmax(axis=1)]
    wrong = predicted != y
    if not wrong.any():
        return
    pairs, counts = np.unique(
        np.stack([y[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    yield "\nmost frequent confusions"
    for i in np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS]:
        true, answer = map(printable, pairs[i])
        yield f"{counts[i]:>5}  {true} predicted as {answer}"
