"""The cache of embeddings in a folder, as users see it."""

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
    """Contents and size of a folder of embeddings.

    Parameters
    ----------
    n_embeddings : int
        Embeddings in the folder.
    n_models : int
        Models they are from; one model in two precisions counts as two.
    n_bytes : int
        Bytes in use.
    max_bytes : int
        The limit on `n_bytes`.
    """

    n_embeddings: int
    n_models: int
    n_bytes: int
    max_bytes: int


@dataclass(frozen=True)
class EmbeddingCache:
    """A folder of embeddings that several processes can share.

    Pass it, or just the folder, as ``cache`` to :class:`CLIPFeaturizer`. Interrupted jobs resume
    where they stopped, because every batch is stored as soon as it is encoded. Worker processes and
    later runs do not need the model for images that are already encoded.

    Parameters
    ----------
    folder : str or path-like
        Created when the first embedding is stored. Use a local disk: the database in the folder is
        not safe on a network file system that several machines write to.

    max_bytes : int, default=10 GiB
        Maximal size of the database. When it is exceeded, the least recently used embeddings are
        removed; use is recorded by the day. An embedding with 512 features takes about 2.4 kB.

    See Also
    --------
    CLIPFeaturizer : Computes the embeddings.

    Notes
    -----
    The key of an embedding is the digest of the image's content and a fingerprint of the model, its
    weights, its preprocessing and its precision. New content under an old file name, or a changed
    model, therefore never gets an old embedding. A row counts as missing if it does not match its
    checksum, does not have length 1, or does not have the width of the model.

    Many processes and threads can use one folder at once, and each can be killed at any moment. If
    the disk is full, the folder is read-only, or the database is damaged or locked, a
    `CacheWarning` says so once, and the work continues without the folder, which is tried again
    after a minute. Embeddings in a read-only folder are still used.

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
        # Absolute, because a worker process may have another working directory.
        object.__setattr__(self, "folder", str(Path(self.folder).expanduser().absolute()))
        object.__setattr__(self, "max_bytes", int(self.max_bytes))

    def info(self) -> CacheInfo:
        """Return the contents and the size of the folder.

        Returns
        -------
        info : CacheInfo
            Named tuple of ``n_embeddings``, ``n_models``, ``n_bytes`` in use, and ``max_bytes``.
            Embeddings of one model in two precisions count as two models.

        Raises
        ------
        OSError
            If the database is damaged or cannot be read.
        """
        n_embeddings, n_models, n_bytes = open_database(self.folder).counts()
        return CacheInfo(n_embeddings, n_models, n_bytes, self.max_bytes)

    def clear(self) -> None:
        """Remove all embeddings and free their space on the disk.

        A damaged database is deleted, and created again at the next use. Embeddings in the memory
        of running processes stay there.
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
        # Rows that were encoded before the folder was in use are stored in it as well.
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
