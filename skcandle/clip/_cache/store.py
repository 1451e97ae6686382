"""The interface of a cache of rows."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

# Of the squared length of a row, which rounding changes by less than 1e-6.
LENGTH_TOLERANCE = 1e-3


def is_embedding(row, n_features):
    """Whether a row has the right width, is finite, and has length one."""
    # Unlike other products, vdot does not warn of overflow; a comparison with NaN is false.
    return row.shape == (n_features,) and abs(np.vdot(row, row) - 1) <= LENGTH_TOLERANCE


class EmbeddingStore(Protocol):
    """Rows by the fingerprint of the model and the digest of the content."""

    def get_many(self, fingerprint: bytes, digests: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Find the rows that are stored.

        Parameters
        ----------
        fingerprint : bytes
            Of the model, see :func:`skcandle.clip._checkpoint.fingerprint`.
        digests : iterable of bytes
            Of the contents.

        Returns
        -------
        rows : dict
            Read-only rows by digest.
        """
        ...

    def put_many(
        self, fingerprint: bytes, digests: Iterable[bytes], rows: Sequence[np.ndarray]
    ) -> None:
        """Store one row for each digest; see :meth:`get_many`."""
        ...


class CachedRows:
    """The rows of one model in a store.

    Parameters
    ----------
    store : EmbeddingStore
    fingerprint : bytes
        Of the model.
    n_features : int
        Width of its rows.
    """

    def __init__(self, store, fingerprint, n_features):
        self._store = store
        self._fingerprint = fingerprint
        self._n_features = n_features

    def get(self, digests):
        """Rows by digest; a row that is not an embedding counts as missing.

        A checksum shows that a row was stored as it is, not that it is an embedding.
        """
        rows = self._store.get_many(self._fingerprint, digests)
        return {d: row for d, row in rows.items() if is_embedding(row, self._n_features)}

    def put(self, digests, rows):
        """Store one row for each digest."""
        self._store.put_many(self._fingerprint, digests, rows)
