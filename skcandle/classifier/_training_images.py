"""Which images a classifier was fitted on, by digests from which no image can be recovered."""

from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

# The first coordinates of an embedding, rounded to this step, distinguish images. Embeddings of
# one image differ by about 2e-7 between batches.
N_COORDINATES = 64
STEP = 0.01


@dataclass(frozen=True)
class TrainingImages:
    """Digests of the training images, with their classes and weights.

    One entry per image, of 32 bytes at most.

    Attributes
    ----------
    embeddings : ndarray of shape (n_images,) and dtype uint64
        Digests of the embeddings. They change with the precision in which a model computes.
    contents : ndarray of shape (n_images,) and dtype uint64
        Digests of the files or pixels, which never change; 0 where they are unknown.
    columns : ndarray of shape (n_images,) and dtype int32
        Columns of the classes in the model.
    weights : ndarray of shape (n_images,)
    """

    embeddings: np.ndarray
    contents: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, X, columns, sample_weight):
        """Entries of images whose contents are unknown."""
        n_images = len(X)
        columns = np.asarray(columns, dtype=np.int32)
        return cls(embedding_digests(X), np.zeros(n_images, np.uint64), columns, sample_weight)

    def merged(self, other):
        """Entries of both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return TrainingImages(*(np.concatenate(pair) for pair in pairs))

    def with_contents(self, X, contents):
        """The same entries with the contents of images that have these embeddings.

        Parameters
        ----------
        X : ndarray of shape (n_images, n_features)
        contents : ndarray of shape (n_images,) and dtype uint64
        """
        found = dict(zip(embedding_digests(X).tolist(), contents.tolist(), strict=True))
        digests = self.embeddings.tolist()
        known = np.array([found.get(digest, 0) for digest in digests], dtype=np.uint64)
        return replace(self, contents=np.where(known > 0, known, self.contents))

    def entries_of(self, X, contents=None):
        """Positions of the entries of each image; none for images that are not training images.

        Several entries may belong to one image: copies of it, perhaps in other classes.

        Parameters
        ----------
        X : ndarray of shape (n_images, n_features)
        contents : ndarray of shape (n_images,) and dtype uint64, or None

        Returns
        -------
        entries : list of set of int
        """
        entries: list[set[int]] = [set() for _ in range(len(X))]
        kinds = [(self.embeddings, embedding_digests(X))]
        if contents is not None:
            kinds.append((self.contents, contents))
        for known, asked in kinds:
            positions: dict[int, list[int]] = {}
            for i in np.flatnonzero(np.isin(known, asked) & (known > 0)).tolist():
                positions.setdefault(int(known[i]), []).append(i)
            for found, digest in zip(entries, asked.tolist(), strict=True):
                found.update(positions.get(digest, ()))
        return entries


def embedding_digests(X):
    """Digests of the directions of rows, of shape (n_rows,) and dtype uint64."""
    X = np.asarray(X)
    with np.errstate(all="ignore"):
        length = np.sqrt(np.einsum("nd,nd->n", X, X, dtype=np.float64))[:, None]
        cells = np.rint(X[:, :N_COORDINATES] / np.where(length > 0, length, 1) / STEP)
    cells = np.nan_to_num(cells).astype("<i2")
    return _as_integers(blake2b(row.tobytes(), digest_size=8).digest() for row in cells)


def content_digests(digests):
    """Digests of contents in eight bytes each; 0 for None.

    Parameters
    ----------
    digests : list of bytes or None

    Returns
    -------
    contents : ndarray of shape (n_images,) and dtype uint64
    """
    return _as_integers(bytes(8) if digest is None else digest[:8] for digest in digests)


def _as_integers(digests):
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
