"""What the encoder asks of a place where rows are kept."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

# Of the square of the length of a row, which rounding moves by less than 1e-6.
LENGTH_TOLERANCE = 1e-3


def is_embedding(row, n_features):
    """Whether a row is what an encoder gives: of its width, finite, and of length one."""
    # Unlike other products, vdot says nothing of overflow; a comparison with NaN is false.
    return row.shape == (n_features,) and abs(np.vdot(row, row) - 1) <= LENGTH_TOLERANCE


class EmbeddingStore(Protocol):
    """Rows under a fingerprint of the model and a digest of the content."""

    def get_many(self, fingerprint: bytes, digests: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Find the rows that are stored.

        Parameters
        ----------
        fingerprint : bytes
            Of the model, see `skcandle.clip._checkpoint.fingerprint`.
        digests : iterable of bytes
            Of the contents.

        Returns
        -------
        rows : dict
            From digest to read-only row.
        """
        ...

    def put_many(
        self, fingerprint: bytes, digests: Iterable[bytes], rows: Sequence[np.ndarray]
    ) -> None:
        """Store one row for each digest; see :meth:`get_many`."""
        ...
