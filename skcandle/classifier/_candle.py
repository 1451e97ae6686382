"""The default classifier: Candle with a closed-form start and calibrated joint logits."""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .._devices import device_for, multiplications
from .._earlier_fit import keeps_an_earlier_fit
from .._embeddings import model_of
from .._sklearn_private import Interval, StrOptions, check_sample_weight, fit_context
from .._typing import ClassNames, ClassPrior, Labels, RandomState, TextEncoder
from ._active_learning import choose_rows
from ._base import BaseCandle
from ._held_out import HeldOutScores, fit_held_out_scores
from ._iterations import iterations, tells_callbacks
from ._model import CandleModel
from ._prior import log_prior_of_use, prior_of_use
from ._projection import train_projection
from ._prototypes import prototypes_of
from ._pseudo_new import balanced_rows, split_generator
from ._selective import SelectivePrediction
from ._single_images import MAX_IMAGES, SingleImages, fit_single_images
from ._statistics import ClassStatistics
from ._training_images import TrainingImages
from ._unlabeled import learn_from_unlabeled, model_of_names
from ._weight_estimation import estimate_logit_weights


class CandleClassifier(SelectivePrediction):
    r"""Few-shot, long-tailed classification of CLIP embeddings, with classes known by name only.

    The classifier is trained on images of *base* classes. *New* classes have a name and no image.
    `predict` answers with both kinds of classes, and `predict_proba` covers both.

    Every class has a text feature and a visual prototype. The prototype of a base class is the mean
    of its images, shrunk towards a guess from the text; the fewer the images, the stronger the
    shrinkage. The prototype of a new class is the guess alone. A shared projection of images and
    prototypes is trained with the compensating logit-adjusted loss, and kept near the identity.
    The similarities of images to prototypes are added to CLIP's zero-shot similarities. The weight
    of each part, and the offset between base and new classes, are estimated from the training
    images, by treating some base classes as if they were new. A class can look several ways, so
    images are also compared to the single training images; this decides among base classes only.

    Parameters
    ----------
    new_classes : list of str or int, default=None
        Labels without images, of the same type as the labels in `y`.

    class_names : list of str or mapping, default=None
        Names for the prompt templates, which also define the label universe: each label listed
        here that has no image is a new class. If labels are integers, entry i names label i (the
        convention of ``torchvision.datasets.ImageFolder``). A mapping maps labels to names; a
        string label that is not in it names itself. A name may be a list of synonyms, whose text
        features have equal weights. With None, string labels are their own names, and if `y` is a
        pandas Categorical, all its categories are the label universe.

    text_encoder : "auto", None, CLIPFeaturizer, callable or mapping, default="auto"
        Makes the text features. They must come from the model that made `X`.

        * ``"auto"``: the text tower of the default :class:`CLIPFeaturizer` if `X` has its width;
          otherwise there is a warning, and the classifier learns from images alone;
        * a :class:`CLIPFeaturizer`, or any object with a method ``encode_text(prompts)``;
        * a callable that takes a list of prompts and returns an array of shape
          (n_prompts, n_features);
        * a mapping of label to vector, which is used without any template;
        * None: the classifier learns from images alone, without new classes. It is then a shrunk
          discriminant analysis: `shrinkage` is estimated, and `prototype_weight` and `base_offset`
          have no effect. As lengths of rows matter then, values above 1e15 in float32 (1e120 in
          float64) are refused.

        :func:`make_candle_pipeline` sets this and the featurizer from one name.

    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}``. Text features are averaged over all templates.

    temperature : "auto" or float, default="auto"
        Softmax temperature, in [1e-6, 1e6]: similarities are divided by it. A lower temperature
        makes probabilities more extreme and concentrates the loss on the hardest images.
        ``"auto"`` estimates it on held-out training images, starting from 0.01, the temperature of
        CLIP (without text, from 1).

    margin : float, default=1.0
        Strength of the logit adjustment, in [0, 1e6]; the paper's tau. With 1, all classes are
        assumed to be equally frequent; with 0, as frequent as in training. Values between 0 and 1
        interpolate, and values above 1 favour rare and new classes. It has no effect if
        `class_prior` is set.

    class_prior : None, "training", array-like of shape (n_classes,) or mapping, default=None
        How frequent the classes are where the classifier is used.

        * None: `margin` decides;
        * ``"training"``: as in training, where a class of n images counts n + 1. This is the same
          as ``margin=0``;
        * an array of frequencies in the order of `classes_`;
        * a mapping of label to frequency, or a pandas Series whose index holds the labels. It must
          include every class, and may include others, for classes that are added later.

        Frequencies must not be negative and must sum to one. :meth:`with_prior` changes them after
        fit.

    shrinkage : float, default=2.0
        Number of images that the guess from the text counts as, in [0, 1e12]. With 0, class means
        are not shrunk.

    prototype_weight : "auto" or float, default="auto"
        Weight of the image-to-prototype similarity, in [0, 1e6]; the image-to-text similarity has
        a weight of one. ``"auto"`` estimates it, and a bonus for classes with many images.

    base_offset : "auto" or float, default="auto"
        Offset that is subtracted from the logits of base classes, in [-1e6, 1e6]: nearly all of it
        if a class has many images, and half of it at a total weight of half an image. With a larger
        offset, new classes are predicted more often. ``"auto"`` balances base and new classes on
        pseudo-new ones.

    single_image_weight : "auto" or float, default="auto"
        Weight of the comparison to single training images, in [0, 1e6]. ``"auto"`` estimates it. 0
        omits this comparison, and the classifier then keeps no images.

    penalty : float, default=100.0
        Strength of the penalty that keeps the projection near the identity, in [0, 1e12]. The loss
        is a sum over images, so many images move the projection further than few.

    max_iter : int, default=20
        Maximum number of L-BFGS iterations of the projection. With 0, it stays the identity.

    device : str or torch.device, default="auto"
        Device for training and prediction. ``"auto"`` uses CUDA if it is available and there is
        enough to compute: with 512 features and up to 512 classes, from 3,815 images on in `fit`.

    random_state : int, RandomState instance or None, default=None
        Draws the sets of classes that are treated as new together. None uses a fixed design, so
        that every call gives the same result. Other values show how much the result depends on the
        design.

    verbose : int, default=0
        If positive, a progress bar shows the objective.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels, base and new.

    class_names_ : list of str or tuple of str, or None
        Name of each class, in the order of `classes_`; a tuple holds the synonyms of a class.
        None if the labels are numbers without names.

    is_new_ : ndarray of shape (n_classes,) of bool
        Which classes have no image.

    class_count_ : ndarray of shape (n_classes,)
        Number of images of each class, or sum of their `sample_weight`.

    text_features_ : ndarray of shape (n_classes, n_features) or None
        Text features of the classes, with rows of length one.

    prototypes_ : ndarray of shape (n_classes, n_features)
        Visual prototypes in the space of `X`, before projection; virtual ones for new classes.

    temperature_ : float
        Softmax temperature.

    prototype_weight_ : float
        Weight of the image-to-prototype similarity.

    count_bonus_ : float
        What is added to the weight of a prototype because of the images of its class: nearly all
        of it for many images, half of it for four.

    base_offset_ : float
        Offset that is subtracted from the logits of base classes.

    single_image_weight_ : float
        Weight of the comparison to single training images; 0 if it is not used.

    unlabeled_count_ : ndarray of shape (n_classes,)
        Number of images from :meth:`add_unlabeled` that are probably of each class; 0 after `fit`.

    n_iter_ : int
        Number of training iterations.

    loss_curve_ : list of float
        Objective per sample at each evaluation. A line search may need several evaluations per
        iteration.

    n_features_in_ : int
        Number of columns of `X`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of `X`, if they are strings.

    See Also
    --------
    RejectingClassifier : Adds an answer for "none of these".
    PublishedCandleClassifier : The method as published, for comparison.
    CLIPFeaturizer : Makes embeddings of images.
    make_candle_pipeline : Both estimators in a pipeline, from one model name.

    Notes
    -----
    The logit of class `k`, which has :math:`n_k` images, is

    .. math::

        s_k(x) = \frac{z_k(x) + (b + c\, \rho_4(n_k))\, v_k(x)}{T} - g\, \rho_{1/2}(n_k)
                 + (1 - m) \log \pi_k

    with the similarity `z` to its text and `v` to its prototype, :math:`\rho_h(n) = n / (n +
    h)`, the temperature `T`, the margin `m`, :math:`\pi_k \propto n_k + 1`, and the weights `b`,
    `c` and `g` (`prototype_weight_`, `count_bonus_`, `base_offset_`). The loss is
    :math:`-\log [\pi_y^m e^{s_y} / \sum_k \pi_k^m e^{s_k}]` (compensating logit adjustment,
    [1]_). At convergence, its logits assume that the frequency of class `k` is proportional to
    :math:`\pi_k^{1 - m}` [2]_. Training stays near its start, so this prior is added to the logits
    explicitly.

    This class differs from the paper because the published head almost never predicts a new class
    when base classes are among the candidates.

    The single-image term :math:`r_k(x)` is kernel ridge regression of what these logits get wrong
    on left-out training images [3]_. It is added with the weight `w` (`single_image_weight_`), and
    moves probability among base classes only:

    .. math::

        s'_k(x) = s_k(x) + w r_k(x) + \log \sum_j e^{s_j(x)} - \log \sum_j e^{s_j(x) + w r_j(x)}

    for base classes, with sums over them. The logits of new classes do not change. For this term,
    the classifier keeps training images, at most 5,000, and one coefficient of each for every base
    class, in the precision of `X`. If there are more images, it keeps as many of each class, and
    all of the rare classes.

    Computations use the precision of `X`: float64 remains float64.

    References
    ----------
    .. [1] J.-X. Shi, C. Zhang, T. Wei, Y.-F. Li: "Efficient and Long-Tailed Generalization for
       Pre-trained Vision-Language Model", KDD 2024. arXiv:2406.12638.
    .. [2] A. K. Menon et al.: "Long-tail learning via logit adjustment", ICLR 2021.
    .. [3] J. H. Friedman: "Greedy function approximation: a gradient boosting machine", Annals of
       Statistics 29, 2001.

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

    _fits_names = True
    _parameter_constraints = {
        **BaseCandle._parameter_constraints,
        "temperature": [StrOptions({"auto"}), Interval(Real, 1e-6, 1e6, closed="both")],
        "class_prior": [StrOptions({"training"}), "array-like", Mapping, None],
        "shrinkage": [Interval(Real, 0, 1e12, closed="both")],
        "prototype_weight": [StrOptions({"auto"}), Interval(Real, 0, 1e6, closed="both")],
        "base_offset": [StrOptions({"auto"}), Interval(Real, -1e6, 1e6, closed="both")],
        "single_image_weight": [StrOptions({"auto"}), Interval(Real, 0, 1e6, closed="both")],
        "penalty": [Interval(Real, 0, 1e12, closed="both")],
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
        class_prior: ClassPrior = None,
        shrinkage: float = 2.0,
        prototype_weight: str | float = "auto",
        base_offset: str | float = "auto",
        single_image_weight: str | float = "auto",
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
        self.class_prior = class_prior
        self.shrinkage = shrinkage
        self.prototype_weight = prototype_weight
        self.base_offset = base_offset
        self.single_image_weight = single_image_weight
        self.penalty = penalty
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @keeps_an_earlier_fit
    @fit_context(prefer_skip_nested_validation=True)
    @tells_callbacks
    def fit(
        self, X: ArrayLike, y: Labels, sample_weight: ArrayLike | None = None
    ) -> "CandleClassifier":
        """Learn from embeddings of base classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            CLIP embeddings of images. With text, only their directions matter. Rows of NaN, for
            images that could not be read, are left out with a warning. An array of shape (0,
            n_features) if there is no labelled image: the classes are then those of `new_classes`
            or `class_names`, and the answers are those of zero-shot CLIP, until
            :meth:`add_unlabeled` or :meth:`add_images` bring images.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            An image of weight 2 counts as two images; an image of weight 0 is left out. A class
            whose images all have weight 0 is not a class, with a warning, unless `new_classes` or
            `class_names` lists it.

        Returns
        -------
        self : CandleClassifier
            Fitted estimator.

        Raises
        ------
        ModelError
            If `X` is known to be from another CLIP than `text_encoder`, see
            :class:`skcandle.Embeddings`.

        Notes
        -----
        Tensors on a GPU are copied to the host, where array API dispatch is enabled.

        In float64, an image of weight n is equivalent to n copies of it, and the order of the rows
        does not matter: probabilities agree within 1e-5. In float32, the estimates amplify rounding
        errors: in 300 small fits the probabilities differed by up to 0.003. With more than
        4,000,000 similarities (images times classes times up to twelve splits), the weights of the
        logits are estimated on some of the rows; with more than 5,000 images, so is the
        single-image term. The order still does not matter then, but copies of an image count as
        separate rows.
        """
        data, universe, text_encoder = self._check_training_set(X, y, sample_weight)
        prior = prior_of_use(self.class_prior, self.margin, universe.classes)
        weights = estimate_logit_weights(
            data,
            float(self.shrinkage),
            split_generator(self.random_state),
            temperature=self.temperature,
            prototype_weight=self.prototype_weight,
            base_offset=self.base_offset,
        )
        self.temperature_ = weights.temperature
        self.prototype_weight_ = weights.prototype_weight
        self.count_bonus_ = weights.count_bonus
        self.base_offset_ = weights.base_offset
        if len(data.y):
            self._fit_images(data, weights)
        else:
            self._fit_names(data, weights)
        self._text_encoder = text_encoder
        self._training_images = TrainingImages.of(data.X, data.y, data.sample_weight)
        self._prior = prior
        self._set_every_class(universe)
        self._set_classes(np.arange(data.n_classes))
        return self

    def _fit_images(self, data, weights):
        """Fit prototypes, projection, single-image term and scores of held-out images."""
        device, shrinkage = device_for(self.device, multiplications(data)), float(self.shrinkage)
        statistics = ClassStatistics.of(data)
        prototypes = prototypes_of(statistics, data.text_features, shrinkage)
        images = data.at(balanced_rows(data, MAX_IMAGES))
        term, left_out_term = fit_single_images(
            images, prototypes, np.unique(data.y), weights, self.single_image_weight, device
        )
        with iterations(self, self.max_iter) as report:
            projection, self.loss_curve_, self.n_iter_ = train_projection(
                data,
                prototypes,
                weights,
                penalty=float(self.penalty),
                max_iter=self.max_iter,
                device=device,
                callback=report,
            )
        self.single_image_weight_ = 0.0 if term is None else term.weight
        self._held_out = fit_held_out_scores(data, images, shrinkage, weights, left_out_term)
        self._model = CandleModel(
            prototypes.space, data.text_features, projection, weights, statistics, term
        )

    def _fit_names(self, data, weights):
        """Without images, answer as zero-shot CLIP does."""
        given, term = self.single_image_weight, None
        weight = 0.0 if given == "auto" else float(given)
        if weight > 0:
            term = SingleImages.empty(data.X.shape[1], data.X.dtype, weight)
        self.loss_curve_, self.n_iter_, self.single_image_weight_ = [], 0, weight
        self._held_out = HeldOutScores.of_names(weights.temperature)
        self._model = model_of_names(data.text_features, float(self.shrinkage), weights, term)

    def with_prior(self, prior: ClassPrior) -> "CandleClassifier":
        """Return a fitted view for other frequencies of the classes.

        Nothing is trained. By Bayes' rule, the probabilities are those for equally frequent classes
        times `prior`, normalised. Decisions follow from them.

        Parameters
        ----------
        prior : None, "training", array-like of shape (n_classes,) or mapping
            As the parameter `class_prior`. With None, `margin` decides again.

        Returns
        -------
        view : CandleClassifier
            Classifier that shares the fitted state. Its views and copies keep the prior. After
            `restrict`, it is normalised over the remaining classes. For :meth:`add_classes`, it
            must be ``"training"``, None, or a mapping that includes the added classes.

        Raises
        ------
        ValueError, TypeError
            If frequencies are not numbers, are negative, do not sum to one, or leave out a class.

        Examples
        --------
        >>> import numpy as np
        >>> from skcandle import CandleClassifier
        >>> text = {"ant": [1, 0, 0.2], "bee": [0, 1, 0.2], "elk": [0.5, 0.5, 0.7]}
        >>> X, y = np.array([[1, 0.1, 0], [0, 1, 0.1]]), ["ant", "bee"]
        >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text).fit(X, y)
        >>> mostly_elks = clf.with_prior({"ant": 0.05, "bee": 0.05, "elk": 0.9})
        >>> proba = clf.predict_proba(X) * [0.05, 0.05, 0.9]
        >>> np.allclose(mostly_elks.predict_proba(X), proba / proba.sum(axis=1, keepdims=True))
        True
        """
        check_is_fitted(self)
        view = copy(self)
        view.class_prior = prior  # for clones
        view._prior = prior_of_use(prior, self.margin, self.classes_)
        view._set_log_prior()
        return view

    def add_images(
        self, X: ArrayLike, y: Labels, sample_weight: ArrayLike | None = None
    ) -> "CandleClassifier":
        """Return a fitted copy that has learned from more images.

        They may be the first images of a class that was known by its name, more images of a base
        class, or images of a new label, which becomes a class. Nothing is trained: prototypes, the
        map from text to image and the covariance are recomputed from sums that the model keeps, and
        the single-image term is fitted again on the images that it keeps, at most 5,000. Without
        this term, the cost does not depend on the number of earlier images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of the new images only, by the same model.
        y : array-like of shape (n_samples,)
            Labels, of the type of `classes_`. A class that :meth:`restrict` left out returns. With
            text, any other string that is not in `classes_` is the name of its class. A number
            needs a name, so use :meth:`add_classes` first.
        sample_weight : array-like of shape (n_samples,), default=None
            See :meth:`fit`.

        Returns
        -------
        classifier : CandleClassifier
            Fitted classifier.

        Raises
        ------
        ValueError, TypeError
            If `X` has the wrong number of columns, or labels have the wrong type or no name.
        ModelError
            If `X` is known to be from another CLIP than the images of the fit.

        Notes
        -----
        With ``max_iter=0``, and numbers for `temperature`, `prototype_weight`, `base_offset` and
        `single_image_weight`, the copy equals a fit on all images, up to rounding. Otherwise it
        keeps the weights and the projection of the last fit. The thresholds of
        :meth:`novelty_thresholds` and :meth:`predict_set` do not change either. Fit again when
        there are many new images.

        There is no `partial_fit`, because its result would depend on the order of the images: the
        weights and the projection would come from the first part.

        Examples
        --------
        >>> import numpy as np
        >>> from skcandle import CandleClassifier
        >>> text = {"ant": [1, 0, 0.2], "bee": [0, 1, 0.2], "elk": [0.5, 0.5, 0.7]}
        >>> X, y = np.array([[1, 0.1, 0], [0, 1, 0.1]]), ["ant", "bee"]
        >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text).fit(X, y)
        >>> clf.add_images([[0.4, 0.6, 0.8]], ["elk"]).class_count_
        array([1., 1., 1.])
        """
        check_is_fitted(self)
        rows, labels, weight, _ = self._check_images(X, y, sample_weight, reset=False)
        rows = self._model.rows_of(rows)
        weight = weight.astype(rows.dtype)
        has_text = self.text_features_ is not None
        grown, unlisted = copy(self), self._every_class.unlisted(labels)
        if unlisted:
            texts = None
            if has_text:
                texts = self._text_encoder.unlisted(
                    self._every_class, unlisted, self.n_features_in_
                )
            grown = self._with_classes(self._every_class.of_labels(unlisted), texts)
        column = {label: i for i, label in enumerate(grown._every_class.classes.tolist())}
        columns = np.array([column[label] for label in labels.tolist()])
        device = self._device_for(len(rows))
        grown._model = grown._model.with_images(rows, columns, weight, device)
        added = TrainingImages.of(rows, columns, weight)
        grown._training_images = self._training_images.merged(added)
        grown._set_classes(np.union1d(grown._columns, columns))
        grown._identity = self._identity or model_of(X)
        return grown

    def add_unlabeled(
        self, X: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "CandleClassifier":
        r"""Return a fitted copy that has learned from images without labels.

        The images may be those that one wants sorted. Each counts as half an image of its probable
        classes, so that prototypes move towards the images, above all those of new classes, which
        had only a guess from the text. This is expectation-maximisation: the answers and the
        prototypes are computed in turn, in at most 20 rounds, each of which costs about as much as
        a prediction. Images that look like no class hardly count, and classes that hardly occur
        among the images keep their answers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images, see :meth:`predict`. Leave out images that the classifier was
            fitted on, which would count again. It may be a memory map: one block of rows is in
            memory at a time. Rows of NaN, for images that could not be read, are left out with a
            warning. Without rows, nothing changes.
        sample_weight : array-like of shape (n_samples,), default=None
            An image of weight 2 counts as two images; an image of weight 0 is left out.

        Returns
        -------
        classifier : CandleClassifier
            Fitted classifier. `unlabeled_count_` tells what was found. Labels, `class_count_` and
            `is_new_` do not change.

        Raises
        ------
        ValueError
            If `X` has the wrong number of columns, no image could be read, or a weight is negative.
        ModelError
            If `X` is known to be from another CLIP than the images of the fit.

        Warns
        -----
        UserWarning
            If most images look like none of the classes. A fit on names alone cannot tell.

        Notes
        -----
        The user guide has the equations, on the page "Images without labels". Labelled images count
        fully, and more images from :meth:`add_images` may follow. The weights, the projection and
        the thresholds of the last fit do not change. After :meth:`restrict`, only the remaining
        classes learn. The order of the rows does not matter, up to rounding. Adding two sets one
        after the other is not the same as adding them together, because the answers for the first
        set are not revised.

        Predictions become about twice as expensive, because the answers before and after are mixed.

        In cross-validation, do not add the images of the test fold, unless the images to be
        answered will be added in use as well.

        Examples
        --------
        >>> import numpy as np
        >>> from skcandle import CandleClassifier
        >>> rng = np.random.default_rng(0)
        >>> text = {"ant": [1, 0, 0.2], "bee": [0, 1, 0.2], "elk": [0.5, 0.5, 0.7]}
        >>> X, y = np.array([[1, 0.1, 0], [0, 1, 0.1]]), ["ant", "bee"]
        >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text).fit(X, y)
        >>> elks = [0.3, 0.5, 0.9] + 0.05 * rng.normal(size=(20, 3))
        >>> clf.add_unlabeled(elks).unlabeled_count_.round()
        array([ 0.,  0., 16.])
        """
        check_is_fitted(self)
        rows, grown = self._check_embeddings(X, min_samples=0), copy(self)
        if sample_weight is not None and np.ndim(sample_weight):
            check_consistent_length(rows, sample_weight)
        if not len(rows) or (sample_weight is not None and not np.any(sample_weight)):
            return grown
        weight = check_sample_weight(
            sample_weight, rows, dtype=self.prototypes_.dtype, ensure_non_negative=True
        )
        weight = weight * self._probably_listed(X)  # X itself, which may be a table with names
        device = self._device_for(len(rows))
        grown._model = learn_from_unlabeled(
            self._model, partial(self._unit_rows, rows), weight, self._columns, device
        )
        grown._set_classes(self._columns)
        grown._identity = self._identity or model_of(X)
        return grown

    def choose_to_label(self, X: ArrayLike, n_images: int) -> np.ndarray:
        r"""Choose the images whose labels would help most.

        Images that probably belong to classes with few images come first. Images are chosen one at
        a time. A chosen image counts, with the probability of each class, as one more image of that
        class, so that the choice covers the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images without labels, see :meth:`predict`.
        n_images : int
            Number of images to choose, from 1 to n_samples.

        Returns
        -------
        indices : ndarray of shape (n_images,)
            Positions of rows of `X`, in the order in which they were chosen. Once they have labels,
            use :meth:`add_images`.

        Raises
        ------
        ValueError
            If `n_images` is below 1 or above the number of images that could be read.
        TypeError
            If `n_images` is not an integer.

        Notes
        -----
        The next image maximises :math:`\sum_k p_k(x) / (n_k + 1)`, with the probabilities `p` for
        equally frequent classes, and the counts `n` including the images chosen so far. The
        variance of a class mean is inversely proportional to its count, so this is approximately
        the reduction of variance by a label.

        Examples
        --------
        >>> import numpy as np
        >>> from skcandle import CandleClassifier
        >>> text = {"ant": [1, 0, 0.2], "bee": [0, 1, 0.2], "elk": [0.5, 0.5, 0.7]}
        >>> X, y = np.array([[1, 0.1, 0], [0, 1, 0.1]]), ["ant", "bee"]
        >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text).fit(X, y)
        >>> clf.choose_to_label([[1, 0, 0], [0.5, 0.5, 0.8], [0, 1, 0]], 1)
        array([1])
        """
        check_is_fitted(self)
        proba = np.concatenate([softmax(logits, axis=1) for *_, logits in self._blocks(X)])
        return choose_rows(proba, self.class_count_, n_images)

    def _unit_rows(self, X):
        """Yield slices of checked rows, and the rows in the number format of the model."""
        for rows, _, block in self._row_blocks(X):
            yield rows, self._model.rows_of(block)

    def _set_classes(self, columns):
        super()._set_classes(columns)
        self.unlabeled_count_ = self._model.n_unlabeled[self._columns]

    def _set_log_prior(self):
        self._log_prior = log_prior_of_use(self._prior, self.classes_, self.class_count_)
