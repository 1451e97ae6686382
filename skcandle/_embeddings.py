"""An array of embeddings that remembers which model made it."""

from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from .clip._identity import ModelIdentity


class Embeddings(np.ndarray):
    """An array of embeddings that remembers the CLIP that made it.

    :func:`load_embeddings` and :func:`skcandle.scale_out.read_embeddings` return it. Classifiers
    remember the model of the rows that they are fitted on, and refuse rows of another one. Slices,
    copies and pickles keep the model. Results of arithmetic, ``np.concatenate`` and
    ``np.asarray(X)`` are plain arrays, whose model is unknown.

    Parameters
    ----------
    X : array-like of shape (n_images, n_features)
        Embeddings. An array is not copied.

    model : ModelIdentity or None
        The model that made them, for example ``A.model`` after ``X = np.concatenate([A, B])``.
        None if it is unknown.

    Attributes
    ----------
    model : ModelIdentity or None
        Name (``X.model.name``) and fingerprints of the model.

    See Also
    --------
    save_embeddings : Write embeddings and their model into a file.
    """

    model: Optional["ModelIdentity"]
    __array_priority__ = -1.0  # X.dot(W) and np.inner(X, W) are of the type of W

    def __new__(cls, X: ArrayLike, model: Optional["ModelIdentity"]) -> "Embeddings":
        view = np.asanyarray(X).view(cls)
        view.model = model
        return view

    def __array_finalize__(self, source: Any) -> None:
        self.model = getattr(source, "model", None)

    def __array_wrap__(self, result, *context):
        return np.asarray(result)[()]  # of a reduction, a number

    def __reduce__(self):
        return Embeddings, (np.asarray(self), self.model)


def model_of(X):
    """The model that made an array of embeddings, or None if it is unknown."""
    return X.model if isinstance(X, Embeddings) else None


def are_different(model, other):
    """Whether two models are known to be different; None stands for an unknown one."""
    return model is not None and other is not None and not model.is_same(other)
