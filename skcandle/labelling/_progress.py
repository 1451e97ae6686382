"""How far the labelling has come."""

from typing import NamedTuple


class Progress(NamedTuple):
    """How far the labelling has come.

    Parameters
    ----------
    n_labelled : int
        Images with a class or with the answer "none of these".
    n_skipped : int
    accuracy : float or None
        Share of the latest labels, at most 100, that agree with the answer that was shown. None
        before the first.
    interval : tuple of float or None
        Its 95 % interval (Wilson).
    n_compared : int
        Number of these labels.
    drawn_at_random : bool
        Whether these labels are of images that were drawn at random. Otherwise they were chosen,
        and the estimate is biased: that of the most doubtful images is too low.
    curve : list of (int, float, float, float)
        Number of labels, accuracy and its interval, as the labelling went on.
    """

    n_labelled: int
    n_skipped: int
    accuracy: float | None
    interval: tuple[float, float] | None
    n_compared: int
    drawn_at_random: bool
    curve: list[tuple[int, float, float, float]]
