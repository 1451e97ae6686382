"""Labels that are probably wrong, found by cleanlab."""

import numpy as np

MISSING_CLEANLAB = (
    "Likely label errors are not listed, because cleanlab is not installed: "
    'pip install "skcandle[report]".'
)


def has_cleanlab():
    """Whether the optional dependency is installed."""
    try:
        import cleanlab.filter  # noqa: F401
    except ImportError:
        return False
    return True


def likely_label_errors(y, y_proba):
    """Find likely label errors by confident learning [1]_.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) of int
        Column of the given label, or -1 for labels without a column, which are ignored.
    y_proba : ndarray of shape (n_samples, n_classes)
        Probabilities, ideally from a classifier that was not trained on the image.

    Returns
    -------
    rows : ndarray of int
        Rows of likely errors, the most likely first.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang: "Confident learning: estimating uncertainty in
       dataset labels", JAIR 70, 2021.
    """
    from cleanlab.filter import find_label_issues

    known = np.flatnonzero(y >= 0)
    # cleanlab needs an image of each class
    labels, y = np.unique(y[known], return_inverse=True)
    if len(labels) < 2:
        return np.empty(0, dtype=int)
    y_proba = y_proba[np.ix_(known, labels)]
    y_proba = y_proba / np.maximum(y_proba.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    # takes as many as confident learning counts, with the least probable labels; on bundled images
    # with changed labels, this rule found the most
    rows = find_label_issues(
        y,
        y_proba,
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return known[rows]
