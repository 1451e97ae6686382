"""From many images or prompts to rows: each distinct one through the cache or the model, once."""

import hashlib
from functools import cached_property

import numpy as np
import torch

from .._devices import fastest_precision
from .._warnings import warn_user
from ..exceptions import BatchSizeWarning, PrecisionWarning, TruncatedPromptWarning
from ._cache.file_digests import file_digests
from ._cache.memory import memory_cache
from ._cache.store import is_embedding
from ._checkpoint import (
    describe,
    embedding_dim,
    find_checkpoint,
    fingerprint,
    is_small,
    trained_in_bf16,
)
from ._image_pipeline import ImagePipeline
from ._model import load_model, release_models


class Encoder:
    """One model with its cache; the model is loaded at the first content that is not cached.

    Parameters
    ----------
    model_name : str
    pretrained : str, path-like or None
    precision : {"auto", "fp32", "bf16", "fp16"}
        ``"fp32"`` is exact in all respects; see :class:`~skcandle.CLIPFeaturizer`.
    device : torch.device
    batch_size : int
        Images or prompts per forward pass.
    n_jobs : int or None
        Threads that read and decode images while the model works.
    on_error : {"raise", "nan"}
        What becomes of images that cannot be read; see :class:`~skcandle.CLIPFeaturizer`.
    verbose : int
        Whether to show progress.
    store : EmbeddingStore
        Where rows are looked up and kept.
    """

    def __init__(
        self,
        model_name,
        pretrained,
        *,
        precision,
        device,
        batch_size,
        n_jobs=None,
        on_error="raise",
        verbose=0,
        store=memory_cache,
    ):
        self.checkpoint = find_checkpoint(model_name, pretrained)
        self.n_features = embedding_dim(model_name)
        self.exact = precision == "fp32"
        if precision == "auto":
            precision = self._fastest_precision(device)
        self.precision = precision  # the number format of the forward pass
        self.device = device
        self.batch_size = batch_size
        self.max_batch = batch_size  # halved when the GPU runs out of memory
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose
        self.store = store
        self.fingerprint = fingerprint(self.checkpoint, precision, self.exact)
        self.text_fingerprint = fingerprint(self.checkpoint, "fp32")
        self.has_overflowed = False

    def _fastest_precision(self, device):
        if is_small(self.checkpoint):
            return "fp32"
        return fastest_precision(device, trained_in_bf16(self.checkpoint))

    def encode_images(self, images):
        """Rows of images, in order.

        Few batches of images are held at a time. An image that cannot be read stops nothing:
        the others are encoded and cached before one error, or one warning, tells of all that
        failed.

        Parameters
        ----------
        images : list
            See :func:`skcandle.clip._image_reading.as_image_list`.

        Returns
        -------
        rows : ndarray of shape (n_images, n_features) and dtype float32
        """
        return ImagePipeline(self, images).run()

    def encode_text(self, prompts):
        """Rows of prompts, in order; in float32, since prompts are few.

        Parameters
        ----------
        prompts : list of str

        Returns
        -------
        rows : ndarray of shape (n_prompts, n_features) and dtype float32
        """
        digests = [hashlib.sha256(b"text " + prompt.encode()).digest() for prompt in prompts]
        distinct = dict(zip(digests, prompts, strict=True))
        rows = self.cached(self.text_fingerprint, distinct)
        missing = [digest for digest in distinct if digest not in rows]
        truncated = []
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            texts = [distinct[digest] for digest in batch]
            tokens, cut = self.text_model.tokenize(texts)
            new = dict(zip(batch, self.text_model.encode_tokens(tokens), strict=True))
            rows.update(new)
            truncated += [text for text, is_cut in zip(texts, cut, strict=True) if is_cut]
            # Not those that were cut: they are to warn the next time, too.
            whole = [digest for digest, is_cut in zip(batch, cut, strict=True) if not is_cut]
            self.store.put_many(self.text_fingerprint, whole, [new[digest] for digest in whole])
        if truncated:
            warn_user(
                f"{len(truncated)} of {len(distinct)} prompts are longer than the "
                f"{self.text_model.tokenizer.context_length} tokens the text encoder reads and "
                f"were cut; the first begins with {truncated[0][:60]!r}.",
                TruncatedPromptWarning,
            )
        return np.stack([rows[digest] for digest in digests])

    def cached(self, fingerprint, digests):
        """Rows that the store has, by digest; what is no embedding counts as missing.

        A checksum tells that a row is what somebody stored, not that it is an embedding.
        """
        rows = self.store.get_many(fingerprint, digests)
        return {d: row for d, row in rows.items() if is_embedding(row, self.n_features)}

    def encode_pixels(self, pixels):
        """Rows of at most a batch of images, in parts if the GPU has too little memory.

        Parameters
        ----------
        pixels : sequence of Tensor
            See :meth:`skcandle.clip._model.LoadedModel.preprocess`.

        Returns
        -------
        rows : ndarray of shape (n_images, n_features) and dtype float32
        """
        parts = []
        done = 0
        while done < len(pixels):
            part = pixels[done : done + self.max_batch]
            try:
                parts.append(self.model.encode_images(part))
                done += len(part)
            except torch.cuda.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self.max_batch = len(part) // 2
            # Not in the handler: the error holds on to the tensors of the failed attempt.
            if self.max_batch < len(part):
                torch.cuda.empty_cache()
                warn_user(
                    f"The GPU has too little memory for {len(part)} images at once; going on "
                    f"with {self.max_batch}. Use batch_size={self.max_batch} from the start.",
                    BatchSizeWarning,
                )
        rows = np.concatenate(parts)
        overflowed = ~np.isfinite(rows).all(axis=1)
        if overflowed.any():
            rows[overflowed] = self._encode_in_fp32([pixels[i] for i in np.flatnonzero(overflowed)])
        return rows

    def _encode_in_fp32(self, pixels):
        model = load_model(self.checkpoint, "fp32", self.device)
        rows = model.encode_images(pixels)
        model.check_finite(rows)
        if not self.has_overflowed:
            self.has_overflowed = True
            warn_user(
                f"{describe(self.checkpoint)} gives values that are not finite in "
                f"{self.precision!r}; such images are encoded again in 'fp32', which takes longer. "
                "If they are many, set precision='fp32'.",
                PrecisionWarning,
            )
        return rows

    @cached_property
    def model(self):
        """The model for images, loaded at the first use; a call that has begun stays with it."""
        return load_model(self.checkpoint, self.precision, self.device)

    @cached_property
    def text_model(self):
        """The model for prompts, in float32: that for images where it is in float32 as well."""
        text_only = self.precision != "fp32"
        return load_model(self.checkpoint, "fp32", self.device, text_only)


def clear_memory() -> None:
    """Release the loaded models, and forget the embeddings kept in memory.

    A process keeps up to three CLIP models and 256 MiB of embeddings for its next calls, whatever
    becomes of the estimators. What it knows of files that were read is forgotten as well: the next
    call reads and hashes each of them again. Folders of :class:`~skcandle.EmbeddingCache` are not
    touched. A model that is in use in another thread is released when that call ends.

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
