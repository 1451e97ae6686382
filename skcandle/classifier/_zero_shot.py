"""Zero-shot CLIP, which knows classes by name only."""

import numpy as np

from ._logit_weights import CLIP_TEMPERATURE


def zero_shot_logits(X, text_features):
    """Cosines of images and class names, divided by CLIP's own temperature.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Image embeddings of any length. A row with NaN gives a row of NaN.
    text_features : ndarray of shape (n_classes, n_features)
        Text embeddings of the class names; rows are of unit length.

    Returns
    -------
    logits : ndarray of shape (n_samples, n_classes)
        Their softmax are the probabilities of zero-shot CLIP.
    """
    X = np.asarray(X, dtype=np.float64)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X @ text_features.T / (CLIP_TEMPERATURE * np.where(length == 0, 1, length))
