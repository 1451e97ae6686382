"""The folder tier of the cache, as users name it."""

import os
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

from .memory import memory_cache
from .sqlite import open_database
from .store import EmbeddingStore

DEFAULT_MAX_BYTES = 10 * 2**30


class CacheInfo(NamedTuple):
    """What a folder of embeddings holds."""

    n_embeddings: int
    n_models: int
    n_bytes: int
    max_bytes: int


@dataclass(frozen=True)
class EmbeddingCache:
    """A folder that keeps embeddings, for all processes that name it.

    Pass it, or just the folder, as ``cache`` to :class:`CLIPFeaturizer`. It makes long jobs
    resume where they were interrupted, since every batch is stored as soon as it is encoded,
    and lets worker processes and later runs do without the model for images that were encoded
    before.

    Parameters
    ----------
    folder : str or path-like
        Created when the first embedding is stored. It belongs on a disk of this machine: the
        database inside is not safe on a network file system that several machines write to.

    max_bytes : int, default=10 GiB
        Bound on the size of the database. Beyond it, the embeddings that were not used for the
        longest time make room; use is recorded by the day. An embedding of 512 features takes
        about 2.4 kB.

    See Also
    --------
    CLIPFeaturizer : Computes the embeddings.

    Notes
    -----
    An embedding is stored under the digest of the image's content and a fingerprint of the
    model, its weights, its preprocessing and its precision. New content under an old file
    name, or a changed model, is therefore never answered with an old embedding. A row that does
    not fit its checksum, or is not of length 1 and of the width of the model, counts as missing.

    Many processes and threads may use one folder at once, and each may be killed at any moment.
    If the disk is full, the folder is read-only, or the database is damaged or locked, a
    `CacheWarning` says so once and the work goes on without it; after a minute it is tried
    again. A read-only folder still serves what it has.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skcandle import CLIPFeaturizer, EmbeddingCache
    >>> from skcandle.datasets import load_emoji
    >>> images = load_emoji().images[:4]
    >>> with TemporaryDirectory() as folder:
    ...     cache = EmbeddingCache(folder, max_bytes=2**30)
    ...     clip = CLIPFeaturizer("emoji-clip", pretrained=None, cache=cache)
    ...     embeddings = clip.fit_transform(images)
    ...     n_stored = cache.info().n_embeddings
    ...     cache.clear()
    >>> n_stored
    4
    """

    folder: str
    max_bytes: int = field(default=DEFAULT_MAX_BYTES, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.folder, (str, os.PathLike)) or not os.fspath(self.folder):
            raise TypeError(f"folder must be the path of a folder, got {self.folder!r}.")
        if not isinstance(self.max_bytes, Integral) or self.max_bytes < 1:
            raise ValueError(f"max_bytes must be a positive integer, got {self.max_bytes!r}.")
        # Absolute, since a worker process may have another working directory.
        object.__setattr__(self, "folder", str(Path(self.folder).expanduser().absolute()))
        object.__setattr__(self, "max_bytes", int(self.max_bytes))

    def info(self) -> CacheInfo:
        """Count what is stored.

        Returns
        -------
        info : CacheInfo
            With ``n_embeddings``, ``n_models``, ``n_bytes`` in use, and ``max_bytes``.
            Embeddings of one model in two precisions count as two models.

        Raises
        ------
        OSError
            If the database is damaged, or not readable.
        """
        n_embeddings, n_models, n_bytes = open_database(self.folder).counts()
        return CacheInfo(n_embeddings, n_models, n_bytes, self.max_bytes)

    def clear(self) -> None:
        """Remove all embeddings, and give their space back to the disk.

        A damaged database is removed and made anew at the next use. Embeddings in the memory of
        running processes stay there.
        """
        open_database(self.folder).clear()


class FolderStore(EmbeddingStore):
    """Rows in memory and in a folder."""

    def __init__(self, cache, memory=memory_cache):
        self.cache = cache
        self.memory = memory

    def get_many(self, fingerprint, digests):
        """See :class:`EmbeddingStore`."""
        digests = list(digests)
        database = open_database(self.cache.folder)
        found = self.memory.get_many(fingerprint, digests)
        # What was encoded before the folder was named is to be found there, too.
        in_doubt = database.not_seen(fingerprint, found)
        missing = [digest for digest in digests if digest not in found]
        stored = database.get_many(fingerprint, in_doubt + missing)
        self.memory.put_many(fingerprint, stored.keys(), stored.values())
        new = [digest for digest in in_doubt if digest not in stored]
        self._store(fingerprint, new, [found[digest] for digest in new])
        return found | stored

    def put_many(self, fingerprint, digests, rows):
        """See :class:`EmbeddingStore`."""
        self.memory.put_many(fingerprint, digests, rows)
        self._store(fingerprint, digests, rows)

    def _store(self, fingerprint, digests, rows):
        open_database(self.cache.folder).put_many(fingerprint, digests, rows, self.cache.max_bytes)
