"""Label an unsorted folder of images, with a classifier that learns from every label."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from ._answers import Answers
    from ._progress import Progress
    from ._session import LabellingSession
    from ._state import NONE as NONE
    from ._state import SKIP as SKIP
    from ._state import UNLABELLED as UNLABELLED

__all__ = ["Answers", "LabellingSession", "Progress"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"NONE": "_state", "SKIP": "_state", "UNLABELLED": "_state"}
    | {"Answers": "_answers", "LabellingSession": "_session", "Progress": "_progress"},
)
