"""Embeddings to classes: classifiers that answer with base and new classes."""

from ._candle import CandleClassifier
from ._published import PublishedCandleClassifier
from ._rejecting import RejectingClassifier

__all__ = ["CandleClassifier", "PublishedCandleClassifier", "RejectingClassifier"]
