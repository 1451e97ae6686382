"""From a model checkpoint to a loaded model; few models, each loaded once per process."""

import os
from collections import OrderedDict
from functools import cached_property

import numpy as np
import open_clip
import torch
from torch.nn.functional import normalize

from .._devices import exact_matmul
from .._locks import ForkSafeLock
from .._warnings import warn_user
from ..exceptions import ModelMismatchError, WeightsNotAvailableError
from ._checkpoint import (
    describe,
    explain_missing,
    fingerprint,
    first_line,
    hub_config_path,
    open_clip_name,
    preprocess_config,
    weights_path,
)
from ._open_clip_private import PreprocessCfg, image_transform_v2

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Two models let a comparison of two models alternate; a third would only hold memory.
MAX_LOADED_MODELS = 2
_loaded: OrderedDict = OrderedDict()
_loading = ForkSafeLock()


def load_model(checkpoint, precision, device):
    """Load a model, or take it from the few that this process keeps loaded.

    Parameters
    ----------
    checkpoint : Checkpoint
    precision : {"fp32", "bf16", "fp16"}
    device : torch.device

    Returns
    -------
    model : LoadedModel
    """
    key = (fingerprint(checkpoint, precision), str(device))
    # Loading under the lock: threads that want the same model wait for one load.
    with _loading:
        if key not in _loaded:
            while len(_loaded) >= MAX_LOADED_MODELS:
                _loaded.popitem(last=False)
            module = _create_module(checkpoint, precision)
            _loaded[key] = LoadedModel(checkpoint, module, precision, device)
        _loaded.move_to_end(key)
        return _loaded[key]


def release_models():
    """Drop the loaded models, so that their memory is freed when no call uses them."""
    with _loading:
        _loaded.clear()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class LoadedModel:
    """A loaded CLIP model: images and prompts in, L2-normalised float32 rows out.

    Parameters
    ----------
    checkpoint : Checkpoint
    module : torch.nn.Module
    precision : {"fp32", "bf16", "fp16"}
    device : torch.device
    """

    def __init__(self, checkpoint, module, precision, device):
        self.checkpoint = checkpoint
        self.module = module.eval().to(device)
        self.dtype = DTYPES[precision]
        self.device = device
        transform = image_transform_v2(
            PreprocessCfg(**module.visual.preprocess_cfg), is_train=False
        )
        # All that works on PIL images, and then two steps to floats.
        *self._to_size, _, self._normalise = transform.transforms

    def preprocess(self, image):
        """Pixels as open_clip resizes and crops them: uint8, of shape (height, width, 3)."""
        for step in self._to_size:
            image = step(image)
        return torch.from_numpy(np.array(image))

    def encode_images(self, pixels):
        """Embed a sequence of preprocessed images."""
        # Pixels become floats here, not image by image in threads: there, PyTorch would start
        # threads in each of them, and four times as many bytes would go to a GPU.
        batch = torch.stack(list(pixels))
        if self.device.type == "cuda":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        else:
            batch = batch.to(self.device)
        return self._rows(self._encode_pixels, batch)

    def _encode_pixels(self, batch):
        # The arithmetic of ToTensor and Normalize, in the same order.
        images = batch.permute(0, 3, 1, 2).to(torch.float32).contiguous()
        images = self._normalise(images.div_(255))
        return self.module.encode_image(images.to(self.dtype))

    def encode_tokens(self, tokens):
        """Embed the token matrix of :meth:`tokenize`."""
        return self._rows(self.module.encode_text, tokens.to(self.device))

    def tokenize(self, prompts):
        """Token matrix of the prompts, and which of them were cut to the context length."""
        context = self.tokenizer.context_length
        # Tokenizers cut without a word. With one place more, only a prompt that does not fit
        # fills it; what fills it otherwise is read off an empty prompt.
        longer = self.tokenizer([*prompts, ""], context_length=context + 1)[:, -1]
        return self.tokenizer(prompts), (longer[:-1] != longer[-1]).tolist()

    @cached_property
    def tokenizer(self):
        with explain_missing(self.checkpoint, "its tokenizer"):
            return open_clip.get_tokenizer(open_clip_name(self.checkpoint))

    def _rows(self, encode, inputs):
        with torch.inference_mode(), exact_matmul(self.device):
            rows = normalize(encode(inputs).float(), dim=-1).cpu().numpy()
        if not np.isfinite(rows).all():
            raise ValueError(
                f"{describe(self.checkpoint)} gives values that are not finite. If precision is "
                "'fp16' or 'bf16', use precision='fp32'; otherwise its weights are damaged."
            )
        return rows


def _create_module(checkpoint, precision):
    """The model on the CPU, with its weights and ``visual.preprocess_cfg``."""
    path = weights_path(checkpoint)
    arguments = {"precision": precision, "force_preprocess_cfg": preprocess_config(checkpoint)}
    if checkpoint.scheme == "hf-hub":
        # The snapshot is a folder in open_clip's format; going through it pins the commit.
        name = f"local-dir:{hub_config_path(checkpoint.name).parent}"
    else:
        name = open_clip_name(checkpoint)
        if path is not None:
            arguments["pretrained"] = os.fspath(path)
    # Every model starts from random weights. Their seed is fixed so that weights that stay
    # random are the same in every process; the caller's random state is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if checkpoint.scheme == "built-in" and path is None:
            warn_user(
                f"{describe(checkpoint)} has random weights. Its embeddings carry next to no "
                "information about an image.",
            )
            return open_clip.create_model(name, pretrained_text=False, **arguments)
        try:
            return open_clip.create_model(name, require_pretrained=True, **arguments)
        except Exception as error:
            raise _load_error(checkpoint, path, error) from error


def _load_error(checkpoint, path, error):
    where = f"the file {str(path)!r}" if path else "the weights in its folder"
    reason = f"{type(error).__name__}: {first_line(error)}"
    # PyTorch's words for missing or misshapen tensors, and open_clip's check of widths.
    if "state_dict" in str(error) or isinstance(error, AssertionError):
        return ModelMismatchError(
            f"{describe(checkpoint)}: {where} belongs to another architecture ({reason})."
        )
    return WeightsNotAvailableError(
        f"{describe(checkpoint)}: {where} cannot be read; it may be incomplete or of another "
        f"format ({reason}). Download or save it again, as .safetensors or a PyTorch state_dict."
    )
