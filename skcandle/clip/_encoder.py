"""From pixels and prompts to rows with one model, within GPU memory and without overflow."""

from functools import cached_property, partial

import numpy as np
import torch

from .._devices import fastest_precision
from .._warnings import warn_user
from ..exceptions import BatchSizeWarning, PrecisionWarning
from ._checkpoint import (
    describe,
    embedding_dim,
    find_checkpoint,
    fingerprint,
    is_small,
    trained_in_bf16,
)


class Encoder:
    """One model, loaded when it is first used.

    Parameters
    ----------
    model_name : str
    pretrained : str, path-like or None
    precision : {"auto", "fp32", "bf16", "fp16"}
        See :class:`~skcandle.CLIPFeaturizer`.
    device : torch.device
    batch_size : int
        Images or prompts per forward pass.

    Attributes
    ----------
    precision : {"fp32", "bf16", "fp16"}
        Number format of the forward pass for images; prompts are encoded in float32.
    fingerprint, text_fingerprint : bytes
        Keys of the model under which rows of images and of prompts are cached.
    """

    def __init__(self, model_name, pretrained, *, precision, device, batch_size):
        self.checkpoint = find_checkpoint(model_name, pretrained)
        self.n_features = embedding_dim(model_name)
        self.exact = precision == "fp32"
        if precision == "auto":
            precision = self._fastest_precision(device)
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.max_batch = batch_size  # is halved when the GPU runs out of memory
        self.fingerprint = fingerprint(self.checkpoint, precision, self.exact)
        self.text_fingerprint = fingerprint(self.checkpoint, "fp32")
        self.has_overflowed = False

    def _fastest_precision(self, device):
        if is_small(self.checkpoint):
            return "fp32"
        return fastest_precision(device, trained_in_bf16(self.checkpoint))

    @cached_property
    def preprocess(self):
        """Function from the content of an image to its pixels, for any thread."""
        return partial(self.model.preprocess, exact=self.exact)

    def encode_pixels(self, pixels):
        """Encode at most one batch of images, in parts if the GPU has too little memory.

        Parameters
        ----------
        pixels : sequence of Tensor
            As returned by :attr:`preprocess`.

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
            # Outside the handler, where the error keeps the tensors of the failed attempt alive.
            if self.max_batch < len(part):
                torch.cuda.empty_cache()
                warn_user(
                    f"The GPU has too little memory for {len(part)} images at once; continuing "
                    f"with {self.max_batch}. Set batch_size={self.max_batch} to avoid this.",
                    BatchSizeWarning,
                )
        rows = np.concatenate(parts)
        overflowed = ~np.isfinite(rows).all(axis=1)
        if overflowed.any():
            rows[overflowed] = self._encode_in_fp32([pixels[i] for i in np.flatnonzero(overflowed)])
        return rows

    def _encode_in_fp32(self, pixels):
        model = self._load("fp32")
        rows = model.encode_images(pixels)
        model.check_finite(rows)
        if not self.has_overflowed:
            self.has_overflowed = True
            warn_user(
                f"{describe(self.checkpoint)} overflows in {self.precision!r} for some images, "
                "which are encoded again in 'fp32'. This takes longer; if many images overflow, "
                "set precision='fp32'.",
                PrecisionWarning,
            )
        return rows

    def encode_prompts(self, prompts):
        """Encode at most one batch of prompts in float32.

        Parameters
        ----------
        prompts : list of str

        Returns
        -------
        rows : ndarray of shape (n_prompts, n_features) and dtype float32
        is_cut : list of bool
            Whether each prompt was longer than the context of the model.
        """
        tokens, is_cut = self.text_model.tokenize(prompts)
        return self.text_model.encode_tokens(tokens), is_cut

    @cached_property
    def model(self):
        """The model for images. The encoder keeps it, whatever else is loaded meanwhile."""
        return self._load(self.precision)

    @cached_property
    def text_model(self):
        """The model for prompts, in float32; the model for images if that is in float32 too."""
        text_only = self.precision != "fp32"
        return self._load("fp32", text_only)

    def _load(self, precision, text_only=False):
        from ._model import load_model  # imports open_clip, which cached rows do not need

        return load_model(self.checkpoint, precision, self.device, text_only)
