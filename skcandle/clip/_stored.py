"""NumPy files of embeddings and the model that made them."""

import json
from pathlib import Path as LocalPath
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import ArrayLike

from .._embeddings import Embeddings, are_different, model_of
from .._files import replacing
from .._typing import Path
from ..exceptions import ModelError

if TYPE_CHECKING:
    from ._featurizer import CLIPFeaturizer


def save_embeddings(
    path: Path,
    X: ArrayLike,
    featurizer: Optional["CLIPFeaturizer"] = None,
    *,
    keys: Any = None,
    overwrite: bool = False,
) -> None:
    """Write embeddings and the model that made them into a NumPy file.

    Parameters
    ----------
    path : str or path-like
        File to write, usually with the suffix ``.npz``.

    X : array-like of shape (n_images, n_features)
        Embeddings from ``featurizer.transform``.

    featurizer : CLIPFeaturizer, default=None
        The featurizer that made `X`. None is for :class:`Embeddings`, which know their model.

    keys : array-like of str of length n_images, default=None
        Names of the images, for example their paths.

    overwrite : bool, default=False
        Whether to replace a file that exists.

    Raises
    ------
    ValueError
        If `X` is not an array of numbers with the width of the model, `keys` has another length,
        or it is unknown which model made `X`.
    TypeError
        If `featurizer` is not a CLIPFeaturizer.
    ModelError
        If `X` is from another model than that of `featurizer`, or that model is not available.
    OSError
        If the file exists or cannot be written.

    See Also
    --------
    load_embeddings : Read the file.
    skcandle.scale_out.encode_dataset : For more images than fit into memory.

    Notes
    -----
    The file is an ordinary ``.npz`` file: ``numpy.load`` reads its entries ``embeddings``, ``keys``
    (if given) and ``model``, a JSON string with the name and the fingerprints of the model. A
    fingerprint is a digest of architecture, weights and preprocessing, but not of precision and
    device.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skcandle import CLIPFeaturizer, load_embeddings, save_embeddings
    >>> from skcandle.datasets import load_emoji
    >>> clip = CLIPFeaturizer("emoji-clip")
    >>> X = clip.transform(load_emoji().images[:2])
    >>> with TemporaryDirectory() as folder:
    ...     save_embeddings(f"{folder}/emoji.npz", X, clip, keys=["first", "second"])
    ...     keys, rows = load_embeddings(f"{folder}/emoji.npz")
    >>> keys.tolist(), rows.shape, rows.model.name
    (['first', 'second'], (2, 128), 'emoji-clip')
    """
    model = model_of(X)
    if featurizer is not None:
        given = _identity_of(featurizer)
        if are_different(model, given):
            raise ModelError(
                f"X was made by the CLIP {model}, but featurizer is the CLIP {given}; pass the "
                "featurizer that made X, or None."
            )
        model = given
    if model is None:
        raise ValueError(
            "X does not say which model made it. Pass the CLIPFeaturizer that did as featurizer."
        )
    rows = np.asarray(X)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise ValueError(
            "X must be an array of floats and shape (n_images, n_features), got shape "
            f"{rows.shape} and dtype {rows.dtype}."
        )
    if featurizer is not None and rows.shape[1] != len(featurizer.get_feature_names_out()):
        raise ValueError(
            f"X has {rows.shape[1]} columns, but embeddings of {model.name!r} have "
            f"{len(featurizer.get_feature_names_out())}."
        )
    entries: dict[str, Any] = {"embeddings": rows, "model": np.array(json.dumps(model.facts()))}
    if keys is not None:
        entries["keys"] = np.asarray(keys, dtype=str)
        if entries["keys"].shape != (len(rows),):
            raise ValueError(
                f"keys must have one key per row, got the shape {entries['keys'].shape} for "
                f"{len(rows)} rows."
            )
    with (
        replacing(LocalPath(path), overwrite=overwrite) as temporary,
        open(temporary, "wb") as file,
    ):
        np.savez(file, **entries)


def load_embeddings(path: Path) -> tuple[np.ndarray | None, Embeddings]:
    """Read a file from :func:`save_embeddings`.

    Parameters
    ----------
    path : str or path-like
        File to read.

    Returns
    -------
    keys : ndarray of shape (n_images,) of str, or None
        Names of the images, or None if the file has none.
    X : Embeddings of shape (n_images, n_features)
        An array that remembers its model as ``X.model``. A classifier that is fitted on it refuses
        embeddings of other models, and names both.

    Raises
    ------
    ValueError
        If the file is not from :func:`save_embeddings`, or is damaged.
    """
    from ._identity import ModelIdentity

    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as entries:
                keys = entries["keys"] if "keys" in entries else None
                rows = entries["embeddings"]
                model = ModelIdentity.from_facts(json.loads(str(entries["model"])))
        except MemoryError:
            raise
        except Exception as error:  # damaged files raise errors of many types
            raise ValueError(
                f"{str(path)!r} is not an intact file from save_embeddings "
                f"({type(error).__name__}: {error}). Make the file again with save_embeddings."
            ) from error
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise ValueError(
            f"{str(path)!r} must have embeddings of floats and shape (n_images, n_features), got "
            f"shape {rows.shape} and dtype {rows.dtype}. Make the file again with save_embeddings."
        )
    if keys is not None and keys.shape != (len(rows),):
        raise ValueError(
            f"{str(path)!r} must have one key per row, got keys of shape {keys.shape} for "
            f"{len(rows)} rows. Make the file again with save_embeddings."
        )
    return keys, Embeddings(rows, model)


def _identity_of(featurizer):
    """The model of a featurizer, which is that of its fit if the parameters were changed since."""
    from ._featurizer import CLIPFeaturizer

    if not isinstance(featurizer, CLIPFeaturizer):
        raise TypeError(
            f"featurizer must be a CLIPFeaturizer or None, got a {type(featurizer).__name__}."
        )
    present, of_fit = featurizer._present_identity(), featurizer._identity
    if present is None and of_fit is None:
        raise ModelError(
            f"The model of featurizer, {featurizer._shown_name()!r}, is not available on this "
            "machine; pass the featurizer that made X."
        )
    # The present one may know the weights, which a fit does not download.
    return present if of_fit is None or of_fit.is_same(present) else of_fit
