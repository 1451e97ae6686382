"""Encoding and prediction of more images than one machine can hold, on Dask."""

from ._dataset import encode_dataset, predict_dataset, read_embeddings

__all__ = ["encode_dataset", "predict_dataset", "read_embeddings"]
