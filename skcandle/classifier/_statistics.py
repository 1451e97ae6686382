"""What prototypes need to know about the images: counts, means and scatter, which add up."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Relative difference, in units of the precision, that rounding makes between copies of an image.
ROUNDING = 16


@dataclass(frozen=True)
class ClassStatistics:
    """Sufficient statistics of the images of each class.

    Attributes
    ----------
    counts : ndarray of shape (n_classes,)
        Total weight of the images of each class.
    means : ndarray of shape (n_classes, n_features)
        Weighted means, zero for a class without images.
    scatter : ndarray of shape (n_features, n_features)
        Sum over all images of the outer product of the residual from the class mean with itself.
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
        # relative to one image of each class, so that residuals of equal images are exactly zero
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
        """The scatter, or zeros if all images of each class are copies of one image."""
        rounding = ROUNDING * np.finfo(self.means.dtype).eps
        squares = float(np.vdot(self.counts[:, None] * self.means, self.means))
        is_rounding = float(np.trace(self.scatter)) <= rounding**2 * squares
        return np.zeros_like(self.scatter) if is_rounding else self.scatter

    @classmethod
    def of_all(cls, parts):
        """Statistics of several groups of images that share no class."""
        return cls(
            sum(part.counts for part in parts),
            sum(part.means for part in parts),
            sum(part.scatter for part in parts),
        )

    def with_classes(self, n_added):
        """The same with further classes that have no image."""
        return ClassStatistics(
            np.concatenate([self.counts, np.zeros(n_added, self.counts.dtype)]),
            np.concatenate(
                [self.means, np.zeros((n_added, self.means.shape[1]), self.means.dtype)]
            ),
            self.scatter,
        )

    def merged(self, other):
        r"""Statistics of the images of both, for the same classes.

        The scatter of two groups is the sum of their scatters and of :math:`\frac{n m}{n + m}
        (a - b)(a - b)^T` for their means (Chan, Golub and LeVeque, 1979). This avoids large sums
        of squares.
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

    def without(self, other):
        """Statistics of the images of `self` that are not in `other`; the inverse of `merged`."""
        rounding = np.finfo(self.means.dtype).eps ** 0.5
        counts = self.counts - other.counts
        counts[counts < rounding * self.counts] = 0
        seen = counts[:, None] > 0
        share = (other.counts / np.where(counts > 0, counts, np.inf))[:, None]
        means = np.where(seen, self.means + share * (self.means - other.means), 0)
        apart = np.sqrt(counts * other.counts / np.where(self.counts > 0, self.counts, 1))[:, None]
        apart = apart * (other.means - means)
        scatter = self.scatter - other.scatter - apart.T @ apart
        if np.trace(scatter) <= rounding * np.trace(self.scatter):
            scatter = np.zeros_like(scatter)
        return ClassStatistics(counts, means, scatter)
