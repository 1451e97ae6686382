"""The stored keys of a data set, in a file that all workers map into memory."""

import hashlib
import io

import numpy as np

STORED_KEYS_NAME = "_stored_keys.npy"


class StoredKeys:
    """Membership test for the stored keys of a folder, on sorted digests in a file.

    A key takes 16 bytes. 100 million keys take 1.6 GB of a machine's page cache, of which only the
    pages that are looked up are loaded; of a folder behind a URL, each process loads all. Two keys
    with the same digest are expected only among 2**64 keys.

    Parameters
    ----------
    folder : ShardFolder
    run : str
        As returned by :meth:`ShardFolder.start_run`. The file does not change while it runs.
    """

    def __init__(self, folder, run):
        if folder.is_remote:
            self._digests = _load(folder, run)
        else:
            self._digests = np.load(folder.path / STORED_KEYS_NAME, mmap_mode="r")

    def __contains__(self, key):
        first, second = _digest(key)
        place = np.searchsorted(self._digests[0], first)
        return (
            place < self._digests.shape[1]
            and self._digests[0, place] == first
            and self._digests[1, place] == second
        )


_loaded: dict = {}  # the keys of the last run, for the tasks of a process


def _load(folder, run):
    key = str(folder.path), run
    digests = _loaded.get(key)
    if digests is None:
        digests = np.load(io.BytesIO(folder.read_file(STORED_KEYS_NAME)))
        _loaded.clear()
        _loaded[key] = digests
    return digests


def write_stored_keys(folder, digests):
    """Write the file of :class:`StoredKeys`.

    Parameters
    ----------
    folder : ShardFolder
    digests : dict
        The result of :func:`key_digests` for each part, by its name.
    """
    parts = list(digests)
    sizes = [digests[part].shape[1] for part in parts]
    everything = np.hstack([*digests.values(), np.empty((2, 0), dtype=np.uint64)])
    order = np.lexsort(everything[::-1])
    everything = everything[:, order]
    is_twice = (everything[:, 1:] == everything[:, :-1]).all(axis=0)
    if is_twice.any():
        first = int(is_twice.argmax())
        origin = np.repeat(np.arange(len(parts)), sizes)[order]
        one, other = (parts[i] for i in sorted(origin[first : first + 2]))
        keys = folder.read_part(one, ["key"])[0]["key"].to_pylist()
        key = next(key for key in keys if (_digest(key) == everything[:, first]).all())
        raise ValueError(
            f"{is_twice.sum()} keys are stored more than once in {str(folder.path)!r}; the first "
            f"is {key!r}, in {one!r} and {other!r}. Give each image a distinct key, remove "
            f"{other!r}, and run the job again."
        )
    folder.write_file(STORED_KEYS_NAME, lambda file: np.save(file, everything))


def key_digests(keys):
    """Digests of keys as an array of shape (2, n_keys) and dtype uint64."""
    return np.array([_digest(key) for key in keys], dtype=np.uint64).reshape(-1, 2).T


def _digest(key):
    return np.frombuffer(hashlib.blake2b(key.encode(), digest_size=16).digest(), dtype="<u8")
