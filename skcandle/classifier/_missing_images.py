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
    """Say which images a fit leaves out, and which classes lose all of theirs.

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
        "this fit leaves them out."
        + (f" No image is left of {lost[0]!r}" if lost else "")
        + (f" and {len(lost) - 1} other classes" if len(lost) > 1 else "")
        + ("; name such classes in new_classes to keep them." if lost else ""),
        UnreadableImageWarning,
    )


def with_missing_answers(answers, missing, classes):
    """Answers in which images that could not be read have the missing answer.

    Parameters
    ----------
    answers : ndarray of shape (n_samples,)
    missing : ndarray of shape (n_samples,) of bool
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    answers : ndarray of shape (n_samples,)
        With the empty string among strings, and -1 among numbers.

    Raises
    ------
    ValueError
        If the missing answer is one of the classes, or labels are booleans.
    """
    if not missing.any():
        return answers
    answer = "" if is_textual(classes) else MISSING
    if classes.dtype == bool or answer in classes.tolist():
        raise ValueError(
            f"{missing.sum()} of {len(missing)} images could not be read (the first is row "
            f"{missing.argmax()}), and labels such as {classes.tolist()[0]!r} leave no value for a "
            "missing answer. Use predict_proba, whose rows are NaN for them."
        )
    if classes.dtype.kind == "u":
        answers = answers.astype(np.int64)
    answers[missing] = answer
    return answers
