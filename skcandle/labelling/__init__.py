"""Label an unsorted folder of images, with a classifier that learns from every label."""

from ._answers import Answers
from ._progress import Progress
from ._session import LabellingSession
from ._state import NONE, SKIP, UNLABELLED

__all__ = ["NONE", "SKIP", "UNLABELLED", "Answers", "LabellingSession", "Progress"]
