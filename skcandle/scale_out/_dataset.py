"""Encode and classify more images than fit on one machine, with Dask."""

import os
import pathlib
from functools import partial
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from numpy.lib.format import open_memmap
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .._embeddings import Embeddings
from .._files import replacing
from .._images.inputs import DatasetItem, is_encoded, to_list
from .._images.reading import encoded_bytes
from .._images.urls import is_url
from .._typing import Images, Path
from .._warnings import warn_user
from ..classifier._base import check_made_by
from ..clip._cache.store import is_embedding
from ..clip._featurizer import CLIPFeaturizer, is_featurizer
from ..clip._identity import ModelIdentity
from ._cluster import check_workers, compute, require_dask
from ._shards import ID, MANIFEST_NAME, ShardFolder
from ._stored_keys import key_digests, write_stored_keys
from ._worker import agreed_facts, as_key, encode_partition, workers_of_machines

if TYPE_CHECKING:
    import pandas

__all__ = ["encode_dataset", "predict_dataset", "read_embeddings"]


def encode_dataset(
    images: Images,
    folder: Path,
    featurizer: CLIPFeaturizer,
    *,
    keys: Any = None,
    shard_size: int = 10_000,
) -> "pandas.DataFrame":
    """Encode images on Dask workers into a folder of Parquet files.

    Every image is stored under a key. A call with the same folder skips images whose keys are
    already stored, so that you can run a job again if it was interrupted or if there are more
    images. The work runs on the current :class:`distributed.Client` if there is one, otherwise in
    this process, unless Dask is configured differently.

    Parameters
    ----------
    images : list, array, Series, dask Bag or dask Series of images
        Images as for :meth:`skcandle.CLIPFeaturizer.transform`. The elements of a bag are paths or
        pairs (key, image). A Dask collection need not fit into memory.

    folder : str or path-like
        Folder of the data set, or a URL that fsspec writes to, such as
        ``"s3://bucket/embeddings"``. It is created if necessary. All workers must see it under this
        name. Only one call at a time can write to it: a second call stops the first, including its
        remaining tasks.

    featurizer : CLIPFeaturizer
        The model, with its batch size, precision and cache. Each worker process loads it once.
        If its `n_jobs` is None, the workers of a machine share its cores to read and decode
        images. A subclass must not override `transform`.

    keys : list, array, Series or dask Series of str, default=None
        A distinct name for each image. For a dask Series of images, a dask Series from the same
        DataFrame. None uses the paths of the images.

    shard_size : int, default=10_000
        Images per file. A worker that is killed loses at most those of one file.

    Returns
    -------
    failures : DataFrame with columns "key" and "reason"
        Images that could not be read. They are not in the data set; the next call tries them
        again. A warning counts them and names the first.

    Raises
    ------
    ImportError
        If Dask, distributed or PyArrow is not installed.
    ValueError
        If keys are not distinct, or the folder has embeddings of another model.
    MemoryError
        If a worker runs out of memory in Python.
    RuntimeError
        If workers cannot import what they need, or die repeatedly, usually because they run out
        of memory, or if the connection to them is lost.

    See Also
    --------
    read_embeddings : Read the embeddings.
    predict_dataset : Classify them.

    Notes
    -----
    The files ``part-*.parquet`` have the columns ``key`` and ``embedding``, a list of float32 of
    fixed size. The fingerprint of the model (weights, preprocessing, precision) is in the metadata
    of their schema and in ``_skcandle.json``. The job stops with an error if the weights on a
    worker differ from those of the caller, or if ``precision="auto"`` means different formats on
    different workers. Each file has checksums, which are verified when it is read. It gets its name
    when it is complete and on disk; when Dask repeats tasks after the death of a worker, they find
    the file and do not encode its images again.

    Keys in a list are checked for repetitions before anything is encoded. Keys in a Dask collection
    are checked in each partition, and over all partitions at the end.

    ``device="auto"`` uses the GPU that `dask-cuda` assigns to a worker. Without `dask-cuda`, a
    worker that sees several GPUs uses the one given by the number at the end of its name. Without
    such a number it uses the first GPU, with a warning in the worker's log.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skcandle import CLIPFeaturizer
    >>> from skcandle.datasets import load_emoji
    >>> from skcandle.scale_out import encode_dataset, read_embeddings
    >>> images, names = load_emoji().images[:3], ["first", "second", "third"]
    >>> with TemporaryDirectory() as folder:
    ...     failures = encode_dataset(images, folder, CLIPFeaturizer("emoji-clip"), keys=names)
    ...     keys, X = read_embeddings(folder, keys=["third", "first"])
    >>> len(failures), keys.tolist(), X.shape
    (0, ['third', 'first'], (2, 128))
    """
    require_dask()
    import dask
    import pandas as pd

    if not is_featurizer(featurizer):
        raise TypeError(
            f"featurizer must be a CLIPFeaturizer, or a subclass that does not override transform; "
            f"got a {type(featurizer).__name__}."
        )
    if not isinstance(shard_size, int) or shard_size < 1:
        raise ValueError(f"shard_size must be a positive integer, got {shard_size!r}.")
    featurizer = clone(featurizer).fit()
    pairs = _as_bag(images, keys, shard_size)
    check_workers(featurizer)
    shards = ShardFolder(folder)
    facts = shards.open(
        agreed_facts(featurizer), "Use another folder, or the model that this one was made with."
    )
    run = shards.start_run()
    _note_stored_keys(shards, facts)
    encode = partial(
        encode_partition,
        featurizer=featurizer,
        folder=shards,
        facts=facts,
        run=run,
        shard_size=shard_size,
        n_workers=workers_of_machines(),
    )
    failures = compute(pairs.map_partitions(encode))
    if dask.is_dask_collection(images):
        _note_stored_keys(shards, facts)
    if failures:
        key, reason = failures[0]
        warn_user(
            f"{len(failures)} images cannot be read and are not in {str(shards.path)!r}; the "
            f"first has the key {key!r}: {reason}. The returned table lists all of them."
        )
    return pd.DataFrame(failures, columns=["key", "reason"], dtype=object)


