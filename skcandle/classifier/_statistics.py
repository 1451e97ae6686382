"""What prototypes need to know of images: counts, means and scatter, which add up."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Of a row, in units of its precision: copies of an image that went through other sums differ so.
ROUNDING = 16


@dataclass(frozen=True)
class ClassStatistics:
    """Sufficient statistics of the images of each class.

    Attributes
    ----------
    counts : ndarray of shape (n_classes,)
        Weight of the images of each class.
    means : ndarray of shape (n_classes, n_features)
        Weighted means, zero for a class without images.
    scatter : ndarray of shape (n_features, n_features)
        Sum over all images of the outer products of their residuals from the mean of their class.
    """

    counts: np.ndarray
    means: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, data):
        """Statistics of a TrainingSet."""
        X, y, sample_weight = data.X, data.y, data.sample_weight
        n_classes = data.n_classes
        counts = np.bincount(y, weights=sample_weight, minlength=n_classes).astype(X.dtype)
        seen = counts > 0
        # around one image of each class, so that those of equal images are zero without rounding
        classes, first = np.unique(y, return_index=True)
        origins = np.zeros((n_classes, X.shape[1]), X.dtype)
        origins[classes] = X[first]
        residuals = X - origins[y]
        members = sparse.csr_array((sample_weight, (y, np.arange(len(y)))), (n_classes, len(y)))
        totals = members @ residuals
        shifts = np.divide(totals, counts[:, None], out=totals, where=seen[:, None])
        residuals -= shifts[y]
        residuals *= np.sqrt(sample_weight)[:, None]
        return cls(counts, origins + shifts, residuals.T @ residuals)

    def scatter_beyond_rounding(self):
        """The scatter, or zeros where all images of each class are copies of one."""
        rounding = ROUNDING * np.finfo(self.means.dtype).eps
        squares = float(np.vdot(self.counts[:, None] * self.means, self.means))
        is_rounding = float(np.trace(self.scatter)) <= rounding**2 * squares
        return np.zeros_like(self.scatter) if is_rounding else self.scatter

    def among(self, classes):
        """The same of some classes, which must be all that have images."""
        return ClassStatistics(self.counts[classes], self.means[classes], self.scatter)

    def with_classes(self, n_added):
        """The same with further classes, which have no image."""
        return ClassStatistics(
            np.concatenate([self.counts, np.zeros(n_added, self.counts.dtype)]),
            np.concatenate(
                [self.means, np.zeros((n_added, self.means.shape[1]), self.means.dtype)]
            ),
            self.scatter,
        )

    def merged(self, other):
        r"""Statistics of the images of both, of the same classes.

        The scatter of two groups is that of each and of their means, :math:`\frac{n m}{n + m}
        (a - b)(a - b)^T` (Chan, Golub and LeVeque, 1979), which needs no large sums of squares.
        """
        counts = self.counts + other.counts
        share = other.counts / np.where(counts > 0, counts, np.inf)
        shift = other.means - self.means
        apart = np.sqrt(self.counts * share)[:, None] * shift
        return ClassStatistics(
            counts,
            self.means + share[:, None] * shift,
            self.scatter + other.scatter + apart.T @ apart,
        )
