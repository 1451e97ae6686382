"""How frequent the classes are where the classifier is used, which Bayes' rule takes into account.

The model scores for equal frequencies; the log-prior of this module is all that changes that.
"""

from collections.abc import Mapping

import numpy as np

from ._universe import plain_label

# How far the frequencies may sum from one: those typed with three decimals for a few classes.
SUM_TOLERANCE = 1e-3


def prior_of_use(class_prior, margin, classes):
    """What the parameters `class_prior` and `margin` say about the frequencies of use.

    Parameters
    ----------
    class_prior : None, "training", array-like of shape (n_classes,) or mapping
    margin : float
        Counts where `class_prior` is None.
    classes : ndarray of shape (n_classes,)

    Returns
    -------
    prior : float or dict of label to float
        The exponent of the training frequencies, 0 for equal ones; or frequencies by label.

    Raises
    ------
    TypeError, ValueError
        If frequencies are not numbers, are negative, do not sum to one, or lack a class.
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
    """Check the frequencies of use of classes.

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
        If frequencies are not numbers, are negative, do not sum to one, or lack a class.
    """
    if isinstance(class_prior, str):
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
        frequencies = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"class_prior holds what is not a number: {error}.") from error
    if frequencies.shape != (len(labels),):
        raise ValueError(
            f"class_prior has shape {frequencies.shape}, but there are {len(labels)} classes; give "
            "one frequency for each, in the order of classes_, or a mapping of label to "
            "frequency."
        )
    wrong = np.flatnonzero(~(np.isfinite(frequencies) & (frequencies >= 0)))
    if len(wrong):
        raise ValueError(
            f"class_prior has {frequencies[wrong[0]]:g} for {labels[wrong[0]]!r}; frequencies are "
            "finite and not negative."
        )
    if abs(frequencies.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"class_prior must sum to 1, but sums to {frequencies.sum():g}."
            + (" Divide it by its sum." if frequencies.any() else " Some class must occur.")
        )
    return dict(zip(labels, frequencies.tolist(), strict=True))


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
