"""The architectures and published weights that open_clip lists, without importing open_clip.

Its import takes seconds, most of them for torchvision, which nothing needs that finds all its
embeddings in the cache. Once something else has imported open_clip, its own tables are used:
the user may have added architectures.
"""

import json
import sys
from copy import deepcopy
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

# Of an architecture that embeds images and text; open_clip lists no others.
PARTS = {"embed_dim", "vision_cfg", "text_cfg"}
# Settings of resizing and normalisation: the fields of open_clip.transform.PreprocessCfg.
PREPROCESSING = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}


def list_models():
    """Names of all architectures."""
    if _is_imported():
        return import_module("open_clip").list_models()
    return list(_architectures())


def get_model_config(name):
    """Configuration of an architecture, or None."""
    if _is_imported():
        return import_module("open_clip").get_model_config(name)
    return deepcopy(_architectures().get(name))


def pretrained():
    """The module `open_clip.pretrained`, which lists the published weights."""
    return import_module("open_clip.pretrained") if _is_imported() else _copy_of_pretrained()


def _is_imported():
    return "open_clip" in sys.modules


def _folder():
    spec = find_spec("open_clip")
    assert spec is not None and spec.origin is not None  # it is a requirement
    return Path(spec.origin).parent


@cache
def _architectures():
    configs = {}
    for path in sorted((_folder() / "model_configs").glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.keys() >= PARTS:
            configs[path.stem] = config
    return configs


@cache
def _copy_of_pretrained():
    # In a package of another name, so that the __init__.py of open_clip does not run.
    package = ModuleType(f"{__name__}.copy")
    vars(package)["__path__"] = [str(_folder())]
    sys.modules[package.__name__] = package
    return import_module(f"{package.__name__}.pretrained")
