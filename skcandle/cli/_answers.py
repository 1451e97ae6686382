"""Tables of predictions."""

import numpy as np


def answer_rows(files, proba, classes, top, reasons, skipped, unsure=()):
    """One row per image, with its most probable classes first.

    Parameters
    ----------
    files : list of str
    proba : ndarray of shape (n_files, n_classes)
    classes : list of str
    top : int
        Number of classes per row.
    reasons : dict of int to str
        Why files have no prediction, by position in `files`.
    skipped : dict of str to str
        The same for images that are not in `files`.
    unsure : collection of int
        Positions in `files` of images that get no label although they can be read.

    Returns
    -------
    rows : list of dict
        With the keys "file", "label", "probability", "label_2", "probability_2", ..., "error".
    """
    top = min(top, len(classes))
    best = np.argsort(-proba, axis=1, kind="stable")[:, :top]
    rows = [
        _row(
            file,
            None if i in reasons or i in unsure else best[i],
            proba[i],
            classes,
            top,
            reasons.get(i),
        )
        for i, file in enumerate(files)
    ]
    rows += [_row(file, None, None, classes, top, reason) for file, reason in skipped.items()]
    return rows


def _row(file, best, proba, classes, top, error):
    row = {"file": file}
    for place in range(top):
        suffix = f"_{place + 1}" if place else ""
        row[f"label{suffix}"] = None if best is None else classes[best[place]]
        row[f"probability{suffix}"] = None if best is None else float(proba[best[place]])
    row["error"] = error
    return row