def read_embeddings(
    folder: Path, keys: Any = None, *, out: Path | None = None, overwrite: bool = False
) -> tuple[np.ndarray, Embeddings]:
    """Read the embeddings that :func:`encode_dataset` has stored, as an array.

    Parameters
    ----------
    folder : str or path-like
        A data set from :func:`encode_dataset`.

    keys : list, array, Series or Index of str of length n_images, default=None
        Distinct keys of the images to read, for example of those with a label. Files are read one
        by one, so that only these images need memory. None reads all, in the order of the files.

    out : str or path-like, default=None
        For embeddings that do not fit into memory: a file with the suffix .npy to write them to.
        `X` is then a read-only memory map of it. The keys are in memory. The file is an ordinary
        NumPy file and does not contain the model.

    overwrite : bool, default=False
        Whether `out` may replace a file that exists.

    Returns
    -------
    keys : ndarray of shape (n_images,) of str objects
        The given keys, or those of all images.
    X : Embeddings of shape (n_images, n_features) and dtype float32
        Row i is the embedding of image ``keys[i]``; rows have length 1. The array remembers its
        model, see :class:`skcandle.Embeddings`; it is None for a folder from an earlier version.

    Examples
    --------
    With labels in a Series whose index is the keys::

        keys, X = read_embeddings("embeddings", labels.index)
        classifier.fit(X, labels)

    Prediction and :meth:`skcandle.CandleClassifier.add_unlabeled` read a memory map block by
    block::

        keys, X = read_embeddings("embeddings", out="embeddings.npy")
        classifier = classifier.add_unlabeled(X)
    """
    require_dask()
    import pandas as pd

    shards = ShardFolder(folder)
    facts = shards.facts()
    n_features, model = facts.get("n_features"), _model(shards, facts)
    if n_features is None:
        raise ValueError(f"The folder {str(shards.path)!r} contains no embeddings.")
    parts = shards.part_names()
    wanted = None if keys is None else pd.Index(_key_list(keys, "keys"), dtype=object)
    n_rows = sum(map(shards.n_rows, parts)) if wanted is None else len(wanted)
    if out is None:
        X = np.empty((n_rows, n_features), dtype=np.float32)
        return _read_into(X, shards, parts, wanted), Embeddings(X, model)
    out = pathlib.Path(out)
    if out.suffix != ".npy":
        raise ValueError(f"out must end in .npy, got {str(out)!r}.")
    with replacing(out, overwrite=overwrite) as temporary:
        X = open_memmap(temporary, "w+", np.float32, (n_rows, n_features))
        keys = _read_into(X, shards, parts, wanted)
        X.flush()
        del X  # Windows cannot rename a file while it is mapped
    return keys, Embeddings(np.load(out, mmap_mode="r"), model)


