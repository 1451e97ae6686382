"""The frequencies of use of the classes, which Bayes' rule puts into the answers."""

from collections.abc import Mapping

import numpy as np

from ._universe import plain_label

# How far the frequencies may sum from one: those typed with three decimals for a few classes.
SUM_TOLERANCE = 1e-3


def class_frequencies(class_prior, classes):
    """Check the frequencies of use of classes.

    Parameters
    ----------
    class_prior : None, "training", array-like of shape (n_classes,) or mapping
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    frequencies : None, "training" or dict of label to float

    Raises
    ------
    TypeError, ValueError
        If frequencies are not numbers, are negative, do not sum to one, or lack a class.
    """
    if class_prior is None:
        return None
    if isinstance(class_prior, str):
        if class_prior == "training":
            return class_prior
        raise ValueError(
            f'class_prior is {class_prior!r}; give "training", frequencies in the order of '
            "classes_, or a mapping of label to frequency."
        )
    if hasattr(class_prior, "to_dict") and np.ndim(class_prior) == 1:
        class_prior = class_prior.to_dict()  # a Series goes by its index
    if isinstance(class_prior, Mapping):
        labels, values = list(map(plain_label, class_prior)), list(class_prior.values())
    else:
        labels, values = classes.tolist(), class_prior
    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"class_prior holds what is not a number: {error}.") from error
    if values.shape != (len(labels),):
        raise ValueError(
            f"class_prior has shape {values.shape}, but there are {len(labels)} classes; give "
            "one frequency for each, in the order of classes_, or a mapping of label to "
            "frequency."
        )
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        raise ValueError(
            f"class_prior has {values[wrong[0]]:g} for {labels[wrong[0]]!r}; frequencies are "
            "finite and not negative."
        )
    if abs(values.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"class_prior sums to {values.sum():g} instead of 1."
            + (" Divide it by its sum." if values.any() else " Some class has to occur.")
        )
    return dict(zip(labels, values.tolist(), strict=True))


def log_frequencies(frequencies, classes):
    """Logarithm of the frequencies of classes, -inf where a class does not occur.

    Parameters
    ----------
    frequencies : dict of label to float
        It may have further labels; the frequencies of `classes` then need not sum to one.
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    log_frequencies : ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        If a class is lacking, or none of them occurs.
    """
    classes = classes.tolist()
    missing = [label for label in classes if label not in frequencies]
    if missing:
        raise ValueError(
            f"class_prior has no frequency for the class {missing[0]!r} ({len(missing)} of "
            f"{len(classes)} classes are missing). Give a mapping that names it; a fitted "
            "classifier takes another one by with_prior, and none by with_prior(None)."
        )
    values = np.array([frequencies[label] for label in classes])
    if not values.any():
        raise ValueError(
            f"class_prior is 0 for all of the {len(classes)} classes, such as {classes[0]!r}; one "
            "of them has to occur."
        )
    with np.errstate(divide="ignore"):
        return np.log(values)
