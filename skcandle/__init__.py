"""Long-tailed and zero-image classification on frozen CLIP features, as scikit-learn estimators."""

from ._persistence import explain_former_modules
from .classifier import CandleClassifier, PublishedCandleClassifier
from .clip import CLIPFeaturizer, EmbeddingCache, clear_memory
from .model_selection import NewClassSplit
from .pipeline import make_candle_pipeline

__all__ = [
    "CLIPFeaturizer",
    "CandleClassifier",
    "EmbeddingCache",
    "NewClassSplit",
    "PublishedCandleClassifier",
    "clear_memory",
    "make_candle_pipeline",
]

__version__ = "0.1.0.dev1"

explain_former_modules()
