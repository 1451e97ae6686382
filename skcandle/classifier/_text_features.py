"""The label universe, the names of its classes, and their text features."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import binom

from .._warnings import warn_user
from ..clip._checkpoint import embedding_dim
from ..exceptions import TextFeaturesWarning
from ._prototypes import unit
from ._universe import ENCODED_LABELS, plain_label

# Chance level is a statement about many images; below this number nothing is said.
MIN_IMAGES_FOR_CHANCE = 20


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
    labels = [plain_label(label) for label in classes]
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
    from ..clip._featurizer import CLIPFeaturizer

    return embedding_dim(CLIPFeaturizer().model_name)


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
