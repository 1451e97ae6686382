"""A cache of embeddings in memory, by content and model.

The cache belongs to the process, not to an estimator, because a grid search clones the
estimator for every candidate and fold.
"""

from collections import OrderedDict

import numpy as np

from ..._locks import ForkSafeLock
from .store import EmbeddingStore

# 256 MiB hold about 110,000 embeddings of 512 features.
MAX_BYTES = 256 * 2**20
# Bytes of an entry besides its numbers: array header, key and dictionary slot.
ENTRY_OVERHEAD = 350


class MemoryCache(EmbeddingStore):
    """Rows by key; when a size is exceeded, the least recently used are dropped.

    Parameters
    ----------
    max_bytes : int
        Upper bound on the memory of the stored rows and their keys.
    """

    def __init__(self, max_bytes=MAX_BYTES):
        self.max_bytes = max_bytes
        self._rows = OrderedDict()
        self._n_bytes = 0
        self._lock = ForkSafeLock()

    def __len__(self):
        return len(self._rows)

    @property
    def n_bytes(self):
        """Memory in use, in bytes."""
        return self._n_bytes

    def get_many(self, fingerprint, digests):
        """See :class:`EmbeddingStore`."""
        found = {}
        with self._lock:
            for digest in digests:
                row = self._rows.get(fingerprint + digest)
                if row is not None:
                    self._rows.move_to_end(fingerprint + digest)
                    found[digest] = row
        return found

    def put_many(self, fingerprint, digests, rows):
        """See :class:`EmbeddingStore`."""
        with self._lock:
            for digest, row in zip(digests, rows, strict=True):
                # A copy, because a view would keep its whole batch alive.
                row = np.array(row, dtype=np.float32)
                row.flags.writeable = False
                replaced = self._rows.pop(fingerprint + digest, None)
                if replaced is not None:
                    self._n_bytes -= replaced.nbytes + ENTRY_OVERHEAD
                self._rows[fingerprint + digest] = row
                self._n_bytes += row.nbytes + ENTRY_OVERHEAD
            while self._n_bytes > self.max_bytes:
                _, dropped = self._rows.popitem(last=False)
                self._n_bytes -= dropped.nbytes + ENTRY_OVERHEAD

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._rows.clear()
            self._n_bytes = 0


memory_cache = MemoryCache()
