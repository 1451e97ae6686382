"""Which model is meant: names, weights and configuration, without reading any weights.

A model is named, checked (:func:`find_checkpoint`), measured (:func:`embedding_dim`) and told
from every other model (:func:`fingerprint`) before, and often instead of, being loaded.
"""

import difflib
import hashlib
import json
import os
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from .._bundled import BUNDLED_MODEL
from ..exceptions import ModelError, WeightsNotAvailableError
from ._open_clip_private import (
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
    PreprocessCfg,
    download_pretrained,
)

BUNDLED_FOLDER = Path(__file__).parents[1] / "data" / BUNDLED_MODEL
OFFLINE_HINT = (
    f'Without a network, model_name="{BUNDLED_MODEL}", pretrained=None works: '
    "it is part of this package."
)

CONFIG_NAME = "open_clip_config.json"
HUB_WEIGHTS = [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
FOLDER_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth")  # those open_clip looks for
QUICK_GELU_SUFFIX = "-quickgelu"

# Up to this side of its input, a model is faster than the decoding of its images.
SMALL_IMAGE = 64

# To be raised when the way from an image to a row changes: cached rows are then not used.
PIPELINE_VERSION = 2


class Checkpoint(NamedTuple):
    """Where the configuration and the weights of one model come from."""

    scheme: str  # "built-in", "local-dir" or "hf-hub"
    name: str  # architecture, folder or repository
    weights: str | None = None  # tag or file of an architecture; None means random weights


def embedding_dim(model_name):
    """Width of the embeddings of a model; no weights are loaded.

    Parameters
    ----------
    model_name : str
        As for :class:`~skcandle.CLIPFeaturizer`. Only ``"hf-hub:..."`` may need the network,
        for a configuration file of a few kilobytes.

    Returns
    -------
    n_features : int

    Raises
    ------
    ModelError
        If the name, or the folder it points to, is unknown.
    """
    return int(_model_config(_locate(model_name))["embed_dim"])


def find_checkpoint(model_name, pretrained):
    """Check that a model and its weights exist and fit each other; neither loads nor downloads.

    Parameters
    ----------
    model_name : str
    pretrained : str, path-like or None
        As for :class:`~skcandle.CLIPFeaturizer`.

    Returns
    -------
    checkpoint : Checkpoint
    """
    checkpoint = _locate(model_name)
    if checkpoint.scheme != "built-in":
        # "openai" is the default of the estimator, hence not something the caller has said.
        if pretrained not in (None, "openai"):
            raise ModelError(
                f"pretrained={pretrained!r} has no meaning with model_name={model_name!r}, "
                "which comes with its own weights. Use pretrained=None."
            )
        if checkpoint.scheme == "local-dir" and not _weight_files(checkpoint):
            raise WeightsNotAvailableError(
                f"The folder {checkpoint.name!r} has a {CONFIG_NAME}, but no weights beside it "
                f"(looked for files that end in {', '.join(FOLDER_WEIGHTS_SUFFIXES)})."
            )
        return checkpoint
    if pretrained is None:
        return checkpoint
    pretrained = os.fspath(pretrained)
    _check_tag(checkpoint.name, pretrained)
    return checkpoint._replace(weights=pretrained)


def is_small(checkpoint):
    """Whether the forward pass takes so little time that 16 bits save none, as of emoji-clip."""
    size = _model_config(checkpoint).get("vision_cfg", {}).get("image_size", 224)
    return np.max(size) <= SMALL_IMAGE  # of a height and a width, or of one side


def trained_in_bf16(checkpoint):
    """Whether a model is of a family trained in bfloat16, as SigLIP is, of which fp16 overflows."""
    # A bias of the logits is what open_clip's configurations of the sigmoid loss have in common.
    return "init_logit_bias" in _model_config(checkpoint)


def fingerprint(checkpoint, precision, exact=True):
    """Digest of everything but the image that a row depends on; reads no weights into memory.

    The device is left out on purpose: with TF32 off, devices differ by rounding, as batch sizes
    do. A cache filled on a GPU so serves a machine without one.

    Parameters
    ----------
    checkpoint : Checkpoint
    precision : {"fp32", "bf16", "fp16"}
        Number format of the forward pass.
    exact : bool
        Whether images are decoded at their full size; prompts always are exact.

    Returns
    -------
    digest : bytes
    """
    facts = [PIPELINE_VERSION, precision, exact]
    facts += [_model_config(checkpoint), preprocess_config(checkpoint)]
    if checkpoint.scheme == "hf-hub":
        # The snapshot folder is named after the commit, which stands for all its files.
        facts += [checkpoint.name, hub_config_path(checkpoint.name).parent.name]
    elif checkpoint.scheme == "local-dir":
        facts += [_file_identity(path) for path in _weight_files(checkpoint)]
    elif _is_tag(checkpoint):
        facts += ["tag", checkpoint.name, checkpoint.weights]  # published weights do not change
    elif checkpoint.weights:
        facts += ["file", _file_identity(checkpoint.weights)]
    else:
        facts += ["random", checkpoint.name]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def _locate(model_name):
    """The checkpoint behind a name, without a word on weights."""
    if model_name == BUNDLED_MODEL:
        model_name = f"local-dir:{BUNDLED_FOLDER}"
    scheme, _, rest = model_name.partition(":")
    if scheme == "hf-hub" and rest:
        return Checkpoint(scheme, rest)
    if scheme == "local-dir" and rest:
        if not (Path(rest) / CONFIG_NAME).is_file():
            raise ModelError(
                f"model_name={model_name!r}: there is no {CONFIG_NAME} in the folder {rest!r}. "
                "A local model is a folder in open_clip's format, with configuration and weights."
            )
        return Checkpoint(scheme, str(Path(rest).resolve()))
    # open_clip takes "ViT-B/16" for "ViT-B-16".
    architecture = model_name.replace("/", "-")
    known = open_clip.list_models()
    if architecture not in known:
        near = _near_misses(model_name, [BUNDLED_MODEL, *known])
        raise ModelError(
            f"open_clip knows no model_name={model_name!r}. {near}Use a name of "
            f"open_clip.list_models(), 'hf-hub:<owner>/<name>', 'local-dir:<folder>' or "
            f"{BUNDLED_MODEL!r}."
        )
    return Checkpoint("built-in", architecture)


def _near_misses(name, known):
    by_lower = {entry.lower(): entry for entry in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=4)
    return f"Did you mean {_join(by_lower[entry] for entry in near)}? " if near else ""


def _join(names):
    return " or ".join(repr(name) for name in names)


def _check_tag(architecture, pretrained):
    """Raise unless ``pretrained`` is a file, or a tag whose activation the architecture has."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    # OpenAI's and some later weights were trained with QuickGELU, an approximation of GELU.
    # With the other activation they load, run, and lose several points of accuracy.
    if architecture.endswith(QUICK_GELU_SUFFIX):
        twin = architecture.removesuffix(QUICK_GELU_SUFFIX)
    else:
        twin = architecture + QUICK_GELU_SUFFIX
    if twin in open_clip.list_models():
        here, there = (_tag_config(name, pretrained) for name in (architecture, twin))
        if not _activation_fits(architecture, here) and _activation_fits(twin, there):
            activation = "QuickGELU" if twin.endswith(QUICK_GELU_SUFFIX) else "plain GELU"
            raise ModelError(
                f"pretrained={pretrained!r} was trained with {activation}, which "
                f"model_name={architecture!r} does not use. Use model_name={twin!r}."
            )
    if _tag_config(architecture, pretrained) or os.path.isfile(pretrained):
        return
    if (
        "/" in pretrained
        or os.sep in pretrained
        or pretrained.endswith((*FOLDER_WEIGHTS_SUFFIXES, ".pt"))
    ):
        raise WeightsNotAvailableError(f"pretrained={pretrained!r}: there is no such file.")
    raise ModelError(
        f"open_clip has no weights pretrained={pretrained!r} for model_name={architecture!r}. "
        f"{_near_misses(pretrained, tags)}"
        f"It has {', '.join(map(repr, tags)) if tags else 'none'}; the path of a file with "
        "weights works as well."
    )


def _tag_config(architecture, pretrained):
    return open_clip.get_pretrained_cfg(architecture, pretrained)


def _activation_fits(architecture, tag_config):
    quick_gelu = open_clip.get_model_config(architecture).get("quick_gelu", False)
    return bool(tag_config) and tag_config.get("quick_gelu", False) == quick_gelu


def _is_tag(checkpoint):
    return bool(checkpoint.weights and _tag_config(checkpoint.name, checkpoint.weights))


def _model_config(checkpoint):
    if checkpoint.scheme == "built-in":
        return open_clip.get_model_config(checkpoint.name)
    return _folder_config(checkpoint).get("model_cfg", {})


def preprocess_config(checkpoint):
    """Resizing and normalisation that belong to the weights, as far as they are written down."""
    if checkpoint.scheme != "built-in":
        return _folder_config(checkpoint).get("preprocess_cfg", {})
    if _is_tag(checkpoint):
        return _preprocess_part(_tag_config(checkpoint.name, checkpoint.weights))
    # A bare file says nothing. Where all published weights of the architecture agree, a file
    # for it was made the same way; otherwise open_clip's defaults stand.
    published = [
        _preprocess_part(_tag_config(checkpoint.name, tag))
        for tag in open_clip.list_pretrained_tags_by_model(checkpoint.name)
    ]
    agree = published and all(config == published[0] for config in published)
    return published[0] if agree else {}


def _preprocess_part(tag_config):
    fields = PreprocessCfg.__dataclass_fields__
    return {key: value for key, value in tag_config.items() if key in fields}


def _folder_config(checkpoint):
    if checkpoint.scheme == "hf-hub":
        path = hub_config_path(checkpoint.name)
    else:
        path = Path(checkpoint.name) / CONFIG_NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["model_cfg"]["embed_dim"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is no model configuration of open_clip: it needs an entry 'model_cfg' "
            f"with 'embed_dim' ({type(error).__name__}: {error})."
        ) from error
    return config


def hub_config_path(repository):
    """Path of a repository's configuration in the Hub's cache."""
    with explain_missing(Checkpoint("hf-hub", repository), "its configuration"):
        return Path(_hub_file(repository, [CONFIG_NAME]))


def _hub_file(repository, names, revision=None):
    """Path of the first of several files that the cache has, or else that the Hub has.

    open_clip asks the Hub for news each time. Here what is in the cache stays, so that a job
    needs no network once it has run, and does not change models half-way.
    """
    for name in names:
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return path
    for name in names:
        try:
            return hf_hub_download(repository, name, revision=revision)
        except EntryNotFoundError as error:
            # "Local": there was no connection, so the other names need not be tried.
            if isinstance(error, LocalEntryNotFoundError) or name == names[-1]:
                raise


def _weight_files(checkpoint):
    return sorted(
        path for path in Path(checkpoint.name).iterdir() if path.suffix in FOLDER_WEIGHTS_SUFFIXES
    )


def weights_path(checkpoint):
    """Path of the weights, downloaded if need be; None where open_clip finds them itself."""
    if (
        checkpoint.scheme == "local-dir"
        or checkpoint.weights is None
        and checkpoint.scheme == "built-in"
    ):
        return None
    with explain_missing(checkpoint, "its weights"):
        if checkpoint.scheme == "hf-hub":
            commit = hub_config_path(checkpoint.name).parent.name
            return _hub_file(checkpoint.name, HUB_WEIGHTS, revision=commit)
        if not _is_tag(checkpoint):
            return checkpoint.weights
        config = _tag_config(checkpoint.name, checkpoint.weights)
        repository, _, filename = config.get("hf_hub", "").rpartition("/")
        if repository:
            return _hub_file(repository, [filename] if filename else HUB_WEIGHTS)
        return download_pretrained(config)


@contextmanager
def explain_missing(checkpoint, part):
    """Turn whatever a download raises into one error that says what was tried."""
    try:
        yield
    except WeightsNotAvailableError:
        raise
    except Exception as error:
        raise WeightsNotAvailableError(
            f"{describe(checkpoint)}: {part} could not be found in the local cache nor downloaded "
            f"({type(error).__name__}: {first_line(error)}). {OFFLINE_HINT}"
        ) from error


def hub_repository(model_name, pretrained):
    """Repository of the Hugging Face Hub that has the weights of a model, "owner/name".

    Parameters
    ----------
    model_name : str
    pretrained : str or None
        As for :class:`~skcandle.CLIPFeaturizer`.

    Returns
    -------
    repository : str or None
        None for weights of another place.
    """
    scheme, _, rest = model_name.partition(":")
    if scheme == "hf-hub":
        return rest
    return _published_config(model_name, pretrained).get("hf_hub", "").rpartition("/")[0] or None


def is_published(model_name, pretrained):
    """Whether open_clip knows where to find the weights of one of its architectures."""
    return bool(_published_config(model_name, pretrained))


def _published_config(model_name, pretrained):
    return _tag_config(model_name.replace("/", "-"), pretrained or "") or {}


def open_clip_name(checkpoint):
    return (
        checkpoint.name
        if checkpoint.scheme == "built-in"
        else f"{checkpoint.scheme}:{checkpoint.name}"
    )


def describe(checkpoint):
    weights = f", pretrained={checkpoint.weights!r}" if checkpoint.scheme == "built-in" else ""
    return f"model_name={open_clip_name(checkpoint)!r}{weights}"


def first_line(error):
    return " ".join(str(error).split())[:300]


def _file_identity(path):
    """Digest of a file of weights, without reading gigabytes for every process.

    Small files are read whole. Of a large one, blocks spread evenly over all tensors are read;
    training moves all tensors, and the time of change covers an edit between the blocks.
    """
    status = os.stat(path)
    # The time of the last change of status cannot be set back, as that of the content can.
    return _sampled_digest(
        os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


@lru_cache(maxsize=64)
def _sampled_digest(path, size, mtime_ns, ctime_ns, block=2**20, n_blocks=64):
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= block * n_blocks:
            digest.update(file.read())
        else:
            digest.update(str(mtime_ns).encode())
            for i in range(n_blocks):
                file.seek(i * (size - block) // (n_blocks - 1))
                digest.update(file.read(block))
    return digest.hexdigest()
