"""Release what a process keeps between calls."""

from .._images.file_digests import file_digests
from ._cache.memory import memory_cache
from ._model import release_models


def clear_memory() -> None:
    """Release the loaded models and the embeddings in memory.

    A process keeps up to three CLIP models and 256 MiB of embeddings for later calls, even when
    the estimators that used them are gone. It also remembers which files it has read; after this
    call, each file is read and hashed again. Folders of :class:`~skcandle.EmbeddingCache` are not
    touched. A model that another thread is using is released when that call ends.

    See Also
    --------
    skcandle.EmbeddingCache.clear : Removes the embeddings in a folder.

    Examples
    --------
    >>> import skcandle
    >>> skcandle.clear_memory()
    """
    release_models()
    memory_cache.clear()
    file_digests.clear()
