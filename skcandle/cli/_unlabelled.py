"""Images without labels, from which a classifier learns."""

import numpy as np

from ._failures import say


def check_learns(classifier, model_file):
    """Raise an error if a classifier cannot learn from images without labels."""
    if not hasattr(classifier, "add_unlabeled"):
        inner = getattr(classifier, "estimator_", classifier)
        raise ValueError(
            f"--adapt needs a model from `skcandle fit`; {str(model_file)!r} holds a "
            f"{type(inner).__name__}, which cannot learn from images without labels."
        )


def without_training_images(classifier, X, contents):
    """Rows of readable images that the classifier was not fitted on, because these have labels.

    Parameters
    ----------
    classifier : RejectingClassifier or CandleClassifier
    X : ndarray of shape (n_images, n_features)
        Rows of NaN for images that cannot be read.
    contents : ndarray of shape (n_images,)
        Digests of the images.

    Returns
    -------
    X : ndarray of shape (n_unlabelled, n_features)
    """
    candle = getattr(classifier, "estimator_", classifier)
    X, contents = X[~np.isnan(X[:, 0])], contents[~np.isnan(X[:, 0])]
    entries = candle._training_images.entries_of(X, contents)
    is_training = np.array([bool(found) for found in entries], dtype=bool)
    if is_training.any():
        say(
            f"Note: {is_training.sum()} of {len(X)} images are training images with labels, from "
            "which the model learns nothing more."
        )
    return X[~is_training]


def learn(classifier, X):
    """Return a classifier that has learned from images without labels, and say what changed.

    Parameters
    ----------
    classifier : RejectingClassifier or CandleClassifier
    X : ndarray of shape (n_images, n_features)
        Embeddings of images that could be read.

    Returns
    -------
    adapted : object
        A fitted copy.
    """
    if not len(X):
        say("There are no images without labels to learn from.")
        return classifier
    adapted = classifier.add_unlabeled(X)
    before, after = classifier.predict(X), adapted.predict(X)
    changed = before != after
    affected = np.union1d(before[changed], after[changed])
    n_classes = np.isin(adapted.classes_, affected).sum()
    said = "none of their answers changed"
    if changed.any():
        said = f"{changed.sum()} of their answers changed, in {_number(n_classes, 'class', 'es')}"
    say(f"Learned from {_number(len(X), 'image', 's')} without labels: {said}.")
    return adapted


def _number(n, noun, plural):
    return f"{n} {noun}{'' if n == 1 else plural}"