def _read_into(X, shards, parts, wanted):
    """Read embeddings into an array, one file at a time.

    Parameters
    ----------
    X : ndarray of shape (n_images, n_features)
    shards : ShardFolder
    parts : list of str
    wanted : pandas.Index or None
        Keys of the images; None for all.

    Returns
    -------
    keys : ndarray of shape (n_images,) of str objects
    """
    n_features = X.shape[1]
    if wanted is None:
        keys, start = np.empty(len(X), dtype=object), 0
        for part in parts:
            part_keys, rows = _read_rows(shards, part, n_features)
            stop = start + len(rows)
            keys[start:stop], X[start:stop] = part_keys, rows
            start = stop
        return keys

    missing = np.ones(len(wanted), dtype=bool)
    for part in parts:
        part_keys = shards.read_part(part, ["key"])[0]["key"].to_numpy()
        places = wanted.get_indexer(part_keys)
        found = places >= 0
        if found.any():
            X[places[found]] = _read_rows(shards, part, n_features)[1][found]
            missing[places[found]] = False
    if missing.any():
        raise ValueError(
            f"{missing.sum()} of {len(wanted)} keys have no embedding in {str(shards.path)!r}; the "
            f"first is {wanted[missing][0]!r}. Encode these images or leave them out."
        )
    return wanted.to_numpy()


def predict_dataset(classifier: Any, folder: Path, out: Path, *, proba: bool = False) -> None:
    """Classify the embeddings of a folder on Dask workers, into a folder of Parquet files.

    Each file of embeddings gets a file of predictions with the same name. Existing files are kept,
    so that you can run a job again if it was interrupted or if there are more embeddings. Files
    whose embeddings were removed are removed as well: after a call, every embedding has exactly
    one prediction.

    Parameters
    ----------
    classifier : fitted classifier with `predict_proba`
        A :class:`skcandle.CandleClassifier` or another classifier, fitted on embeddings of the same
        model.

    folder : str or path-like
        A data set from :func:`encode_dataset`.

    out : str or path-like
        Folder or URL of the predictions, which is created if necessary. It holds the predictions
        of one data set. All workers must see both folders.

    proba : bool, default=False
        Whether to store the probabilities of all classes, with 4 bytes per image and class.

    Raises
    ------
    ModelError
        If the embeddings are from another CLIP than those that the classifier was fitted on, as
        far as both are known. For a fit on a plain array, the CLIP is that of `text_encoder`.
    ValueError
        If a folder has other contents, or the classifier takes another number of features.
    TypeError
        If the classifier has no `predict_proba`.

    See Also
    --------
    encode_dataset : Make the embeddings; its documentation says where the work runs.

    Notes
    -----
    The files have the columns ``key``; ``label``, the most probable class; ``probability``, its
    probability as float32; and with `proba`, ``probabilities``, a list in the order of
    ``classifier.classes_``. The classes and the digests of classifier and model are in the metadata
    and in ``_skcandle.json``. `dask.dataframe.read_parquet` reads such a folder.
    """
    require_dask()
    import dask

    check_is_fitted(classifier)
    if not hasattr(classifier, "predict_proba"):
        raise TypeError(
            f"classifier must have predict_proba, which {type(classifier).__name__} does not have. "
            "Use another classifier, or wrap this one in CalibratedClassifierCV."
        )
    source, target = ShardFolder(folder), ShardFolder(out)
    found = source.facts()
    n_features = found.get("n_features")
    if n_features is None:
        raise ValueError(f"The folder {str(source.path)!r} contains no embeddings.")
    check_made_by(_model(source, found), classifier)
    if getattr(classifier, "n_features_in_", n_features) != n_features:
        raise ValueError(
            f"classifier was fitted on {classifier.n_features_in_} features, but the embeddings "
            f"in {str(source.path)!r} have {n_features}. Use a classifier that was fitted on "
            f"embeddings of {found['model']}."
        )
    facts = {
        "fingerprint": found["fingerprint"],
        "embeddings": found.get(ID),
        "classifier": joblib.hash(classifier, hash_name="sha1"),
        "classes": np.asarray(classifier.classes_).tolist(),
        "proba": bool(proba),
    }
    check_workers(classifier)
    facts = target.open(facts, "Use another folder for these predictions.")
    run = target.start_run()
    source_parts, present = source.part_names(), set(target.part_names())
    for part in present.difference(source_parts):
        (target.path / part).unlink(missing_ok=True)  # its embeddings were removed
    shared = dask.delayed(classifier, traverse=False)
    tasks = [
        dask.delayed(_predict_part)(shared, source, target, part, run, facts, n_features)
        for part in source_parts
        if part not in present
    ]
    compute(*tasks)


def _model(shards, facts):
    """The CLIP of a folder of embeddings, or None for folders of earlier versions."""
    if "clip" not in facts:
        return None
    try:
        return ModelIdentity.from_facts(facts["clip"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(shards.path / MANIFEST_NAME)!r} is damaged ({type(error).__name__}: {error}). "
            "Restore it, or use another folder."
        ) from error


