"""Answers that change when a fitted pipeline is replaced, for example by one with another CLIP."""

from typing import Any, NamedTuple

import numpy as np

from .._typing import Images


class ChangedAnswer(NamedTuple):
    """An image that two pipelines answer differently, from :func:`changed_answers`.

    Parameters
    ----------
    position : int
        Position of the image.
    before, after : str or int
        The answers of the two pipelines.
    probability_before, probability_after : float
        Probability of the most probable class in each.
    """

    position: int
    before: Any
    after: Any
    probability_before: float
    probability_after: float


def changed_answers(before: Any, after: Any, images: Images) -> list[ChangedAnswer]:
    """List the images that two fitted pipelines answer differently.

    Parameters
    ----------
    before, after : fitted pipelines
        From images to classes, for example one from :func:`skcandle.make_candle_pipeline`, and a
        clone with another CLIP that was fitted on the same labels.

    images : list, array, Series or one-column DataFrame of images
        Preferably images that neither pipeline was fitted on.

    Returns
    -------
    changes : list of ChangedAnswer
        The images that the first pipeline was most certain about come first.
        ``pandas.DataFrame(changes)`` makes a table of them.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> from skcandle.inspection import changed_answers
    >>> emoji = load_emoji()
    >>> def images_of(name):
    ...     return [emoji.images[i] for i in np.flatnonzero(emoji.target == name)]
    >>> images = images_of("apple")[:2] + images_of("lemon")[:2]
    >>> pipe = make_candle_pipeline("emoji-clip").fit(images, ["apple"] * 2 + ["lemon"] * 2)
    >>> changes = changed_answers(pipe, pipe.add_classes(["pizza"]), images_of("pizza"))
    >>> {change.after for change in changes}
    {'pizza'}
    """
    answers = [pipeline.predict(images) for pipeline in (before, after)]
    probabilities = [pipeline.predict_proba(images).max(axis=1) for pipeline in (before, after)]
    changed = np.flatnonzero(answers[0] != answers[1])
    changed = changed[np.argsort(-probabilities[0][changed], kind="stable")]
    columns = [column[changed].tolist() for column in (*answers, *probabilities)]
    return [ChangedAnswer(*row) for row in zip(changed.tolist(), *columns, strict=True)]
