"""The model card of a fitted pipeline: its classes, what its probabilities mean, its limits."""

from collections.abc import Mapping
from importlib.metadata import version
from numbers import Real
from platform import python_version
from reprlib import Repr
from typing import NamedTuple

import numpy as np

from .. import _version
from .._bundled import BUNDLED_MODEL
from ..classifier import CandleClassifier, RejectingClassifier
from ..clip import CLIPFeaturizer
from ..clip._checkpoint import hub_repository, is_published
from ._markdown import escaped, table
from ._model_files import ANYWHERE, fitted_candle

REPOSITORY = "OWNER/NAME"  # stands in until the name is known
TAGS = ["skcandle", "clip", "few-shot", "long-tailed", "zero-shot"]
LIBRARIES = ["scikit-learn", "torch", "open_clip_torch", "numpy", "skops", "huggingface_hub"]
FEW_IMAGES = 3
MOST_ROWS = 30  # in a table that is not folded
PAPER = "https://arxiv.org/abs/2406.12638"


def render_card(pipe, *, license=None, description=None, metrics=None):
    """The model card of a fitted pipeline.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, with the steps "clip" and "candle".
    license : str or None
    description : str or None
        Markdown.
    metrics : mapping of str to float, or None

    Returns
    -------
    markdown : str
        Starts with the metadata for the Hub.
    """
    from skops.card import Card

    for name, text in (("license", license), ("description", description)):
        if not isinstance(text, str | None):
            raise TypeError(f"{name} must be a string, got {text!r}.")
    candle, source = fitted_candle(pipe), _source(pipe["clip"])
    title = f"Image classifier of {len(candle.classes_)} classes"
    card = Card(pipe, model_diagram=False, template=None)
    card.add(**{title: _summary(candle, source, description)})

    def add(section, text):
        card.add(**{f"{title}/{section}": text})

    def add_table(section, rows, header, text="", folded=False):
        key = f"{title}/{section}"
        card.add_table(description=text, folded=folded, **{key: table(header, rows)})
        card.select(key).title = section  # skops uses the whole key as title

    has_own_encoder = isinstance(candle.text_encoder, CLIPFeaturizer)
    add("How to load it", _loading(source, has_own_encoder, _rejects(pipe)))
    header, rows = _classes(candle)
    add_table("Classes", rows, header, folded=len(rows) > MOST_ROWS)
    add("What the probabilities mean", _probabilities(pipe))
    add("Intended use", _intended_use(candle))
    add("Limits", _limits(pipe))
    if metrics is None:
        add("Evaluation", "The author gave none. Test it on your own images before you rely on it.")
    else:
        add_table("Evaluation", _checked(metrics), ["Metric", "Value"], "As stated by the author.")
    add_table("Parameters", _parameters(pipe, source), ["Parameter", "Value"], folded=True)
    add_table("Versions", _versions(), ["Package", "Version"], "The pipeline was saved with these.")
    return f"---\n{_metadata(pipe['clip'], license)}\n---\n{card.render()}"


def _metadata(clip, license):
    from huggingface_hub import ModelCardData

    return ModelCardData(
        library_name="skcandle",
        license=license,
        pipeline_tag="image-classification",
        tags=TAGS,
        base_model=hub_repository(clip.model_name, clip.pretrained),
    ).to_yaml()


def _summary(candle, source, description):
    n_new, n_images = int(candle.is_new_.sum()), candle.class_count_.sum()
    known = f"{len(candle.classes_) - n_new} classes from {n_images:g} training images"
    if n_new == len(candle.classes_):
        known = f"{n_new} classes by name only"
    elif n_new:
        known += f", and {n_new} by name only"
    n_unlabeled = _n_unlabeled(candle)
    if n_unlabeled:
        known += f". It has also learned from about {n_unlabeled:.0f} images without labels"
    text = (
        f"A `{type(candle).__name__}` of skcandle ([paper]({PAPER})) on CLIP embeddings. It "
        f"knows {known}.\n\n{source.sentence}"
    )
    return text if description is None else f"{description.strip()}\n\n{text}"


def _n_unlabeled(candle):
    """About how many images without labels a classifier has learned from."""
    return float(np.sum(getattr(candle, "unlabeled_count_", 0)))


