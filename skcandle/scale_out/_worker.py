"""Encode the images of one partition on a Dask worker."""

import hashlib
import io
import os
import re
import socket
from collections import Counter
from itertools import chain, islice

import numpy as np
import torch
from joblib import cpu_count
from PIL import Image
from sklearn.base import clone

from .._images.inputs import check_kind
from .._warnings import warn_user
from ..clip._checkpoint import describe, weights_path
from ..clip._featurizer import embed_images
from ..clip._identity import identify
from ..exceptions import ModelError
from ._cluster import on_all_workers
from ._stored_keys import StoredKeys

# Bytes of images in memory (bytes, pixels or PIL images) that are encoded together.
MAX_HELD_BYTES = 256 * 2**20


def model_facts(featurizer):
    """The facts that all embeddings of a folder share, without loading a model."""
    encoder = featurizer._encoder()
    decoding = "" if encoder.exact else ", reduced decoding"
    return {
        "model": f"{describe(encoder.checkpoint)}, precision={encoder.precision!r}{decoding}",
        "fingerprint": encoder.fingerprint.hex(),
        "weights": encoder.text_fingerprint.hex(),
        "n_features": encoder.n_features,
        "clip": identify(encoder.checkpoint, featurizer._shown_name()).facts(),
    }


def _complete_facts(featurizer):
    """The facts, once weights of the Hub are downloaded: other commits may have the same ones."""
    checkpoint = featurizer._encoder().checkpoint
    if checkpoint.scheme == "hf-hub":
        weights_path(checkpoint)
    return model_facts(featurizer)


def agreed_facts(featurizer):
    """The facts that all workers agree on, with the precision that their devices use."""
    here = model_facts(featurizer)
    found = {facts["model"]: facts for facts in on_all_workers(_complete_facts, featurizer)}
    if len(found) > 1:
        raise ValueError(
            f"Workers would encode with {' and with '.join(sorted(found))}. Give the "
            "featurizer a precision other than 'auto', so that all embeddings agree."
        )
    facts = next(iter(found.values()), None) or _complete_facts(featurizer)
    _check_same_weights(here, facts)
    return facts


def as_key(key, place):
    """A key as a plain string."""
    if isinstance(key, os.PathLike):
        key = os.fspath(key)
    if not isinstance(key, str):
        raise TypeError(
            f"{place} must be a string, got {type(key).__name__}. Give each image a key, for "
            "example with keys=table['id'].astype(str), or as a pair (key, image) in a bag."
        )
    return str(key)


def workers_of_machines():
    """Number of workers that share each set of cores."""
    return Counter(on_all_workers(_cores))


