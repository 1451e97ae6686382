"""Answers of the classifier for many images."""

from typing import NamedTuple

import numpy as np


class Answers(NamedTuple):
    """Answers for some images.

    Parameters
    ----------
    label : ndarray of shape (n,) of int
        Positions in `class_names`, or -1 while there is no class.
    probability : ndarray of shape (n,)
        Probability of that class, in [0, 1].
    doubt : ndarray of shape (n,)
        One minus the gap between the two largest probabilities, in [0, 1].
    """

    label: np.ndarray
    probability: np.ndarray
    doubt: np.ndarray
