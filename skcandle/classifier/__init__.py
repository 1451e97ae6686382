"""Embeddings to classes: classifiers that answer with base and new classes."""

from ._candle import CandleClassifier
from ._published import PublishedCandleClassifier

__all__ = ["CandleClassifier", "PublishedCandleClassifier"]
