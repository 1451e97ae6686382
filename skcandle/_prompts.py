"""The label universe, the names of its classes, and their text features."""

from collections.abc import Mapping
from numbers import Number

import numpy as np
from scipy.stats import binom
from sklearn.utils import column_or_1d
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from ._prototypes import unit
from ._sources import embedding_dim
from .exceptions import TextFeaturesWarning, warn_user

# Chance level is a statement about many images; below this number nothing is said.
MIN_IMAGES_FOR_CHANCE = 20

ENCODED_LABELS = (
    "Tools that encode labels before fitting, such as StackingClassifier, need integer labels "
    "and class_names=[...]."
)


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
        If labels are neither strings nor numbers, such as bytes, or are of both kinds.
    """
    labels = np.asarray(y)
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
    return column_or_1d(labels)


def is_textual(labels):
    """Whether labels are strings; an object array may hold integers as well."""
    return labels.dtype.kind == "U" or labels.dtype == object and isinstance(labels[0], str)


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
                f"Label {_plain((unknown_seen or unknown)[0])!r} is not in class_names, which "
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
        raise ValueError(f"new_classes holds {_plain(repeated)!r} twice; name each class once.")
    return new


def _named_labels(class_names, textual):
    """Mapping of label to name."""
    if isinstance(class_names, str):
        raise TypeError(f"class_names is the single string {class_names!r}; give a list of names.")
    if isinstance(class_names, Mapping):
        named = {_plain(label): name for label, name in class_names.items()}
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


def fill_templates(templates, names):
    """Prompts of all classes under each template.

    Parameters
    ----------
    templates : str or list of str
        Each with one ``{}``, which the name of a class replaces.
    names : list of str

    Returns
    -------
    prompts : list of list of str
        One list of ``len(names)`` prompts for each template.
    """
    templates = [templates] if isinstance(templates, str) else list(templates)
    if not templates:
        raise ValueError("templates is empty; give at least one, such as 'a photo of a {}.'.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                f"The template {template!r} is not a string with exactly one {{}} for the name of "
                "the class, such as 'a photo of a {}.'."
            )
    return [[template.replace("{}", name) for name in names] for template in templates]


def class_text_features(text_encoder, classes, names, templates, n_features):
    """Text features of classes: unit rows, averaged over the templates.

    Parameters
    ----------
    text_encoder : CLIPFeaturizer, callable or mapping
        What makes features of prompts; a mapping of label to vector is used as it is.
    classes : sequence
        Labels.
    names : list of str or None
    templates : str or list of str
    n_features : int
        Width of the image features, which the text features must have.

    Returns
    -------
    text_features : ndarray of shape (n_classes, n_features)

    Raises
    ------
    ValueError
        If a class has no vector or no name, or the features have another shape, or are not
        finite.
    """
    labels = [_plain(label) for label in classes]
    if isinstance(text_encoder, Mapping):
        missing = [label for label in labels if label not in text_encoder]
        if missing:
            raise ValueError(
                f"text_encoder has no vector for the label {missing[0]!r} "
                f"({len(missing)} of {len(labels)} labels are missing)."
                + ("" if isinstance(missing[0], str) else f" {ENCODED_LABELS}")
            )
        features = [np.stack([_vector(text_encoder, label, n_features) for label in labels])]
    else:
        if names is None:
            raise ValueError(
                f"The labels are numbers (such as {labels[0]!r}), which say nothing to a text "
                "encoder. Pass class_names=[...], whose i-th entry names label i, or string "
                f"labels, or text_encoder=None to learn from images alone. {ENCODED_LABELS}"
            )
        blank = [label for label, name in zip(labels, names, strict=True) if not name.strip()]
        if blank:
            raise ValueError(
                f"The name of the label {blank[0]!r} is blank, which says nothing to a text "
                "encoder. Give it a name in class_names, or leave it out."
            )
        encode = getattr(text_encoder, "encode_text", text_encoder)
        features = [np.asarray(encode(filled)) for filled in fill_templates(templates, names)]
    for matrix in features:
        _check_text_features(matrix, labels, n_features)
    return unit(sum(unit(matrix.astype(float)) for matrix in features))


def _vector(vectors, label, n_features):
    """One entry of a mapping, whose errors would otherwise not name the label."""
    try:
        vector = np.asarray(vectors[label], dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The text vector of {label!r} is not one of numbers: {error}.") from error
    if vector.shape != (n_features,):
        raise ValueError(
            f"The text vector of {label!r} has shape {vector.shape}, but X has {n_features} "
            "columns. Text vectors and X must come from the same model."
        )
    return vector


def _check_text_features(matrix, labels, n_features):
    n_classes = len(labels)
    if matrix.ndim != 2 or len(matrix) != n_classes:
        raise ValueError(
            f"text_encoder returned an array of shape {matrix.shape} for {n_classes} prompts; "
            f"({n_classes}, {n_features}) was expected."
        )
    if matrix.shape[1] != n_features:
        raise ValueError(
            f"Text features have {matrix.shape[1]} columns, but X has {n_features}. Both must "
            "come from the same model: make_candle_pipeline sets the two from one name."
        )
    if not np.isfinite(matrix.astype(float)).all():
        raise ValueError("text_encoder returned NaN or infinite values.")
    empty = np.flatnonzero(~matrix.any(axis=1))
    if len(empty):
        raise ValueError(
            f"The text feature of {labels[empty[0]]!r} is all zeros; an embedding has a direction. "
            "Check text_encoder."
        )


def default_text_width():
    """Width of the default CLIP's features, known without loading it."""
    from ._featurizer import CLIPFeaturizer

    return embedding_dim(CLIPFeaturizer().model_name)


def _first_repeated(labels):
    seen = set()
    for label in labels:
        if label in seen:
            return label
        seen.add(label)
    return None


def _plain(label):
    return label.item() if isinstance(label, np.generic) else label


def warn_at_chance(X, y, text_features):
    """Warn if zero-shot predictions of the training images are no better than guessing."""
    seen, y = np.unique(y, return_inverse=True)
    if text_features is None or len(seen) < 2 or len(y) < MIN_IMAGES_FOR_CHANCE:
        return
    n_seen, n_images = len(seen), len(y)
    predicted = np.argmax(X @ text_features[seen].T, axis=1)
    hits = int((predicted == y).sum())
    # what guessing gives that answers as often with each class as the predictions do
    frequency = np.bincount(predicted, minlength=n_seen) / n_images
    chance = float(frequency @ np.bincount(y, minlength=n_seen) / n_images)
    kappa = (hits / n_images - chance) / max(1 - chance, 1e-12)
    if kappa < 0.1 and binom.sf(hits - 1, n_images, chance) > 0.05:
        warn_user(
            f"Zero-shot predictions are right for {hits} of {n_images} training images, which is "
            f"what guessing among {n_seen} classes gives. Text and image features do not "
            "look like the same model; check text_encoder, or the names of the classes.",
            TextFeaturesWarning,
        )
