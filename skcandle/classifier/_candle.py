"""The default classifier: Candle with a closed-form start and joint logits that are calibrated."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from .._devices import resolve_device
from .._sklearn_private import Interval, StrOptions, fit_context
from .._typing import ClassNames, Labels, RandomState, TextEncoder
from ._base import BaseCandle
from ._logit_weights import (
    CLIP_TEMPERATURE,
    DEFAULT_PROTOTYPE_WEIGHT,
    IMAGE_ONLY_TEMPERATURE,
    LogitWeights,
    fit_logit_weights,
)
from ._model import CandleModel
from ._projection import train_projection
from ._prototypes import fit_prototypes
from ._pseudo_new import effective_size, leave_one_out_split, pseudo_new_splits


class CandleClassifier(BaseCandle):
    r"""Few-shot, long-tailed classification of CLIP embeddings, with classes known by name only.

    Images of *base* classes train the classifier; *new* classes have a name and no image. One
    `predict` answers with either kind, and `predict_proba` covers both.

    Every class has a text feature and a visual prototype. The prototype of a base class is its
    mean image, shrunk towards a guess from the text the more, the fewer images there are; the
    prototype of a new class is that guess alone. A shared projection of images and prototypes
    is then trained with the compensating logit-adjusted loss, held near its start, and added to
    CLIP's zero-shot similarities. How much each part counts, and how far base and new classes
    have to be moved against each other, is estimated from the training images by treating some
    base classes as if they were new.

    Parameters
    ----------
    new_classes : list of str or int, default=None
        Labels without images, of the same type as the labels in `y`. None adds no class.

    class_names : list of str or mapping, default=None
        Names that fill the prompt templates, and the label universe: each label listed here
        without images is a new class. With integer labels, entry i names label i (the
        convention of ``torchvision.datasets.ImageFolder``); a mapping goes from label to name.
        None takes string labels as their own names.

    text_encoder : "auto", None, CLIPFeaturizer, callable or mapping, default="auto"
        Makes the text features. They must come from the model that made `X`.

        * ``"auto"`` takes the text tower of the default :class:`CLIPFeaturizer` if `X` has its
          width; otherwise it warns, and learns from images alone;
        * a :class:`CLIPFeaturizer`, or anything with ``encode_text(prompts)``;
        * a callable that takes a list of prompts and returns an array of shape
          (n_prompts, n_features);
        * a mapping of label to vector, which is used without any template;
        * None learns from images alone: no new classes, a shrunk discriminant analysis. Then
          `shrinkage` is estimated, and `prototype_weight` and `base_offset` have no effect.

        :func:`make_candle_pipeline` sets this and the featurizer from one name.

    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}``. Text features are averaged over several.

    temperature : "auto" or float, default="auto"
        Softmax temperature, in (0, inf): similarities are divided by it. A lower one makes
        probabilities more extreme and lets the loss attend to the hardest images. ``"auto"``
        estimates it on held-out training images, starting from 0.01, which is CLIP's own (from
        1 without text); a number is used as it is.

    margin : float, default=1.0
        Strength of the logit adjustment, in [0, inf); the paper's tau. 1 answers as if all
        classes were equally frequent, 0 as if they were as frequent as in training, values
        between as if frequencies were between, and above 1 rare and new classes are favoured.

    shrinkage : float, default=2.0
        How many images the guess from the text is worth, in [0, inf). 0 takes class means as
        they are.

    prototype_weight : "auto" or float, default="auto"
        Weight of the image-to-prototype similarity, next to a weight of one of the
        image-to-text similarity, in [0, inf). ``"auto"`` estimates it, and a bonus for classes
        with many images.

    base_offset : "auto" or float, default="auto"
        What is taken off the logits of base classes: all of it where a class has many images,
        half of it at half an image. Larger values answer with new classes more often.
        ``"auto"`` balances both on pseudo-new classes.

    penalty : float, default=100.0
        Strength of the pull of the projection towards its start, the identity, in [0, inf),
        against a loss that is summed over images: many images move it further than few.

    max_iter : int, default=20
        L-BFGS iterations of the projection, at most. 0 keeps the closed-form start.

    device : str or torch.device, default="auto"
        Where training and prediction run. ``"auto"`` takes CUDA where it is available.

    random_state : int, RandomState instance or None, default=None
        Draws which classes are treated as new together. None takes a fixed design, so that
        every call gives the same result; other values show how much depends on the design.

    verbose : int, default=0
        If positive, a progress bar shows the objective.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels, base and new.

    is_new_ : ndarray of shape (n_classes,) of bool
        Which classes had no image.

    class_count_ : ndarray of shape (n_classes,)
        Images of each class, as sums of `sample_weight`.

    text_features_ : ndarray of shape (n_classes, n_features) or None
        Unit rows.

    prototypes_ : ndarray of shape (n_classes, n_features)
        Visual prototypes in the space of `X`, before projection; virtual ones for new classes.

    temperature_ : float
        Softmax temperature in use.

    prototype_weight_ : float
        Weight of the image-to-prototype similarity.

    count_bonus_ : float
        What the weight of a prototype gains with the images of its class: all of it with many
        images, half of it with four.

    base_offset_ : float
        What is taken off the logits of base classes.

    n_iter_ : int
        Iterations of training.

    loss_curve_ : list of float
        Objective per sample at each evaluation. Line searches may evaluate more than once per
        iteration.

    n_features_in_ : int
        Width of `X`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names of `X`, if it has string ones.

    See Also
    --------
    PublishedCandleClassifier : The method as published, for comparison.
    CLIPFeaturizer : Makes embeddings of images.
    make_candle_pipeline : Both in a pipeline, from one name.

    Notes
    -----
    The logit of class `k` with :math:`n_k` images is

    .. math::

        s_k(x) = \frac{z_k(x) + (b + c\, \rho_4(n_k))\, v_k(x)}{T} - g\, \rho_{1/2}(n_k)
                 + (1 - m) \log \pi_k

    with the similarities `z` to its text and `v` to its prototype, :math:`\rho_h(n) = n / (n +
    h)`, the temperature `T`, the margin `m`, :math:`\pi_k \propto n_k + 1`, and the weights `b`,
    `c` and `g` (`prototype_weight_`, `count_bonus_`, `base_offset_`). The loss is
    :math:`-\log [\pi_y^m e^{s_y} / \sum_k \pi_k^m e^{s_k}]` (compensating logit adjustment,
    [1]_). Trained to the end, its logits are those of a world in which class `k` is as frequent
    as :math:`\pi_k^{1 - m}` [2]_; as training is held near its start, that prior is part of the
    logits from the outset.

    Where this class leaves the paper, it does so because the published head almost never
    answers with a new class when base classes are among the candidates.

    Computation is in the precision of `X`: float64 stays float64.

    References
    ----------
    .. [1] J.-X. Shi, C. Zhang, T. Wei, Y.-F. Li: "Efficient and Long-Tailed Generalization for
       Pre-trained Vision-Language Model", KDD 2024. arXiv:2406.12638.
    .. [2] A. K. Menon et al.: "Long-tail learning via logit adjustment", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import CandleClassifier
    >>> rng = np.random.default_rng(0)
    >>> names = ["ant", "bee", "cat", "dog", "elk"]
    >>> text = dict(zip(names, rng.normal(size=(5, 16))))
    >>> y = np.repeat(names[:4], [20, 10, 5, 2])   # no image of an elk
    >>> X = np.stack([text[name] for name in y]) + rng.normal(size=(37, 16))
    >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text, random_state=0)
    >>> clf.fit(X, y).predict([text["ant"], text["elk"]])
    array(['ant', 'elk'], dtype='<U3')
    >>> clf.classes_[clf.is_new_]
    array(['elk'], dtype='<U3')
    """

    _parameter_constraints = {
        **BaseCandle._parameter_constraints,
        "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "shrinkage": [Interval(Real, 0, None, closed="left")],
        "prototype_weight": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "base_offset": [StrOptions({"auto"}), Interval(Real, None, None, closed="neither")],
        "penalty": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        new_classes: Sequence[Any] | None = None,
        class_names: ClassNames = None,
        text_encoder: TextEncoder = "auto",
        templates: str | Sequence[str] = "a photo of a {}.",
        temperature: str | float = "auto",
        margin: float = 1.0,
        shrinkage: float = 2.0,
        prototype_weight: str | float = "auto",
        base_offset: str | float = "auto",
        penalty: float = 100.0,
        max_iter: int = 20,
        device: str | torch.device = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.new_classes = new_classes
        self.class_names = class_names
        self.text_encoder = text_encoder
        self.templates = templates
        self.temperature = temperature
        self.margin = margin
        self.shrinkage = shrinkage
        self.prototype_weight = prototype_weight
        self.base_offset = base_offset
        self.penalty = penalty
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: Labels, sample_weight: ArrayLike | None = None
    ) -> "CandleClassifier":
        """Learn from embeddings of base classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            CLIP embeddings of images; with text, only their direction matters.
            Rows of NaN, images that could not be read, are left out with a warning.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            An image of weight 2 counts as two images; weight 0 leaves it out.

        Returns
        -------
        self : CandleClassifier
            Fitted estimator.
        """
        device = resolve_device(self.device)
        data, universe, text_encoder = self._check_training_set(X, y, sample_weight)
        weights = self._estimate_logit_weights(data)
        space = fit_prototypes(data, float(self.shrinkage))
        with self._progress(self.max_iter) as report:
            projection, self.loss_curve_, self.n_iter_ = train_projection(
                data,
                space,
                weights,
                penalty=float(self.penalty),
                max_iter=self.max_iter,
                device=device,
                callback=report,
            )
        self.temperature_ = weights.temperature
        self.prototype_weight_ = weights.prototype_weight
        self.count_bonus_ = weights.count_bonus
        self.base_offset_ = weights.base_offset
        self._text_encoder = text_encoder
        self._model = CandleModel(
            space.without_statistics(), data.text_features, projection, weights, float(self.margin)
        )
        self._set_classes(universe, np.arange(data.n_classes))
        return self

    def _estimate_logit_weights(self, data):
        """Weights of the joint logits: given, or estimated on pseudo-new splits."""
        has_text = data.text_features is not None
        start = {
            "temperature": CLIP_TEMPERATURE if has_text else IMAGE_ONLY_TEMPERATURE,
            "prototype_weight": DEFAULT_PROTOTYPE_WEIGHT,
            "base_offset": 0.0,
        }
        given = {name: getattr(self, name) for name in start}
        given = {name: float(value) for name, value in given.items() if value != "auto"}
        if not has_text:  # prototypes are all there is, and no class is new
            given |= {"prototype_weight": 1.0, "base_offset": 0.0}
        weights = LogitWeights(**(start | given))
        if len(given) == len(start):
            return weights
        some_are_new = len(np.unique(data.y)) < data.n_classes
        hidden = []
        if some_are_new or "base_offset" not in given:
            hidden = pseudo_new_splits(data, float(self.shrinkage), self._generator())
        splits = hidden if some_are_new else [leave_one_out_split(data, float(self.shrinkage))]
        return fit_logit_weights(splits, hidden, weights, effective_size(data), fixed=given)

    def _generator(self):
        if self.random_state is None:
            return None
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
