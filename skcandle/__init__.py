"""Long-tailed and zero-image classification on frozen CLIP features, as scikit-learn estimators."""

from typing import TYPE_CHECKING

from ._lazy import lazy_names
from ._version import __version__ as __version__

if TYPE_CHECKING:  # for static checkers; at run time, names are loaded on first use
    from . import (
        datasets,
        exceptions,
        export,
        hub,
        inspection,
        labelling,
        metrics,
        model_selection,
        scale_out,
    )
    from ._embeddings import Embeddings
    from .batch_inference import BatchPredictor
    from .classifier import CandleClassifier, PublishedCandleClassifier, RejectingClassifier
    from .clip import (
        CacheInfo,
        CLIPFeaturizer,
        EmbeddingCache,
        clear_memory,
        load_embeddings,
        save_embeddings,
    )
    from .pipeline import CandlePipeline, make_candle_pipeline

__all__ = [
    "BatchPredictor",
    "CLIPFeaturizer",
    "CacheInfo",
    "CandleClassifier",
    "CandlePipeline",
    "EmbeddingCache",
    "Embeddings",
    "PublishedCandleClassifier",
    "RejectingClassifier",
    "clear_memory",
    "datasets",
    "exceptions",
    "export",
    "hub",
    "inspection",
    "labelling",
    "load_embeddings",
    "make_candle_pipeline",
    "metrics",
    "model_selection",
    "save_embeddings",
    "scale_out",
]

# The only imports that go up; `tests/test_layers.py` checks that all others go down.
__getattr__, __dir__ = lazy_names(
    __name__,
    {name: name for name in __all__ if name.islower()}
    | {
        "BatchPredictor": "batch_inference",
        "CLIPFeaturizer": "clip",
        "CacheInfo": "clip",
        "CandleClassifier": "classifier",
        "CandlePipeline": "pipeline",
        "EmbeddingCache": "clip",
        "Embeddings": "_embeddings",
        "PublishedCandleClassifier": "classifier",
        "RejectingClassifier": "classifier",
        "clear_memory": "clip",
        "load_embeddings": "clip",
        "make_candle_pipeline": "pipeline",
        "save_embeddings": "clip",
    },
)
