"""Checked training data: images, labels, and the text features of the classes."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class TrainingSet:
    """Images of some classes of a label universe, and text features of all.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        Image embeddings; with text, rows of length one.
    y : ndarray of shape (n_samples,)
        Positions in the label universe.
    sample_weight : ndarray of shape (n_samples,)
        Positive; an image of weight 2 counts as two images.
    text_features : ndarray of shape (n_classes, n_features) or None
        Rows of length one; None without text.
    n_classes : int
        Size of the label universe.
    """

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray
    text_features: np.ndarray | None
    n_classes: int

    def among(self, classes):
        """The same images in a universe of the sorted `classes`, which must include all of `y`."""
        text = None if self.text_features is None else self.text_features[classes]
        y = np.searchsorted(classes, self.y)
        return replace(self, y=y, text_features=text, n_classes=len(classes))

    @property
    def counts(self):
        """Images of each class, as sums of their weights, of shape (n_classes,)."""
        return np.bincount(self.y, weights=self.sample_weight, minlength=self.n_classes)

    def at(self, rows):
        """Some of the images, in the same universe."""
        return replace(self, X=self.X[rows], y=self.y[rows], sample_weight=self.sample_weight[rows])

    def joined(self, other):
        """The images of both, which share a universe."""
        return replace(
            self,
            X=np.concatenate([self.X, other.X]),
            y=np.concatenate([self.y, other.y]),
            sample_weight=np.concatenate([self.sample_weight, other.sample_weight]),
        )
