"""Errors and warnings of skcandle.

Every error is also a ValueError, TypeError or OSError, as usual in scikit-learn.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = [
    "BatchSizeWarning",
    "CacheWarning",
    "DeviceNotAvailableError",
    "HubError",
    "ImageReadError",
    "ModelError",
    "PrecisionWarning",
    "TextFeaturesWarning",
    "TruncatedPromptWarning",
    "UnreadableImageWarning",
    "VersionWarning",
    "WeightsNotAvailableError",
]


class DeviceNotAvailableError(ValueError):
    """The requested device, for example ``device="cuda"``, is not available on this machine."""


class HubError(OSError):
    """The Hugging Face Hub cannot be reached, does not have a file, or refuses access to it."""


class ImageReadError(ValueError):
    """Images are missing, broken or not images; the message names their positions and files.

    Attributes
    ----------
    positions : sequence of int
        The sorted positions of all these images.
    reasons : mapping of int to str
        What is wrong with each of them, by position.
    """

    positions: Sequence[int] = ()
    reasons: Mapping[int, str] = MappingProxyType({})


class ModelError(ValueError):
    """A model name or a tag of weights is unknown, or the two do not belong together."""


class WeightsNotAvailableError(OSError):
    """Pretrained weights are not available locally and cannot be downloaded."""


class BatchSizeWarning(UserWarning):
    """A batch did not fit into the memory of the GPU and was split."""


class CacheWarning(UserWarning):
    """A folder of embeddings cannot be used; results are the same without it, but slower."""


class PrecisionWarning(UserWarning):
    """A model overflows in 16 bits; images where it does are encoded again in float32."""


class TextFeaturesWarning(UserWarning):
    """Text is not used, or not informative: names that are codes, or text of another model."""


class TruncatedPromptWarning(UserWarning):
    """A prompt was longer than the context of the text encoder and was cut."""


class UnreadableImageWarning(UserWarning):
    """Images that cannot be read were left out, or have rows of NaN.

    Attributes
    ----------
    positions : sequence of int
        The sorted positions of all these images, if they have rows.
    reasons : mapping of int to str
        What is wrong with each of them, by position.
    """

    positions: Sequence[int] = ()
    reasons: Mapping[int, str] = MappingProxyType({})


class VersionWarning(UserWarning):
    """A saved estimator is loaded by a different version of skcandle than saved it."""
