"""The page of the quick start: one HTML file with the picture inside."""

import base64

from ...inspection._page import render
from ._evaluation import METHODS
from ._summary import MEASURES, RIVALS, notes, of_difference, of_method, sentences, verdict


def page(evaluation, picture):
    """Make the page: picture, table, what they mean, and what to do next.

    Parameters
    ----------
    evaluation : Evaluation
    picture : bytes
        The picture as PNG.

    Returns
    -------
    html : str
    """
    return render(
        "quickstart.html",
        title="skcandle: quick start",
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode()}",
        meaning=sentences(evaluation),
        methods=METHODS,
        rivals=RIVALS,
        rows=[_row(evaluation, key) for key in MEASURES],
        notes=notes(evaluation),
    )


def _row(evaluation, key):
    """Text, values of the methods, and differences from the rivals with their verdicts."""
    measure = MEASURES[key]
    values = [of_method(evaluation, key, method) for method in METHODS]
    differences = [of_difference(evaluation, key, rival) for rival in RIVALS]
    return {
        "text": measure.text.strip(),
        "is_part": measure.text.startswith(" "),
        "values": [value.show(measure.digits) for value in values],
        "differences": [
            (value.show(measure.digits, sign=True), verdict(value, measure.higher_is_better))
            for value in differences
        ],
    }
