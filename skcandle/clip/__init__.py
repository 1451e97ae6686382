"""Images and prompts to embeddings: the frozen CLIP and the cache in front of it."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:  # at run time when first used: open_clip takes seconds to import
    from ._cache.folder import EmbeddingCache
    from ._featurizer import CLIPFeaturizer
    from ._memory import clear_memory

__all__ = ["CLIPFeaturizer", "EmbeddingCache", "clear_memory"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CLIPFeaturizer": "_featurizer",
        "EmbeddingCache": "_cache.folder",
        "clear_memory": "_memory",
    },
)
