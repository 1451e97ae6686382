"""Classify or embed the batches of an engine such as Ray Data, Spark or Daft."""

import os
from copy import copy
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from . import _typing
from ._images.failures import unreadable_error
from ._images.inputs import as_image_list, is_missing
from ._locks import ForkSafeLock
from .classifier._embeddings import stack_lists
from .classifier._missing_images import with_missing_answer
from .clip import EmbeddingCache
from .clip._featurizer import embed_images, is_featurizer
from .hub import load_pipeline
from .hub._transfer import MODEL_FILE
from .inspection._fitted import best_estimator, check_classifier, split_pipeline

__all__ = ["BatchPredictor"]

BROKEN_EMBEDDING = "its embedding is missing or not finite"


class BatchPredictor:
    """Add answers or embeddings to a batch of images or of stored embeddings.

    Batch engines call such an object, or the class itself, with one batch after the other: Ray
    Data in ``map_batches``, Spark in ``mapInPandas``, Daft in a user-defined function. It can be
    pickled, and each process of an engine loads the model once.

    Parameters
    ----------
    model : str, path-like, fitted pipeline, fitted classifier or CLIPFeaturizer
        A file, folder or repository, as for :func:`~skcandle.hub.load_pipeline`, which every
        machine must see under this name, or an object, which is part of the pickle. A pipeline
        must begin with a :class:`CLIPFeaturizer`.

    column : str, default="image"
        The column of the batch with images, in any form that :meth:`CLIPFeaturizer.transform`
        accepts (paths, URLs, bytes, arrays), or with embeddings, which are lists or arrays of
        floats. A pipeline accepts both; embeddings skip its first step.

    proba : bool, default=False
        Whether to add the probabilities of all classes.

    on_error : {"raise", "nan"}, default="raise"
        What to do about images that are broken or missing. ``"raise"`` raises an
        `ImageReadError`, which ends the job. ``"nan"`` adds a column ``"error"``.

    cache : str, path-like, EmbeddingCache or None, default=None
        Cache of the embeddings, see :class:`CLIPFeaturizer`. None leaves that of the featurizer,
        and a model file has none. Processes of one machine can share a folder.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid.

    See Also
    --------
    skcandle.scale_out.encode_dataset : Embeddings in Parquet files, on Dask.

    Notes
    -----
    These columns are added. With a classifier or a pipeline:

    * ``label``: the answer of `predict`; for an image that cannot be read, the empty string, or -1
      if labels are numbers;
    * ``probability``: the largest probability, as float32, or NaN;
    * ``probabilities``, with `proba`: those of all classes in the order of `classes_`, as float32.

    With a featurizer:

    * ``embedding``: a row of length 1, as float32, or NaN.

    With ``on_error="nan"``:

    * ``error``: what is wrong with the image, or the empty string.

    Stored embeddings that engines read from files do not say which CLIP they are from. Give the
    model only embeddings of its own CLIP.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import BatchPredictor, make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> emoji = load_emoji()
    >>> fruit = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    >>> images = [emoji.images[i] for i in fruit]
    >>> pipe = make_candle_pipeline("emoji-clip").fit(images, emoji.target[fruit])
    >>> predictor = BatchPredictor(pipe, on_error="nan")
    >>> batch = predictor({"id": [1, 2], "image": [images[0], None]})
    >>> batch["label"].tolist(), batch["error"].tolist()
    (['apple', ''], ['', 'it is missing'])
    """

    def __init__(
        self,
        model: Any,
        column: str = "image",
        *,
        proba: bool = False,
        on_error: str = "raise",
        cache: _typing.Path | EmbeddingCache | None = None,
    ) -> None:
        if on_error not in ("raise", "nan"):
            raise ValueError(f'on_error must be "raise" or "nan", got {on_error!r}.')
        if not isinstance(column, str):
            raise TypeError(f"column must be a string, got {type(column).__name__}.")
        if not _is_path(model):
            _parts(model)  # raises if it cannot be used
        elif os.path.exists(model):
            model = os.path.abspath(model)  # a worker may have another working directory
        self.model = model
        self.column = column
        self.proba = proba
        self.on_error = on_error
        self.cache = cache

    def __call__(self, batch: Any) -> Any:
        """Add columns to a batch.

        Parameters
        ----------
        batch : dict of arrays or lists, or pandas DataFrame
            The columns have one value per row.

        Returns
        -------
        batch : dict or DataFrame
            A copy with the new columns, which are arrays in a dict.

        Raises
        ------
        ImageReadError
            If images cannot be read and `on_error` is ``"raise"``.
        TypeError, ValueError
            If the batch does not have the column, or already has one of the new columns, or if the
            values are not what the model takes.
        """
        is_dict = isinstance(batch, dict)
        if not is_dict and not hasattr(batch, "assign"):
            raise TypeError(
                f"A batch must be a dict of arrays or a DataFrame, got a {type(batch).__name__}."
            )
        names = list(batch) if is_dict else list(batch.columns)
        if self.column not in names:
            raise ValueError(f"The batch must have a column {self.column!r}, got {names}.")
        new = self._new_columns(batch[self.column])
        taken = [name for name in new if name in names]
        if taken:
            raise ValueError(f"The batch already has a column {taken[0]!r}. Rename it or drop it.")
        if is_dict:
            return batch | new
        return batch.assign(**{k: list(v) if v.ndim == 2 else v for k, v in new.items()})

    def _new_columns(self, values):
        model = _load(self.model) if _is_path(self.model) else self.model
        clip, others, classifier = _parts(model)
        rows = _stored_rows(values, allow_missing=self.on_error == "nan")
        if rows is None:
            rows, reasons = self._embed(clip, values)
        elif classifier is None:
            raise TypeError(f"The column {self.column!r} already has embeddings, not images.")
        else:
            broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            reasons = dict.fromkeys(broken.tolist(), BROKEN_EMBEDDING)
        if reasons and self.on_error == "raise":
            raise unreadable_error(reasons, len(rows))
        if classifier is None:
            new = {"embedding": rows}
        else:
            new = _answers(classifier, others, rows, reasons)
            if not self.proba:
                del new["probabilities"]
        if self.on_error == "nan":
            new["error"] = np.array([reasons.get(i, "") for i in range(len(rows))], dtype=str)
        return new

    def _embed(self, clip, values):
        """Rows of images, and the reasons for those without one."""
        images = as_image_list(values, allow_missing=self.on_error == "nan", allow_empty=True)
        if clip is None and all(image is None for image in images):  # also without any row
            rows = np.full((len(images), 1), np.nan)
            return rows, dict.fromkeys(range(len(rows)), BROKEN_EMBEDDING)
        if clip is None:
            raise TypeError(
                f"The column {self.column!r} must have embeddings (lists or arrays of floats), "
                "because the model is a classifier without a CLIPFeaturizer; got images."
            )
        if self.cache is not None:
            clip = copy(clip).set_params(cache=self.cache)
        result = embed_images(clip, images)
        return result.rows, result.reasons


