"""A classifier that may answer "none of these"."""

from collections.abc import Mapping, Sequence
from copy import copy
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._documentation import DocumentedMixin
from .._earlier_fit import keeps_an_earlier_fit
from .._labels import is_textual, type_for, with_answer
from .._persistence import VersionedStateMixin
from .._sklearn_private import HasMethods, Interval, fit_context
from .._typing import Images, Labels
from ._array_api import on_host
from ._missing_images import missing_answer


def _estimator_has(method):
    def check(rejecting):
        getattr(getattr(rejecting, "estimator_", rejecting.estimator), method)  # or raise
        return True

    return check


class RejectingClassifier(
    ClassifierMixin, MetaEstimatorMixin, DocumentedMixin, VersionedStateMixin, BaseEstimator
):
    """Answer with a label for "none of these" where an image does not look like any listed class.

    An image is rejected if its :meth:`CandleClassifier.novelty_score` is above a threshold. The
    threshold is chosen so that a given share of images *of* listed classes is rejected by
    mistake. There is one threshold for answers with base classes and one for answers with new
    classes. Both come from held-out training images: images that were left out of what they are
    compared to, or whose class was treated as new. No image of an unlisted class is needed.

    The other methods of the classifier, such as ``top_k``, ``with_prior``, ``predict_set``,
    ``novelty_thresholds`` and ``choose_to_label``, are those of ``clf.estimator_``. They do not
    reject.

    Parameters
    ----------
    estimator : CandleClassifier, or Pipeline that ends in one
        Answers for images that are not rejected. It is cloned and fitted. To keep one that is
        fitted already, such as a pipeline after ``add_classes``, wrap it in a
        :class:`~sklearn.frozen.FrozenEstimator`.

    reject_label : "auto", str or number, default="auto"
        The answer for rejected images. It has the type of the labels but is not one of them, and
        differs from the answer for images that could not be read ("" or -1). ``"auto"`` is
        "unknown" for strings. For numbers it is -2, or one less than the smallest label if that is
        below -1.

    rejection_rate : float, default=0.05
        Share of images of listed classes that are rejected by mistake, in (0, 1). All classes
        count the same.

    Attributes
    ----------
    estimator_ : object
        The fitted estimator.

    classes_ : ndarray of shape (n_classes,)
        Labels of the estimator. `reject_label_` is not one of them.

    reject_label_ : str or number
        The answer for rejected images.

    thresholds_ : ndarray of shape (2,)
        Novelty scores above which images are rejected: the first for answers with base classes,
        the second for answers with new classes.

    n_features_in_ : int
        Width of `X`, if the estimator knows it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of `X`, if it has string ones.

    See Also
    --------
    CandleClassifier.novelty_score : The score.

    Notes
    -----
    The threshold is the quantile of split conformal prediction [1]_, which counts the new image as
    one more, with equal weights for all classes. *n* images, as Kish's effective number, cannot
    resolve rates below 1 / (n + 1). In this case the threshold is the largest held-out score, and
    there is a warning. For answers with base classes, only images of classes with at least two
    images count in *n*.

    Where held-out images cannot show how images score, nothing is rejected, and there is a warning:
    answers with base classes if no class has two images, all answers if only one class has images.

    The rate refers to images of classes in the universe. How many images of other classes are
    rejected depends on how much they look like listed ones.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer: "Algorithmic learning in a random world", 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import CandleClassifier, RejectingClassifier
    >>> rng = np.random.default_rng(0)
    >>> names = ["ant", "bee", "cat", "dog", "elk"]
    >>> text = dict(zip(names, rng.normal(size=(5, 16))))
    >>> y = np.repeat(names[:4], [20, 10, 10, 5])   # no image of an elk
    >>> X = np.stack([text[name] for name in y]) + 0.5 * rng.normal(size=(45, 16))
    >>> candle = CandleClassifier(new_classes=["elk"], text_encoder=text)
    >>> clf = RejectingClassifier(candle, rejection_rate=0.1).fit(X, y)
    >>> clf.predict([text["bee"], text["elk"], -text["ant"] - text["cat"]])
    array(['bee', 'elk', 'unknown'], dtype='<U7')
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"])],
        "reject_label": [str, Real],
        "rejection_rate": [Interval(Real, 0, 1, closed="neither")],
    }

    # for the estimator, which requests it; this one does not use it
    __metadata_request__fit = {"sample_weight": UNUSED}

    def __init__(
        self, estimator: Any, *, reject_label: str | float = "auto", rejection_rate: float = 0.05
    ) -> None:
        self.estimator = estimator
        self.reject_label = reject_label
        self.rejection_rate = rejection_rate

    @keeps_an_earlier_fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Images, y: Labels, sample_weight: ArrayLike | None = None, **fit_params: Any
    ) -> "RejectingClassifier":
        """Fit the estimator and set the thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            What the estimator takes.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Passed to the classifier. With metadata routing, the classifier has to request it:
            ``classifier.set_fit_request(sample_weight=True)``.
        **fit_params : dict
            Metadata for the estimator, if metadata routing is enabled; see the `user guide of
            scikit-learn <https://scikit-learn.org/stable/metadata_routing.html>`__.

        Returns
        -------
        self : RejectingClassifier
            Fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If the estimator has no novelty score, if `reject_label` does not have the type of the
            labels, or if it is one of them.
        """
        classifier = _classifier(self.estimator)
        if not hasattr(classifier, "novelty_thresholds"):
            raise TypeError(
                "estimator must be a CandleClassifier, or a pipeline that ends in one, got a "
                f"{type(classifier).__name__}."
            )
        options = self._metadata_of_fit(sample_weight, fit_params)
        self.estimator_ = clone(self.estimator).fit(X, y, **options)
        self._set_thresholds()
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    @available_if(_estimator_has("add_classes"))
    def add_classes(self, names: Sequence[str] | Mapping[str, Any]) -> "RejectingClassifier":
        """Return a fitted copy with more classes, which are known by name only.

        The thresholds are those of the estimator after the change.

        Parameters
        ----------
        names : list of str or mapping
            See :meth:`CandleClassifier.add_classes`.

        Returns
        -------
        classifier : RejectingClassifier
            Fitted classifier.
        """
        return self._around(self.estimator_.add_classes(names))

    @available_if(_estimator_has("add_images"))
    def add_images(
        self, X: Images, y: Labels, sample_weight: ArrayLike | None = None
    ) -> "RejectingClassifier":
        """Return a fitted copy that has learned from more images.

        The thresholds are those of the estimator after the change.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            What the estimator takes; the new images only.
        y : array-like of shape (n_samples,)
            Labels, see :meth:`CandleClassifier.add_images`.
        sample_weight : array-like of shape (n_samples,), default=None
            An image of weight 2 counts as two images.

        Returns
        -------
        classifier : RejectingClassifier
            Fitted classifier.
        """
        return self._around(self.estimator_.add_images(X, y, sample_weight))

    @available_if(_estimator_has("add_unlabeled"))
    def add_unlabeled(
        self, X: Images, sample_weight: ArrayLike | None = None
    ) -> "RejectingClassifier":
        """Return a fitted copy that has learned from images without labels.

        The thresholds do not change. Images that look like no class hardly count, see
        :meth:`CandleClassifier.add_unlabeled`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            What the estimator takes.
        sample_weight : array-like of shape (n_samples,), default=None
            Relative weights of the images.

        Returns
        -------
        classifier : RejectingClassifier
            Fitted classifier.
        """
        return self._around(self.estimator_.add_unlabeled(X, sample_weight))

    @available_if(_estimator_has("restrict"))
    def restrict(self, labels: Labels) -> "RejectingClassifier":
        """Return a fitted view that answers with some of the classes only, or rejects.

        Parameters
        ----------
        labels : array-like
            Labels from `classes_`.

        Returns
        -------
        view : RejectingClassifier
            It shares the fitted state.
        """
        return self._around(self.estimator_.restrict(labels))

    def predict(self, X: Images) -> np.ndarray:
        """Most probable class of each image, or `reject_label_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            What the estimator takes.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels from `classes_`, and `reject_label_`. For images that could not be read, the
            missing answer of :meth:`CandleClassifier.predict`.
        """
        check_is_fitted(self)
        X, classifier = _embedded(X, self.estimator_)
        X = on_host(X)
        score, is_new = classifier.novelty_score(X, return_is_new=True)
        rejected = score > self.thresholds_[is_new.astype(int)]
        return with_answer(classifier.predict(X), rejected, self.reject_label_)

    def predict_proba(self, X: Images) -> np.ndarray:
        """Probabilities of the listed classes, given that the image shows one of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            What the estimator takes.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns follow `classes_`.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    def novelty_score(
        self, X: Images, *, return_is_new: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Score how little images look like any class, see :meth:`CandleClassifier.novelty_score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            What the estimator takes.
        return_is_new : bool, default=False
            Whether to return `is_new` as well.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Higher for images that look less like any class.
        is_new : ndarray of shape (n_samples,) of bool
            Which of the `thresholds_` applies: False for the first, True for the second.
        """
        check_is_fitted(self)
        X, classifier = _embedded(X, self.estimator_)
        return classifier.novelty_score(X, return_is_new=return_is_new)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of metadata to the estimator.

        Returns
        -------
        routing : MetadataRouter
            `fit` passes on what the estimator requests for its `fit`.
        """
        methods = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self)
        return router.add(estimator=self.estimator, method_mapping=methods)

    def _metadata_of_fit(self, sample_weight, fit_params):
        """Keyword arguments of the estimator's fit."""
        if sample_weight is not None:
            fit_params = {"sample_weight": sample_weight, **fit_params}
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **fit_params)["estimator"]["fit"]
        if fit_params.keys() - {"sample_weight"}:
            raise TypeError(
                f"fit() got the argument {min(fit_params.keys() - {'sample_weight'})!r}, but "
                "metadata routing is not enabled; see sklearn.set_config."
            )
        if isinstance(self.estimator, Pipeline):
            return {f"{self.estimator.steps[-1][0]}__{name}": v for name, v in fit_params.items()}
        return fit_params

    def _around(self, estimator):
        """A fitted copy around another fitted estimator."""
        if isinstance(self.estimator_, FrozenEstimator):
            estimator = FrozenEstimator(estimator)
        changed = copy(self)
        changed.estimator_, changed.estimator = estimator, clone(estimator)
        changed._set_thresholds()
        return changed

    def _set_thresholds(self):
        classifier = _classifier(self.estimator_)
        self.classes_ = classifier.classes_
        self.reject_label_ = _reject_label(self.reject_label, self.classes_)
        self.thresholds_ = classifier.novelty_thresholds(self.rejection_rate)


