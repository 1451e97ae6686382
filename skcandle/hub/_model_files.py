"""Files of fitted pipelines in the format of skops, from which only known types are created."""

import os
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cache

import numpy as np
from sklearn.base import clone

from .._embeddings import Embeddings
from ._contents import check_plain, check_shapes
from ._limits import RefusedFileError, check_limits

# Parameters that belong to a machine, not to a model.
ANYWHERE = {"cache": None, "device": "auto", "n_jobs": None, "verbose": 0}


@cache
def known_types():
    """Names of all types of this library that a fitted estimator contains.

    They are listed one by one, because a file may name any function that a module of the library
    defines or imports, and have it called with arguments of its choice.
    """
    from ..classifier import CandleClassifier, PublishedCandleClassifier, RejectingClassifier
    from ..classifier._held_out import HeldOutScores
    from ..classifier._logit_weights import LogitWeights
    from ..classifier._model import CandleModel
    from ..classifier._prototypes import PrototypeSpace
    from ..classifier._published import PublishedModel
    from ..classifier._single_images import SingleImages
    from ..classifier._statistics import ClassStatistics
    from ..classifier._text_features import ClassTextEncoder
    from ..classifier._training_images import TrainingImages
    from ..classifier._unlabeled import AdaptedModel
    from ..clip import CLIPFeaturizer, EmbeddingCache
    from ..clip._identity import ModelIdentity
    from ..pipeline import CandlePipeline

    types = (
        CandleClassifier,
        PublishedCandleClassifier,
        RejectingClassifier,
        HeldOutScores,
        LogitWeights,
        AdaptedModel,
        CandleModel,
        PrototypeSpace,
        PublishedModel,
        SingleImages,
        ClassStatistics,
        ClassTextEncoder,
        TrainingImages,
        CLIPFeaturizer,
        EmbeddingCache,
        ModelIdentity,
        CandlePipeline,
    )
    return frozenset(f"{one.__module__}.{one.__qualname__}" for one in types)


def to_bytes(pipe):
    """A fitted pipeline as the content of a file, without settings that belong to this machine.

    It says which CLIP it was fitted with: the present one for a featurizer that was never fitted.
    """
    import skops.io

    from ..clip._identity import check_embeds_with

    pipe = portable(pipe)
    if pipe["clip"]._identity is None:
        pipe["clip"]._identity = pipe["clip"]._present_identity()
    check_embeds_with(pipe["clip"]._identity, fitted_candle(pipe))
    return skops.io.dumps(pipe)


def foreign_types(data):
    """Names of types and functions in a file that neither this library nor skops trusts.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    names : list of str
        Sorted.
    """
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=data)) - known_types())


def read(path):
    """Read the content of a file, and the names of its :func:`foreign_types`.

    Raises
    ------
    ValueError
        If it is not a model file, or would take much more memory than its size.
    """
    data = path.read_bytes()
    with explains_unreadable(path):
        check_limits(data)
        return data, foreign_types(data)


def from_bytes(data, path, *, trusted=()):
    """Load the fitted pipeline of a CLIPFeaturizer and a classifier from a file.

    Its featurizers and its fitted text encoder are created anew from the parameters.

    Parameters
    ----------
    data : bytes
    path : str or Path
        For messages.
    trusted : list of str
        Further types that may be created, and be anywhere in the pipeline.

    Returns
    -------
    pipe : Pipeline
        With the steps "clip" and "candle".

    Raises
    ------
    ValueError
        If it cannot be read, contains something else, or has parts that contradict each other.
    """
    import skops.io

    from ..clip._identity import check_embeds_with

    with explains_unreadable(path):
        pipe = skops.io.loads(data, trusted=[*known_types(), *trusted])
        is_fitted = is_fitted_pipeline(pipe)
    if not is_fitted:
        raise ValueError(
            f"{str(path)!r} does not contain a fitted pipeline from make_candle_pipeline, but a "
            f"{type(pipe).__name__}."
        )
    with explains_unreadable(path):
        pipe = portable(pipe)
        if not trusted:
            check_plain(pipe, fitted_candle(pipe))
        check_shapes(pipe["candle"], fitted_candle(pipe))
    check_embeds_with(pipe["clip"]._identity, fitted_candle(pipe))
    return pipe


