"""Embeddings to classes: classifiers that answer with base and new classes."""

from ._estimator import CandleClassifier

__all__ = ["CandleClassifier"]
