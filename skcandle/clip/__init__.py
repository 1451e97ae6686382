"""Images and prompts to embeddings: the frozen CLIP and the cache in front of it."""

from ._cache.folder import EmbeddingCache
from ._encoder import clear_memory
from ._featurizer import CLIPFeaturizer

__all__ = ["CLIPFeaturizer", "EmbeddingCache", "clear_memory"]
