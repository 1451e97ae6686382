"""A few attributes of the pipeline in a model file, read without loading the pipeline.

Loading imports PyTorch, scikit-learn and all that skops trusts, which takes seconds. Here, nothing
that the file names is imported or created: objects of classes made for the purpose, which have the
same names and the wanted attributes, stand in for its estimators.
"""

import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np

from .. import _version
from ._limits import check_limits

CLASSIFIERS = ("CandleClassifier", "PublishedCandleClassifier")
OF_CLIP = ("model_name", "pretrained")
OF_CLASSES = ("classes_", "class_count_", "is_new_", "unlabeled_count_")
OPTIONAL = "unlabeled_count_"  # PublishedCandleClassifier does not learn from unlabelled images
OF_CLASSIFIER = (*OF_CLASSES, "n_features_in_", "text_encoder")


def read_outline(data):
    """Read some attributes of the estimators in a model file.

    They are what the file says; only loading checks that they fit together with all else in it.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    outline : tuple of (clip, last, candle) or None
        Stand-ins for the featurizer, for the last step of the pipeline, and for its classifier,
        which is the last step or inside it. None if this function does not understand the file:
        it may be damaged, have parts of other libraries, or come from another version.
    """
    try:
        check_limits(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _outline(json.loads(archive.read("schema.json")), archive)
    except MemoryError:
        raise
    except Exception:  # loading the file then reports what is wrong
        return None


def _outline(pipe, archive):
    if not _libraries(pipe) <= {"builtins", "numpy", "skcandle"}:
        return None
    steps = (step["content"] for step in _state(pipe)["steps"]["content"])
    (name, clip), (last_name, last) = ((_value(name, archive), step) for name, step in steps)
    rejects = last["__class__"] == "RejectingClassifier"
    candle = _state(last)["estimator_"] if rejects else last
    is_pipeline = [name, last_name] == ["clip", "candle"] and clip["__class__"] == "CLIPFeaturizer"
    if not is_pipeline or candle["__class__"] not in CLASSIFIERS:
        return None
    outline = (
        _stand_in(clip, OF_CLIP, archive),
        _stand_in(last, ("rejection_rate",) if rejects else (), archive),
        _stand_in(candle, OF_CLASSIFIER, archive),
    )
    shapes = {np.shape(value) for name, value in vars(outline[2]).items() if name in OF_CLASSES}
    return outline if len(shapes) == 1 else None


def _libraries(node):
    """Libraries of all types in a description, wherever they are."""
    if isinstance(node, list):
        return set().union(*map(_libraries, node))
    if not isinstance(node, dict):
        return set()
    own = node.get("__module__")
    found = {own.partition(".")[0]} if isinstance(own, str) else set()
    return found.union(*map(_libraries, node.values()))


def _state(node):
    return node["content"]["content"]


def _stand_in(node, names, archive):
    state = _state(node)
    if _value(state["_skcandle_version"], archive) != _version.__version__:
        raise ValueError("another version")
    names = [name for name in names if name != OPTIONAL or name in state]
    attributes = {name: _value(state[name], archive) for name in names}
    return type(node["__class__"], (SimpleNamespace,), {})(**attributes)


def _value(node, archive):
    loader = node["__loader__"]
    if loader == "JsonNode":
        return json.loads(node["content"])
    if loader == "NdArrayNode" and node["type"] == "numpy":
        return np.load(io.BytesIO(archive.read(node["file"])), allow_pickle=False)
    if loader == "NdArrayNode":
        return np.array([_value(item, archive) for item in node["content"]], dtype=object)
    if loader == "ObjectNode" and node["__class__"] == "CLIPFeaturizer":
        return _stand_in(node, OF_CLIP, archive)
    raise ValueError(f"{loader} is not understood")
