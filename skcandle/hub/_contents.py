"""What a fitted pipeline that was read from a file consists of: plain values that fit together."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np

from ..clip._identity import ModelIdentity
from ._limits import RefusedFileError

# Shapes of arrays, one letter a side: n classes_, m classes of the model, d features; the others
# are what they are in the array that comes first.
ATTRIBUTES = {
    "_columns": "n",
    "_column_labels": "m",
    "classes_": "n",
    "class_count_": "n",
    "is_new_": "n",
    "prototypes_": "nd",
    "text_features_": "nd",
    "feature_names_in_": "d",
    "_log_prior": "n",
    "unlabeled_count_": "n",
}
FIELDS = {
    "AdaptedModel": {"n_unlabeled": "m"},
    "CandleModel": {"text_features": "md", "projection": "dd"},
    "PrototypeSpace": {
        "counts": "m",
        "image_mean": "d",
        "text_mean": "d",
        "text_map": "dd",
        "prototypes": "md",
        "whitener": "dd",
    },
    "ClassStatistics": {"counts": "m", "means": "md", "scatter": "dd"},
    "SingleImages": {
        "X": "id",
        "y": "i",
        "sample_weight": "i",
        "coordinates": "id",
        "coefficients": "ib",
        "columns": "b",
    },
    "TrainingImages": {"embeddings": "t", "contents": "t", "columns": "t", "weights": "t"},
    "HeldOutScores": {"coefficients": "2", "novelty": "2s", "gaps": "2s"},
    "PublishedModel": {"counts": "m", "text_features": "md", "image_prototypes": "md"},
}
POSITIONS = {"_columns", "y", "columns"}  # of classes in the model
OF_ANY_TYPE = {
    "classes_",
    "_column_labels",
    "is_new_",
    "feature_names_in_",
    "embeddings",
    "contents",
}
PLAIN = (str, bytes, Real, np.generic, type(None), np.random.RandomState)


def check_plain(pipe, candle):
    """Check that a pipeline consists of plain values and of what its classifier has learned.

    Estimators are where the checks, the command and the model card look for them, and nowhere else.

    Parameters
    ----------
    pipe : Pipeline
    candle : CandleClassifier or PublishedCandleClassifier
        Its fitted classifier, which may be inside a RejectingClassifier.

    Raises
    ------
    RefusedFileError
    """
    clip, last = pipe["clip"], pipe["candle"]
    estimators = {"clip": clip, "candle": last}
    classifiers = {"candle": candle}
    if last is not candle:
        classifiers = {"candle.estimator": last.estimator, "candle.estimator_": candle}
    for place, classifier in classifiers.items():
        estimators[place] = classifier
        if isinstance(classifier.text_encoder, type(clip)):
            estimators[f"{place}.text_encoder"] = classifier.text_encoder
    _check_identity(getattr(candle._text_encoder, "identity", None))
    seen = set(map(id, estimators.values()))
    for place, estimator in estimators.items():
        estimator._validate_params()
        _check_identity(getattr(estimator, "_identity", None))
        for name, value in vars(estimator).items():
            _check_value(value, f"{place}.{name}", seen)


def _check_identity(identity):
    if identity is None:
        return
    prints = getattr(identity, "fingerprints", None)
    if type(identity) is not ModelIdentity or not prints or not isinstance(prints, (tuple, list)):
        raise RefusedFileError("it does not say which CLIP it was fitted with")
    if not all(isinstance(text, str) for text in (identity.name, *prints)):
        raise RefusedFileError("it does not say which CLIP it was fitted with")


def _check_value(value, name, seen):
    if isinstance(value, PLAIN) or id(value) in seen:
        return
    seen.add(id(value))
    parts: Iterable = ()
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            parts = value.ravel().tolist()
    elif isinstance(value, (list, tuple, set)):
        parts = value
    elif isinstance(value, dict):
        parts = [*value, *value.values()]
    elif is_dataclass(value) and _is_fitted_state(value):
        if vars(value).keys() != {field.name for field in fields(value)}:
            raise RefusedFileError(f"{name} has other attributes than a {type(value).__name__}")
        for part, content in vars(value).items():
            _check_value(content, f"{name}.{part}", seen)
        return
    else:
        raise RefusedFileError(
            f"{name} contains an object of type {type(value).__name__}, which does not belong there"
        )
    for part in parts:
        _check_value(part, name, seen)


def _is_fitted_state(value):
    is_of_a_classifier = type(value).__module__.startswith("skcandle.classifier.")
    return is_of_a_classifier or type(value) is ModelIdentity


def check_shapes(last, candle):
    """Check that the arrays of a fitted classifier fit together.

    Parameters
    ----------
    last : estimator
        The last step of a pipeline: the classifier, or a RejectingClassifier around it.
    candle : CandleClassifier or PublishedCandleClassifier

    Raises
    ------
    RefusedFileError
    """
    _check_parts(candle)
    n_features, model = candle.n_features_in_, candle._model
    if not isinstance(n_features, Integral):
        raise RefusedFileError(f"n_features_in_ is {n_features!r}")
    sizes = {
        "2": 2,
        "d": int(n_features),
        "m": np.size(model.counts),
        "n": np.size(candle.classes_),
    }
    for name, sides in ATTRIBUTES.items():
        _check_array(getattr(candle, name, None), name, sides, sizes)
    for part in vars(candle).values():
        if is_dataclass(part):
            _check_fields(part, sizes)
    if hasattr(model, "head_state"):
        _check_head(model.head_state, sizes["d"])
    _check_classes(candle, model)
    if hasattr(candle, "_prior"):
        _check_prior(candle)
    if last is not candle:
        _check_array(last.thresholds_, "thresholds_", "2", sizes)
        if not np.array_equal(last.classes_, candle.classes_):
            raise RefusedFileError("the classes_ inside and outside of its rejection differ")


def _check_parts(candle):
    """Check the types of the parts that a classifier has learned."""
    from ..classifier import PublishedCandleClassifier
    from ..classifier._held_out import HeldOutScores
    from ..classifier._model import CandleModel
    from ..classifier._published import PublishedModel
    from ..classifier._training_images import TrainingImages
    from ..classifier._unlabeled import AdaptedModel

    parts: dict[str, Any] = {"_training_images": TrainingImages}
    if isinstance(candle, PublishedCandleClassifier):
        parts["_model"] = PublishedModel
    else:
        models = (CandleModel, AdaptedModel)
        parts |= {"_model": models, "_held_out": HeldOutScores, "_prior": (float, dict)}
    for name, expected in parts.items():
        value = getattr(candle, name, None)
        if not isinstance(value, expected):
            raise RefusedFileError(f"{name} is missing or of type {type(value).__name__}")


def _check_fields(part, sizes):
    shapes = FIELDS.get(type(part).__name__, {})
    for field in fields(part):
        value, name = getattr(part, field.name), f"{type(part).__name__}.{field.name}"
        types = get_args(field.type) or (field.type,)  # such as SingleImages and None
        if any(map(is_dataclass, types)):
            if type(value) not in types:
                raise RefusedFileError(f"{name} is of type {type(value).__name__}")
            if value is not None:
                _check_fields(value, sizes)
        elif field.name in shapes:
            _check_array(value, name, shapes[field.name], sizes)
            if value is None and field.type is np.ndarray:
                raise RefusedFileError(f"{name} is missing")
        elif field.type in (int, float) and not isinstance(value, Real):
            raise RefusedFileError(f"{name} is not a number")


def _check_array(value, name, sides, sizes):
    if value is None:
        return
    if type(value) is not np.ndarray or value.ndim != len(sides):
        raise RefusedFileError(f"{name} is not a {len(sides)}-dimensional array")
    expected = tuple(
        sizes.setdefault(side, length) for side, length in zip(sides, value.shape, strict=True)
    )
    if value.shape != expected:
        raise RefusedFileError(f"{name} has shape {value.shape}, but the others need {expected}")
    short = name.rpartition(".")[2]
    if short in POSITIONS:
        if value.dtype.kind not in "iu" or not ((value >= 0) & (value < sizes["m"])).all():
            raise RefusedFileError(f"{name} does not hold positions of the {sizes['m']} classes")
    elif short not in OF_ANY_TYPE and value.dtype not in (np.float32, np.float64):
        raise RefusedFileError(f"{name} has type {value.dtype}")


def _check_head(state, n_features):
    import torch

    from ..classifier._attention_head import AttentionHead

    with torch.device("meta"):  # shapes without memory
        expected = AttentionHead(n_features).state_dict()
    shapes = {name: np.shape(value) for name, value in state.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in expected.items()}:
        raise RefusedFileError(f"its attention does not have the shapes for {n_features} features")
    for name, value in state.items():
        _check_array(value, name, "".join(map(str, range(value.ndim))), {})


def _check_classes(candle, model):
    """Check that what is shown of the classes is what the model has learned of them."""
    classes, columns, texts = candle.classes_, candle._columns, model.text_features
    if not np.array_equal(np.unique(classes), classes) or len(np.unique(columns)) < len(columns):
        raise RefusedFileError("classes_ are not sorted, or contain duplicates")
    labels, names = candle._column_labels, candle._column_names
    if len(np.unique(labels)) < len(model.counts):
        raise RefusedFileError("the labels of its classes contain duplicates")
    if not np.array_equal(labels[columns], classes):
        raise RefusedFileError("classes_ are not the labels of its classes")
    if names is not None and (type(names) is not list or len(names) != len(labels)):
        raise RefusedFileError(f"{len(labels)} classes have the names {names!r:.80}")
    if candle.class_names_ != (None if names is None else [names[i] for i in columns]):
        raise RefusedFileError("class_names_ are not the names of its classes")
    learned = {
        "class_count_": model.counts[columns],
        "is_new_": model.counts[columns] == 0,
        "prototypes_": model.image_prototypes[columns],
        "text_features_": None if texts is None else texts[columns],
    }
    if hasattr(model, "n_unlabeled"):
        learned["unlabeled_count_"] = model.n_unlabeled[columns]
    for name, value in learned.items():
        if not np.array_equal(getattr(candle, name), value, equal_nan=False):
            raise RefusedFileError(f"{name} is not what the model has learned")
    for part in (model.before, model.after) if hasattr(model, "before") else (model,):
        if not hasattr(part, "space"):
            continue
        of_texts = (texts, part.text_features, part.space.text_mean, part.space.text_map)
        if len({array is None for array in of_texts}) > 1:
            raise RefusedFileError("part of its text features is missing")
        if not np.array_equal(part.text_features, texts):
            raise RefusedFileError("its text features before and after unlabelled images differ")


def _check_prior(candle):
    """Check that the class frequencies in use are those that were set."""
    from ..classifier._prior import log_prior_of_use

    expected = log_prior_of_use(candle._prior, candle.classes_, candle.class_count_)
    if candle._log_prior is None or not np.allclose(candle._log_prior, expected):
        raise RefusedFileError("_log_prior does not follow from _prior")