def unfrozen(estimator):
    """The estimator inside a FrozenEstimator, or inside several."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def _classifier(estimator):
    """The classifier at the end of pipelines, frozen or not."""
    estimator = unfrozen(estimator)
    while isinstance(estimator, Pipeline):
        estimator = unfrozen(estimator[-1])
    return estimator


def _embedded(X, estimator):
    """Apply the steps before the classifier to `X`; return the result and the classifier."""
    classifier = _classifier(estimator)
    estimator = unfrozen(estimator)
    while estimator is not classifier:
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = unfrozen(estimator[-1])
    return X, classifier


def _reject_label(label, classes):
    """The checked answer for rejected images."""
    textual = is_textual(classes)
    if isinstance(label, str) and label == "auto":
        label = "unknown" if textual or classes.dtype == bool else min(-2, int(classes.min()) - 1)
    if textual != isinstance(label, str) or classes.dtype == bool:
        kind = "strings" if textual else "booleans" if classes.dtype == bool else "numbers"
        raise TypeError(
            f"reject_label is {label!r}, but the labels are {kind}. "
            + (
                "Use strings or integers as labels."
                if kind == "booleans"
                else f"Use one of the {kind} that is not a label."
            )
        )
    if type_for(classes, label) is None:
        raise ValueError(
            f"No type of integers can hold the labels and the reject_label {label!r}, because they "
            f"are from {classes.min()} to {classes.max()}. Use smaller labels or strings, or set "
            "another reject_label."
        )
    if label == missing_answer(classes):
        raise ValueError(
            f"reject_label must not be {label!r}, the answer for images that could not be read."
        )
    if label in classes.tolist():
        raise ValueError(f"reject_label must not be one of the classes_, got {label!r}.")
    return label