def _cores():
    """The machine of this process, and those of its cores that it may use, if that can be known."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return socket.gethostname(), tuple(sorted(cores))


def _with_share_of_cores(featurizer, n_workers):
    """Set the threads that decode images to this worker's share of the cores, if they are not set.

    The threads of PyTorch, which are the default elsewhere, say nothing here: Dask sets one for
    every worker.
    """
    if featurizer.n_jobs is not None or not n_workers:
        return featurizer
    # A worker on a machine that has none at the start of the job counts as on the fullest one.
    n_here = n_workers.get(_cores(), max(n_workers.values()))
    return clone(featurizer).set_params(n_jobs=max(cpu_count() // n_here, 1))


def encode_partition(elements, *, featurizer, folder, facts, run, shard_size, n_workers=None):
    """Store the images of a partition that are not stored yet.

    Parameters
    ----------
    elements : iterable of images, or of pairs (key, image)
    featurizer : CLIPFeaturizer
    folder : ShardFolder
    facts : dict
        As returned by :func:`model_facts`.
    run : str
        As returned by :meth:`ShardFolder.start_run`.
    shard_size : int
    n_workers : dict, default=None
        As returned by :func:`workers_of_machines`.

    Returns
    -------
    failures : list of (str, str)
        Keys of images that cannot be read, with the reasons.
    """
    folder.facts()  # raises on a machine that does not see the folder
    featurizer = _with_share_of_cores(_on_device_of_worker(featurizer), n_workers)
    _check_same_model(model_facts(featurizer), facts)
    stored = StoredKeys(folder, run)
    present = {name.rpartition("-")[0]: name for name in folder.part_names(run)}
    failures: list[tuple[str, str]] = []
    done: set[str] = set()
    new = (pair for pair in _pairs(elements) if pair[0] not in stored and pair[0] not in done)
    for first in new:
        # The name depends only on the run and the keys, so that a task that is repeated because its
        # worker died finds the parts that were already written.
        start = f"part-{run}-{_short_digest([first[0]])}"
        if start in present:
            table, _, failed = folder.read_part(present[start], ["key"])
            done.update(table["key"].to_pylist(), (key for key, _ in failed))
        else:
            pairs = chain([first], islice(new, shard_size - 1))
            failed = _encode_part(pairs, start, run, featurizer, folder, facts)
        failures += failed
    return failures


def _encode_part(pairs, start, run, featurizer, folder, facts):
    import pyarrow as pa

    keys, blocks, failures = [], [], []
    for block in _blocks(pairs):
        readable, rows, failed = _encode_block(featurizer, block)
        keys += readable
        blocks.append(rows)
        failures += failed
    rows = np.concatenate(blocks)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), facts["n_features"])
    columns = {"key": pa.array(keys, pa.string()), "embedding": embedding}
    every_key = [*keys, *(key for key, _ in failures)]
    part = f"{start}-{_short_digest(every_key)}.parquet"
    folder.write_part(part, run, facts, columns, failures)
    return failures


def _encode_block(featurizer, block):
    """Keys and rows of the images that can be read, and (key, reason) of the others."""
    failures = {}
    for key, image in block:
        try:
            check_kind(image, f"of key {key!r}")
        except (TypeError, ValueError) as error:
            failures[key] = str(error)
    left = [pair for pair in block if pair[0] not in failures]
    result = embed_images(featurizer, [image for _, image in left])
    failures |= {left[i][0]: reason for i, reason in result.reasons.items()}
    keys = [left[i][0] for i in result.readable]
    return keys, result.rows[result.readable], list(failures.items())


def _pairs(elements):
    """Pairs of key and image from the elements of a bag; repeated keys are an error."""
    seen = set()
    for element in elements:
        key, image = element if isinstance(element, tuple) else (element, element)
        key = as_key(
            key, f"the key {key!r}" if isinstance(element, tuple) else "the key of an image"
        )
        if key in seen:
            raise ValueError(
                f"The key {key!r} is repeated in a partition of images. Give each image a distinct "
                "key."
            )
        seen.add(key)
        yield key, image


def _short_digest(keys):
    return hashlib.blake2b("\0".join(keys).encode(), digest_size=8).hexdigest()


def _blocks(pairs):
    """Lists of pairs whose images in memory are not too large together."""
    block, n_bytes = [], 0
    for pair in pairs:
        block.append(pair)
        n_bytes += _n_bytes(pair[1])
        if n_bytes >= MAX_HELD_BYTES:
            yield block
            block, n_bytes = [], 0
    if block:
        yield block


def _n_bytes(image):
    if isinstance(image, Image.Image):
        return 3 * image.width * image.height
    if isinstance(image, (np.ndarray, memoryview)):
        return image.nbytes
    if isinstance(image, io.BytesIO):
        return image.getbuffer().nbytes
    return len(image) if isinstance(image, (bytes, bytearray)) else 0


def _check_same_model(found, facts):
    _check_same_weights(found, facts)
    if found["fingerprint"] != facts["fingerprint"]:
        raise ModelError(
            f"A worker would encode with {found['model']}, the others with {facts['model']}. "
            "Give the featurizer a precision other than 'auto', so that all embeddings agree."
        )


def _check_same_weights(found, facts):
    if found["weights"] != facts["weights"]:
        raise ModelError(
            f"The weights of {facts['model']} on a worker differ from those of the caller. Use a "
            "folder of weights that all machines share, or copies of it."
        )


def _on_device_of_worker(featurizer):
    """Choose a GPU for this worker if the device is "auto" and there are several.

    Without `dask-cuda`, all workers of a machine see all its GPUs, and "cuda" is the first one.
    """
    from distributed import get_worker

    if featurizer.device != "auto" or torch.cuda.device_count() < 2:
        return featurizer
    try:
        name = get_worker().name
    except ValueError:  # not on a worker
        return featurizer
    index = _worker_index(name)
    if index is None:
        warn_user(
            f"The Dask worker {name!r} sees {torch.cuda.device_count()} GPUs and uses the first, "
            "as will every worker without a number at the end of its name. Number the names of the "
            "workers, or start the workers with dask-cuda."
        )
        index = 0
    return clone(featurizer).set_params(device=f"cuda:{index % torch.cuda.device_count()}")


def _worker_index(name):
    """The number at the end of a worker's name, or None, for example for an address."""
    match = re.search(r"(?:^|-)(\d+)$", str(name))
    return int(match[1]) if match else None
