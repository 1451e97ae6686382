"""Labels of classes: strings or numbers, none missing, in one dimension."""

from numbers import Number

import numpy as np
from sklearn.utils import column_or_1d

from ._sklearn_private import is_pandas_na, is_scalar_nan


def check_label_types(y, name="y"):
    """Check that no label is missing, and that labels are all strings or all numbers.

    NumPy cannot sort other labels, and its error message does not say so. Or it converts them to
    strings, and a missing label becomes the class "nan".

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, 1)
        Arrays of other shapes are not checked here.
    name : str, default="y"
        Name of `y` in messages.

    Raises
    ------
    ValueError
        If a label is missing.
    TypeError
        If labels are neither strings nor numbers (bytes or dates, for example), if they are mixed,
        or if they have NumPy's StringDType.
    """
    labels = np.asarray(y)
    if labels.dtype.kind == "T":
        raise TypeError(
            f"{name} has NumPy's StringDType, which scikit-learn does not support. Use "
            f"{name}.astype(object)."
        )
    if labels.dtype.kind in "Mm":
        raise TypeError(
            f"Labels must be strings or numbers, but {name} has the type {labels.dtype}. Use "
            f"{name}.astype(str)."
        )
    if labels.dtype.kind == "U" and not hasattr(y, "dtype"):
        labels = np.asarray(y, dtype=object)  # a list, before NumPy converts it to strings
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.ravel()
    if labels.ndim != 1 or labels.dtype.kind not in "OSf" or not len(labels):
        return
    if labels.dtype.kind == "f":
        labels = labels[: np.isnan(labels).argmax() + 1]  # to the first NaN, if there is one
    labels = labels.tolist()
    kind = str if isinstance(labels[0], str) else Number
    for position, label in enumerate(labels):
        if isinstance(label, kind) and label == label:  # NaN is a number that is not itself
            continue
        if label is None or is_scalar_nan(label) or is_pandas_na(label):
            raise ValueError(
                f"{name}[{position}] is missing ({label!r}). Remove images without a label from "
                "both X and y."
            )
        if isinstance(label, (str, Number)):
            raise TypeError(
                f"Labels must be all strings or all numbers, but {name}[0] is {labels[0]!r} and "
                f"{name}[{position}] is {label!r}. Convert them to one type."
            )
        remedy = "Convert it."
        if isinstance(label, bytes):
            remedy = f"Decode bytes, with np.char.decode({name}) or pandas' str.decode."
        raise TypeError(
            f"Labels must be strings or numbers, but {name}[{position}] is {label!r}. {remedy}"
        )


def label_array(labels, name="y"):
    """Convert labels to an array of one dimension; see :func:`check_label_types` for errors."""
    check_label_types(labels, name)
    return column_or_1d(without_nulls(labels))


def without_nulls(labels):
    """Convert labels of pandas' nullable integers and booleans to NumPy integers and booleans.

    scikit-learn would convert them to floats.

    Parameters
    ----------
    labels : array-like
        Without missing labels, see :func:`check_label_types`.

    Returns
    -------
    labels : array-like
        Labels of any other type are returned unchanged.
    """
    dtype = getattr(getattr(labels, "dtype", None), "numpy_dtype", None)
    if dtype is None or dtype.kind not in "iub":
        return labels
    return labels.to_numpy(dtype=dtype)


def is_textual(labels):
    """Whether labels are strings; an object array may also hold integers."""
    return labels.dtype.kind == "U" or labels.dtype == object and isinstance(labels[0], str)


def type_for(labels, answer):
    """Type of array that holds labels and one more answer exactly.

    Parameters
    ----------
    labels : ndarray
    answer : str or number

    Returns
    -------
    dtype : dtype or None
        That of the labels if possible; None if there is no such type.
    """
    if labels.dtype.kind == "U":
        return np.result_type(labels, np.array(answer))
    if labels.dtype.kind not in "iu":
        return labels.dtype
    values = [int(labels.min()), int(labels.max()), answer] if labels.size else [answer]
    for dtype in (labels.dtype, np.dtype(np.int64)):
        limits = np.iinfo(dtype)
        if answer == int(answer) and limits.min <= min(values) and max(values) <= limits.max:
            return dtype
    return None


def with_answer(labels, rows, answer):
    """Labels with another answer in some rows, in a type that holds both exactly.

    Parameters
    ----------
    labels : ndarray
    rows : ndarray of bool, of the shape of `labels`
    answer : str or number
        See :func:`type_for`, which must not be None.

    Returns
    -------
    labels : ndarray
    """
    labels = labels.astype(type_for(labels, answer))
    labels[rows] = answer
    return labels