def _answers(classifier, others, rows, reasons):
    """Columns of answers for embeddings; those with a reason have none.

    Parameters
    ----------
    classifier : object
    others : Pipeline or None
        Steps between CLIP and the classifier.
    rows : ndarray of shape (n_images, n_features)
    reasons : dict of int to str

    Returns
    -------
    columns : dict of str to ndarray
    """
    classes = np.asarray(classifier.classes_)
    missing = np.zeros(len(rows), dtype=bool)
    missing[list(reasons)] = True
    labels = classes[np.zeros(len(rows), dtype=int)]
    proba = np.full((len(rows), len(classes)), np.nan, dtype=np.float32)
    if not missing.all():
        X = rows[~missing]
        X = X if others is None else others.transform(X)
        proba[~missing] = classifier.predict_proba(X)
        found = np.asarray(classifier.predict(X))  # a RejectingClassifier has one more answer
        labels = labels.astype(found.dtype)
        labels[~missing] = found
    if missing.any():
        labels = with_missing_answer(labels, missing, classes)
    return {"label": labels, "probability": proba.max(axis=1), "probabilities": proba}


def _stored_rows(values, allow_missing):
    """The rows of a column of embeddings, or None for a column of something else.

    With `allow_missing`, a missing embedding is a row of NaN.
    """
    if getattr(values, "ndim", 1) == 2:
        rows = np.asanyarray(values)
        return rows if rows.dtype.kind in "fiu" else _numbers(rows)
    column = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        column[i] = value
    first = next((value for value in column if _is_embedding(value)), None)
    if first is None:
        return None
    if allow_missing:
        for i, value in enumerate(column):
            if is_missing(value):
                column[i] = np.full(len(first), np.nan)
    rows = stack_lists(column)
    return rows.astype(float) if rows.dtype == object else rows


def _numbers(rows):
    """A table of objects as floats, with NaN for None; None if it has other objects."""
    is_number = all(value is None or isinstance(value, Real) for value in rows.flat)
    return rows.astype(float) if is_number else None


def _is_embedding(value):
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Real)


def _parts(model):
    """The featurizer of a model, the steps after it, and the classifier; None for each it lacks."""
    if is_featurizer(model):
        return model, None, None
    model = best_estimator(model)
    if not isinstance(model, Pipeline):
        return None, None, check_classifier(model)
    featurizer, classifier = split_pipeline(model)
    if not is_featurizer(featurizer[0]):
        raise TypeError(
            "The first step of a pipeline must be a CLIPFeaturizer, got a "
            f"{type(featurizer[0]).__name__}."
        )
    return featurizer[0], featurizer[1:] if len(featurizer) > 1 else None, classifier


def _is_path(model):
    return isinstance(model, (str, os.PathLike))


def _load(source):
    """The pipeline of a file, folder or repository; all objects of the process share it."""
    path = Path(source)
    path = path / MODEL_FILE if path.is_dir() else path
    changed = path.stat().st_mtime_ns if path.exists() else None
    with _loading:
        return _load_once(os.fspath(source), changed)


_loading = ForkSafeLock()


@lru_cache(maxsize=2)
def _load_once(source, changed):
    return load_pipeline(source)
