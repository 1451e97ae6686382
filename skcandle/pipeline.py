"""Images to classes in one pipeline, from one name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ._typing import ClassNames, Path, RandomState
from .classifier import CandleClassifier, PublishedCandleClassifier
from .clip import CLIPFeaturizer, EmbeddingCache

if TYPE_CHECKING:
    import torch

__all__ = ["make_candle_pipeline"]


def make_candle_pipeline(
    model_name: str = "ViT-B-16-quickgelu",
    pretrained: Path | None = "openai",
    *,
    new_classes: Sequence[Any] | None = None,
    class_names: ClassNames = None,
    templates: str | Sequence[str] = "a photo of a {}.",
    temperature: str | float = "auto",
    margin: float = 1.0,
    published: bool = False,
    batch_size: int = 64,
    device: "str | torch.device" = "auto",
    cache: Path | EmbeddingCache | None = None,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    verbose: int = 0,
) -> Pipeline:
    """Pipeline from images to base and new classes, with one CLIP for images and names.

    The steps are ``"clip"``, a :class:`CLIPFeaturizer`, and ``"candle"``, a
    :class:`CandleClassifier` or a :class:`PublishedCandleClassifier`, whose `text_encoder` is a
    :class:`CLIPFeaturizer` of the same settings. What has no parameter here is set by its name
    in the pipeline, for example ``pipe.set_params(candle__shrinkage=2, clip__precision="bf16")``.

    Parameters
    ----------
    model_name : str, default="ViT-B-16-quickgelu"
        Model of both steps, see :class:`CLIPFeaturizer`. ``"emoji-clip"`` comes with the
        package.

    pretrained : str, path-like or None, default="openai"
        Weights of both steps. Names that come with their own weights, such as
        ``"emoji-clip"``, need none: leave the default.

    new_classes : list of str or int, default=None
        Labels without images, see :class:`CandleClassifier`.

    class_names : list of str or mapping, default=None
        Names of the labels, and the label universe, see :class:`CandleClassifier`.

    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}``, which the name of a class fills, read as words:
        "ice_cream" and "ice-cream" as "ice cream". See :data:`skcandle.datasets.TEMPLATES`.

    temperature : "auto" or float, default="auto"
        Softmax temperature, in (0, inf). ``"auto"`` leaves it to the classifier:
        :class:`CandleClassifier` estimates it, :class:`PublishedCandleClassifier` takes 0.01.

    margin : float, default=1.0
        Strength of the logit adjustment, in [0, inf), see :class:`CandleClassifier`.

    published : bool, default=False
        Whether the classifier is a :class:`PublishedCandleClassifier`, the method as published.

    batch_size : int, default=64
        Images, or prompts, per forward pass of CLIP.

    device : str or torch.device, default="auto"
        Where CLIP and the classifier run.

    cache : None or path-like, default=None
        Cache of the embeddings, see :class:`CLIPFeaturizer`.

    n_jobs : int or None, default=None
        Threads that read images, see :class:`CLIPFeaturizer`.

    random_state : int, RandomState instance or None, default=None
        See the classifiers.

    verbose : int, default=0
        If positive, progress bars.

    Returns
    -------
    pipeline : :class:`~sklearn.pipeline.Pipeline`
        Takes what :meth:`CLIPFeaturizer.transform` takes: paths, PIL images, bytes or arrays.

    Notes
    -----
    Images and names have to meet in one space, and `clone`, hence every search, copies the two
    encoders apart. A search over models therefore sets both::

        clips = [CLIPFeaturizer("ViT-B-16-quickgelu"), CLIPFeaturizer("ViT-L-14-quickgelu")]
        param_grid = [{"clip": [clip], "candle__text_encoder": [clip]} for clip in clips]

    If only one is set, `fit` raises an error that names both widths, or, for models of equal
    width, warns that zero-shot predictions are no better than guessing.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> emoji = load_emoji()
    >>> fruit = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    >>> pipe = make_candle_pipeline("emoji-clip", new_classes=["strawberry"], random_state=0)
    >>> pipe.fit([emoji.images[i] for i in fruit], emoji.target[fruit]).classes_
    array(['apple', 'lemon', 'strawberry'], dtype='<U10')
    >>> pipe.predict([emoji.images[i] for i in np.flatnonzero(emoji.target == "strawberry")])
    array(['strawberry', 'strawberry', 'strawberry'], dtype='<U10')
    """
    clip = CLIPFeaturizer(
        model_name,
        pretrained,
        batch_size=batch_size,
        device=device,
        cache=cache,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    classifier = PublishedCandleClassifier if published else CandleClassifier
    candle = classifier(
        new_classes=new_classes,
        class_names=class_names,
        text_encoder=clone(clip),
        templates=templates,
        margin=margin,
        device=device,
        random_state=random_state,
        verbose=verbose,
    )
    if temperature != "auto":
        candle.set_params(temperature=temperature)
    return Pipeline([("clip", clip), ("candle", candle)])
