"""From images and prompts to embeddings: CLIP and the cache of its embeddings.

Import the public names from `skcandle`.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:  # loaded when first used, because open_clip takes seconds to import
    from ._cache.folder import CacheInfo, EmbeddingCache
    from ._featurizer import CLIPFeaturizer
    from ._memory import clear_memory
    from ._stored import load_embeddings, save_embeddings

__all__ = [
    "CLIPFeaturizer",
    "CacheInfo",
    "EmbeddingCache",
    "clear_memory",
    "load_embeddings",
    "save_embeddings",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CLIPFeaturizer": "_featurizer",
        "CacheInfo": "_cache.folder",
        "EmbeddingCache": "_cache.folder",
        "clear_memory": "_memory",
        "load_embeddings": "_stored",
        "save_embeddings": "_stored",
    },
)
