"""Images that could not be read: rows that are NaN throughout, and the answers for them."""

import numpy as np

from .._labels import is_textual
from .._warnings import warn_user
from ..exceptions import UnreadableImageWarning

MISSING = -1  # the number of a class, and the answer, where labels are numbers


def missing_rows(X, start=0):
    """Which rows are NaN throughout; a row that is NaN in part is an error.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    start : int
        Number of the first row, for the message.

    Returns
    -------
    missing : ndarray of shape (n_samples,) of bool
    """
    is_nan = np.isnan(X)
    missing = is_nan.all(axis=1)
    broken = is_nan.any(axis=1) & ~missing
    if broken.any():
        raise ValueError(
            f"Input X contains NaN: row {start + broken.argmax()} has {is_nan[broken][0].sum()} "
            "of them. Only rows that are NaN throughout stand for images that cannot be read."
        )
    return missing


def warn_left_out(missing, y):
    """Say how many images are left out, and which classes lose all of theirs.

    Parameters
    ----------
    missing : ndarray of shape (n_samples,) of bool
    y : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If no image is left.
    """
    if missing.all():
        raise ValueError(
            f"Input X contains NaN in all of its {len(missing)} rows: no image could be read."
        )
    lost = np.setdiff1d(y[missing], y[~missing]).tolist()
    warn_user(
        f"{missing.sum()} of {len(missing)} rows of X are NaN, of images that could not be read; "
        "they are left out."
        + (f" No image is left of {lost[0]!r}" if lost else "")
        + (f" and {len(lost) - 1} other classes" if len(lost) > 1 else "")
        + ("; name such classes in new_classes to keep them." if lost else ""),
        UnreadableImageWarning,
    )


def answers(classes, positions):
    """Labels at positions in `classes`, and the missing answer where these are ``MISSING``.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    positions : ndarray of shape (n_samples,) or (n_samples, k) of int

    Returns
    -------
    labels : ndarray of the shape of `positions`
        The missing answer is the empty string among strings, and -1 among numbers.

    Raises
    ------
    ValueError
        If the missing answer is one of the classes, or labels are booleans.
    """
    labels, missing = classes[positions], positions == MISSING
    if not missing.any():
        return labels
    answer = "" if is_textual(classes) else MISSING
    if classes.dtype == bool or answer in classes.tolist():
        rows = np.flatnonzero(missing.reshape(len(missing), -1)[:, 0])
        raise ValueError(
            f"{len(rows)} of {len(missing)} images could not be read (the first is row {rows[0]}), "
            f"and labels such as {classes.tolist()[0]!r} leave no value for a missing answer. Use "
            "predict_proba, whose rows are NaN for them."
        )
    if classes.dtype.kind == "u":
        labels = labels.astype(np.int64)
    labels[missing] = answer
    return labels