def is_model_file(path):
    """Whether a file may be a skops file, which is a zip archive."""
    return zipfile.is_zipfile(path)


@contextmanager
def explains_unreadable(path):
    """Turn an error of skops, of any type, into one that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except RefusedFileError as error:
        raise ValueError(
            f"{str(path)!r} was not loaded, because {error}; fit the pipeline again, or ask its "
            "author for an intact file."
        ) from error
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is not a model that this version of skcandle can read "
            f"({type(error).__name__}: {error}); fit it again."
        ) from error


def is_fitted_pipeline(pipe):
    """Whether an object is a fitted pipeline from :func:`skcandle.make_candle_pipeline`."""
    from sklearn.pipeline import Pipeline

    from ..classifier import CandleClassifier, PublishedCandleClassifier
    from ..clip import CLIPFeaturizer

    return (
        isinstance(pipe, Pipeline)
        and list(pipe.named_steps) == ["clip", "candle"]
        and isinstance(pipe["clip"], CLIPFeaturizer)
        and isinstance(fitted_candle(pipe), (CandleClassifier, PublishedCandleClassifier))
        and hasattr(fitted_candle(pipe), "classes_")
    )


def fitted_candle(pipe):
    """The classifier of a pipeline, also inside a RejectingClassifier, where it may be frozen."""
    from ..classifier import RejectingClassifier
    from ..classifier._rejecting import unfrozen

    last = pipe["candle"]
    if isinstance(last, RejectingClassifier):
        return unfrozen(getattr(last, "estimator_", None))
    return last


def portable(pipe):
    """The same pipeline without settings that belong to one machine.

    Only parameters and what the classifier has learned are kept, not its callbacks: the pipeline,
    its featurizers, and the text encoder of the classifier are created anew from their parameters.
    A classifier that is frozen in a RejectingClassifier is taken out of its FrozenEstimator.
    """
    from ..classifier._text_features import class_text_encoder
    from ..clip import CLIPFeaturizer

    candle = copy(fitted_candle(pipe)).set_params(verbose=0, device="auto")
    vars(candle).pop("_skl_callbacks", None)
    to_dict = getattr(getattr(candle, "class_prior", None), "to_dict", None)
    if to_dict is not None:  # a pandas Series, a type that skops does not trust
        candle.class_prior = to_dict()
    if isinstance(candle.text_encoder, CLIPFeaturizer):
        candle.text_encoder = _portable_clip(candle.text_encoder)
    elif isinstance(candle.text_encoder, Mapping):
        candle.text_encoder = {
            label: np.asarray(vector) if isinstance(vector, Embeddings) else vector
            for label, vector in candle.text_encoder.items()
        }
    if candle._text_encoder is not None:
        encoder, _ = class_text_encoder(
            candle.text_encoder, candle.templates, candle.n_features_in_, candle.device
        )
        identity = candle._text_encoder.identity
        candle._text_encoder = encoder and replace(encoder, identity=identity)
    last = candle
    if pipe["candle"] is not fitted_candle(pipe):  # in a RejectingClassifier
        last = copy(pipe["candle"])
        last.estimator, last.estimator_ = clone(candle), candle
    return type(pipe)([("clip", _portable_clip(pipe["clip"])), ("candle", last)])


def _portable_clip(clip):
    identity = clip._identity
    clip = clone(clip).set_params(**ANYWHERE)
    clip._identity = identity
    if isinstance(clip.pretrained, os.PathLike):
        clip.pretrained = os.fspath(clip.pretrained)  # skops does not trust the type
    return clip
