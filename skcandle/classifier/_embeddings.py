"""Rows of embeddings: their lengths, and what is not an embedding."""

import os

import numpy as np
from PIL import Image

# Rows with norms in this range are used as they are: in float32, their squares neither overflow nor
# underflow.
SAFE_NORMS = 1e-6, 1e6


def unit(rows, eps=1e-12):
    """Scale rows to length one; a row of zeros stays zero."""
    rows = np.asarray(rows)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), eps)


def rescale_extreme_rows(X, dtype, first=0):
    """Rows of the same directions, whose squares neither overflow nor underflow.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    dtype : dtype
        float32 or float64.
    first : int
        Number of the first row, for messages.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_features) and dtype `dtype`
        Only rows whose norm is outside `SAFE_NORMS` are scaled.

    Raises
    ------
    ValueError
        If a row is all zeros.
    """
    if X.dtype.kind != "f" or X.dtype.itemsize < dtype.itemsize:
        X = X.astype(dtype)
    shortest, longest = SAFE_NORMS
    squares = np.einsum("nd,nd->n", X, X)
    extreme = np.flatnonzero(~((squares >= shortest**2) & (squares <= longest**2)))
    if not len(extreme):
        return np.ascontiguousarray(X, dtype=dtype)
    rows = X[extreme]
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        raise ValueError(
            f"Row {first + extreme[np.argmin(largest)]} of X is all zeros; an embedding must have "
            "a direction."
        )
    X = X.copy()
    X[extreme] = rows / largest
    return X.astype(dtype)


def stack_lists(X):
    """Stack a column whose values are lists of numbers, as Parquet files have, into rows.

    Parameters
    ----------
    X : object
        The column may be an object array or a column of pandas, polars or PyArrow.

    Returns
    -------
    X : object
        Of shape (n_rows, n_features) for such a column; anything else is returned unchanged.

    Raises
    ------
    ValueError
        If a list is missing or has another length.
    """
    column = X
    if hasattr(X, "to_numpy") and len(getattr(X, "shape", (1,))) == 1:
        column = X.to_numpy()
    if not isinstance(column, np.ndarray):
        return X
    if column.ndim == 2 and column is not X:  # polars has lists of one length
        return column
    if column.ndim != 1 or column.dtype != object:
        return X
    width = next((len(row) for row in column if _is_list(row)), None)
    if width is None:
        return X
    for i, row in enumerate(column):
        if not _is_list(row) or len(row) != width:
            found = f"a list of {len(row)}" if _is_list(row) else repr(row)
            raise ValueError(f"X[{i}] must be a list of {width} numbers, got {found}.")
    return np.array(list(column))


def _is_list(value):
    return isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1


def size_limit(dtype):
    """The largest value whose squares can be summed without overflow, with a margin."""
    return 1e15 if dtype == np.float32 else 1e120


def check_sizes(X, dtype, first=0):
    """Check that sums of squares do not overflow, where the lengths of rows matter.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    dtype : dtype
        float32 or float64, the precision of the computations.
    first : int
        Number of the first row, for messages.

    Raises
    ------
    ValueError
        If a value is above 1e15 in float32, or 1e120 in float64.
    """
    limit = size_limit(dtype)
    largest = np.abs(X).max(axis=1)
    if len(X) and largest.max() > limit:
        row = np.argmax(largest)
        raise ValueError(
            f"Row {first + row} of X has the value {largest[row]:.3g}, but without text features "
            f"values must be at most {limit:g} in {np.dtype(dtype).name}. Divide X by a constant."
        )


def refuse_images(X):
    """Raise an error if images are given instead of their embeddings."""
    if getattr(X, "ndim", 1) != 1 or isinstance(X, str) or not hasattr(X, "__getitem__"):
        return
    first = next(iter(X), None)
    kinds = str, bytes, bytearray, memoryview, os.PathLike, Image.Image
    if isinstance(first, kinds) or hasattr(first, "read"):
        raise TypeError(
            f"X must hold embeddings, got images (the first is of type {type(first).__name__}). "
            "Put a CLIPFeaturizer before this classifier, as make_candle_pipeline does."
        )
