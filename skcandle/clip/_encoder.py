"""From pixels and prompts to rows with one model, within GPU memory and without overflow."""

from functools import cached_property, partial

import numpy as np
import torch

from .._devices import fastest_precision, is_out_of_memory
from .._warnings import warn_user
from ..exceptions import BatchSizeWarning, PrecisionWarning
from ._checkpoint import (
    describe,
    embedding_dim,
    find_checkpoint,
    fingerprint,
    is_small,
    n_patches,
    trained_in_bf16,
)

# Images per forward pass for "auto", except on CUDA.
BATCH_SIZE = 64
# On CUDA, so many patches give a large GPU enough to do, and take at most some 2 GB of memory. This
# is reasoned, not measured: the part "forward" of benchmarks/speed/cuda.py compares batches.
GPU_PATCHES = 2**15
MOST_IMAGES = 1024


class Encoder:
    """One model, loaded when it is first used.

    Parameters
    ----------
    model_name : str
    pretrained : str, path-like or None
    precision : {"auto", "fp32", "bf16", "fp16"}
        See :class:`~skcandle.CLIPFeaturizer`.
    device : torch.device
    batch_size : int or "auto"
        Images or prompts per forward pass.

    Attributes
    ----------
    batch_size : int
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
        self.is_auto_batch = batch_size == "auto"
        self.batch_size = self._useful_batch_size() if self.is_auto_batch else batch_size
        self.fingerprint = fingerprint(self.checkpoint, precision, self.exact)
        self.text_fingerprint = fingerprint(self.checkpoint, "fp32")
        self.has_overflowed = False

    def _fastest_precision(self, device):
        if is_small(self.checkpoint):
            return "fp32"
        return fastest_precision(device, trained_in_bf16(self.checkpoint))

    def _useful_batch_size(self):
        if self.device.type != "cuda":
            return BATCH_SIZE
        n_images = GPU_PATCHES // n_patches(self.checkpoint) // BATCH_SIZE * BATCH_SIZE
        return min(max(n_images, BATCH_SIZE), MOST_IMAGES)

    @cached_property
    def preprocess(self):
        """Function from the content of an image to its pixels, for any thread."""
        feeds_gpu = self.device.type == "cuda"
        return partial(self.model.preprocess, exact=self.exact, in_many_threads=feeds_gpu)

    def start(self, pixels):
        """Start to encode at most one batch of images, in parts if the GPU has too little memory.

        Parameters
        ----------
        pixels : sequence of Tensor
            As returned by :attr:`preprocess`.

        Returns
        -------
        started : tuple
            For :meth:`finish`. A GPU works on it meanwhile; a CPU has finished.
        """
        return pixels, self._in_parts(self.model, "images", pixels)

    def finish(self, started):
        """Wait for the rows of images.

        Parameters
        ----------
        started : tuple
            As returned by :meth:`start`.

        Returns
        -------
        rows : ndarray of shape (n_images, n_features) and dtype float32
        """
        pixels, parts = started
        rows = _on_cpu(parts)
        overflowed = ~np.isfinite(rows).all(axis=1)
        if overflowed.any():
            rows[overflowed] = self._encode_in_fp32([pixels[i] for i in np.flatnonzero(overflowed)])
        return rows

    def _encode_in_fp32(self, pixels):
        model = self._load("fp32")
        rows = _on_cpu(self._in_parts(model, "images", pixels))
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
        model = self.text_model
        tokens, is_cut = model.tokenize(prompts)
        return np.concatenate(self._in_parts(model, "prompts", tokens)), is_cut

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

    def _in_parts(self, model, kind, inputs):
        """Encode inputs at once, or in the largest parts that fit into the memory of a GPU.

        Parameters
        ----------
        model : LoadedModel
            Remembers how many fit, for later calls.
        kind : {"images", "prompts"}
        inputs : sequence or Tensor

        Returns
        -------
        parts : list
            What the model returns for each part.
        """
        encode = model.encode_images if kind == "images" else model.encode_tokens
        parts = []
        done = 0
        while done < len(inputs):
            part = inputs[done : done + model.most_at_once.get(kind, len(inputs))]
            try:
                parts.append(encode(part))
                done += len(part)
                continue
            except RuntimeError as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
            # Outside the handler, where the error keeps the tensors of the failed attempt alive.
            n_next = model.most_at_once[kind] = len(part) // 2
            torch.cuda.empty_cache()
            if not self.is_auto_batch:
                warn_user(
                    f"The GPU has too little memory for {len(part)} {kind} at once; continuing "
                    f"with {n_next}. Set batch_size={n_next} to avoid this.",
                    BatchSizeWarning,
                )
        return parts


def _on_cpu(parts):
    return np.concatenate([rows.cpu().numpy() for rows in parts])