def _as_bag(images, keys, shard_size):
    """A bag whose elements are images, or pairs of key and image."""
    import dask.bag
    import dask.dataframe

    if isinstance(images, dask.bag.Bag):
        if keys is not None:
            raise ValueError("keys must be None for a bag; use elements (key, image) instead.")
        return images
    if isinstance(images, dask.dataframe.DataFrame):
        raise TypeError(
            "images must be a dask Series or Bag, got a dask DataFrame. Select the columns "
            "with the images and the keys, for example images=frame['path'], keys=frame['id']."
        )
    if isinstance(images, dask.dataframe.Series):
        if keys is None:
            return images.to_bag()
        if not isinstance(keys, dask.dataframe.Series):
            raise TypeError(
                "With a dask Series of images, keys must be a dask Series of the same DataFrame, "
                f"got {type(keys).__name__}."
            )
        return images.to_frame("image").assign(key=keys)[["key", "image"]].to_bag()
    images = to_list(images)
    if not images:
        raise ValueError("images must not be empty.")
    names = _key_list(images if keys is None else keys, "images" if keys is None else "keys")
    if len(names) != len(images):
        raise ValueError(
            f"keys must have one key per image, got {len(names)} keys for {len(images)} images."
        )
    pairs = list(zip(names, map(_for_workers, names, images), strict=True))
    return dask.bag.from_sequence(pairs, partition_size=shard_size)


def _for_workers(key, image):
    """An image in a form that can be sent to another process."""
    if isinstance(image, DatasetItem):
        image = image.image()
    if isinstance(image, (str, os.PathLike)) and not is_url(image):
        return os.path.abspath(image)  # a worker may have another working directory
    if not is_encoded(image):
        return image
    try:
        return encoded_bytes(image)
    except ValueError as error:
        raise ValueError(f"The image of key {key!r} cannot be read: {error}.") from error


def _key_list(keys, parameter):
    """Keys as strings; repeated keys are an error."""
    names = [as_key(key, f"{parameter}[{i}]") for i, key in enumerate(keys)]
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"{len(names) - len(set(names))} of {len(names)} {parameter} are repeated; the "
                f"first is {name!r}. Give each image a distinct key."
            )
        seen.add(name)
    return names


def _note_stored_keys(folder, facts):
    """Write the digests of all stored keys to a file for the workers; repetitions raise."""
    import dask.bag

    parts = folder.part_names()
    if parts:
        bag = dask.bag.from_sequence(parts, npartitions=min(len(parts), 1000))
        digests = compute(bag.map(_digests_of_part, folder=folder, facts=facts))
    else:
        digests = []
    write_stored_keys(folder, dict(zip(parts, digests, strict=True)))


def _digests_of_part(part, folder, facts):
    return key_digests(folder.read_keys(part, facts))


def _read_rows(folder, part, n_features):
    """Keys and embeddings of a part; rows that are not embeddings are an error."""
    import pyarrow as pa

    table = folder.read_part(part, ["key", "embedding"])[0]
    keys, column = table["key"].to_numpy(), table["embedding"].combine_chunks()
    kind = column.type
    if (
        not pa.types.is_fixed_size_list(kind)
        or kind.value_type != pa.float32()
        or kind.list_size != n_features
        or column.null_count
    ):
        raise _damaged(folder, part, f"must have {n_features} floats per row, got {kind}")
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, n_features)
    wrong = [key for key, row in zip(keys, rows, strict=True) if not is_embedding(row, n_features)]
    if wrong:
        problem = f"rows that are not finite or not of length 1, the first of the key {wrong[0]!r}"
        raise _damaged(folder, part, f"has {problem}")
    return keys, rows


def _damaged(folder, part, problem):
    return ValueError(
        f"{str(folder.path / part)!r} {problem}. Remove it and run the job again, which computes "
        "its rows again."
    )


def _predict_part(classifier, source, target, part, run, facts, n_features):
    import pyarrow as pa

    target.facts()  # raises on a machine that does not see the folder
    keys, rows = _read_rows(source, part, n_features)
    proba = np.empty((0, len(facts["classes"])), dtype=np.float32)
    if len(rows):
        proba = classifier.predict_proba(rows).astype(np.float32)
    columns = {
        "key": pa.array(keys, pa.string()),
        "label": pa.array(np.asarray(classifier.classes_)[proba.argmax(axis=1)]),
        "probability": pa.array(proba.max(axis=1, initial=0)),
    }
    if facts["proba"]:
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(
            pa.array(proba.ravel()), proba.shape[1]
        )
    target.write_part(part, run, facts, columns)
