"""The model card of a fitted pipeline: what it knows, what its answers mean, and its limits."""

from collections.abc import Mapping
from importlib.metadata import version
from numbers import Real
from platform import python_version
from reprlib import Repr
from typing import NamedTuple

from .. import _version
from .._bundled import BUNDLED_MODEL
from .._model_files import ANYWHERE
from ..classifier import CandleClassifier
from ..clip import CLIPFeaturizer
from ..clip._checkpoint import hub_repository, is_published
from ._markdown import escaped, table

REPOSITORY = "OWNER/NAME"  # until it is known
TAGS = ["skcandle", "clip", "few-shot", "long-tailed", "zero-shot"]
LIBRARIES = ["scikit-learn", "torch", "open_clip_torch", "numpy", "skops", "huggingface_hub"]
FEW_IMAGES = 3
MOST_ROWS = 30  # of a table that is not folded
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
        Its first lines are the metadata of the Hub.
    """
    from skops.card import Card

    for name, text in (("license", license), ("description", description)):
        if not isinstance(text, str | None):
            raise TypeError(f"{name} is {text!r}; it is a string.")
    candle, source = pipe["candle"], _source(pipe["clip"])
    title = f"Image classifier of {len(candle.classes_)} classes"
    card = Card(pipe, model_diagram=False, template=None)
    card.add(**{title: _summary(candle, source, description)})

    def add(section, text):
        card.add(**{f"{title}/{section}": text})

    def add_table(section, rows, header, text="", folded=False):
        key = f"{title}/{section}"
        card.add_table(description=text, folded=folded, **{key: table(header, rows)})
        card.select(key).title = section  # which skops sets to the whole key

    add("How to load it", _loading(source, isinstance(candle.text_encoder, CLIPFeaturizer)))
    header, rows = _classes(candle)
    add_table("Classes", rows, header, folded=len(rows) > MOST_ROWS)
    add("What the probabilities mean", _probabilities(candle))
    add("Intended use", _intended_use(candle))
    add("Limits", _limits(pipe))
    if metrics is None:
        add("Evaluation", "None was given. Measure it on your own images before you rely on it.")
    else:
        add_table("Evaluation", _checked(metrics), ["Metric", "Value"], "As given by the author.")
    add_table("Parameters", _parameters(pipe, source), ["Parameter", "Value"], folded=True)
    add_table("Versions", _versions(), ["Package", "Version"], "It was made with these.")
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
    if n_new:
        known += f", and {n_new} by {'its' if n_new == 1 else 'their'} name alone"
    text = (
        f"A `{type(candle).__name__}` of skcandle ([paper]({PAPER})) on embeddings of CLIP. It "
        f"knows {known}.\n\n{source.sentence}"
    )
    return text if description is None else f"{description.strip()}\n\n{text}"


class Source(NamedTuple):
    """Where the CLIP of a pipeline comes from."""

    sentence: str
    path: str | None = None  # name of the parameter that is a path on the author's machine


def _source(clip):
    name, tag = escaped(clip.model_name), escaped(clip.pretrained)
    scheme, separator, _ = clip.model_name.partition(":")
    if clip.model_name == BUNDLED_MODEL:
        return Source(
            f"Images are embedded by **{name}**, a small CLIP that comes with skcandle. It knows "
            "emoji and nothing else, and is meant for trying things out."
        )
    if scheme == "hf-hub":
        return Source(
            f"Images are embedded by **{name}**, which is downloaded from the Hugging Face Hub "
            "when it is first used. It is no part of this repository, and has a licence of its own."
        )
    if separator:
        return Source(
            "Images are embedded by a CLIP in a folder of the author, which is no part of this "
            "repository.",
            "model_name",
        )
    if clip.pretrained is None:
        return Source(
            f"Images are embedded by **{name}** of open_clip with random weights, which is of use "
            "in tests only."
        )
    if not is_published(clip.model_name, clip.pretrained):
        return Source(
            f"Images are embedded by **{name}** of open_clip with weights in a file of the author, "
            "which is no part of this repository.",
            "pretrained",
        )
    return Source(
        f"Images are embedded by **{name}** of open_clip with the weights **{tag}**, which are "
        "downloaded when they are first used. They are no part of this repository, and have a "
        "licence of their own."
    )


def load_line(repository):
    """The line of code that loads a repository."""
    return f'pipe = load_pipeline("{repository}")'


def _loading(source, has_own_encoder):
    lines = ["from skcandle.hub import load_pipeline", "", load_line(REPOSITORY)]
    if source.path:
        lines.append('path = "..."  # where you have the CLIP')
        lines.append(f"pipe.set_params(clip__{source.path}=path)")
        if has_own_encoder:
            lines.append(f"pipe.set_params(candle__text_encoder__{source.path}=path)")
    lines.append('labels, proba = pipe.top_k(["photo.jpg"], 3)')
    code = "\n".join(lines)
    return (
        f"```python\n{code}\n```\n\n"
        "`model.skops` is read by skops, as types of a fitted pipeline and those that skops "
        "trusts; no code of this repository is run."
    )


def _classes(candle):
    """Header and rows of the table; names are left out where the labels are their own names."""
    labels = candle.classes_.tolist()
    images = [
        "none, known by name" if is_new else f"{count:g}"
        for count, is_new in zip(candle.class_count_, candle.is_new_, strict=True)
    ]
    if candle.class_names_ is None or candle.class_names_ == labels:
        return ["Class", "Training images"], list(zip(labels, images, strict=True))
    names = [name if isinstance(name, str) else ", ".join(name) for name in candle.class_names_]
    return ["Class", "Name", "Training images"], list(zip(labels, names, images, strict=True))


def _probabilities(candle):
    text = (
        "`predict_proba` answers which of the classes above an image shows, and sums to one over "
        'them, those without training images included. It cannot say "none of these".'
    )
    if not isinstance(candle, CandleClassifier):
        return f"{text} It is the softmax of the published method and was not calibrated."
    if candle.temperature == "auto":
        text += " It was calibrated on held-out training images, and holds for images like those."
    else:
        text += f" Its temperature was set to {candle.temperature:g}, not calibrated."
    return f"{text} Classes count as {_frequencies(candle)}."


def _frequencies(candle):
    prior, margin = candle.class_prior, candle.margin
    if isinstance(prior, str) or prior is None and margin == 0:
        return "as frequent as in training"
    if prior is not None:
        return "as frequent as the parameter `class_prior` says"
    if margin == 1:
        return "equally frequent, however many training images they have"
    return f"as frequent as (n + 1) to the power of {1 - margin:g}, with n training images"


def _intended_use(candle):
    text = "Images that show one of the classes above, of the kind it was trained on."
    if candle.text_features_ is not None:
        text += ' Further classes are added by name: `pipe.add_classes(["..."])`.'
    return text


def _limits(pipe):
    candle = pipe["candle"]
    n_few = int(((candle.class_count_ < FEW_IMAGES) & ~candle.is_new_).sum())
    limits = [
        "An image of anything else gets one of these classes, too, maybe with a high probability.",
        "On images of another kind (another camera, drawings instead of photos) it is less "
        "accurate, and too confident.",
        "What CLIP mistakes or is prejudiced about, this is as well. It is not made for decisions "
        "about people.",
        "The file holds the names of the classes and class means of embeddings, no training "
        "images.",
    ]
    if n_few:
        limits.insert(
            1, f"Classes of fewer than {FEW_IMAGES} training images: {n_few}. Expect less."
        )
    if candle.is_new_.any():
        limits.insert(1, "A class without training images rests on what CLIP makes of its name.")
    return "\n".join(f"* {limit}" for limit in limits)


def _checked(metrics):
    if not isinstance(metrics, Mapping) or not metrics:
        raise TypeError(
            f"metrics is {metrics!r}; give a mapping of names to numbers, such as "
            "base_new_report(..., output_dict=True)."
        )
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, Real):
            raise TypeError(f"metrics has {name!r}: {value!r}; it maps names to numbers.")
    return [[name.replace("_", " "), f"{float(value):.4g}"] for name, value in metrics.items()]


def _parameters(pipe, source):
    clip, candle = (step.get_params(deep=False) for step in (pipe["clip"], pipe["candle"]))
    if pipe["clip"].model_name == BUNDLED_MODEL or ":" in pipe["clip"].model_name:
        del clip["pretrained"]  # it has no meaning there
    if source.path:
        clip[source.path] = "a path of the author"
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
    clip, encoder = pipe["clip"], pipe["candle"].text_encoder
    if encoder is None:
        return "None: names are not used"
    if not isinstance(encoder, CLIPFeaturizer):
        return "'auto'" if isinstance(encoder, str) else "vectors"
    same = (encoder.model_name, encoder.pretrained) == (clip.model_name, clip.pretrained)
    return "the same model" if same else "another model"


def _versions():
    return [
        ["skcandle", _version.__version__],
        ["Python", python_version()],
        *([library, version(library)] for library in LIBRARIES),
    ]
