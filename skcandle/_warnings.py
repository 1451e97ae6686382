"""Warnings that point at the caller's line."""

import warnings


def warn_user(message, category=UserWarning):
    """Warn at the call of the estimator's method rather than inside it."""
    warnings.warn(message, category, stacklevel=3)
