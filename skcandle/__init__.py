"""Long-tailed and zero-image classification on frozen CLIP features, as scikit-learn estimators."""

from .classifier import CandleClassifier
from .clip import CLIPFeaturizer, EmbeddingCache, clear_memory
from .model_selection import NewClassSplit
from .pipeline import make_candle_pipeline

__all__ = [
    "CLIPFeaturizer",
    "CandleClassifier",
    "EmbeddingCache",
    "NewClassSplit",
    "clear_memory",
    "make_candle_pipeline",
]

__version__ = "0.1.0.dev0"
