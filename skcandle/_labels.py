"""Labels of classes: strings or numbers, none missing, in one dimension."""

from numbers import Number

import numpy as np
from sklearn.utils import column_or_1d

from ._sklearn_private import is_pandas_na, is_scalar_nan


def check_label_types(y, name="y"):
    """Check that no label is missing, and that labels are all strings or all numbers.

    NumPy can sort no others, and says so in terms of "<"; or it makes strings of them, a class
    "nan" of what is missing among them.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, 1)
        Others are left to those who check shapes.
    name : str, default="y"
        What `y` is called in messages.

    Raises
    ------
    ValueError
        If a label is missing.
    TypeError
        If labels are neither strings nor numbers, such as bytes, or are of both kinds, or are
        strings of NumPy's StringDType.
    """
    labels = np.asarray(y)
    if labels.dtype.kind == "T":
        raise TypeError(
            f"{name} has NumPy's StringDType, which scikit-learn does not take. Use "
            f"{name}.astype(object)."
        )
    if labels.dtype.kind == "U" and not hasattr(y, "dtype"):
        labels = np.asarray(y, dtype=object)  # a list, as it was before it became strings
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
                f"{name}[{position}] is missing ({label!r}). Leave out images without a label, in "
                "X and y alike."
            )
        if isinstance(label, (str, Number)):
            raise TypeError(
                f"{name}[0] is {labels[0]!r} and {name}[{position}] is {label!r}; labels are all "
                "strings or all numbers. Convert them to one type."
            )
        remedy = "Convert it."
        if isinstance(label, bytes):
            remedy = f"Decode bytes, with np.char.decode({name}) or pandas' str.decode."
        raise TypeError(f"{name}[{position}] is {label!r}; labels are strings or numbers. {remedy}")


def label_array(labels, name="y"):
    """Labels as an array of one dimension; see :func:`check_label_types` for errors."""
    check_label_types(labels, name)
    return column_or_1d(without_nulls(labels))


def without_nulls(labels):
    """Labels of pandas' nullable integers and booleans as an array of the kind that they hold.

    scikit-learn makes floats of them, whatever they hold.

    Parameters
    ----------
    labels : array-like
        None is missing, see :func:`check_label_types`.

    Returns
    -------
    labels : array-like
        What is of another type is returned as it is.
    """
    dtype = getattr(getattr(labels, "dtype", None), "numpy_dtype", None)
    if dtype is None or dtype.kind not in "iub":
        return labels
    return labels.to_numpy(dtype=dtype)


def is_textual(labels):
    """Whether labels are strings; an object array may hold integers as well."""
    return labels.dtype.kind == "U" or labels.dtype == object and isinstance(labels[0], str)
