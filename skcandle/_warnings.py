"""Warnings that point to the caller's line."""

import sys
import warnings

# Packages whose code may be between the caller and the warning.
SKIPPED = {"contextlib", "copyreg", "joblib", "pickle", "skcandle", "sklearn", "skops"}


def warn_user(message, category=UserWarning):
    """Warn at the innermost line outside this library and the libraries that call it.

    Parameters
    ----------
    message : str or Warning
        What happened, and what to do about it.
    category : type, default=UserWarning
        Class of the warning, if the message is a string.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package(frame) in SKIPPED:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _package(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]
