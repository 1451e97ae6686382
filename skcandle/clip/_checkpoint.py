"""Names, weights and configuration of a model, without reading the weights.

A model is checked (:func:`find_checkpoint`), measured (:func:`embedding_dim`) and identified
(:func:`fingerprint`) before it is loaded, and often without being loaded at all.
"""

import difflib
import hashlib
import json
import os
import re
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from .._bundled import BUNDLED_MODEL
from .._images.file_digests import FileDigests
from ..exceptions import ModelError, WeightsNotAvailableError
from ._open_clip_tables import PREPROCESSING, get_model_config, list_models
from ._open_clip_tables import pretrained as tables

BUNDLED_FOLDER = Path(__file__).parents[1] / "data" / BUNDLED_MODEL
CONFIG_NAME = "open_clip_config.json"
HUB_WEIGHTS = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]  # as in open_clip
FOLDER_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth")  # those that open_clip looks for
SHA256 = re.compile("[0-9a-f]{64}")
QUICK_GELU_SUFFIX = "-quickgelu"
TRANSFORMERS = "transformers"

PATIENCE = 4  # seconds to wait for an answer of the Hub before a download

# Models with input images up to this side are faster than the decoding of the images.
SMALL_IMAGE = 64

# Increase it when the computation of rows changes, so that cached rows are not used.
PIPELINE_VERSION = 3


HASHED_BLOCK = 2**20  # bytes
weights_digests = FileDigests(max_entries=64, needs_status_time=False)


class Checkpoint(NamedTuple):
    """Where the configuration and the weights of one model come from."""

    scheme: str  # "built-in", "local-dir" or "hf-hub"
    name: str  # architecture, folder or repository
    weights: str | None = None  # tag or file of an architecture; None means random weights


def embedding_dim(model_name):
    """Width of the embeddings of a model, without loading weights.

    Parameters
    ----------
    model_name : str
        As for :class:`~skcandle.CLIPFeaturizer`. Only ``"hf-hub:..."`` may need the network, to
        download a configuration file of a few kilobytes.

    Returns
    -------
    n_features : int

    Raises
    ------
    ModelError
        If the name is unknown, or the folder it points to is not a model.
    """
    return int(model_config(_locate(model_name))["embed_dim"])


