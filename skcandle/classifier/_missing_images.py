"""Images that could not be read: rows of NaN, and the answers for them."""

import numpy as np

from .._labels import is_textual, type_for, with_answer
from .._warnings import warn_user
from ..exceptions import UnreadableImageWarning

MISSING = -1  # the position of the class, and the answer where labels are numbers


def missing_rows(X, start=0):
    """Find rows that are all NaN; a row with some NaN is an error.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    start : int
        Number of the first row, for the error message.

    Returns
    -------
    missing : ndarray of shape (n_samples,) of bool
    """
    is_nan = np.isnan(X)
    missing = is_nan.all(axis=1)
    broken = is_nan.any(axis=1) & ~missing
    if broken.any():
        raise ValueError(
            f"Input X contains NaN: row {start + broken.argmax()} has {is_nan[broken][0].sum()} of "
            "them. A row must be all NaN, for an image that could not be read, or have none."
        )
    return missing


def warn_left_out(missing, y=None):
    """Warn that images are left out, and about classes that lose all their images.

    Parameters
    ----------
    missing : ndarray of shape (n_samples,) of bool
    y : ndarray of shape (n_samples,), optional
        Labels, if the images have any.

    Raises
    ------
    ValueError
        If no image is left.
    """
    if missing.all():
        raise ValueError(
            f"Input X contains NaN in all {len(missing)} rows: no image could be read."
        )
    message = (
        f"{missing.sum()} of {len(missing)} rows of X are NaN, because the images could not be "
        "read. They are left out."
    )
    lost = [] if y is None else np.setdiff1d(y[missing], y[~missing]).tolist()
    if lost:
        others = f" and {len(lost) - 1} others have" if len(lost) > 1 else " has"
        message += (
            f" The class {lost[0]!r}{others} no image left; to keep such classes, list them in "
            "new_classes."
        )
    warn_user(message, UnreadableImageWarning)


def answers(classes, positions):
    """Labels at positions in `classes`; the missing answer where the position is ``MISSING``.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    positions : ndarray of shape (n_samples,) or (n_samples, k) of int

    Returns
    -------
    labels : ndarray of the shape of `positions`
        The missing answer is the empty string if labels are strings, and -1 if they are numbers. A
        warning counts them.

    Raises
    ------
    ValueError
        If the missing answer is one of the classes, or labels are booleans or too large.
    """
    labels, missing = classes[positions], positions == MISSING
    if not missing.any():
        return labels
    labels = with_missing_answer(labels, missing, classes)
    n_missing = int(missing.reshape(len(missing), -1)[:, 0].sum())
    warn_user(
        f"{n_missing} of {len(missing)} rows of X are NaN, because the images could not be read. "
        f"The answer for them is {missing_answer(classes)!r}.",
        UnreadableImageWarning,
    )
    return labels


def with_missing_answer(labels, missing, classes):
    """Labels with the missing answer for some images; see :func:`answers` for errors.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,) or (n_samples, k)
    missing : ndarray of bool, of the shape of `labels`
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    labels : ndarray of the shape of `labels`
    """
    answer = missing_answer(classes)
    fits = classes.dtype != bool and type_for(classes, answer) is not None
    if not fits or answer in classes.tolist():
        rows = np.flatnonzero(missing.reshape(len(missing), -1)[:, 0])
        raise ValueError(
            f"{len(rows)} of {len(missing)} images could not be read (the first is row {rows[0]}), "
            f"and with labels such as {classes.tolist()[0]!r} there is no value for a missing "
            "answer. Use predict_proba, which returns rows of NaN for these images."
        )
    return with_answer(labels, missing, answer)


def missing_answer(classes):
    """The answer for images that could not be read."""
    return "" if is_textual(classes) else MISSING
