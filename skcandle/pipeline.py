"""Images to classes in one pipeline, from one name."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from ._documentation import DocumentedMixin
from ._earlier_fit import keeps_an_earlier_fit
from ._typing import ClassNames, ClassPrior, Images, Labels, Path, RandomState
from .classifier import CandleClassifier
from .clip import CLIPFeaturizer, EmbeddingCache

if TYPE_CHECKING:
    import torch

__all__ = ["CandlePipeline", "make_candle_pipeline"]


def _last_step_has(method):
    def check(pipeline):
        getattr(pipeline.steps[-1][1], method)  # or its AttributeError
        return True

    return available_if(check)


class CandlePipeline(DocumentedMixin, Pipeline):
    """A scikit-learn pipeline with the methods of its classifier, such as ``add_classes``.

    In all other respects it is a :class:`~sklearn.pipeline.Pipeline`. :func:`make_candle_pipeline`
    returns one. ``CandlePipeline(pipe.steps)`` converts any other pipeline, fitted or not. A method
    exists only if the last step has it.

    Parameters
    ----------
    steps : list of tuple of str and estimator
        Names and estimators. The last step is a :class:`CandleClassifier`, or another classifier
        with some of its methods.

    transform_input : list of str, default=None
        See :class:`~sklearn.pipeline.Pipeline`.

    memory : str or object with the interface of joblib.Memory, default=None
        See :class:`~sklearn.pipeline.Pipeline`. Embeddings have their own cache.

    verbose : bool, default=False
        Whether to print the time of each step.

    See Also
    --------
    make_candle_pipeline : Makes a pipeline from the name of a model.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> emoji = load_emoji()
    >>> def images_of(name):
    ...     return [emoji.images[i] for i in np.flatnonzero(emoji.target == name)]
    >>> apples, lemons = images_of("apple"), images_of("lemon")
    >>> y = ["apple"] * len(apples) + ["lemon"] * len(lemons)
    >>> pipe = make_candle_pipeline("emoji-clip").fit(apples + lemons, y)
    >>> pipe = pipe.add_classes(["strawberry"])
    >>> pipe = pipe.add_images(images_of("pizza")[:1], ["pizza"])
    >>> pipe.top_k(images_of("strawberry")[:1], 1)[0]
    array([['strawberry']], dtype='<U10')
    """

    @keeps_an_earlier_fit
    def fit(self, X: Images, y: Labels = None, **params: Any) -> "CandlePipeline":
        """Fit the steps. After an error, all steps are as they were before.

        Parameters
        ----------
        X : images
            Input of the first step. Without images, ``fit([], [])`` learns from names alone, see
            :meth:`CandleClassifier.fit`.
        y : array-like of shape (n_samples,)
            Labels.
        **params : dict
            For example ``candle__sample_weight``, see :meth:`sklearn.pipeline.Pipeline.fit`.

        Returns
        -------
        self : CandlePipeline
            Fitted pipeline.
        """
        return super().fit(X, y, **params)

    @_last_step_has("add_classes")
    def add_classes(self, names: Sequence[str] | Mapping[str, Any]) -> "CandlePipeline":
        """Return a fitted copy with more classes, which are known by name only.

        Parameters
        ----------
        names : list of str or mapping
            See :meth:`CandleClassifier.add_classes`.

        Returns
        -------
        pipeline : CandlePipeline
            It shares the steps before the classifier.
        """
        return self._with_last(self.steps[-1][1].add_classes(names))

    @_last_step_has("add_images")
    def add_images(
        self, X: Images, y: Labels, sample_weight: ArrayLike | None = None
    ) -> "CandlePipeline":
        """Return a fitted copy that has learned from more images.

        Parameters
        ----------
        X : images
            The new images only, in any form that the pipeline accepts.
        y : array-like of shape (n_samples,)
            Labels, see :meth:`CandleClassifier.add_images`.
        sample_weight : array-like of shape (n_samples,), default=None
            An image of weight 2 counts as two images.

        Returns
        -------
        pipeline : CandlePipeline
            It shares the steps before the classifier.
        """
        return self._with_last(self.steps[-1][1].add_images(self._embed(X), y, sample_weight))

    @_last_step_has("add_unlabeled")
    def add_unlabeled(self, X: Images, sample_weight: ArrayLike | None = None) -> "CandlePipeline":
        """Return a fitted copy that has learned from images without labels.

        Parameters
        ----------
        X : images
            In any form that the pipeline accepts; for example those that one wants sorted.
        sample_weight : array-like of shape (n_samples,), default=None
            Relative weights of the images, see :meth:`CandleClassifier.add_unlabeled`.

        Returns
        -------
        pipeline : CandlePipeline
            It shares the steps before the classifier.
        """
        return self._with_last(self.steps[-1][1].add_unlabeled(self._embed(X), sample_weight))

    @_last_step_has("restrict")
    def restrict(self, labels: Labels) -> "CandlePipeline":
        """Return a fitted view that answers with some of the classes only.

        Parameters
        ----------
        labels : array-like
            Labels from `classes_`, or a boolean mask of them.

        Returns
        -------
        pipeline : CandlePipeline
            It shares the fitted state.
        """
        return self._with_last(self.steps[-1][1].restrict(labels))

    @_last_step_has("with_prior")
    def with_prior(self, prior: ClassPrior) -> "CandlePipeline":
        """Return a fitted view for other frequencies of the classes.

        Parameters
        ----------
        prior : None, "training", array-like of shape (n_classes,) or mapping
            See :meth:`CandleClassifier.with_prior`.

        Returns
        -------
        pipeline : CandlePipeline
            It shares the fitted state.
        """
        return self._with_last(self.steps[-1][1].with_prior(prior))

    @_last_step_has("top_k")
    def top_k(self, X: Images, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable classes of each image, and their probabilities.

        Parameters
        ----------
        X : images
            Images in any form that the pipeline accepts.
        k : int
            Number of classes to return, from 1 to the number of `classes_`.

        Returns
        -------
        labels : ndarray of shape (n_samples, k)
            Most probable class first.
        proba : ndarray of shape (n_samples, k)
            Their probabilities among all classes.
        """
        return self.steps[-1][1].top_k(self._embed(X), k)

    @_last_step_has("predict_set")
    def predict_set(self, X: Images, confidence_level: float = 0.9) -> np.ndarray:
        """Predict sets of classes that contain the correct one with a given probability.

        Parameters
        ----------
        X : images
            Images in any form that the pipeline accepts.
        confidence_level : float, default=0.9
            Share of images, in (0, 1), whose set should contain their class.

        Returns
        -------
        sets : ndarray of shape (n_samples, n_classes) of bool
            Columns follow `classes_`, see :meth:`CandleClassifier.predict_set`.
        """
        return self.steps[-1][1].predict_set(self._embed(X), confidence_level)

    @_last_step_has("choose_to_label")
    def choose_to_label(self, X: Images, n_images: int) -> np.ndarray:
        """Choose the images whose labels would help most.

        Parameters
        ----------
        X : images
            Images without labels, in any form that the pipeline accepts.
        n_images : int
            Number of images to choose, from 1 to n_samples.

        Returns
        -------
        indices : ndarray of shape (n_images,)
            Positions in `X`, see :meth:`CandleClassifier.choose_to_label`.
        """
        return self.steps[-1][1].choose_to_label(self._embed(X), n_images)

    @_last_step_has("novelty_score")
    def novelty_score(
        self, X: Images, *, return_is_new: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Score how little images look like any class.

        Parameters
        ----------
        X : images
            Images in any form that the pipeline accepts.
        return_is_new : bool, default=False
            Whether to return `is_new` as well.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Higher for images that look less like any class, see
            :meth:`CandleClassifier.novelty_score`.
        is_new : ndarray of shape (n_samples,) of bool
            Which of the :meth:`novelty_thresholds` applies: False for the first, True for the
            second.
        """
        last = self.steps[-1][1]
        return last.novelty_score(self._embed(X), return_is_new=return_is_new)

    @_last_step_has("novelty_thresholds")
    def novelty_thresholds(self, rejection_rate: float = 0.05) -> np.ndarray:
        """Novelty scores above which images may be rejected.

        Parameters
        ----------
        rejection_rate : float, default=0.05
            Share of images of listed classes, in (0, 1), whose score exceeds the threshold.

        Returns
        -------
        thresholds : ndarray of shape (2,)
            For answers with base classes, and with new classes; see
            :meth:`CandleClassifier.novelty_thresholds`.
        """
        return self.steps[-1][1].novelty_thresholds(rejection_rate)

    def _embed(self, X):
        return self[:-1].transform(X) if len(self.steps) > 1 else X

    def _with_last(self, classifier):
        pipeline = copy(self)
        pipeline.steps = [*self.steps[:-1], (self.steps[-1][0], classifier)]
        return pipeline


def make_candle_pipeline(
    model_name: str = "ViT-B-16-quickgelu",
    pretrained: Path | None = "openai",
    *,
    new_classes: Sequence[Any] | None = None,
    class_names: ClassNames = None,
    templates: str | Sequence[str] = "a photo of a {}.",
    temperature: str | float = "auto",
    margin: float = 1.0,
    batch_size: int | str = "auto",
    device: "str | torch.device" = "auto",
    cache: Path | EmbeddingCache | None = None,
    n_jobs: int | None = None,
    on_error: str = "raise",
    random_state: RandomState = None,
    verbose: int = 0,
) -> CandlePipeline:
    """Make a pipeline from images to base and new classes, with one CLIP for images and names.

    The steps are ``"clip"``, a :class:`CLIPFeaturizer`, and ``"candle"``, a
    :class:`CandleClassifier` whose `text_encoder` is a :class:`CLIPFeaturizer` with the same
    settings. Set other parameters by their names in the pipeline, for example
    ``pipe.set_params(candle__shrinkage=2, clip__precision="bf16")``.

    Parameters
    ----------
    model_name : str, default="ViT-B-16-quickgelu"
        Model of both steps, see :class:`CLIPFeaturizer`. ``"emoji-clip"`` is included in the
        package.

    pretrained : str, path-like or None, default="openai"
        Weights of both steps. For models that include their weights, such as ``"emoji-clip"``,
        leave the default.

    new_classes : list of str or int, default=None
        Labels without images, see :class:`CandleClassifier`.

    class_names : list of str or mapping, default=None
        Names of the labels, and the label universe, see :class:`CandleClassifier`.

    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}`` for the name of a class. Names are read as words:
        "ice_cream", "ice-cream" and "IceCream" as "ice cream". See
        :data:`skcandle.datasets.TEMPLATES`.

    temperature : "auto" or float, default="auto"
        Softmax temperature, in [1e-6, 1e6], see :class:`CandleClassifier`.

    margin : float, default=1.0
        Strength of the logit adjustment, in [0, 1e6], see :class:`CandleClassifier`.

    batch_size : int or "auto", default="auto"
        Number of images or prompts per forward pass of CLIP, see :class:`CLIPFeaturizer`.

    device : str or torch.device, default="auto"
        Device of CLIP and of the classifier.

    cache : None or path-like, default=None
        Cache of the embeddings, see :class:`CLIPFeaturizer`.

    n_jobs : int or None, default=None
        Number of threads that read images, see :class:`CLIPFeaturizer`.

    on_error : {"raise", "nan"}, default="raise"
        What to do about images that cannot be read, see :class:`CLIPFeaturizer`. With ``"nan"``,
        they are left out of the fit, and predictions for them are the missing answer.

    random_state : int, RandomState instance or None, default=None
        See :class:`CandleClassifier`.

    verbose : int, default=0
        If positive, progress bars are shown.

    Returns
    -------
    pipeline : CandlePipeline
        A :class:`~sklearn.pipeline.Pipeline` that accepts the same images as
        :meth:`CLIPFeaturizer.transform`: paths, PIL images, bytes or arrays.

    Notes
    -----
    For the method as published, replace the classifier::

        encoder = pipe["candle"].text_encoder
        pipe.set_params(candle=PublishedCandleClassifier(text_encoder=encoder))

    Images and names must be encoded by the same model, but `clone`, and so every search, copies
    the two encoders separately. A search over models therefore sets both::

        clips = [CLIPFeaturizer("ViT-B-16-quickgelu"), CLIPFeaturizer("ViT-L-14-quickgelu")]
        param_grid = [{"clip": [clip], "candle__text_encoder": [clip]} for clip in clips]

    If only one is set, `fit` raises an error that names both widths. If the widths are equal, it
    warns that zero-shot predictions are no better than guessing.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import make_candle_pipeline
    >>> from skcandle.datasets import load_emoji
    >>> emoji = load_emoji()
    >>> fruit = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    >>> pipe = make_candle_pipeline("emoji-clip", new_classes=["strawberry"], random_state=0)
    >>> pipe.fit([emoji.images[i] for i in fruit], emoji.target[fruit]).classes_.tolist()
    ['apple', 'lemon', 'strawberry']
    >>> berries = [emoji.images[i] for i in np.flatnonzero(emoji.target == "strawberry")]
    >>> pipe.predict(berries).tolist()
    ['strawberry', 'strawberry', 'strawberry']
    """
    clip = CLIPFeaturizer(
        model_name,
        pretrained,
        batch_size=batch_size,
        device=device,
        cache=cache,
        n_jobs=n_jobs,
        on_error=on_error,
        verbose=verbose,
    )
    candle = CandleClassifier(
        new_classes=new_classes,
        class_names=class_names,
        text_encoder=clone(clip),
        templates=templates,
        temperature=temperature,
        margin=margin,
        device=device,
        random_state=random_state,
        verbose=verbose,
    )
    return CandlePipeline([("clip", clip), ("candle", candle)])