def find_checkpoint(model_name, pretrained):
    """Check that a model and its weights exist and fit, without loading or downloading them.

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
        # "openai" is the default of the estimator, so the caller may not have chosen it.
        if pretrained not in (None, "openai"):
            raise ModelError(
                f"pretrained must be None for model_name={model_name!r}, which comes with its own "
                f"weights; got {pretrained!r}."
            )
        if checkpoint.scheme == "local-dir" and not _weight_files(checkpoint):
            raise WeightsNotAvailableError(
                f"The folder {checkpoint.name!r} has a {CONFIG_NAME}, but no weights: no file in "
                f"it ends in {', '.join(FOLDER_WEIGHTS_SUFFIXES)}."
            )
        return checkpoint
    if pretrained is None:
        return checkpoint
    pretrained = os.fspath(pretrained)
    _check_tag(checkpoint.name, pretrained)
    return checkpoint._replace(weights=pretrained)


def is_small(checkpoint):
    """Whether a model is so fast, like emoji-clip, that 16 bits would save no time."""
    size = model_config(checkpoint).get("vision_cfg", {}).get("image_size", 224)
    return np.max(size) <= SMALL_IMAGE  # one side, or a height and a width


def n_patches(checkpoint):
    """Patches that a model cuts an image into; 16 x 16 pixels each where that is not stated."""
    vision = model_config(checkpoint).get("vision_cfg", {})
    sides = np.broadcast_to(vision.get("image_size", 224), 2)
    return int(np.prod(np.ceil(sides / np.max(vision.get("patch_size") or 16))))


def trained_in_bf16(checkpoint):
    """Whether a model was trained in bfloat16, like SigLIP, and therefore overflows in float16."""
    # In open_clip, the configurations for the sigmoid loss are those with a bias of the logits.
    return "init_logit_bias" in model_config(checkpoint)


def fingerprint(checkpoint, precision, exact=True):
    """Digest of everything that a row depends on except the image, without loading weights.

    The device is deliberately not part of it: without TF32, results on different devices differ
    only by rounding, as with different batch sizes. A cache filled on a GPU can therefore be used
    on a machine without one.

    Parameters
    ----------
    checkpoint : Checkpoint
    precision : {"fp32", "bf16", "fp16"}
        Number format of the forward pass.
    exact : bool
        Whether images are decoded at full size; True for prompts.

    Returns
    -------
    digest : bytes
    """
    facts = [PIPELINE_VERSION, precision, exact]
    facts += [model_config(checkpoint), preprocess_config(checkpoint)]
    if checkpoint.scheme == "hf-hub":
        # The snapshot folder has the name of the commit, which identifies all its files.
        facts += [checkpoint.name, hub_config_path(checkpoint.name).parent.name]
    elif checkpoint.scheme == "local-dir":
        facts += [weights_digest(path) for path in _weight_files(checkpoint)]
    elif _is_tag(checkpoint):
        facts += ["tag", checkpoint.name, checkpoint.weights]  # published weights do not change
    elif checkpoint.weights:
        facts += ["file", weights_digest(checkpoint.weights)]
    else:
        facts += ["random", checkpoint.name]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def model_facts(checkpoint):
    """What identifies a model: architecture, preprocessing and weights, without loading them.

    Unlike a :func:`fingerprint`, this is the same wherever the model lies.

    Parameters
    ----------
    checkpoint : Checkpoint

    Returns
    -------
    facts : list of list
        One or two ways to identify it. The commit of a repository identifies its weights before
        they are downloaded, but other commits may have the same weights.
    """
    if checkpoint.scheme == "built-in":
        architecture = checkpoint.name
    else:
        architecture = model_config(checkpoint)
    weights = []
    if checkpoint.scheme == "local-dir":
        weights = [["files", *map(weights_digest, _weight_files(checkpoint))]]
    elif checkpoint.scheme == "hf-hub":
        commit = hub_config_path(checkpoint.name).parent.name
        weights = [["commit", checkpoint.name, commit]]
        path = _cached_file(checkpoint.name, HUB_WEIGHTS, commit)
        if path:
            weights.append(["files", _hub_digest(path)])
    elif _is_tag(checkpoint):
        weights = [["tag", checkpoint.weights]]
    elif checkpoint.weights:
        weights = [["files", weights_digest(checkpoint.weights)]]
    else:
        weights = [["random"]]
    return [[architecture, preprocess_config(checkpoint), one] for one in weights]


def is_in_hub_cache(checkpoint):
    """Whether the configuration of a model of the Hub has been downloaded."""
    return _cached_file(checkpoint.name, [CONFIG_NAME]) is not None


def _hub_digest(path):
    """SHA-256 of a file in the cache of the Hub, which is the name of the file if it is large."""
    name = os.path.basename(os.path.realpath(path))
    return name if SHA256.fullmatch(name) else weights_digest(path)


def _locate(model_name):
    """The checkpoint of a name, without its weights."""
    if model_name == BUNDLED_MODEL:
        model_name = f"local-dir:{BUNDLED_FOLDER}"
    scheme, _, rest = model_name.partition(":")
    if scheme == "hf-hub" and rest:
        return Checkpoint(scheme, rest)
    if scheme == "local-dir" and rest:
        if not (Path(rest) / CONFIG_NAME).is_file():
            raise ModelError(
                f"model_name={model_name!r}: the folder {rest!r} has no {CONFIG_NAME}. It must be "
                "a folder in open_clip's format, with a configuration and weights."
            )
        return Checkpoint(scheme, str(Path(rest).resolve()))
    # open_clip accepts "ViT-B/16" for "ViT-B-16".
    architecture = model_name.replace("/", "-")
    known = list_models()
    if architecture not in known:
        near = _near_misses(model_name, [BUNDLED_MODEL, *known])
        raise ModelError(
            f"model_name={model_name!r} is unknown to open_clip. {near}Use a name from "
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
    """Raise unless ``pretrained`` is a file, or a tag with the activation of the architecture."""
    tags = tables().list_pretrained_tags_by_model(architecture)
    # OpenAI's and some later weights were trained with QuickGELU, an approximation of GELU.
    # With the other activation they load and run, but lose several points of accuracy.
    if architecture.endswith(QUICK_GELU_SUFFIX):
        twin = architecture.removesuffix(QUICK_GELU_SUFFIX)
    else:
        twin = architecture + QUICK_GELU_SUFFIX
    if twin in list_models():
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
        raise WeightsNotAvailableError(f"The file pretrained={pretrained!r} does not exist.")
    raise ModelError(
        f"open_clip has no weights pretrained={pretrained!r} for model_name={architecture!r}. "
        f"{_near_misses(pretrained, tags)}"
        f"Use {', '.join(map(repr, tags)) + ', or ' if tags else ''}the path of a file with "
        "weights."
    )


def _tag_config(architecture, pretrained):
    return tables().get_pretrained_cfg(architecture, pretrained)


def _activation_fits(architecture, tag_config):
    quick_gelu = get_model_config(architecture).get("quick_gelu", False)
    return bool(tag_config) and tag_config.get("quick_gelu", False) == quick_gelu


def _is_tag(checkpoint):
    return bool(checkpoint.weights and _tag_config(checkpoint.name, checkpoint.weights))


def model_config(checkpoint):
    """The configuration of an architecture that embeds images and text."""
    if checkpoint.scheme == "built-in":
        config = get_model_config(checkpoint.name)
    else:
        config = _folder_config(checkpoint).get("model_cfg", {})
    missing = [part for part in ("vision_cfg", "text_cfg") if part not in config]
    if missing:
        raise ModelError(
            f"model_name={open_clip_name(checkpoint)!r} does not embed both images and text: its "
            f"configuration has no {' and no '.join(map(repr, missing))}."
        )
    return config


def check_text_packages(checkpoint):
    """Raise an error if a model needs a package for its text that is not installed."""
    text = model_config(checkpoint)["text_cfg"]
    if (text.get("hf_model_name") or text.get("hf_tokenizer_name")) and not find_spec(TRANSFORMERS):
        raise ImportError(
            f"{describe(checkpoint)} reads text with the package transformers, which is not "
            "installed: pip install transformers sentencepiece."
        )


def has_flexible_shapes(checkpoint):
    """Whether a model was trained on images of any shape (NaFlex), which open_clip cannot use."""
    return "naflex" in model_config(checkpoint)["vision_cfg"].get("timm_model_name", "").lower()


def preprocess_config(checkpoint):
    """Resizing and normalisation for the weights, as far as they are known."""
    if checkpoint.scheme != "built-in":
        return _folder_config(checkpoint).get("preprocess_cfg", {})
    if _is_tag(checkpoint):
        return _preprocess_part(_tag_config(checkpoint.name, checkpoint.weights))
    # A file of weights has no configuration. If all published weights of the architecture agree,
    # theirs is used, otherwise open_clip's defaults.
    published = [
        _preprocess_part(_tag_config(checkpoint.name, tag))
        for tag in tables().list_pretrained_tags_by_model(checkpoint.name)
    ]
    agree = published and all(config == published[0] for config in published)
    return published[0] if agree else {}


def _preprocess_part(tag_config):
    return {key: value for key, value in tag_config.items() if key in PREPROCESSING}


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
            f"{path} must be a model configuration of open_clip, with an entry 'model_cfg' that "
            f"has 'embed_dim' ({type(error).__name__}: {error})."
        ) from error
    return config


def hub_config_path(repository):
    """Path of a repository's configuration in the cache of the Hub."""
    with explain_missing(Checkpoint("hf-hub", repository), "its configuration"):
        return Path(_hub_file(repository, [CONFIG_NAME]))


