"""The page of the quick start: one HTML file with the picture inside."""

import base64

from ..inspection._page import render
from ._evaluation import METHODS
from ._summary import MEASURES, RIVALS, notes, of_difference, of_method, sentences, verdict


def page(evaluation, picture):
    """Picture, table, what they mean, and what to do next.

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
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode()}",
        meaning=sentences(evaluation),
        methods=METHODS,
        rivals=RIVALS,
        rows=[_row(evaluation, measure) for measure in MEASURES],
        notes=notes(evaluation),
    )


def _row(evaluation, measure):
    """Text, values of the methods, and differences from the rivals with their verdicts."""
    differences = [of_difference(evaluation, measure, rival) for rival in RIVALS]
    return {
        "text": measure.text.strip(),
        "is_part": measure.text.startswith(" "),
        "values": [
            of_method(evaluation, measure, method).show(measure.digits) for method in METHODS
        ],
        "differences": [
            (
                difference.show(measure.digits, sign=True),
                verdict(difference, measure.higher_is_better),
            )
            for difference in differences
        ],
    }
