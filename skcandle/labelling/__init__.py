"""Label an unsorted folder of images, with a classifier that learns from every label."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from ._answers import Answers
    from ._labels import NONE as NONE
    from ._labels import SKIP as SKIP
    from ._labels import UNLABELLED as UNLABELLED
    from ._progress import Progress
    from ._session import LabellingSession

__all__ = ["Answers", "LabellingSession", "Progress"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"NONE": "_labels", "SKIP": "_labels", "UNLABELLED": "_labels"}
    | {"Answers": "_answers", "LabellingSession": "_session", "Progress": "_progress"},
)
