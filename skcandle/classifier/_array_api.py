"""Predictions for arrays of other libraries, where scikit-learn's array API dispatch is enabled.

The rows stay on their device: PyTorch reads them in place, through DLPack, and the answers are of
the same library and on the same device.
"""

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils import gen_batches

from .._devices import exact_matmul
from .._sklearn_private import get_namespace
from ._embeddings import SAFE_NORMS, check_sizes, rescale_extreme_rows, size_limit
from ._missing_images import MISSING, answers, missing_rows


def is_dispatched(X):
    """Whether predictions for `X` are to be arrays of the same library, and that is not NumPy."""
    is_array = isinstance(X, torch.Tensor) or hasattr(X, "__array_namespace__")
    return is_array and not isinstance(X, np.ndarray) and get_config()["array_api_dispatch"]


def on_host(X):
    """A dispatched array as a NumPy array, anything else as it is."""
    return torch.from_dlpack(X).detach().cpu().numpy() if is_dispatched(X) else X


def predict_in_place(X, scorer, *, columns, log_prior, has_text, n_rows, function):
    """Apply a function to the joint logits of rows, where these are.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Checked, of any library.
    scorer : callable
        Returns the CandleScorer or PublishedScorer of a device.
    columns : ndarray of shape (n_classes,)
        Columns of logits to use.
    log_prior : ndarray of shape (n_classes,) or None
    has_text : bool
        Whether only the directions of rows matter.
    n_rows : int
        Rows at a time, which bounds the memory.
    function : callable
        Of a tensor of logits; positions of classes are integers.

    Returns
    -------
    result : array
        NaN, or ``MISSING`` for positions, for rows that are all NaN.
    """
    rows = torch.from_dlpack(X)
    scorer = scorer(rows.device)
    dtype = scorer.dtype
    kept = torch.as_tensor(columns, device=rows.device)
    results = []
    with torch.no_grad(), exact_matmul(rows.device):
        if log_prior is not None:
            log_prior = torch.as_tensor(log_prior, device=rows.device, dtype=dtype)
        for part in gen_batches(len(rows), n_rows):
            block, missing = _checked(rows[part], dtype, has_text, part.start)
            logits = scorer.logits(block)[:, kept]
            if log_prior is not None:
                logits = logits + log_prior
            result = function(logits)
            is_position = not result.is_floating_point()
            result[missing] = MISSING if is_position else torch.nan
            results.append(result)
    return _like(X, torch.cat(results))


def labels_in_place(classes, positions):
    """Labels at positions in `classes`, see :func:`answers`; NumPy arrays if they are strings."""
    rows = torch.from_dlpack(positions)
    if classes.dtype.kind not in "iuf":
        return answers(classes, rows.cpu().numpy())
    known = np.arange(len(classes))
    if (rows == MISSING).any():
        known = np.append(known, MISSING)  # the last row of the table, as at index -1
    table = torch.as_tensor(answers(classes, known), device=rows.device)
    return _like(positions, table[rows])


def _checked(rows, dtype, has_text, start):
    """Rows in the precision of the model and which are missing, as for NumPy arrays."""
    is_nan = rows.isnan()
    missing = is_nan.all(dim=1)
    if (is_nan.any(dim=1) & ~missing).any():
        missing_rows(_array(rows), start)  # raises the error
    rows = rows.where(~missing[:, None], torch.ones_like(rows))
    largest = rows.abs().amax(dim=1, keepdim=True)
    precision = np.dtype(str(dtype).removeprefix("torch."))
    if not has_text:
        if (largest > size_limit(precision)).any():
            check_sizes(_array(rows), precision, start)  # raises the error
        return rows.to(dtype), missing
    if (largest == 0).any():
        rescale_extreme_rows(_array(rows), precision, start)  # raises the error
    wide = rows.to(torch.promote_types(rows.dtype, dtype))
    shortest, longest = SAFE_NORMS
    squares = (wide * wide).sum(dim=1, keepdim=True)
    is_extreme = ~((squares >= shortest**2) & (squares <= longest**2))
    return wide.where(~is_extreme, wide / largest).to(dtype), missing


def _array(tensor):
    return tensor.cpu().numpy()


def _like(X, tensor):
    """A tensor as an array of the library of `X`."""
    return tensor if isinstance(X, torch.Tensor) else get_namespace(X)[0].from_dlpack(tensor)