class Source(NamedTuple):
    """Where the CLIP of a pipeline comes from."""

    sentence: str
    path: str | None = None  # the parameter that is a path on the author's machine


def _source(clip):
    name, tag = escaped(clip.model_name), escaped(clip.pretrained)
    scheme, separator, _ = clip.model_name.partition(":")
    if clip.model_name == BUNDLED_MODEL:
        return Source(
            f"**{name}**, a small CLIP that is part of skcandle, embeds the images. It knows only "
            "emoji, and is meant for trying things out."
        )
    if scheme == "hf-hub":
        return Source(
            f"**{name}** embeds the images. It is downloaded from the Hugging Face Hub when it is "
            "first used; it is not part of this repository, and has its own licence."
        )
    if separator:
        return Source(
            "A CLIP in a folder of the author embeds the images; it is not in this repository.",
            "model_name",
        )
    if clip.pretrained is None:
        return Source(
            f"**{name}** from open_clip embeds the images, with random weights. This is useful in "
            "tests only."
        )
    if not is_published(clip.model_name, clip.pretrained):
        return Source(
            f"**{name}** from open_clip embeds the images, with weights in a file of the author. "
            "The file is not part of this repository.",
            "pretrained",
        )
    return Source(
        f"**{name}** from open_clip embeds the images, with the weights **{tag}**. They are "
        "downloaded when they are first used; they are not part of this repository, and have "
        "their own licence."
    )


def load_line(repository):
    """Line of code that loads a repository."""
    return f'pipe = load_pipeline("{repository}")'


def _loading(source, has_own_encoder, rejects):
    lines = ["from skcandle.hub import load_pipeline", "", load_line(REPOSITORY)]
    if source.path:
        lines.append('path = "..."  # your copy of the CLIP')
        lines.append(f"pipe.set_params(clip__{source.path}=path)")
        if has_own_encoder:
            step = 'pipe["candle"].estimator_' if rejects else 'pipe["candle"]'
            lines.append(f"{step}.set_params(text_encoder__{source.path}=path)")
    if rejects:
        lines.append('labels = pipe.predict(["photo.jpg"])')
    else:
        lines.append('labels, proba = pipe.top_k(["photo.jpg"], 3)')
    code = "\n".join(lines)
    return (
        f"```python\n{code}\n```\n\n"
        "skops reads `model.skops`. It creates only the types of a fitted pipeline and types that "
        "skops itself trusts, and runs no code from this repository."
    )


def _classes(candle):
    """Header and rows of the table, without names if each label is its own name."""
    labels = candle.classes_.tolist()
    images = [
        "none, known by name only" if is_new else f"{count:g}"
        for count, is_new in zip(candle.class_count_, candle.is_new_, strict=True)
    ]
    if candle.class_names_ is None or candle.class_names_ == labels:
        return ["Class", "Training images"], list(zip(labels, images, strict=True))
    names = [name if isinstance(name, str) else ", ".join(name) for name in candle.class_names_]
    return ["Class", "Name", "Training images"], list(zip(labels, names, images, strict=True))


def _rejects(pipe):
    return isinstance(pipe["candle"], RejectingClassifier)


def _probabilities(pipe):
    candle, last = fitted_candle(pipe), pipe["candle"]
    text = (
        "`predict_proba` gives the probabilities that an image shows each of the classes above, "
        "with or without training images. They sum to one, "
    )
    if _rejects(pipe):
        text += (
            f"given that it shows one of them. `predict` answers **{escaped(last.reject_label_)}** "
            "where an image looks like none of them. The thresholds were chosen so that "
            f"{100 * last.rejection_rate:g}% of the images of these classes are rejected by "
            "mistake."
        )
    else:
        text += 'so it cannot say "none of these".'
    if not isinstance(candle, CandleClassifier):
        return f"{text} It is the softmax of the published method and is not calibrated."
    if candle.temperature == "auto" and candle._held_out.n_base_classes == 0:
        text += (
            " The probabilities are not calibrated, because the classifier was fitted on names "
            "alone; the temperature is that of CLIP."
        )
    elif candle.temperature == "auto":
        text += (
            " The probabilities were calibrated on held-out training images, and hold for similar "
            "images."
        )
    else:
        text += (
            " The probabilities are not calibrated; the temperature was set to "
            f"{candle.temperature:g}."
        )
    return f"{text} The classes are assumed to be {_frequencies(candle)}."


