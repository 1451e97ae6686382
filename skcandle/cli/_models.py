"""Model files: pipelines in the format of skops, which runs nothing that is not trusted."""

import zipfile
from contextlib import contextmanager
from copy import copy

from ._outputs import replacing

PREFIX = "skcandle."
# Parameters that belong to a machine, not to a model.
ANYWHERE = {"cache": None, "device": "auto", "n_jobs": None, "verbose": 0}


def save_model(pipe, path, force):
    """Write a fitted pipeline, without what belongs to this machine."""
    import skops.io

    with replacing(path, force) as temporary:
        skops.io.dump(_without_surroundings(pipe), temporary)


def _without_surroundings(pipe):
    return type(pipe)(
        [
            ("clip", copy(pipe["clip"]).set_params(**ANYWHERE)),
            ("candle", _plain(pipe["candle"])),
        ]
    )


def _plain(candle):
    from dataclasses import replace

    plain = copy(candle)
    plain.set_params(verbose=0, device="auto")
    if hasattr(candle.text_encoder, "encode_text"):
        encoder = copy(candle.text_encoder).set_params(**ANYWHERE)
        plain.text_encoder = encoder
        plain._text_encoder = replace(candle._text_encoder, encoder=encoder)
    return plain


def load_model(path, *, trust=False):
    """Read a fitted pipeline of a CLIPFeaturizer and a classifier of this library.

    Parameters
    ----------
    path : Path
    trust : bool
        Whether types of other libraries may be loaded.

    Returns
    -------
    pipe : Pipeline
        With the steps "clip" and "candle".

    Raises
    ------
    ValueError
        If the file is none of a model, or has types that are not trusted.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give a model first, or names with --classes."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{str(path)!r} is no model; `skcandle fit PHOTOS -o FILE` makes one.")
    import skops.io

    with _explains_unreadable(path):
        types = skops.io.get_untrusted_types(file=path)
    foreign = [name for name in types if not name.startswith(PREFIX)]
    if foreign and not trust:
        raise ValueError(
            f"The model {str(path)!r} has parts that are not of skcandle: {', '.join(foreign)}. "
            "If you know who made it, --trust loads them."
        )
    with _explains_unreadable(path):
        pipe = skops.io.load(path, trusted=types)
    _check_pipeline(pipe, path)
    with _explains_unreadable(path):
        pipe.get_params()  # of another version, it may lack some
    return pipe


@contextmanager
def _explains_unreadable(path):
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # skops raises all kinds of errors on what is no file of its own
        raise ValueError(
            f"{str(path)!r} is no model that this version of skcandle can read "
            f"({type(error).__name__}: {error}); fit it again."
        ) from error


def _check_pipeline(pipe, path):
    from sklearn.pipeline import Pipeline

    from ..classifier import CandleClassifier, PublishedCandleClassifier
    from ..clip import CLIPFeaturizer

    if (
        not isinstance(pipe, Pipeline)
        or list(pipe.named_steps) != ["clip", "candle"]
        or not isinstance(pipe["clip"], CLIPFeaturizer)
        or not isinstance(pipe["candle"], (CandleClassifier, PublishedCandleClassifier))
        or not hasattr(pipe["candle"], "classes_")
    ):
        raise ValueError(
            f"{str(path)!r} holds no fitted pipeline of make_candle_pipeline but a "
            f"{type(pipe).__name__}."
        )
