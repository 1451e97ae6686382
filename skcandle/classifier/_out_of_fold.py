"""Training images among other images, and copies of a classifier without them."""

from copy import copy

import numpy as np
from sklearn.model_selection import KFold

from ._candle import CandleClassifier
from ._rejecting import unfrozen

N_FOLDS = 5


def training_images(classifier, X, contents=None):
    """Find training images, and copies of the classifier that can answer for them.

    A copy leaves out one fold of the images found, in closed form. It keeps the estimated weights
    of the logits. Its prototypes and covariance are those of the other training images, and its
    projection is not trained. A class that loses all its images is a new class of the copy. What
    was learned from unlabelled images stays, although their answers depended on all labels.

    Parameters
    ----------
    classifier : object
        Fitted, and perhaps frozen. Training images of classifiers of other libraries are not known.
    X : ndarray of shape (n_samples, n_features)
        Embeddings.
    contents : ndarray of shape (n_samples,) and dtype uint64, default=None
        See :func:`content_digests`.

    Returns
    -------
    is_training : ndarray of shape (n_samples,) of bool
    copies : iterator of (ndarray of int, CandleClassifier), or None
        Rows of `X` and a copy without these images, for all training images in at most five folds.
        None if there are none, and for a classifier that needs all its images: without text, or
        of another type than :class:`CandleClassifier`.
    """
    classifier = unfrozen(classifier)
    known = getattr(classifier, "_training_images", None)
    if known is None:
        return np.zeros(len(X), dtype=bool), None
    entries = known.entries_of(X, contents)
    is_training = np.array([bool(found) for found in entries], dtype=bool)
    rows = np.flatnonzero(is_training)
    folds = [rows]
    if len(rows) > 1:
        split = KFold(min(N_FOLDS, len(rows)), shuffle=True, random_state=0).split(rows)
        folds = [rows[test] for _, test in split]
    left_out = [{entry: row for row in fold for entry in entries[row]} for fold in folds]
    if (
        not isinstance(classifier, CandleClassifier)
        or classifier.text_features_ is None
        or not len(rows)
        or max(map(len, left_out)) == len(known.columns)
    ):
        return is_training, None
    pairs = zip(folds, left_out, strict=True)
    return is_training, ((fold, _without(classifier, X, row_of)) for fold, row_of in pairs)


def _without(classifier, X, row_of):
    """A copy of a classifier without some entries, which have these rows of `X`."""
    known, model = classifier._training_images, classifier._model
    entries, rows = list(row_of), list(row_of.values())
    smaller = copy(classifier)
    smaller._model = model.without_images(
        model.rows_of(X[rows]),
        known.columns[entries],
        known.weights[entries],
        known.embeddings[entries],
        classifier._device_for(len(rows)),
    )
    smaller._set_classes(smaller._columns)
    return smaller
