"""Encode and classify more images than fit on one machine, with Dask."""

from ._dataset import encode_dataset, predict_dataset, read_embeddings

__all__ = ["encode_dataset", "predict_dataset", "read_embeddings"]
