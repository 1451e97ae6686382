"""How frequent the classes are where the classifier is used, which Bayes' rule takes into account.

The model always scores for equally frequent classes. The log-prior computed here does the rest.
"""

from collections.abc import Mapping

import numpy as np

from ._universe import plain_label

# How far the sum of the frequencies may be from one: a few frequencies rounded to three decimals.
SUM_TOLERANCE = 1e-3


def prior_of_use(class_prior, margin, classes):
    """Read the frequencies of use from the parameters `class_prior` and `margin`.

    Parameters
    ----------
    class_prior : None, "training", array-like of shape (n_classes,) or mapping
    margin : float
        Used if `class_prior` is None.
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    prior : float or dict of label to float
        The exponent of the training frequencies (0 makes them equal), or a frequency per label.

    Raises
    ------
    TypeError, ValueError
        If frequencies are not numbers, are negative, do not sum to one, or leave out a class.
    """
    if class_prior is None:
        return 1 - float(margin)
    if isinstance(class_prior, str) and class_prior == "training":
        return 1.0
    frequencies = class_frequencies(class_prior, classes)
    log_frequencies(frequencies, classes)  # raises if a class is lacking
    return frequencies


def log_prior_of_use(prior, classes, counts):
    """Logarithm of the frequencies of use, up to a constant that a softmax cancels.

    Parameters
    ----------
    prior : float or dict of label to float
        See :func:`prior_of_use`.
    classes : ndarray of shape (n_classes,)
    counts : ndarray of shape (n_classes,)
        Training images of each class.

    Returns
    -------
    log_prior : ndarray of shape (n_classes,)
    """
    if isinstance(prior, dict):
        return log_frequencies(prior, classes)
    return prior * np.log(counts + 1)


def class_frequencies(class_prior, classes):
    """Check given frequencies of use.

    Parameters
    ----------
    class_prior : array-like of shape (n_classes,) or mapping
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    frequencies : dict of label to float

    Raises
    ------
    TypeError, ValueError
        If frequencies are not numbers, are negative, or do not sum to one.
    """
    if isinstance(class_prior, str):
        raise ValueError(
            'class_prior must be "training", frequencies in the order of classes_, or a mapping of '
            f"label to frequency, got {class_prior!r}."
        )
    if hasattr(class_prior, "to_dict") and np.ndim(class_prior) == 1:
        class_prior = class_prior.to_dict()  # the index of a Series holds the labels
    if isinstance(class_prior, Mapping):
        labels, values = list(map(plain_label, class_prior)), list(class_prior.values())
    else:
        labels, values = classes.tolist(), class_prior
    try:
        frequencies = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"class_prior must hold numbers: {error}.") from error
    if frequencies.shape != (len(labels),):
        raise ValueError(
            f"class_prior has shape {frequencies.shape}, but there are {len(labels)} classes. Give "
            "one frequency per class, in the order of classes_, or a mapping of label to frequency."
        )
    wrong = np.flatnonzero(~(np.isfinite(frequencies) & (frequencies >= 0)))
    if len(wrong):
        raise ValueError(
            "Frequencies in class_prior must be finite and not negative, got "
            f"{frequencies[wrong[0]]:g} for {labels[wrong[0]]!r}."
        )
    if abs(frequencies.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"class_prior must sum to 1, but sums to {frequencies.sum():g}."
            + (" Divide it by its sum." if frequencies.any() else " Some class must occur.")
        )
    return dict(zip(labels, frequencies.tolist(), strict=True))


def log_frequencies(frequencies, classes):
    """Logarithm of the frequencies of classes; -inf for a class that does not occur.

    Parameters
    ----------
    frequencies : dict of label to float
        May have further labels; the frequencies of `classes` then need not sum to one.
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    log_frequencies : ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        If a class has no frequency, or none of the classes occurs.
    """
    classes = classes.tolist()
    missing = [label for label in classes if label not in frequencies]
    if missing:
        raise ValueError(
            f"class_prior has no frequency for the class {missing[0]!r} ({len(missing)} of "
            f"{len(classes)} classes are missing). Give a mapping that includes it. On a fitted "
            "classifier, with_prior sets another prior, and with_prior(None) removes it."
        )
    values = np.array([frequencies[label] for label in classes])
    if not values.any():
        raise ValueError(
            f"class_prior is 0 for all {len(classes)} classes, such as {classes[0]!r}. At least "
            "one of them must occur."
        )
    with np.errstate(divide="ignore"):
        return np.log(values)
