"""Files of fitted estimators: which version of the library wrote them."""

import sys
from types import ModuleType

from . import _version
from ._warnings import warn_user
from .exceptions import VersionWarning

# Modules and classes that development versions before 0.1.0.dev1 stored in files by their names.
FORMER_CLASSES = {
    "_classifier": "CandleClassifier",
    "_featurizer": "CLIPFeaturizer",
    "_folder_cache": "EmbeddingCache",
}


class VersionedStateMixin:
    """Puts the version of skcandle into the pickled state, and compares it on loading.

    joblib, pickle and skops all go through these two methods. The warning does not name the
    estimator, so that Python shows it once for a pipeline of several.
    """

    def __getstate__(self):
        return super().__getstate__() | {"_skcandle_version": _version.__version__}

    def __setstate__(self, state):
        state = dict(state)
        written = state.pop("_skcandle_version", "of before 0.1.0")
        current = _version.__version__
        if written != current:
            warn_user(
                f"This estimator was saved by skcandle {written} and is loaded by skcandle "
                f"{current}. It may fail or give other results; fit it again, or load it with "
                "the version that saved it.",
                VersionWarning,
            )
        super().__setstate__(state)


class _FormerModule(ModuleType):
    """Stands where a module was, so that a file that names it is explained."""

    def __getattr__(self, name):
        # pickle and skops look for objects by name in all modules, this one among them
        if name != FORMER_CLASSES[self.__name__.rpartition(".")[2]]:
            raise AttributeError(name)
        raise ImportError(
            f"{self.__name__}.{name} was saved by an earlier development version of skcandle, "
            "whose files cannot be loaded; fit it again and save it."
        )


def explain_former_modules():
    """Let files of earlier development versions fail with a sentence that says what to do."""
    for module in FORMER_CLASSES:
        name = f"{__package__}.{module}"
        sys.modules.setdefault(name, _FormerModule(name))
