"""The classifier from CLIP embeddings to base and new classes."""

from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from tqdm.auto import tqdm

from .._devices import resolve_device
from .._labels import check_label_types
from .._persistence import VersionedStateMixin
from .._warnings import warn_user
from ._base import LabelSpaceMixin, refuse_images
from ._candle import Settings, TrainingSet, fit_anchored
from ._published import fit_published
from ._text_features import warn_at_chance
from ._universe import label_universe

# Logits of one block of rows at prediction; bounds the memory.
BLOCK_LOGITS = 2**20


class CandleClassifier(LabelSpaceMixin, ClassifierMixin, VersionedStateMixin, BaseEstimator):
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
        Source of the text features. They must come from the model that made `X`.

        * ``"auto"`` takes the text tower of the default :class:`CLIPFeaturizer` if `X` has its
          width; otherwise it warns, and learns from images alone;
        * a :class:`CLIPFeaturizer`, or anything with ``encode_text(prompts)``;
        * a callable that takes a list of prompts and returns an array of shape
          (n_prompts, n_features);
        * a mapping of label to vector, which is used without any template;
        * None learns from images alone: no new classes, a shrunk discriminant analysis.

        :func:`make_candle_pipeline` sets this and the featurizer from one name.

    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}``. Text features are averaged over several.

    temperature : float, default=0.01
        Softmax temperature of the similarities, in (0, inf). CLIP's own is 1/100. A lower one
        makes the loss attend to the hardest images, and the zero-shot part more confident.

    margin : float, default=1.0
        Strength of the logit adjustment in the loss, in [0, inf); the paper's tau. 0 trains
        with plain cross-entropy and favours frequent classes.

    shrinkage : float, default=2.0
        How many images the guess from the text is worth, in [0, inf). 0 takes class means as
        they are.

    prototype_weight : "auto" or float, default="auto"
        Weight of the image-to-prototype similarity, next to a weight of one of the
        image-to-text similarity, in [0, inf). ``"auto"`` estimates it and the scale of both.

    base_offset : "auto" or float, default="auto"
        What is taken off the logits of base classes at prediction: all of it where a class has
        many images, half of it at half an image. Larger values answer with new classes more
        often. ``"auto"`` balances both on pseudo-new classes.

    anchor : float, default=100.0
        Strength of the pull towards the closed-form start, in [0, inf), against a loss that is
        summed over images: many images move the head further than few.

    attention : bool, default=False
        Whether image and class tokens go through cross-modal attention.

    head : {"anchored", "published"}, default="anchored"
        ``"published"`` is the method of the paper without the changes above; see :meth:`paper`.

    max_iter : int, default=20
        L-BFGS iterations (``head="anchored"``; 0 keeps the closed-form start) or epochs.

    learning_rate : float, default=3e-4
        Initial rate of SGD. Only used if ``head="published"``.

    batch_size : int, default=1024
        Rows processed at a time. With ``head="anchored"`` it bounds memory and has no effect on
        the result; with ``head="published"`` it is the size of the mini-batches.

    device : str or torch.device, default="auto"
        Where training and prediction run. ``"auto"`` takes CUDA where it is available.

    random_state : int, RandomState instance or None, default=None
        Determines the pseudo-new classes, the start of the attention, and the order of
        mini-batches. Pass an int for the same result in every call.

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

    logit_weights_ : dict of str to float
        With ``head="anchored"``: the weights ``zero_shot``, ``prototype``, ``reliability`` and
        ``base_offset`` that make up the joint logits.

    n_iter_ : int
        Iterations (epochs) of training.

    loss_curve_ : list of float
        Objective per sample at each evaluation (epoch). Line searches may evaluate more than
        once per iteration.

    n_features_in_ : int
        Width of `X`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names of `X`, if it has string ones.

    See Also
    --------
    CLIPFeaturizer : Makes embeddings of images.
    make_candle_pipeline : Both in a pipeline, from one name.

    Notes
    -----
    The loss is :math:`-\log [\pi_y^m e^{s_y} / \sum_k \pi_k^m e^{s_k}]` with
    :math:`\pi_k \propto n_k + 1` (compensating logit adjustment, [1]_). Where this class leaves
    the paper, it does so because the published head almost never answers with a new class when
    base classes are among the candidates.

    Computation is in the precision of `X`: float64 stays float64.

    References
    ----------
    .. [1] J.-X. Shi, C. Zhang, T. Wei, Y.-F. Li: "Efficient and Long-Tailed Generalization for
       Pre-trained Vision-Language Model", KDD 2024. arXiv:2406.12638.

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
        "new_classes": ["array-like", None],
        "class_names": ["array-like", Mapping, None],
        "text_encoder": [StrOptions({"auto"}), Mapping, HasMethods("encode_text"), callable, None],
        "templates": [str, "array-like"],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "shrinkage": [Interval(Real, 0, None, closed="left")],
        "prototype_weight": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "base_offset": [StrOptions({"auto"}), Interval(Real, None, None, closed="neither")],
        "anchor": [Interval(Real, 0, None, closed="left")],
        "attention": ["boolean"],
        "head": [StrOptions({"anchored", "published"})],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        new_classes=None,
        class_names=None,
        text_encoder="auto",
        templates="a photo of a {}.",
        temperature=0.01,
        margin=1.0,
        shrinkage=2.0,
        prototype_weight="auto",
        base_offset="auto",
        anchor=100.0,
        attention=False,
        head="anchored",
        max_iter=20,
        learning_rate=3e-4,
        batch_size=1024,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.new_classes = new_classes
        self.class_names = class_names
        self.text_encoder = text_encoder
        self.templates = templates
        self.temperature = temperature
        self.margin = margin
        self.shrinkage = shrinkage
        self.prototype_weight = prototype_weight
        self.base_offset = base_offset
        self.anchor = anchor
        self.attention = attention
        self.head = head
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def paper(cls, **overrides):
        """Return the method as published, for comparison.

        Class means and raw text features as prototypes, the three logit groups, SGD over
        mini-batches of 128 for 50 epochs, and prediction by the two groups after attention; no
        anchor, no offset, no calibration. One thing differs: images do not attend to other
        images of the batch, neither in training nor at prediction.

        Parameters
        ----------
        **overrides
            Parameters of :class:`CandleClassifier`.

        Returns
        -------
        classifier : CandleClassifier
        """
        published = {"head": "published", "attention": True, "max_iter": 50, "batch_size": 128}
        return cls(**(published | overrides))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Learn from embeddings of base classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            CLIP embeddings of images; with text, only their direction matters.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            An image of weight 2 counts as two images; weight 0 leaves it out.

        Returns
        -------
        self : CandleClassifier
            Fitted estimator.
        """
        check_label_types(y)
        refuse_images(X)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        if y.dtype.kind == "f":  # others are classes; of many with one image it would warn
            check_classification_targets(y)
        sample_weight = _check_sample_weight(
            sample_weight, X, dtype=X.dtype, ensure_non_negative=True
        )
        used = sample_weight > 0
        if not used.all():
            X, y, sample_weight = X[used], y[used], sample_weight[used]
        if len(y) == 0:
            raise ValueError("No sample has a positive weight; there is nothing to learn from.")
        device = resolve_device(self.device)
        seed = check_random_state(self.random_state).randint(2**31 - 1)

        classes, names = label_universe(y, self.new_classes, self.class_names)
        seen = np.unique(y)
        is_new = ~np.isin(classes, seen)
        named = set() if self.new_classes is None else set(np.asarray(self.new_classes).tolist())
        overlap = sorted(named.intersection(seen.tolist()))
        if overlap:
            warn_user(
                f"new_classes names {overlap[0]!r}, which has images in y; it is treated as a "
                "base class."
            )
        text_features = self._text_features(classes, names, is_new, X.shape[1])
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class, {classes.tolist()[0]!r}, and there are no new classes; at "
                "least two classes are needed. Name classes without images in new_classes."
            )
        if text_features is not None:
            text_features = text_features.astype(X.dtype)
            norms = np.linalg.norm(X, axis=1, keepdims=True)
            if not norms.all():
                raise ValueError(
                    f"Row {int(np.argmin(norms))} of X is all zeros; an embedding has a direction."
                )
            X = X / norms
        y = np.searchsorted(classes, y)
        data = TrainingSet(X, y, sample_weight, text_features, len(classes))
        warn_at_chance(data.X, data.y, data.text_features)
        self._model = self._fit_model(data, seed, device)

        self.classes_ = classes
        self.n_iter_ = self._model.n_iter
        self.loss_curve_ = self._model.losses
        self._set_class_attributes(np.arange(len(classes)))
        return self

    def decision_function(self, X):
        """Joint logits of base and new classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes) or (n_samples,)
            Columns follow `classes_`. With two classes, the logit of the second over the first.
        """
        return self._from_logits(X, _one_column_of_two)

    def predict_proba(self, X):
        """Probabilities of base and new classes, which sum to one.

        They refer to a world in which all classes are equally frequent, whatever their number
        of training images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns follow `classes_`.
        """
        return self._from_logits(X, partial(softmax, axis=1))

    def predict_log_proba(self, X):
        """Logarithm of :meth:`predict_proba`, without underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        return self._from_logits(X, partial(log_softmax, axis=1))

    def predict(self, X):
        """Most probable class, base or new, of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        best = self._from_logits(X, partial(np.argmax, axis=1))
        return self.classes_[best]

    def _fit_model(self, data, seed, device):
        settings = Settings(
            temperature=float(self.temperature),
            margin=float(self.margin),
            shrinkage=float(self.shrinkage),
            prototype_weight=_unless_auto(self.prototype_weight),
            base_offset=_unless_auto(self.base_offset),
            anchor=float(self.anchor),
            attention=bool(self.attention),
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            seed=seed,
        )
        progress = tqdm(
            total=self.max_iter, desc="CandleClassifier", disable=not self.verbose, leave=True
        )

        def report(iteration, loss):
            progress.update(1)
            progress.set_postfix_str(f"objective {loss:.4f}")

        with progress:
            if self.head == "published":
                return fit_published(
                    data,
                    settings,
                    learning_rate=self.learning_rate,
                    device=device,
                    callback=report,
                )
            return fit_anchored(data, settings, device=device, callback=report)

    def _from_logits(self, X, function):
        """`function` of the joint logits, one block of rows at a time.

        Besides `X` and the result, memory holds one block: `X` may be a memory map, and is
        converted to the precision of the model block by block.
        """
        check_is_fitted(self)
        refuse_images(X)
        X = validate_data(self, X, reset=False)
        predictor = self._model.predictor(resolve_device(self.device))
        dtype = self._model.image_prototypes.dtype
        n_rows = max(BLOCK_LOGITS // max(self._model.counts.size, X.shape[1]), 1)
        result = None
        for rows in gen_batches(len(X), n_rows):
            logits = predictor(np.ascontiguousarray(X[rows], dtype=dtype))[:, self._columns]
            part = function(logits)
            if result is None:
                result = np.empty((len(X), *part.shape[1:]), dtype=part.dtype)
            result[rows] = part
        return result


def _one_column_of_two(logits):
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def _unless_auto(value):
    return None if isinstance(value, str) else float(value)