def _hub_file(repository, names, revision=None):
    """Path of the first of several files that is in the cache, or else on the Hub.

    open_clip checks for updates on the Hub every time. Here, cached files stay as they are, so that
    a job needs no network after its first run and never switches models half-way.
    """
    path = _cached_file(repository, names, revision)
    if path:
        return path
    for name in names:
        try:
            # Without a connection, a download tries again for half a minute; this fails at once.
            get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=PATIENCE)
            return hf_hub_download(repository, name, revision=revision)
        except EntryNotFoundError as error:
            # "Local" means that there was no connection, so other names need not be tried.
            if isinstance(error, LocalEntryNotFoundError) or name == names[-1]:
                raise


def _cached_file(repository, names, revision=None):
    """Path of the first of several files that is in the cache of the Hub, or None."""
    for name in names:
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return path
    return None


def _weight_files(checkpoint):
    return sorted(
        path for path in Path(checkpoint.name).iterdir() if path.suffix in FOLDER_WEIGHTS_SUFFIXES
    )


def weights_path(checkpoint):
    """Path of the weights, downloaded if necessary; None if open_clip finds them itself."""
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
        return tables().download_pretrained(config)


@contextmanager
def explain_missing(checkpoint, part):
    """Turn any error of a download into one that says what was tried."""
    try:
        yield
    except WeightsNotAvailableError:
        raise
    except Exception as error:
        cache = _download_folder(checkpoint)
        raise WeightsNotAvailableError(
            f"{describe(checkpoint)}: cannot find {part} in the folder {cache!r}, and the download "
            f"failed ({type(error).__name__}: {first_line(error)}). On a machine with a network, "
            f"run {_download_command(checkpoint)}, then copy the same folder from there to here."
        ) from error


