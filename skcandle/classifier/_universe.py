"""The label universe: all classes that a classifier may answer, and the name of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .._labels import is_textual, without_nulls
from .._warnings import warn_user

_REPLACED = (
    "If the labels were strings, a meta-estimator such as StackingClassifier has replaced them by "
    "numbers. "
)
_NO_NEW_CLASSES = (
    ", and leave out new_classes. For out-of-fold probabilities with new classes, use "
    "skcandle.model_selection.cross_val_predict_proba."
)
ENCODED_LABELS = (
    f"{_REPLACED}Then set class_names=sorted(set(y)), the names in the order of the numbers"
    f"{_NO_NEW_CLASSES}"
)
ENCODED_LABELS_OF_VECTORS = (
    f"{_REPLACED}Then number the vectors in the same order, with text_encoder="
    f"{{i: vectors[label] for i, label in enumerate(sorted(set(y)))}}{_NO_NEW_CLASSES}"
)


@dataclass(frozen=True)
class LabelUniverse:
    """Labels that a classifier may answer, and the name of each.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Distinct labels.
    names : list or None
        Name of each label, or a tuple of its synonyms; None if the labels are numbers without
        names.
    """

    classes: np.ndarray
    names: list | None

    def at(self, positions):
        """The universe of the classes at some positions."""
        names = None if self.names is None else [self.names[i] for i in positions]
        return LabelUniverse(self.classes[positions], names)

    def positions(self, labels):
        """Sorted positions of the labels of a view, which a mask may select.

        Raises
        ------
        TypeError, ValueError
            If `labels` is a single string or empty, a label is not among the classes, or a mask has
            the wrong length.
        """
        if isinstance(labels, str):
            raise TypeError(f"restrict needs a list of labels, got the string {labels!r}.")
        array = np.asarray(without_nulls(labels))
        if array.dtype == bool and self.classes.dtype != bool:
            if array.shape != self.classes.shape:
                raise ValueError(
                    f"A boolean array in restrict must have the shape of classes_, "
                    f"{self.classes.shape}, got {array.shape}."
                )
            chosen = array
        else:
            position = {label: i for i, label in enumerate(self.classes.tolist())}
            wanted = np.ravel(labels).tolist()
            unknown = [label for label in wanted if label not in position]
            if unknown:
                raise ValueError(f"restrict got {unknown[0]!r}, which is not one of the classes_.")
            chosen = np.isin(np.arange(len(self.classes)), [position[label] for label in wanted])
        if not chosen.any():
            raise ValueError("restrict needs at least one label.")
        return np.flatnonzero(chosen)

    def unlisted(self, y):
        """Distinct labels in `y` that are not among the classes.

        Raises
        ------
        TypeError
            If `y` holds numbers and the classes are strings, or the other way round.
        """
        if is_textual(y) != is_textual(self.classes):
            found, expected = ("strings", "numbers") if is_textual(y) else ("numbers", "strings")
            raise TypeError(f"y has {found}, but the classes_ are {expected}.")
        known = set(self.classes.tolist())
        return [label for label in np.unique(y).tolist() if label not in known]

    def of_labels(self, labels):
        """The universe of labels from `y`, which name themselves."""
        classes = array_of_labels(labels, self.classes.dtype)
        return LabelUniverse(classes, None if self.names is None else [*map(str, labels)])

    def joined(self, added):
        """The universe of these classes, followed by added ones."""
        return LabelUniverse(
            array_of_labels([*self.classes.tolist(), *added.classes.tolist()], self.classes.dtype),
            None if self.names is None else [*self.names, *added.names],
        )

    def known(self, names):
        """Positions of names in a call of ``add_classes`` that these classes have already.

        Parameters
        ----------
        names : iterable of str
            Labels or, if labels are numbers, names.

        Returns
        -------
        positions : dict
        """
        listed = self.classes.tolist() if is_textual(self.classes) else self.names or []
        position = {name: i for i, name in enumerate(listed)}
        return {
            name: position[name] for name in names if isinstance(name, str) and name in position
        }

    def added(self, names):
        """The universe of added classes, known by their names only.

        Parameters
        ----------
        names : iterable of str, or mapping
            If labels are strings, these are the labels; integer labels continue from the largest.
            A mapping maps each of them to a name, or to a list of synonyms.

        Returns
        -------
        added : LabelUniverse
            In the order of `names`.

        Raises
        ------
        TypeError, ValueError
            If a name is not a string, is repeated, or is already known.
        """
        if isinstance(names, str):
            raise TypeError(f"add_classes needs a list of names, got the string {names!r}.")
        textual = is_textual(self.classes)
        labels, known = list(names), set(self.classes.tolist() if textual else self.names or [])
        for label in labels:
            if not isinstance(label, str):
                raise TypeError(f"Names in add_classes must be strings, got {label!r}.")
            if label in known:
                raise ValueError(
                    f"add_classes got {label!r}, which is repeated or one of the classes_."
                )
            known.add(label)
        if isinstance(names, Mapping):
            names = [_checked_name(label, name, "add_classes") for label, name in names.items()]
        else:
            names = labels
        if textual:
            return LabelUniverse(np.array(labels, dtype=object), names)
        if self.classes.dtype == bool:
            raise TypeError("No class can be added, because the labels are booleans.")
        largest = int(self.classes.max())
        # above this limit, numbers are not exact
        limit = 2**53 if self.classes.dtype.kind == "f" else np.iinfo(np.int64).max
        if largest + len(names) > limit:
            raise ValueError(
                f"{len(names)} more labels after the largest, {largest}, would exceed {limit}. Fit "
                "on smaller numbers, or on strings."
            )
        return LabelUniverse(largest + np.arange(1, len(names) + 1), names)


def label_universe(y, new_classes=None, class_names=None, categories=None):
    """Find all labels that a classifier may answer, and the name of each.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Training labels.
    new_classes : array-like of str or int, optional
        Labels without images.
    class_names : list or mapping, optional
        Names, which also define the universe. In a list, string labels name themselves, and entry
        i names the integer label i. A mapping maps labels to names or to lists of synonyms; a
        string label that is not in it names itself.
    categories : iterable, optional
        Labels that `y` could have had. Without `class_names`, those that are not in `y` are new
        classes.

    Returns
    -------
    universe : LabelUniverse

    Raises
    ------
    ValueError, TypeError
        If labels are repeated, have the wrong type, or are missing from `class_names`.
    """
    seen = np.unique(y)
    textual = is_textual(seen)
    new = _check_new_classes(new_classes, seen, textual)
    if class_names is None and categories is not None:
        new = [*new, *categories]
    named = None if class_names is None else _named_labels(class_names, textual)
    known = list(seen) + new
    if named is not None:
        _check_known(known, new, named, textual, isinstance(class_names, Mapping))
        known += named.keys() - set(known)
    classes = sorted_labels(known, seen.dtype)
    if named is None:
        return LabelUniverse(classes, [str(label) for label in classes] if textual else None)
    return LabelUniverse(classes, [named.get(label, label) for label in classes.tolist()])


def universe_parameters(new_classes, class_names, universe, added):
    """Values of `new_classes` and `class_names` for which a fit results in a grown universe.

    Parameters
    ----------
    new_classes, class_names
        Parameters of the classifier before it grew.
    universe : LabelUniverse
        The grown universe.
    added : LabelUniverse
        The added classes.

    Returns
    -------
    new_classes, class_names
    """
    labels = added.classes.tolist()
    if is_textual(universe.classes):
        others = {
            label: name for label, name in zip(labels, added.names, strict=True) if label != name
        }
        if others:
            class_names = _as_mapping(class_names) | others
    elif universe.names is not None:
        return new_classes, dict(zip(universe.classes.tolist(), universe.names, strict=True))
    return [*([] if new_classes is None else new_classes), *map(_integer, labels)], class_names


def _integer(label):
    """A label, a whole number as an integer, as `new_classes` requires."""
    return int(label) if isinstance(label, float) else label


def sorted_labels(labels, dtype):
    """Sorted distinct labels, of the given dtype if it can hold them all."""
    return np.unique(array_of_labels(labels, dtype))


def array_of_labels(labels, dtype):
    """Labels as an array, of the given dtype if it can hold them all.

    Raises
    ------
    ValueError
        If no type of integers can.
    """
    labels = list(map(plain_label, labels))
    if dtype.kind in "iu":  # NumPy would choose floats for some integers
        low, high = min(labels), max(labels)
        for candidate in (dtype, np.int64, np.uint64):
            if np.iinfo(candidate).min <= low and high <= np.iinfo(candidate).max:
                return np.array(labels, dtype=candidate)
        raise ValueError(
            f"No type of integers can hold the labels {low} and {high}. Use smaller numbers, or "
            "strings."
        )
    array = np.array(labels, dtype=object if dtype.kind == "O" else None)
    converted = array.astype(dtype)
    return converted if np.array_equal(converted, array) else array


def plain_label(label):
    """A label as a Python object, for messages and mappings."""
    return label.item() if isinstance(label, np.generic) else label


def _check_new_classes(new_classes, seen, textual):
    if new_classes is None:
        return []
    if isinstance(new_classes, str):
        raise TypeError(
            f"new_classes must be a list, got the string {new_classes!r}. Use [{new_classes!r}]."
        )
    new = list(new_classes)
    kind = str if textual else (int, np.integer)
    for position, label in enumerate(new):
        if not isinstance(label, kind) or isinstance(label, bool):
            raise TypeError(
                f"new_classes[{position}] is {label!r}, but the labels in y are "
                f"{'strings' if textual else 'integers'}. New classes must have the same type."
                + (f" {ENCODED_LABELS}" if isinstance(label, str) else "")
            )
    repeated = _first_repeated(new)
    if repeated is not None:
        raise ValueError(
            f"new_classes contains {plain_label(repeated)!r} twice. List each class once."
        )
    overlap = sorted(set(map(plain_label, new)).intersection(seen.tolist()))
    if overlap:
        warn_user(
            f"The class {overlap[0]!r} in new_classes has images in y and is treated as a base "
            "class."
        )
    return new


def _check_known(known, new, named, textual, is_mapping):
    """Check that each label has a name. With a mapping, strings may name themselves.

    A list of strings is the whole universe, so other labels in `y` are an error.
    """
    if textual and is_mapping:
        return
    unknown = [label for label in known if label not in named]
    added = set(new)
    unknown_seen = [label for label in unknown if label not in added]
    if not unknown_seen and (textual or not unknown):
        return
    if textual or is_mapping:
        remedy = "Add it" + (", or give a mapping of label to name." if textual else ".")
    else:
        remedy = (
            f"A list names the labels 0 to {len(named) - 1}. For other labels, give a mapping of "
            "label to name."
        )
    raise ValueError(
        f"Label {plain_label((unknown_seen or unknown)[0])!r} is not in class_names, which "
        f"has {len(named)} labels. {remedy}"
    )


def _named_labels(class_names, textual):
    """Mapping of label to name."""
    if isinstance(class_names, str):
        raise TypeError(f"class_names must be a list of names, got the string {class_names!r}.")
    if isinstance(class_names, Mapping):
        named = {plain_label(label): name for label, name in class_names.items()}
        for label in named:
            if isinstance(label, str) != textual:
                raise TypeError(
                    f"class_names has the label {label!r}, but the labels in y are "
                    f"{'strings' if textual else 'numbers'}."
                    + (f" {ENCODED_LABELS}" if isinstance(label, str) else "")
                )
    else:
        names = list(class_names)
        repeated = _first_repeated([name for name in names if isinstance(name, str)])
        if repeated is not None:
            raise ValueError(f"class_names contains {repeated!r} twice. Names must be distinct.")
        named = dict(enumerate(names))
        if textual:
            wrong = [name for name in names if not isinstance(name, str)]
            if wrong:
                raise TypeError(
                    f"class_names contains {wrong[0]!r}, but the labels in y are strings. For "
                    "synonyms, give a mapping of label to a list of names."
                )
            named = {name: name for name in names}
    return {label: _checked_name(label, name) for label, name in named.items()}


def _checked_name(label, name, source="class_names"):
    """A name, or a tuple of several."""
    if isinstance(name, str):
        return str(name)
    if isinstance(name, (Mapping, bytes)) or not isinstance(name, Iterable):
        raise TypeError(f"Names in {source} must be strings, got {name!r} for label {label!r}.")
    names = list(name)
    if not names:
        raise ValueError(
            f"{source} has an empty list of names for label {label!r}. Give at least one."
        )
    for synonym in names:
        if not isinstance(synonym, str):
            raise TypeError(
                f"Names in {source} must be strings, got {synonym!r} for label {label!r}."
            )
    return tuple(map(str, names))


def _as_mapping(class_names):
    """Names of string labels as a mapping."""
    if class_names is None:
        return {}
    if isinstance(class_names, Mapping):
        return dict(class_names)
    return dict(zip(class_names, class_names, strict=True))


def _first_repeated(labels):
    seen = set()
    for label in labels:
        if label in seen:
            return label
        seen.add(label)
    return None
