"""Numbers of an evaluation, and sentences that follow from them."""

from textwrap import fill
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from ._evaluation import BAND_KEYS, CANDLE, GATED, METHODS, ZERO_SHOT


class Measure(NamedTuple):
    """How to display a measure."""

    text: str
    scale: float = 100.0
    digits: int = 1
    higher_is_better: bool = True


_BANDS = ("10 or more images", "3 to 9 images", "1 or 2 images", "only a name")
BAND_TEXTS = dict(zip(BAND_KEYS, _BANDS, strict=True))
MEASURES = {
    "accuracy": Measure("accuracy, all images (%)"),
    **{key: Measure(f"  classes with {text}") for key, text in BAND_TEXTS.items()},
    "joint_harmonic_mean": Measure("harmonic mean, base and new (%)"),
    "ece": Measure("calibration error (%)", higher_is_better=False),
    "log_loss": Measure("log-loss", scale=1.0, digits=2, higher_is_better=False),
}
RIVALS = (ZERO_SHOT, GATED)


class Estimate(NamedTuple):
    """A mean over draws and half the width of its 95 % interval."""

    mean: float
    half: float

    @property
    def is_clear(self):
        """Whether the interval excludes zero."""
        return abs(self.mean) > self.half

    def show(self, digits, sign=False):
        """As text, such as ``"84.5 ± 0.7"``."""
        return f"{self.mean:{'+' if sign else ''}.{digits}f} ± {self.half:.{digits}f}"


def estimate(values):
    """Mean over draws with Student's 95 % interval.

    Parameters
    ----------
    values : ndarray of shape (n_draws,)
        At least two.

    Returns
    -------
    estimate : Estimate
    """
    n = len(values)
    half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return Estimate(float(np.mean(values)), float(half))


def of_method(evaluation, key, method):
    """Estimate a measure of a method."""
    values = evaluation.measures[key][:, METHODS.index(method)]
    return estimate(MEASURES[key].scale * values)


def of_difference(evaluation, key, rival):
    """Estimate by how much Candle exceeds a rival, with differences taken draw by draw."""
    values = evaluation.measures[key]
    difference = values[:, METHODS.index(CANDLE)] - values[:, METHODS.index(rival)]
    return estimate(MEASURES[key].scale * difference)


def verdict(difference, higher_is_better=True):
    """``"better"``, ``"worse"``, or ``"level"`` if the interval contains zero."""
    if not difference.is_clear:
        return "level"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def table(evaluation):
    """A table of all measures as text.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    text : str
    """
    heads = ("zero-shot CLIP", "gated LR", "Candle")
    lines = [_line("", heads)]
    for key, measure in MEASURES.items():
        values = [of_method(evaluation, key, method) for method in METHODS]
        lines.append(_line(measure.text, [value.show(measure.digits) for value in values]))
    lines += ["", _line("Candle minus ...", ("zero-shot CLIP", "gated LR"))]
    for key, measure in MEASURES.items():
        cells = []
        for rival in RIVALS:
            difference = of_difference(evaluation, key, rival)
            word = verdict(difference, measure.higher_is_better)
            cells.append(f"{difference.show(measure.digits, sign=True)} {word:<6}")
        lines.append(_line(measure.text, cells))
    return "\n".join([*lines, "", *fill(" ".join(notes(evaluation)), 79).splitlines()])


def _line(head, cells):
    width = 15 if len(cells) > 2 else 22
    return (f"{head:<33}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()


def notes(evaluation):
    """Sentences that explain the table."""
    return [
        f"Means of {evaluation.n_draws} draws of the task with 95 % intervals; differences are "
        "taken draw by draw, and level means that their interval contains zero.",
        "All methods predict among all classes.",
        "Accuracies of groups of classes are means over their classes.",
        "Gated logistic regression (LR) chooses among the classes with images; zero-shot CLIP says "
        "how probable it is that an image belongs to one of them.",
    ]


def task_sentence(evaluation):
    """A sentence on the training and test data."""
    counts, draw = evaluation.class_counts(), evaluation.first
    n_base = np.count_nonzero(counts)
    return (
        f"{n_base} kinds of emoji had training images, from {counts[0]} down to "
        f"{counts[n_base - 1]}; {len(draw.new)} had only a name; each of "
        f"{len(draw.test)} test images had to be recognised among all {len(counts)}."
    )


def sentences(evaluation):
    """Five sentences that say what the numbers mean.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    sentences : list of str
    """
    return [
        task_sentence(evaluation),
        _accuracy_sentence(evaluation),
        _bands_sentence(evaluation),
        _calibration_sentence(evaluation),
        _names_sentence(evaluation),
    ]


def _accuracy_sentence(evaluation):
    own = of_method(evaluation, "accuracy", CANDLE).mean
    compared = [_compared(evaluation, rival) for rival in RIVALS]
    return f"Candle classifies {own:.1f} % of all test images correctly, {_listed(compared)}."


def _compared(evaluation, rival):
    """``"2.2 ± 0.7 points more than zero-shot CLIP"``."""
    difference = of_difference(evaluation, "accuracy", rival)
    if not difference.is_clear:
        return f"no clear difference from {rival} ({difference.show(1, sign=True)})"
    size = Estimate(abs(difference.mean), difference.half).show(1)
    return f"{size} points {'more' if difference.mean > 0 else 'fewer'} than {rival}"


def _bands_sentence(evaluation):
    parts = []
    for rival in RIVALS:
        found: dict[str, list[str]] = {"better": [], "worse": [], "level": []}
        for key, text in BAND_TEXTS.items():
            difference = of_difference(evaluation, key, rival)
            size = f" ({difference.mean:+.1f})" if difference.is_clear else ""
            found[verdict(difference)].append(text + size)
        words = {"better": "ahead", "worse": "behind", "level": "level"}
        listed = [f"{words[key]} with {_listed(texts)}" for key, texts in found.items() if texts]
        parts.append(f"compared with {rival} it is {', '.join(listed)}")
    return f"By number of training images, {'; '.join(parts)}."


def _calibration_sentence(evaluation):
    own = of_method(evaluation, "ece", CANDLE).mean
    others = [f"{of_method(evaluation, 'ece', rival).mean:.1f} with {rival}" for rival in RIVALS]
    return (
        "The probability of a prediction and the share of such predictions that are correct differ "
        f"by {own:.1f} points with Candle, {_listed(others)}: the lower, the more you can rely on "
        "a threshold on probabilities."
    )


def _names_sentence(evaluation):
    counts = evaluation.typed_counts()
    return (
        f"After classes were added by name without training again, in the first draw "
        f"{_listed(evaluation.typed[0].names)}, {counts.n_right} of {counts.n_images} images of "
        f"these classes are classified correctly instead of 0, and {counts.n_known_after} instead "
        f"of {counts.n_known_before} of {counts.n_known} test images of the classes with training "
        f"images (totals of {evaluation.n_draws} draws)."
    )


def _listed(texts):
    """``"a, b and c"``."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
