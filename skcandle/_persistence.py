"""Files of fitted estimators: which version of the library wrote them."""

from typing import Any

from . import _version
from ._warnings import warn_user
from .exceptions import VersionWarning


class VersionedStateMixin:
    """Puts the version of skcandle into the pickled state, and compares it on loading.

    joblib, pickle and skops all go through these two methods. The warning does not name the
    estimator, so that Python shows it once for a pipeline of several.
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
                f"This estimator was saved by skcandle {written} and is loaded by skcandle "
                f"{current}. It may fail or give other results; fit it again, or load it with "
                "the version that saved it.",
                VersionWarning,
            )
        estimator.__setstate__(state)
