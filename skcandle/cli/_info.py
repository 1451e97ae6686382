"""``skcandle info``."""

import numpy as np

from .._bundled import BUNDLED_MODEL
from ..hub._outline import read_outline
from ._failures import note_loading
from ._printable import printable


def describe_model(path, *, trust):
    """Print what is known of a model, if possible without loading it, which takes seconds."""
    clip, last, candle = read_outline(path.read_bytes()) or _loaded(path, trust)
    n_new = int(candle.is_new_.sum())
    facts = {
        "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)",
        "classifier": type(candle).__name__,
        "CLIP": f"{_model_and_weights(clip)}, {candle.n_features_in_} features",
        "class names": _reader_of_names(clip, candle.text_encoder),
        "classes": f"{len(candle.classes_)}, {n_new} of them by name only",
        "images": f"{candle.class_count_.sum():.0f}",
    }
    unlabelled = getattr(candle, "unlabeled_count_", np.zeros(len(candle.classes_)))
    if unlabelled.any():
        facts["unlabelled"] = f"about {unlabelled.sum():.0f} images of these classes"
    if type(last).__name__ == "RejectingClassifier":
        facts["no label"] = (
            f"for about {100 * last.rejection_rate:g} % of the images of these classes, "
            "and images that look like none of them"
        )
    for name, value in facts.items():
        print(printable(f"{name:<12}{value}"))
    print()
    labels = [printable(str(label)) for label in candle.classes_]
    width = max(map(len, labels))
    for label, count, n_more in zip(labels, candle.class_count_, unlabelled, strict=True):
        images = f"{count:.0f} image{'' if count == 1 else 's'}" if count else "by name only"
        more = f", about {n_more:.0f} unlabelled" if round(n_more) else ""
        print(f"{label:<{width}}  {images}{more}")


def _loaded(path, trust):
    note_loading()
    from ..hub._model_files import fitted_candle
    from ._models import load_model

    pipe = load_model(path, trust=trust)
    return pipe["clip"], pipe["candle"], fitted_candle(pipe)


def _model_and_weights(clip):
    weights = "bundled" if clip.model_name == BUNDLED_MODEL else clip.pretrained
    if ":" in clip.model_name:  # the name of a folder or repository, which has the weights
        weights = None
    return ", ".join(filter(None, [clip.model_name, weights]))


def _reader_of_names(clip, text_encoder):
    """What embeds the names of classes, in words."""
    if text_encoder is None:
        return "not used"
    if isinstance(text_encoder, str):  # "auto"
        from ..clip import CLIPFeaturizer

        text_encoder = CLIPFeaturizer()
    if type(text_encoder).__name__ != "CLIPFeaturizer":
        return "given vectors or a function"
    model = _model_and_weights(text_encoder)
    return "the same CLIP" if model == _model_and_weights(clip) else model
