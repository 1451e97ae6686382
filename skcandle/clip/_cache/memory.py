"""Embeddings that were computed before, by content and model: each image is encoded once.

The cache belongs to the process, not to an estimator, because a grid search clones the
estimator for every candidate and fold. A store of embeddings is anything with ``get_many`` and
``put_many``; the memory store below is the first.
"""

import threading
from collections import OrderedDict

import numpy as np

# 256 MiB hold about 110,000 embeddings of 512 features.
MAX_BYTES = 256 * 2**20
# What an entry costs besides its numbers: array header, key, place in the dictionary.
ENTRY_OVERHEAD = 350


class MemoryCache:
    """Rows by key, the least recently used dropped first once a size is exceeded.

    Parameters
    ----------
    max_bytes : int
        Upper bound on the memory of the stored rows and their keys.
    """

    def __init__(self, max_bytes=MAX_BYTES):
        self.max_bytes = max_bytes
        self._rows = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def __len__(self):
        return len(self._rows)

    @property
    def n_bytes(self):
        """Memory in use, in bytes."""
        return self._n_bytes

    def get_many(self, fingerprint, digests):
        """Find stored rows.

        Parameters
        ----------
        fingerprint : bytes
            Of the model, see :func:`skcandle.clip._checkpoint.fingerprint`.
        digests : iterable of bytes
            Of the contents.

        Returns
        -------
        rows : dict
            From digest to read-only row, for those that are stored.
        """
        found = {}
        with self._lock:
            for digest in digests:
                row = self._rows.get(fingerprint + digest)
                if row is not None:
                    self._rows.move_to_end(fingerprint + digest)
                    found[digest] = row
        return found

    def put_many(self, fingerprint, digests, rows):
        """Store one row for each digest; see :meth:`get_many`."""
        with self._lock:
            for digest, row in zip(digests, rows, strict=True):
                # A copy, since a view would keep its whole batch alive.
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
