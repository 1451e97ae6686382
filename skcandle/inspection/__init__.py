"""Displays of what a classifier predicts, and a report on a set of images."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:  # at run time on first use, as in the package itself
    from ._base_new_curve import BaseNewCurveDisplay
    from ._changes import ChangedAnswer, changed_answers
    from ._long_tail import LongTailDisplay
    from ._prediction_grid import PredictionGridDisplay
    from ._prototype_map import PrototypeDisplay
    from ._reliability import Reliability, ReliabilityDisplay
    from ._report import Flag, ImageReport
    from ._search import SearchResult

__all__ = [
    "BaseNewCurveDisplay",
    "ChangedAnswer",
    "Flag",
    "ImageReport",
    "LongTailDisplay",
    "PredictionGridDisplay",
    "PrototypeDisplay",
    "Reliability",
    "ReliabilityDisplay",
    "SearchResult",
    "changed_answers",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BaseNewCurveDisplay": "_base_new_curve",
        "ChangedAnswer": "_changes",
        "Flag": "_report",
        "ImageReport": "_report",
        "LongTailDisplay": "_long_tail",
        "PredictionGridDisplay": "_prediction_grid",
        "PrototypeDisplay": "_prototype_map",
        "Reliability": "_reliability",
        "ReliabilityDisplay": "_reliability",
        "SearchResult": "_search",
        "changed_answers": "_changes",
    },
)
