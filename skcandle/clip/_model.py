"""Load the model of a checkpoint, once per process, and keep the last few models."""

import logging
import os
from collections import OrderedDict
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn.functional import normalize

from .._devices import exact_matmul, explained_out_of_memory, seeded_defaults
from .._locks import ForkSafeLock
from .._warnings import warn_user
from ..exceptions import ModelError, WeightsNotAvailableError
from ._checkpoint import (
    check_text_packages,
    describe,
    explain_missing,
    fingerprint,
    first_line,
    has_flexible_shapes,
    hub_config_path,
    model_config,
    open_clip_name,
    preprocess_config,
    weights_path,
)
from ._open_clip_private import AttentionalPooler
from ._preprocessing import Preprocessing

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Pixels per CPU thread in one forward pass: 16 images of 224 x 224. The activations then stay in
# the processor's cache, which is up to a sixth faster than 64 images.
CPU_PIXELS = 16 * 224**2

# Two models can be compared in turns. The third is the text encoder of one of them, a separate
# model if images are encoded in another number format.
MAX_LOADED_MODELS = 3
_loaded: OrderedDict = OrderedDict()
_loading = ForkSafeLock()


def load_model(checkpoint, precision, device, text_only=False):
    """Load a model, or return it if this process has it loaded.

    Parameters
    ----------
    checkpoint : Checkpoint
    precision : {"fp32", "bf16", "fp16"}
    device : torch.device
    text_only : bool
        Whether the image encoder is not needed.

    Returns
    -------
    model : LoadedModel
    """
    whole = (fingerprint(checkpoint, precision), str(device), False)
    # Load under the lock, so that threads which need the same model wait for one load.
    with _loading:
        key = whole if whole in _loaded else (*whole[:2], text_only)
        if key not in _loaded:
            while len(_loaded) >= MAX_LOADED_MODELS:
                _loaded.popitem(last=False)
            module = _create_module(checkpoint, precision)
            with explained_out_of_memory(device):
                _loaded[key] = LoadedModel(checkpoint, module, precision, device, text_only)
        _loaded.move_to_end(key)
        return _loaded[key]


def release_models():
    """Drop the loaded models; their memory is freed when no call uses them."""
    with _loading:
        _loaded.clear()
    if torch.cuda.is_initialized():  # pragma: no cover - needs CUDA
        torch.cuda.empty_cache()


class LoadedModel:
    """A loaded CLIP model, from images and prompts to L2-normalised float32 rows.

    Parameters
    ----------
    checkpoint : Checkpoint
    module : torch.nn.Module
    precision : {"fp32", "bf16", "fp16"}
    device : torch.device
    text_only : bool
        Whether to drop the image encoder.

    Attributes
    ----------
    preprocess : Preprocessing
        Function from the content of an image to its pixels.
    most_at_once : dict of str to int
        Sizes of batches of images and prompts, once larger ones did not fit into a GPU's memory.
    """

    def __init__(self, checkpoint, module, precision, device, text_only=False):
        self.checkpoint = checkpoint
        self.preprocess = Preprocessing(module.visual.preprocess_cfg)
        self.memory_format = _memory_format(module.visual)
        if text_only:
            module.visual = None
        self.module = module.eval().to(device, memory_format=self.memory_format)
        self.dtype = DTYPES[precision]
        self.device = device
        self.most_at_once = {}
        # torchvision's function copies these to a GPU, and waits for it, once per batch.
        self._mean, self._std = (
            torch.tensor(values, device=device, dtype=torch.float32).reshape(-1, 1, 1)
            for values in (self.preprocess.normalise.mean, self.preprocess.normalise.std)
        )

    def encode_images(self, pixels):
        """Start to embed a sequence of preprocessed images.

        Parameters
        ----------
        pixels : sequence of Tensor
            As returned by :attr:`preprocess`.

        Returns
        -------
        rows : Tensor of shape (n_images, n_features) and dtype float32
            On the device, where a GPU may still compute it. Rows that overflowed are not finite.
        """
        # Pixels become floats here, not in the decoding threads: PyTorch would start threads in
        # each of them, and four times as many bytes would be copied to a GPU.
        is_cuda = self.device.type == "cuda"
        shape = (len(pixels), *pixels[0].shape)
        # PyTorch keeps pinned memory for the next batch.
        batch = torch.empty(shape, dtype=torch.uint8, pin_memory=is_cuda)
        torch.stack(list(pixels), out=batch)
        return self._rows(self._encode_pixels, batch)

    def _encode_pixels(self, batch):
        n_at_once = len(batch)
        if self.device.type == "cpu":  # pragma: no branch - needs a GPU
            n_at_once = CPU_PIXELS * torch.get_num_threads() // (batch.shape[1] * batch.shape[2])
        parts = [self._encode_part(part) for part in batch.split(max(n_at_once, 1))]
        return torch.cat(parts)

    def _encode_part(self, batch):
        # The same arithmetic as ToTensor and Normalize, in the same order.
        images = batch.permute(0, 3, 1, 2).to(torch.float32).contiguous()
        images = images.div_(255).sub_(self._mean).div_(self._std)
        images = images.to(self.dtype, memory_format=self.memory_format)
        return self.module.encode_image(images)

    def encode_tokens(self, tokens):
        """Embed the token matrix of :meth:`tokenize`."""
        rows = self._rows(self.module.encode_text, tokens).cpu().numpy()
        self.check_finite(rows)
        return rows

    def tokenize(self, prompts):
        """Return the token matrix of the prompts, and which of them were cut to the context."""
        context = self.tokenizer.context_length
        # Tokenizers cut silently. With one more token, only a prompt that does not fit has a last
        # token other than that of an empty prompt.
        longer = self.tokenizer([*prompts, ""], context_length=context + 1)[:, -1]
        return self.tokenizer(prompts), (longer[:-1] != longer[-1]).tolist()

    @cached_property
    def tokenizer(self):
        check_text_packages(self.checkpoint)
        with explain_missing(self.checkpoint, "its tokenizer"):
            return open_clip.get_tokenizer(open_clip_name(self.checkpoint))

    def _rows(self, encode, inputs):
        with torch.inference_mode(), exact_matmul(self.device):
            inputs = inputs.to(self.device, non_blocking=self.device.type == "cuda")
            return normalize(encode(inputs).float(), dim=-1)

    def check_finite(self, rows):
        """Raise an error for rows that are not finite even in float32."""
        if not np.isfinite(rows).all():
            raise ValueError(
                f"{describe(self.checkpoint)} returns values that are not finite because its "
                "weights are damaged. Download or save them again."
            )


