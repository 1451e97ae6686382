"""The label universe: all classes that a classifier may answer, and the name of each."""

from collections.abc import Mapping

import numpy as np

from .._labels import is_textual

ENCODED_LABELS = (
    "Tools that encode labels before fitting, such as StackingClassifier, need integer labels "
    "and class_names=[...]."
)


def label_universe(y, new_classes=None, class_names=None):
    """All labels that a classifier may answer, and the name of each.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Training labels.
    new_classes : array-like of str or int, optional
        Labels without images.
    class_names : list of str or mapping of label to str, optional
        Names, and with them the universe. A list names string labels as themselves and integer
        labels by their index.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Sorted labels.
    names : list of str or None
        Name of each label; None where integer labels have none.

    Raises
    ------
    ValueError, TypeError
        If labels repeat, are of the wrong type, or are missing from `class_names`.
    """
    seen = np.unique(y)
    textual = is_textual(seen)
    new = _check_new_classes(new_classes, seen, textual)
    named = None if class_names is None else _named_labels(class_names, textual)
    known = list(seen) + new
    if named is not None:
        unknown = [label for label in known if label not in named]
        # a string names itself, so `new_classes` may add to the names; training labels may not
        added = set(new)
        unknown_seen = [label for label in unknown if label not in added]
        if unknown_seen or (unknown and not textual):
            if textual or isinstance(class_names, Mapping):
                remedy = "Add it" + (", or leave class_names=None." if textual else ".")
            else:
                remedy = (
                    f"A list names the labels 0 to {len(named) - 1}; for others give a mapping of "
                    "label to name."
                )
            raise ValueError(
                f"Label {plain_label((unknown_seen or unknown)[0])!r} is not in class_names, which "
                f"has {len(named)} labels. {remedy}"
            )
        known += named.keys() - set(known)
    classes = np.unique(np.array(known, dtype=seen.dtype if seen.dtype == object else None))
    if not textual:
        of_labels = classes.astype(seen.dtype)  # where it has room for all of them
        classes = of_labels if np.array_equal(of_labels, classes) else classes
    if named is not None:
        names = [named.get(label, label) for label in classes.tolist()]
    else:
        names = [str(label) for label in classes] if textual else None
    return classes, names


def _check_new_classes(new_classes, seen, textual):
    if new_classes is None:
        return []
    if isinstance(new_classes, str):
        raise TypeError(
            f"new_classes is the single string {new_classes!r}; put the names in a list, "
            f"[{new_classes!r}]."
        )
    new = list(new_classes)
    kind = str if textual else (int, np.integer)
    for position, label in enumerate(new):
        if not isinstance(label, kind) or isinstance(label, bool):
            raise TypeError(
                f"new_classes[{position}] is {label!r}, but the labels in y are "
                f"{'strings' if textual else 'integers'}; new classes need the same type."
                + (f" {ENCODED_LABELS}" if isinstance(label, str) else "")
            )
    repeated = _first_repeated(new)
    if repeated is not None:
        raise ValueError(
            f"new_classes holds {plain_label(repeated)!r} twice; name each class once."
        )
    return new


def _named_labels(class_names, textual):
    """Mapping of label to name."""
    if isinstance(class_names, str):
        raise TypeError(f"class_names is the single string {class_names!r}; give a list of names.")
    if isinstance(class_names, Mapping):
        named = {plain_label(label): name for label, name in class_names.items()}
        for label in named:
            if isinstance(label, str) != textual:
                raise TypeError(
                    f"class_names maps {label!r}, but the labels in y are "
                    f"{'strings' if textual else 'numbers'}."
                    + (f" {ENCODED_LABELS}" if isinstance(label, str) else "")
                )
    else:
        names = list(class_names)
        repeated = _first_repeated(names)
        if repeated is not None:
            raise ValueError(f"class_names holds {repeated!r} twice; every label needs its own.")
        named = dict(zip(names, names, strict=True)) if textual else dict(enumerate(names))
    for label, name in named.items():
        if not isinstance(name, str):
            raise TypeError(f"class_names has {name!r} for label {label!r}; names are strings.")
    return {label: str(name) for label, name in named.items()}


def _first_repeated(labels):
    seen = set()
    for label in labels:
        if label in seen:
            return label
        seen.add(label)
    return None


def plain_label(label):
    return label.item() if isinstance(label, np.generic) else label
