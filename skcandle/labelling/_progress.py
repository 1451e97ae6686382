"""How far the labelling has come."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from ._labels import SKIP, Snapshot

WINDOW = 100  # latest labels from which the accuracy is estimated: the classifier changes
MIN_RANDOM = 20  # labels of images drawn at random that are enough for an estimate of their own
MAX_POINTS = 50  # of the curve


class Progress(NamedTuple):
    """How far the labelling has come.

    Parameters
    ----------
    n_labelled, n_skipped : int
        Images with a class or the answer "none of these", and images that were skipped.
    accuracy : float or None
        Share, in [0, 1], of the latest labels that agree with the answer that was shown before. At
        most 100 labels count. None if there is no such label.
    interval : tuple of two floats, or None
        The 95 % interval of Wilson for `accuracy`.
    n_compared : int
        Number of labels behind `accuracy`.
    drawn_at_random : bool
        Whether they are labels of images that were drawn at random. Otherwise the estimate is
        biased: it is too low if the images were chosen by doubt.
    curve : list of (int, float, float, float)
        Number of labels so far, accuracy, and its interval, at up to 50 moments.
    """

    n_labelled: int
    n_skipped: int
    accuracy: float | None
    interval: tuple[float, float] | None
    n_compared: int
    drawn_at_random: bool
    curve: list[tuple[int, float, float, float]]


def progress_of(snapshot: Snapshot) -> Progress:
    """Compare labels with the answers that were shown before."""
    said = [label for _, label in snapshot.labels if label.answer != SKIP]
    compared = [(i, label) for i, label in enumerate(said, 1) if label.shown is not None]
    at_random = [(i, label) for i, label in compared if label.order == "random"]
    drawn_at_random = len(at_random) >= MIN_RANDOM
    if drawn_at_random:
        compared = at_random
    counts = len(said), len(snapshot.labels) - len(said)
    if not compared:
        return Progress(*counts, None, None, 0, False, [])
    agrees = np.cumsum([0, *(label.answer == label.shown for _, label in compared)])
    last = np.unique(np.linspace(1, len(compared), MAX_POINTS).round().astype(int))
    n = np.minimum(last, WINDOW)
    share = (agrees[last] - agrees[last - n]) / n
    low, high = wilson_interval(share, n)
    numbers = [compared[i - 1][0] for i in last]
    curve = list(zip(numbers, share.tolist(), low.tolist(), high.tolist(), strict=True))
    _, accuracy, *interval = curve[-1]
    return Progress(*counts, accuracy, tuple(interval), int(n[-1]), drawn_at_random, curve)


def wilson_interval(share, n):
    """95 % interval of a probability from shares of n observations, after Wilson (1927)."""
    z = ndtri(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half