def _memory_format(visual):
    """The memory layout in which the image encoder is fastest."""
    # The patches of a transformer need one convolution. With more of them, the layout matters.
    n_convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in visual.modules())
    return torch.channels_last if n_convolutions > 1 else torch.contiguous_format


def _create_module(checkpoint, precision):
    """Create the model on the CPU, with its weights and ``visual.preprocess_cfg``."""
    if "hf_model_name" in model_config(checkpoint)["text_cfg"]:
        check_text_packages(checkpoint)
    if has_flexible_shapes(checkpoint):
        warn_user(
            f"{describe(checkpoint)} was trained on images of any shape, but runs at one fixed "
            "square here, to which images are resized."
        )
    module = _module_of_open_clip(checkpoint, precision)
    for part in module.visual.modules():  # open_clip leaves it in float32, and then fails
        if isinstance(part, AttentionalPooler):
            part.query.data = part.query.data.to(DTYPES[precision])
    return module


def _module_of_open_clip(checkpoint, precision):
    path = weights_path(checkpoint)
    arguments = {"precision": precision, "force_preprocess_cfg": preprocess_config(checkpoint)}
    if checkpoint.scheme == "hf-hub":
        # The snapshot is a folder in open_clip's format; loading it pins the commit.
        name = f"local-dir:{hub_config_path(checkpoint.name).parent}"
    else:
        name = open_clip_name(checkpoint)
        if path is not None:
            arguments["pretrained"] = os.fspath(path)
    # open_clip first creates random weights. The seed makes weights that stay random the same in
    # every process.
    with seeded_defaults(0), _without_messages():
        if checkpoint.scheme == "built-in" and path is None:
            warn_user(
                f"{describe(checkpoint)} has random weights, so its embeddings contain almost no "
                "information about an image.",
            )
            return open_clip.create_model(name, pretrained_text=False, **arguments)
        try:
            return open_clip.create_model(name, require_pretrained=True, **arguments)
        except Exception as error:
            raise _load_error(checkpoint, path, error) from error


@contextmanager
def _without_messages():
    """Leave out what open_clip logs about each model that it loads, but not its warnings."""

    def is_kept(record):
        return record.levelno > logging.INFO or "open_clip" not in Path(record.pathname).parts

    root = logging.getLogger()  # to which open_clip logs
    root.addFilter(is_kept)
    try:
        yield
    finally:
        root.removeFilter(is_kept)


def _load_error(checkpoint, path, error):
    where = f"the file {str(path)!r}" if path else "the weights in its folder"
    reason = f"{type(error).__name__}: {first_line(error)}"
    # PyTorch's message about missing or misshapen tensors, and open_clip's check of widths.
    if "state_dict" in str(error) or isinstance(error, AssertionError):
        return ModelError(
            f"{describe(checkpoint)}: {where} belongs to a different architecture ({reason})."
        )
    return WeightsNotAvailableError(
        f"{describe(checkpoint)}: {where} cannot be read; it may be incomplete or in another "
        f"format ({reason}). Download or save it again, as .safetensors or a PyTorch state_dict."
    )