def _download_folder(checkpoint):
    """Folder that downloads are kept in."""
    is_elsewhere = _is_tag(checkpoint) and not _tag_config(checkpoint.name, checkpoint.weights).get(
        "hf_hub"
    )
    folder = Path("~/.cache/clip") if is_elsewhere else Path(constants.HF_HUB_CACHE)
    return str(folder.expanduser())


def _download_command(checkpoint):
    """Command for a shell that downloads a model and its tokenizer."""
    arguments = f"{open_clip_name(checkpoint)!r}, {checkpoint.weights!r}"
    call = f"CLIPFeaturizer({arguments}).encode_text(['a'])"
    return f'`python -c "from skcandle import CLIPFeaturizer; {call}"`'


def hub_repository(model_name, pretrained):
    """Repository on the Hugging Face Hub with the weights of a model, "owner/name".

    Parameters
    ----------
    model_name : str
    pretrained : str or None
        As for :class:`~skcandle.CLIPFeaturizer`.

    Returns
    -------
    repository : str or None
        None for weights from elsewhere.
    """
    scheme, _, rest = model_name.partition(":")
    if scheme == "hf-hub":
        return rest
    return _published_config(model_name, pretrained).get("hf_hub", "").rpartition("/")[0] or None


def is_published(model_name, pretrained):
    """Whether open_clip knows where to find the weights for one of its architectures."""
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


def weights_digest(path):
    """SHA-256 of a file of weights, which is read once per process as long as it stays the same."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        digest = weights_digests.get(status)
        if digest is None:
            sha256 = hashlib.sha256()
            while block := file.read(HASHED_BLOCK):
                sha256.update(block)
            digest = sha256.hexdigest()
            weights_digests.put(status, digest)
    return digest
