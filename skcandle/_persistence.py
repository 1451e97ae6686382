"""The version of the library that wrote a file of an estimator."""

from typing import Any

from . import _version
from ._warnings import warn_user
from .exceptions import VersionWarning


class VersionedStateMixin:
    """Stores the version of skcandle in the pickled state, and compares it on loading.

    joblib, pickle and skops all call these two methods. The warning does not name the estimator,
    so that Python shows it only once for a pipeline of several estimators.
    """

    def __getstate__(self):
        estimator: Any = super()
        return estimator.__getstate__() | {"_skcandle_version": _version.__version__}

    def __setstate__(self, state):
        estimator: Any = super()
        state = dict(state)
        written = state.pop("_skcandle_version", "before 0.1.0")
        current = _version.__version__
        if written != current:
            warn_user(
                f"This estimator was saved by skcandle {written} and loaded by skcandle {current}. "
                "It may fail or give different results; fit it again, or load it with the version "
                "that saved it.",
                VersionWarning,
            )
        estimator.__setstate__(state)
