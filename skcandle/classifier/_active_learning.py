"""Which images to label next."""

from numbers import Integral

import numpy as np


def choose_rows(proba: np.ndarray, counts: np.ndarray, n_images: int) -> np.ndarray:
    """Choose the images whose labels would help most, one at a time.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities for equally frequent classes; NaN for images that could not be read, which
        are never chosen.
    counts : ndarray of shape (n_classes,)
        Number of labelled images of each class.
    n_images : int

    Returns
    -------
    indices : ndarray of shape (n_images,)
        In the order in which they were chosen.

    Raises
    ------
    TypeError, ValueError
        If `n_images` is not an integer from 1 to the number of images that could be read.
    """
    if not isinstance(n_images, Integral) or isinstance(n_images, bool):
        raise TypeError(f"n_images must be an integer, got {n_images!r}.")
    left = ~np.isnan(proba[:, 0])
    if not 1 <= n_images <= left.sum():
        raise ValueError(
            f"n_images must be between 1 and {left.sum()}, the number of readable images in X, got "
            f"{n_images}."
        )
    counts, chosen = counts.astype(float), []
    for _ in range(n_images):
        best = int(np.argmax(np.where(left, proba @ (1 / (counts + 1)), -np.inf)))
        chosen.append(best)
        left[best] = False
        counts += proba[best]
    return np.array(chosen)
