"""Rows of answers from probabilities, and a zero-shot classifier for names alone."""

import numpy as np


def zero_shot_proba(clip, X, names, template):
    """Probabilities of classes of which only names are known, by CLIP's own temperature.

    Parameters
    ----------
    clip : CLIPFeaturizer
    X : ndarray of shape (n_images, n_features)
    names : list of str
    template : str
        With one ``{}`` for the name.

    Returns
    -------
    proba : ndarray of shape (n_images, n_classes)
    """
    from scipy.special import softmax

    from ..classifier._text_features import class_text_encoder
    from ..classifier._zero_shot import zero_shot_logits

    encoder, _ = class_text_encoder(clip, template, X.shape[1], clip.device)
    return softmax(zero_shot_logits(X, encoder(names, names, X.shape[1])), axis=1)


def answer_rows(files, proba, classes, top, reasons, skipped):
    """One row an image, with its most probable classes first.

    Parameters
    ----------
    files : list of str
    proba : ndarray of shape (n_files, n_classes)
    classes : list of str
    top : int
        Number of classes in a row.
    reasons : dict of int to str
        What is wrong with files that have no answer, by position.
    skipped : dict of str to str
        The same of images that are not among `files`.

    Returns
    -------
    rows : list of dict
        With the keys "file", "label", "probability", "label_2", "probability_2", ..., "error".
    """
    top = min(top, len(classes))
    best = np.argsort(-proba, axis=1, kind="stable")[:, :top]
    rows = [
        _row(file, None if i in reasons else best[i], proba[i], classes, top, reasons.get(i))
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
