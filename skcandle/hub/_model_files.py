"""Files of fitted pipelines in the format of skops, from which only known types are created."""

import os
import zipfile
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cache

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
    from ..clip import CLIPFeaturizer, EmbeddingCache
    from ..pipeline import CandlePipeline

    types = (
        CandleClassifier,
        PublishedCandleClassifier,
        RejectingClassifier,
        HeldOutScores,
        LogitWeights,
        CandleModel,
        PrototypeSpace,
        PublishedModel,
        SingleImages,
        ClassStatistics,
        ClassTextEncoder,
        TrainingImages,
        CLIPFeaturizer,
        EmbeddingCache,
        CandlePipeline,
    )
    return frozenset(f"{one.__module__}.{one.__qualname__}" for one in types)


def to_bytes(pipe):
    """A fitted pipeline as the content of a file, without settings that belong to this machine."""
    import skops.io

    return skops.io.dumps(portable(pipe))


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
    """Read the content of a file, and the names of its :func:`foreign_types`."""
    data = path.read_bytes()
    with explains_unreadable(path):
        return data, foreign_types(data)


def from_bytes(data, path, *, trusted=()):
    """Load the fitted pipeline of a CLIPFeaturizer and a classifier from a file.

    Parameters
    ----------
    data : bytes
    path : str or Path
        For messages.
    trusted : list of str
        Further types that may be created.

    Returns
    -------
    pipe : Pipeline
        With the steps "clip" and "candle".

    Raises
    ------
    ValueError
        If it cannot be read, or contains something else.
    """
    import skops.io

    with explains_unreadable(path):
        pipe = skops.io.loads(data, trusted=[*known_types(), *trusted])
    if not is_fitted_pipeline(pipe):
        raise ValueError(
            f"{str(path)!r} does not contain a fitted pipeline from make_candle_pipeline, but a "
            f"{type(pipe).__name__}."
        )
    with explains_unreadable(path):
        pipe.get_params()  # a pipeline of another version may lack some
        return portable(pipe)


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
    """The classifier of a pipeline, also inside a RejectingClassifier."""
    from ..classifier import RejectingClassifier

    last = pipe["candle"]
    return getattr(last, "estimator_", None) if isinstance(last, RejectingClassifier) else last


def portable(pipe):
    """The same pipeline without settings that belong to one machine."""
    from sklearn.base import clone

    from ..clip import CLIPFeaturizer

    candle = copy(fitted_candle(pipe)).set_params(verbose=0, device="auto")
    to_dict = getattr(getattr(candle, "class_prior", None), "to_dict", None)
    if to_dict is not None:  # a pandas Series, a type that skops does not trust
        candle.class_prior = to_dict()
    if isinstance(candle.text_encoder, CLIPFeaturizer):
        encoder = _portable_clip(candle.text_encoder)
        candle.text_encoder = encoder
        candle._text_encoder = replace(candle._text_encoder, encoder=encoder)
    last = candle
    if pipe["candle"] is not fitted_candle(pipe):  # in a RejectingClassifier
        last = copy(pipe["candle"])
        last.estimator, last.estimator_ = clone(candle), candle
    return type(pipe)([("clip", _portable_clip(pipe["clip"])), ("candle", last)])


def _portable_clip(clip):
    clip = copy(clip).set_params(**ANYWHERE)
    if isinstance(clip.pretrained, os.PathLike):
        clip.pretrained = os.fspath(clip.pretrained)  # skops does not trust the type
    return clip
