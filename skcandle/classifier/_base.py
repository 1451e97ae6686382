"""What both classifiers share: the label universe, input checks, and prediction in blocks."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from .._devices import device_for
from .._documentation import DocumentedMixin
from .._embeddings import are_different, model_of
from .._labels import check_label_types, without_nulls
from .._locks import ForkSafeLock
from .._persistence import VersionedStateMixin
from .._sklearn_private import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
)
from .._typing import Labels
from .._warnings import warn_user
from ..exceptions import ModelError, TextFeaturesWarning
from ._array_api import is_dispatched, labels_in_place, on_host, predict_in_place
from ._embeddings import check_sizes, refuse_images, rescale_extreme_rows, stack_lists, unit
from ._missing_images import MISSING, answers, missing_rows, warn_left_out
from ._text_features import class_text_encoder, warn_at_chance
from ._training_set import TrainingSet
from ._universe import LabelUniverse, label_universe, universe_parameters

# Number of logits in one block of rows at prediction, which bounds the memory.
BLOCK_LOGITS = 2**20

# The last scorer of each model that is in use. Making one takes longer than to score one image:
# 82 ms and 4 ms with 1,000 classes and 5,000 single images of 512 features.
_scorers: WeakKeyDictionary = WeakKeyDictionary()
_making_scorers = ForkSafeLock()

Classifier = TypeVar("Classifier", bound="BaseCandle")


class BaseCandle(
    CallbackSupportMixin, ClassifierMixin, DocumentedMixin, VersionedStateMixin, BaseEstimator
):
    """Base class of classifiers with a label universe of base and new classes.

    The fitted model has one column of logits per class, in the order in which classes were added.
    `_columns` selects those of `classes_`, in sorted order. `_column_labels` and `_column_names`
    describe all columns, so that classes left out by `restrict` can return.
    """

    _parameter_constraints = {
        "new_classes": ["array-like", None],
        "class_names": ["array-like", Mapping, None],
        "text_encoder": [StrOptions({"auto"}), Mapping, HasMethods("encode_text"), callable, None],
        "templates": [str, "array-like"],
        "margin": [Interval(Real, 0, 1e6, closed="both")],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _needs_text = False
    _identity = None  # of the CLIP that made the embeddings of the fit, if it was known
    _fits_names = False  # whether there may be no image at all
    _log_prior = None  # of classes_, if it is not part of the model
    _to_unit_rows = True  # whether, with text, only the directions of images count

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Joint logits of base and new classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter, so a row of zeros is an
            error. A row of NaN stands for an image that could not be read.

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes) or (n_samples,)
            Columns follow `classes_`. With two classes, the logit of the second minus that of the
            first. NaN for images that could not be read.
        """
        return self._in_blocks(X, _one_column_of_two, _one_column_of_two)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of base and new classes, which sum to one.

        Those of `CandleClassifier` are calibrated for the class frequencies that `margin` or
        `class_prior` sets. By default, all classes are equally frequent, regardless of their
        number of training images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter, so a row of zeros is an
            error. A row of NaN stands for an image that could not be read.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns follow `classes_`. NaN for images that could not be read.
        """
        return self._in_blocks(X, partial(softmax, axis=1), partial(torch.softmax, dim=1))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`, without underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter, so a row of zeros is an
            error. A row of NaN stands for an image that could not be read.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Columns follow `classes_`. NaN for images that could not be read.
        """
        return self._in_blocks(X, partial(log_softmax, axis=1), partial(torch.log_softmax, dim=1))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Most probable class, base or new, of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter, so a row of zeros is an
            error. A row of NaN stands for an image that could not be read.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels from `classes_`. For images that could not be read, the missing answer: the
            empty string if labels are strings, -1 if they are numbers. Metrics count it as wrong.

        Raises
        ------
        ValueError
            If there are such images, but the missing answer is one of `classes_`, or labels are
            booleans or integers above 2**63 - 1. Use :meth:`predict_proba` in this case.
        """
        best = self._in_blocks(X, partial(np.argmax, axis=1), partial(torch.argmax, dim=1))
        if not isinstance(best, np.ndarray):
            return labels_in_place(self.classes_, best)
        return answers(self.classes_, best)

    def top_k(self, X: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable classes of each row, base or new, and their probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images, see :meth:`predict`.
        k : int
            Number of classes to return, from 1 to the number of `classes_`.

        Returns
        -------
        labels : ndarray of shape (n_samples, k)
            Most probable class first. The first column equals :meth:`predict`.
        proba : ndarray of shape (n_samples, k)
            Their probabilities among all classes, see :meth:`predict_proba`. For images that could
            not be read, the labels are the missing answer of :meth:`predict`, and `proba` is NaN.

        Raises
        ------
        ValueError
            If `k` is below 1 or above the number of classes.
        TypeError
            If `k` is not an integer.
        """
        check_is_fitted(self)
        if not isinstance(k, Integral) or isinstance(k, bool):
            raise TypeError(f"k must be an integer, got {k!r}.")
        if not 1 <= k <= len(self.classes_):
            raise ValueError(
                f"k must be between 1 and {len(self.classes_)}, the number of classes, got {k}."
            )
        best, proba = self._in_blocks(X, partial(_most_probable, k=k))
        return answers(self.classes_, best), proba

    def restrict(self: Classifier, labels: Labels) -> Classifier:
        """Return a fitted view that answers with some of the classes only.

        Parameters
        ----------
        labels : array-like
            Labels from `classes_`, or a boolean mask of them, for example ``~clf.is_new_``.

        Returns
        -------
        view : object
            Classifier that shares the fitted state and gives the same logits. Classes that are left
            out return, as they were, with :meth:`add_classes`.

        Raises
        ------
        ValueError
            If `labels` is empty, one of them is not in `classes_`, or a mask has the wrong length.
        """
        check_is_fitted(self)
        view = copy(self)
        view._set_classes(self._columns[self._universe.positions(labels)])
        return view

    def add_classes(self: Classifier, names: Sequence[str] | Mapping[str, Any]) -> Classifier:
        """Return a fitted copy with more classes, which are known by name only.

        Nothing is trained. With `CandleClassifier`, the logits of the other classes do not change.
        With `PublishedCandleClassifier` they change slightly, because images attend to all classes.

        Parameters
        ----------
        names : list of str or mapping
            If labels are strings, the names are the labels. If labels are integers, the new labels
            continue from the largest label that the classifier has ever had. A mapping maps each
            name to the words for the prompt: a string or a list of synonyms. If `text_encoder` is a
            mapping to vectors, it maps each name to a vector. The name of a class that
            :meth:`restrict` left out returns this class as it was, with its images.

        Returns
        -------
        classifier : object
            Fitted classifier of the same type.

        Raises
        ------
        TypeError
            If a name is not a string.
        ValueError
            If a name is repeated or in `classes_`, or the classifier was fitted without text.
        """
        check_is_fitted(self)
        if self._text_encoder is None:
            raise ValueError(
                "This classifier was fitted without text, so it cannot use the name of a class. "
                "Fit it with a text_encoder."
            )
        if not isinstance(names, (str, Mapping)):
            names = list(names)
        returning = self._left_out(names)
        if returning and isinstance(names, Mapping):
            raise ValueError(
                f"The class {next(iter(returning))!r}, which restrict left out, keeps its name or "
                "vector. Add it with a list of names."
            )
        if returning:  # each once: repeated names are an error
            returned = dict(returning)
            names = [name for name in names if returned.pop(name, None) is None]
        added, text_features = self._text_encoder.added(
            self._every_class, names, self.n_features_in_
        )
        grown = self._with_classes(added, text_features) if added.names else copy(self)
        encoder = self._text_encoder.encoder
        if isinstance(names, Mapping) and isinstance(encoder, Mapping):
            vectors = dict(zip(added.classes.tolist(), names.values(), strict=True))
            grown.text_encoder = {**encoder, **vectors}  # for clones
            grown._text_encoder = replace(self._text_encoder, encoder=grown.text_encoder)
        grown._set_classes(np.append(grown._columns, [*returning.values()]).astype(int))
        return grown

    def _left_out(self, names):
        """Columns of classes that `restrict` has left out, by their names."""
        if isinstance(names, str):
            return {}
        in_view = set(self._columns.tolist())
        known = self._every_class.known(names)
        return {name: column for name, column in known.items() if column not in in_view}

    @property
    def _universe(self):
        """The classes in `classes_`."""
        return LabelUniverse(self.classes_, self.class_names_)

    @property
    def _every_class(self):
        """The classes of all columns, also of those that `restrict` has left out."""
        return LabelUniverse(self._column_labels, self._column_names)

    def _set_every_class(self, universe):
        self._column_labels, self._column_names = universe.classes, universe.names

    def _with_classes(self, added, text_features):
        """A fitted copy with further classes, which have no image yet."""
        grown = copy(self)
        if text_features is not None:
            text_features = text_features.astype(self.prototypes_.dtype)
        n_added, n_columns = len(added.classes), len(self._model.counts)
        grown._model = self._model.with_classes(n_added, text_features)
        grown._set_every_class(self._every_class.joined(added))
        if text_features is not None:  # without text, a clone can learn classes from images only
            grown.new_classes, grown.class_names = universe_parameters(
                self.new_classes, self.class_names, grown._every_class, added
            )
        grown._set_classes(np.append(self._columns, np.arange(n_columns, n_columns + n_added)))
        return grown

    def _set_classes(self, columns):
        """Set the public attributes of the classes from columns of the model."""
        columns = columns[np.argsort(self._column_labels[columns])]
        universe = self._every_class.at(columns)
        self._columns = columns
        self.class_names_ = universe.names
        self.classes_ = universe.classes
        self.class_count_ = self._model.counts[columns]
        self.is_new_ = self.class_count_ == 0
        self.prototypes_ = self._model.image_prototypes[columns]
        text = self._model.text_features
        self.text_features_ = None if text is None else text[columns]
        self._set_log_prior()

    def _set_log_prior(self):
        """Set the log-prior of `classes_`; by default there is none."""

    def _check_training_set(self, X, y, sample_weight):
        """Check images and labels; find the label universe and the encoder of its names.

        Returns
        -------
        data : TrainingSet
        universe : LabelUniverse
        text_encoder : ClassTextEncoder or None
        """
        categories = getattr(getattr(y, "dtype", None), "categories", None)
        self._identity = model_of(X)
        if self._is_fit_of_names(X, y):
            X, y, sample_weight = self._check_no_images(X, sample_weight)
            weightless = y
        else:
            X, y, sample_weight, weightless = self._check_images(X, y, sample_weight)
        text_encoder, no_text = class_text_encoder(
            self.text_encoder, self.templates, X.shape[1], self.device
        )
        if text_encoder is None:  # then a category without images cannot be a class
            categories = None
        universe = label_universe(y, self.new_classes, self.class_names, categories)
        classes = universe.classes
        _warn_without_weight(np.setdiff1d(weightless, classes).tolist())
        text_features = None
        if text_encoder is None:
            self._check_without_text(no_text, np.setdiff1d(classes, y))
            check_sizes(X, X.dtype)
        else:
            text_features = text_encoder(classes, universe.names, X.shape[1]).astype(X.dtype)
            text_encoder = text_encoder.with_identity()
            _check_one_model(self._identity, text_encoder.identity)
            given = self.class_names if isinstance(self.class_names, Mapping) else ()
            text_encoder.warn_of_codes(classes, universe.names, given)
            X = rescale_extreme_rows(X, X.dtype)
            X = unit(X) if self._to_unit_rows else X
        if len(classes) < 2:
            raise ValueError(
                "At least two classes are needed, but there is one class, "
                f"{classes.tolist()[0]!r}. List classes without images in new_classes."
            )
        if y.dtype.kind in "iu":  # mixed types would be compared as floats
            y = y.astype(classes.dtype, copy=False)
        y = np.searchsorted(classes, y)
        warn_at_chance(X, y, text_features)
        data = TrainingSet(X, y, sample_weight, text_features, len(classes))
        return data, universe, text_encoder

    def _is_fit_of_names(self, X, y):
        """Whether there is no image, but classes are listed."""
        listed = [names for names in (self.new_classes, self.class_names) if names is not None]
        is_listed = any(map(len, listed))
        return self._fits_names and is_listed and np.shape(y) == (0,) and len(X) == 0

    def _check_no_images(self, X, sample_weight):
        """Rows, labels and weights of no images; labels have the type of the listed classes."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=0)
        check_consistent_length(X, sample_weight)
        listed = list(self.class_names if self.new_classes is None else self.new_classes)
        is_number = bool(listed) and not isinstance(listed[0], str)
        y = np.empty(0, dtype=np.int64 if is_number else np.str_)
        return X, y, np.empty(0, dtype=X.dtype)

    def _check_images(self, X, y, sample_weight, reset=True):
        """Check embeddings, labels and weights; drop images of weight zero and unreadable ones.

        Returns
        -------
        X, y, sample_weight : ndarray
        weightless : ndarray
            Labels of images of weight zero that no other image has.
        """
        X, y, sample_weight = on_host(X), on_host(y), on_host(sample_weight)
        check_label_types(y)
        if not reset:
            check_made_by(model_of(X), self)
        refuse_images(X)
        X = stack_lists(X)
        dtype = [np.float64, np.float32]
        X, y = validate_data(
            self,
            X,
            without_nulls(y),
            dtype=dtype,
            reset=reset,
            ensure_all_finite="allow-nan",
        )
        if y.dtype.kind == "f":  # for other types, it would warn if many classes have one image
            check_classification_targets(y)
        sample_weight = check_sample_weight(
            sample_weight, X, dtype=X.dtype, ensure_non_negative=True
        )
        missing = missing_rows(X)
        if missing.any():
            warn_left_out(missing, y)
        used = (sample_weight > 0) & ~missing
        weightless = np.setdiff1d(y[~used & ~missing], y[used])
        if not used.all():
            X, y, sample_weight = X[used], y[used], sample_weight[used]
        if len(y) == 0:
            raise ValueError("At least one sample must have a positive weight.")
        return X, y, sample_weight, weightless

    def _check_without_text(self, reason, new_classes):
        if self._needs_text:
            raise ValueError(f"{type(self).__name__} needs text, but {reason}. Set text_encoder.")
        if len(new_classes):
            raise ValueError(
                f"The class {new_classes.tolist()[0]!r} has no image, and no text is used, because "
                f"{reason}. Set text_encoder to the model that made X, or use make_candle_pipeline."
            )
        if self.text_encoder is not None:
            warn_user(
                f"{reason}, so this fit learns from images alone. Set text_encoder to the model "
                "that made X, or to None if this is intended.",
                TextFeaturesWarning,
            )

    def _in_blocks(self, X, function, of_tensor=None):
        """Apply `function`, which may return a tuple, to the joint logits of blocks of rows.

        Besides `X` and the result, memory holds one block only: `X` may be a memory map, and is
        converted to the precision of the model block by block. `of_tensor` is the same function in
        PyTorch, for arrays of other libraries.
        """
        check_is_fitted(self)
        if of_tensor is not None and is_dispatched(X):
            return predict_in_place(
                validate_data(self, X, reset=False, ensure_all_finite="allow-nan"),
                partial(_scorer, self._model),
                columns=self._columns,
                log_prior=self._log_prior,
                has_text=self.text_features_ is not None,
                n_rows=self._n_rows_at_once(X.shape[1]),
                function=of_tensor,
            )
        results: list[np.ndarray] = []
        for n_samples, rows, _, logits in self._blocks(X):
            if self._log_prior is not None:
                logits += self._log_prior.astype(logits.dtype)
            value = function(logits)
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if part.dtype.kind == "i":  # positions of classes
                    part[np.isnan(logits[:, 0])] = MISSING
            if not results:
                results = [np.empty((n_samples, *p.shape[1:]), dtype=p.dtype) for p in parts]
            for result, part in zip(results, parts, strict=True):
                result[rows] = part
        return tuple(results) if len(results) > 1 else results[0]

    def _blocks(self, X):
        """Yield, for each block: the total number of rows, its slice, its rows, and their logits.

        For images that could not be read, the logits are NaN and the rows arbitrary.
        """
        X = self._check_embeddings(X)
        scorer = _scorer(self._model, self._device_for(len(X)))
        for rows, missing, block in self._row_blocks(X):
            logits = scorer.score(block)[:, self._columns]
            logits[missing] = np.nan
            yield len(X), rows, block, logits

    def _check_embeddings(self, X, min_samples=1):
        """Check embeddings without labels; rows of NaN are allowed."""
        check_made_by(model_of(X), self)
        refuse_images(X)
        return validate_data(
            self,
            stack_lists(on_host(X)),
            reset=False,
            ensure_all_finite="allow-nan",
            ensure_min_samples=min_samples,
        )

    def _device_for(self, n_rows):
        """The device that compares rows with classes and single images."""
        n_features, n_compared = self.n_features_in_, self._model.n_compared
        return device_for(self.device, n_rows * n_features * max(n_features, n_compared))

    def _n_rows_at_once(self, n_features):
        return max(BLOCK_LOGITS // max(self._model.n_compared, n_features), 1)

    def _row_blocks(self, X):
        """Yield, for each block of checked rows: its slice, which rows are missing, and its rows.

        Rows are in the precision of the model. Those of missing images are arbitrary.
        """
        dtype = self.prototypes_.dtype
        for rows in gen_batches(len(X), self._n_rows_at_once(X.shape[1])):
            missing = missing_rows(X[rows], rows.start)
            block = np.where(missing[:, None], 1, X[rows]) if missing.any() else X[rows]
            if self.text_features_ is None:
                check_sizes(block, dtype, rows.start)
                block = np.ascontiguousarray(block, dtype=dtype)
            else:  # only directions matter
                block = rescale_extreme_rows(block, dtype, rows.start)
            yield rows, missing, block


def model_of_fit(estimator):
    """The CLIP whose embeddings a fitted classifier takes, or None if it is unknown.

    It is the model of the rows of the fit or, if these were a plain array, of the text encoder.
    The classifier may be in a pipeline, a search or a RejectingClassifier, or frozen. Ensembles
    fit copies of an estimator that may have an earlier fit of its own.
    """
    if isinstance(estimator, BaseCandle):
        text_encoder = getattr(estimator, "_text_encoder", None)
        return estimator._identity or getattr(text_encoder, "identity", None)
    if isinstance(estimator, Pipeline):
        return model_of_fit(estimator[-1])
    for part in (estimator, getattr(estimator, "estimator", None)):
        if isinstance(part, FrozenEstimator):
            return model_of_fit(part.estimator)
    for name in ("best_estimator_", "estimator_"):
        if hasattr(estimator, name) and not hasattr(estimator, "estimators_"):
            return model_of_fit(getattr(estimator, name))
    return None


def check_made_by(model, estimator):
    """Raise if the model of embeddings is known to be another one than that of the fit."""
    of_fit = model_of_fit(estimator)
    if are_different(model, of_fit):
        raise ModelError(
            f"The classifier was fitted with the CLIP {of_fit}, but these embeddings are from the "
            f"CLIP {model}, with other weights or another preprocessing; embed the images with the "
            "model of the fit, or fit again."
        )


def _check_one_model(images, names):
    """Raise if images and class names were embedded by different models, as far as is known."""
    if are_different(images, names):
        raise ModelError(
            f"X was made by the CLIP {images}, but text_encoder is the CLIP {names}. Use one model "
            "for both. If the two share one embedding space, set text_encoder to the method "
            "encode_text of the latter, which is not checked."
        )


def _scorer(model, device):
    """A model on a device, the same object as in the last call if that had the same device."""
    with _making_scorers:
        scorer = _scorers.get(model)
        if scorer is None or scorer.device != device:
            _scorers[model] = scorer = model.scorer(device)
        return scorer


def _warn_without_weight(labels):
    """Warn of labels that are left out of the label universe, because all weights are zero."""
    if labels:
        others = f" and {len(labels) - 1} others have" if len(labels) > 1 else " has"
        warn_user(
            f"The class {labels[0]!r}{others} no image with a positive sample_weight. To keep such "
            "classes, list them in new_classes."
        )


def _one_column_of_two(logits):
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def _most_probable(logits, k):
    """Positions of the largest logits, the first of equal ones first, and their probabilities."""
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return best, np.take_along_axis(softmax(logits, axis=1), best, axis=1)
