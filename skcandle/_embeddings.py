"""An array of embeddings that remembers which model made it."""

from typing import TYPE_CHECKING, Optional

import numpy as np

if TYPE_CHECKING:
    from .clip._identity import ModelIdentity


class Embeddings(np.ndarray):
    """An array of embeddings that remembers the CLIP that made it.

    :func:`load_embeddings` and :func:`skcandle.scale_out.read_embeddings` return it. Classifiers
    remember the model of the rows that they are fitted on, and refuse rows of another one. Slices,
    copies and pickles keep the model. Results of arithmetic, ``np.concatenate`` and
    ``np.asarray(X)`` are plain arrays, whose model is unknown.

    Attributes
    ----------
    model : ModelIdentity or None
        Name (``X.model.name``) and fingerprints of the model, or None if it is unknown.
    """

    model: Optional["ModelIdentity"] = None

    @classmethod
    def of(cls, rows, model):
        """Return a view of an array that remembers its model.

        Parameters
        ----------
        rows : ndarray of shape (n_images, n_features)
            Embeddings.
        model : ModelIdentity or None
            The model that made them, for example ``X.model`` after ``np.concatenate([X, Z])``.

        Returns
        -------
        X : Embeddings or ndarray
            The array itself if `model` is None.
        """
        if model is None:
            return rows
        tagged = np.asanyarray(rows).view(cls)
        tagged.model = model
        return tagged

    def __array_finalize__(self, source):
        self.model = getattr(source, "model", None)

    def __reduce__(self):
        return Embeddings.of, (np.asarray(self), self.model)

    def __array_wrap__(self, result, *context):
        return np.asarray(result)[()]  # of a reduction, a number


def model_of(X):
    """The model that made an array of embeddings, or None if it is unknown."""
    return X.model if isinstance(X, Embeddings) else None