def _frequencies(candle):
    prior, margin = candle.class_prior, candle.margin
    if isinstance(prior, str) or prior is None and margin == 0:
        return "as frequent as in training"
    if prior is not None:
        return "as frequent as the parameter `class_prior` says"
    if margin == 1:
        return "equally frequent, whatever their numbers of training images"
    power = f"(n + 1) to the power of {1 - margin:g}, where n is the number of training images"
    return f"frequent in proportion to {power}"


def _intended_use(candle):
    text = "Images of the classes above that resemble the training images."
    if not candle.class_count_.any():
        text = "Images of the classes above."
    if candle.text_features_ is not None:
        text += ' To add further classes by name: `pipe.add_classes(["..."])`.'
    return text


def _limits(pipe):
    candle = fitted_candle(pipe)
    n_few = int(((candle.class_count_ < FEW_IMAGES) & ~candle.is_new_).sum())
    others = "gets one of these classes too, sometimes with high probability"
    if _rejects(pipe):
        others = "is rejected only if it looks unlike all classes"
    kept = ["the names of the classes", "the class means of the embeddings"]
    if _n_unlabeled(candle):
        kept.append("the class means of images without labels")
    single_images = getattr(candle._model, "single_images", None)
    if single_images is not None:
        kept.append(f"the embeddings of {len(single_images.X)} training images")
    limits = [
        f"An image of anything else {others}.",
        "On other kinds of images (another camera, drawings instead of photos) it is less accurate "
        "and overconfident.",
        "It inherits the mistakes and biases of CLIP. Do not use it for decisions about people.",
        f"The file contains {', '.join(kept)}, and a digest of each training image, but not the "
        "training images themselves.",
    ]
    if n_few:
        few = f"Classes with fewer than {FEW_IMAGES} training images ({n_few} of them)"
        limits.insert(1, f"{few} are recognised less accurately.")
    if candle.is_new_.any():
        limits.insert(1, "What it knows about a class without training images comes from CLIP.")
    return "\n".join(f"* {limit}" for limit in limits)


def _checked(metrics):
    if not isinstance(metrics, Mapping) or not metrics:
        raise TypeError(
            f"metrics must map names to numbers, got {metrics!r}. "
            "base_new_report(..., output_dict=True) returns such a mapping."
        )
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, Real):
            raise TypeError(f"metrics must map names to numbers, got {name!r}: {value!r}.")
    return [[name.replace("_", " "), f"{float(value):.4g}"] for name, value in metrics.items()]


def _parameters(pipe, source):
    clip, candle = (step.get_params(deep=False) for step in (pipe["clip"], fitted_candle(pipe)))
    if pipe["clip"].model_name == BUNDLED_MODEL or ":" in pipe["clip"].model_name:
        del clip["pretrained"]  # not used there
    if source.path:
        clip[source.path] = "a path on the author's machine"
    candle["text_encoder"] = _text_encoder(pipe)
    short = Repr()
    short.maxlist = short.maxdict = short.maxtuple = 6
    short.maxother = short.maxstring = 80
    return [
        [f"{step}__{name}", value if name == "text_encoder" else short.repr(value)]
        for step, params in (("clip", clip), ("candle", candle))
        for name, value in params.items()
        if name not in ANYWHERE
    ]


def _text_encoder(pipe):
    clip, encoder = pipe["clip"], fitted_candle(pipe).text_encoder
    if encoder is None:
        return "None: class names are not used"
    if not isinstance(encoder, CLIPFeaturizer):
        return "'auto'" if isinstance(encoder, str) else "vectors"
    if (encoder.model_name, encoder.pretrained) == (clip.model_name, clip.pretrained):
        return "the same model"
    if _source(encoder).path:
        return "another model, at a path on the author's machine"
    return f"another model: {encoder.model_name}, {encoder.pretrained}"


def _versions():
    return [
        ["skcandle", _version.__version__],
        ["Python", python_version()],
        *([library, version(library)] for library in LIBRARIES),
    ]
