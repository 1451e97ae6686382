"""Long-tailed and zero-image classification on frozen CLIP features, as scikit-learn estimators."""

from typing import TYPE_CHECKING

from ._lazy import lazy_names
from ._version import __version__ as __version__

if TYPE_CHECKING:  # for static checkers; at run time names are loaded when first used
    from . import (
        classifier,
        clip,
        datasets,
        exceptions,
        hub,
        inspection,
        metrics,
        model_selection,
        pipeline,
        scale_out,
    )
    from .classifier import CandleClassifier, PublishedCandleClassifier, RejectingClassifier
    from .clip import CLIPFeaturizer, EmbeddingCache, clear_memory
    from .model_selection import NewClassSplit, base_new_split
    from .pipeline import CandlePipeline, make_candle_pipeline

__all__ = [
    "CLIPFeaturizer",
    "CandleClassifier",
    "CandlePipeline",
    "EmbeddingCache",
    "NewClassSplit",
    "PublishedCandleClassifier",
    "RejectingClassifier",
    "base_new_split",
    "classifier",
    "clear_memory",
    "clip",
    "datasets",
    "exceptions",
    "hub",
    "inspection",
    "make_candle_pipeline",
    "metrics",
    "model_selection",
    "pipeline",
    "scale_out",
]

# The only place that names what is above it; `tests/test_layers.py` checks all other imports.
__getattr__, __dir__ = lazy_names(
    __name__,
    {name: name for name in __all__ if name.islower()}
    | {
        "CLIPFeaturizer": "clip",
        "CandleClassifier": "classifier",
        "CandlePipeline": "pipeline",
        "EmbeddingCache": "clip",
        "NewClassSplit": "model_selection",
        "PublishedCandleClassifier": "classifier",
        "RejectingClassifier": "classifier",
        "base_new_split": "model_selection",
        "clear_memory": "clip",
        "make_candle_pipeline": "pipeline",
    },
)
