"""What both classifiers share: the label universe, checked input, and prediction in blocks."""

import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import gen_batches
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm.auto import tqdm

from .._devices import resolve_device
from .._labels import check_label_types, is_textual, without_nulls
from .._persistence import VersionedStateMixin
from .._sklearn_private import HasMethods, Interval, StrOptions, check_sample_weight
from .._typing import Labels
from .._warnings import warn_user
from ..exceptions import TextFeaturesWarning
from ._missing_images import MISSING, answers, missing_rows, warn_left_out
from ._prototypes import of_moderate_length, unit
from ._text_features import class_text_encoder, warn_at_chance
from ._training_set import TrainingSet
from ._universe import LabelUniverse, label_universe, sorted_labels

# Logits of one block of rows at prediction; bounds the memory.
BLOCK_LOGITS = 2**20

Classifier = TypeVar("Classifier", bound="BaseCandle")


class BaseCandle(ClassifierMixin, VersionedStateMixin, BaseEstimator):
    """Base class of the classifiers of a label universe of base and new classes.

    The fitted model has one column of logits a class, in the order in which classes came;
    `_columns` picks those of `classes_`, in sorted order.
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
    _log_prior = None  # of classes_, where the model leaves it out
    _to_unit_rows = True  # whether images are compared by their direction where there is text

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Joint logits of base and new classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter; a row of zeros, which
            has none, is a ValueError. A row of NaN throughout is an image that could not be read.

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes) or (n_samples,)
            Columns follow `classes_`. With two classes, the logit of the second over the first.
            NaN for images that could not be read.
        """
        return self._in_blocks(X, _one_column_of_two)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of base and new classes, which sum to one.

        `CandleClassifier` calibrates them for classes as frequent as `margin` says, by default
        equally frequent, whatever their number of training images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter; a row of zeros, which
            has none, is a ValueError. A row of NaN throughout is an image that could not be read.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns follow `classes_`. NaN for images that could not be read.
        """
        return self._in_blocks(X, partial(softmax, axis=1))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`, without underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter; a row of zeros, which
            has none, is a ValueError. A row of NaN throughout is an image that could not be read.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Columns follow `classes_`. NaN for images that could not be read.
        """
        return self._in_blocks(X, partial(log_softmax, axis=1))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Most probable class, base or new, of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images. With text, only their directions matter; a row of zeros, which
            has none, is a ValueError. A row of NaN throughout is an image that could not be read.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels out of `classes_`. For images that could not be read, the missing answer: the
            empty string with string labels, -1 with numbers. Metrics count it as wrong.

        Raises
        ------
        ValueError
            If there are such images and their answer is one of `classes_`, or labels are
            booleans. :meth:`predict_proba` works then, too.
        """
        best = self._in_blocks(X, partial(np.argmax, axis=1))
        return answers(self.classes_, best)

    def top_k(self, X: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable classes of each row, base or new, and their probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings of images, see :meth:`predict`.
        k : int
            How many classes, from 1 to the number of `classes_`.

        Returns
        -------
        labels : ndarray of shape (n_samples, k)
            The most probable first; the first column is :meth:`predict`.
        proba : ndarray of shape (n_samples, k)
            Their probabilities among all classes, see :meth:`predict_proba`. Images that could not
            be read have the missing answer of :meth:`predict` throughout, and NaN.

        Raises
        ------
        ValueError
            If there are fewer than `k` classes, or `k` is below 1.
        TypeError
            If `k` is not an integer.
        """
        check_is_fitted(self)
        if not isinstance(k, Integral) or isinstance(k, bool):
            raise TypeError(f"k is {k!r}; it is an integer.")
        if not 1 <= k <= len(self.classes_):
            raise ValueError(
                f"k is {k}, but there are {len(self.classes_)} classes; k is from 1 to that."
            )
        best, proba = self._in_blocks(X, partial(_most_probable, k=k))
        return answers(self.classes_, best), proba

    def restrict(self: Classifier, labels: Labels) -> Classifier:
        """Return a fitted view that answers with some of the classes only.

        Parameters
        ----------
        labels : array-like
            Labels among `classes_`, for example ``clf.classes_[~clf.is_new_]``.

        Returns
        -------
        view : object
            Classifier that shares the fitted state; logits are those of this classifier.

        Raises
        ------
        ValueError
            If `labels` is empty, or one of them is not in `classes_`.
        """
        check_is_fitted(self)
        if isinstance(labels, str):
            raise TypeError(f"restrict got the single string {labels!r}; put it in a list.")
        wanted, known = np.ravel(labels).tolist(), set(self.classes_.tolist())
        unknown = [label for label in wanted if label not in known]
        if unknown:
            raise ValueError(f"restrict got {unknown[0]!r}, which is not one of the classes_.")
        if not wanted:
            raise ValueError("restrict got no label; name at least one of the classes_.")
        kept = np.flatnonzero(np.isin(self.classes_, wanted))
        names = None if self.class_names_ is None else [self.class_names_[i] for i in kept]
        view = copy(self)
        view._set_classes(LabelUniverse(self.classes_[kept], names), self._columns[kept])
        return view

    def add_classes(self: Classifier, names: Sequence[str] | Mapping[str, Any]) -> Classifier:
        """Return a fitted copy that also knows further classes by name.

        Nothing is trained. `CandleClassifier` leaves the logits of the other classes as they
        are; in `PublishedCandleClassifier` images attend to all classes, so that they change
        slightly.

        Parameters
        ----------
        names : list of str or mapping
            With string labels the names are the labels; with integer labels the new labels
            count on from the largest of `classes_`. A mapping goes from there to the words for
            the prompt, one or a list of synonyms; or to vectors, in the case that `text_encoder`
            is itself a mapping to vectors.

        Returns
        -------
        classifier : object
            Fitted classifier of the same type.

        Raises
        ------
        TypeError
            If a name is not a string.
        ValueError
            If a name is repeated or in `classes_`, or this classifier was fitted without text.
        """
        check_is_fitted(self)
        if isinstance(names, str):
            raise TypeError(f"add_classes got the single string {names!r}; put it in a list.")
        if self._text_encoder is None:
            raise ValueError(
                "This classifier was fitted without text, so a name says nothing to it. Fit it "
                "with a text_encoder."
            )
        vectors = isinstance(names, Mapping) and isinstance(self._text_encoder.encoder, Mapping)
        added = LabelUniverse(self.classes_, self.class_names_).added(
            list(names) if vectors else names
        )
        if not added.names:
            return copy(self)
        encoder, labels = self._text_encoder, added.classes
        if vectors:
            encoder, labels = encoder.with_vectors(names), list(names)
        if self.class_names_ is not None:
            encoder.check_names([*self.classes_, *labels], [*self.class_names_, *added.names])
        text_features = encoder(labels, added.names, self.n_features_in_)
        encoder.warn_of_codes(labels, added.names, names if isinstance(names, Mapping) else ())
        grown = copy(self)
        grown._model = self._model.with_classes(text_features.astype(self.text_features_.dtype))
        grown._append_classes(added)
        return grown

    def _append_classes(self, added):
        """Sort in the classes that the model has got as its last columns."""
        n_columns = len(self._model.counts)
        columns = np.append(self._columns, np.arange(n_columns - len(added.names), n_columns))
        labels = [*self.classes_.tolist(), *added.classes.tolist()]
        names = [*(self.class_names_ or [None] * len(self.classes_)), *added.names]
        order = sorted(range(len(labels)), key=labels.__getitem__)
        universe = LabelUniverse(
            sorted_labels(labels, self.classes_.dtype),
            None if self.class_names_ is None else [names[i] for i in order],
        )
        # a clone of the copy is to be fitted on the same universe
        if self._text_encoder is None:
            pass  # then a class needs images
        elif is_textual(self.classes_):
            self.new_classes = [
                *([] if self.new_classes is None else self.new_classes),
                *added.classes.tolist(),
            ]
            other_names = {
                label: name
                for label, name in zip(added.classes.tolist(), added.names, strict=True)
                if label != name
            }
            if other_names:
                self.class_names = _as_mapping(self.class_names) | other_names
        elif self.class_names_ is not None:
            self.class_names = dict(zip(labels, names, strict=True))
        self._set_classes(universe, columns[order])

    def _set_classes(self, universe, columns):
        """Public attributes of the classes, from columns of the model."""
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
        """Set what the frequencies of use add to the logits of `classes_`; by default nothing."""

    def _check_training_set(self, X, y, sample_weight):
        """Checked images and labels, the label universe, and what encodes its names.

        Returns
        -------
        data : TrainingSet
        universe : LabelUniverse
        text_encoder : ClassTextEncoder or None
        """
        categories = getattr(getattr(y, "dtype", None), "categories", None)
        X, y, sample_weight = self._check_images(X, y, sample_weight)
        text_encoder, no_text = class_text_encoder(
            self.text_encoder, self.templates, X.shape[1], self.device
        )
        if text_encoder is None:  # a category without images says nothing then
            categories = None
        universe = label_universe(y, self.new_classes, self.class_names, categories)
        classes = universe.classes
        text_features = None
        if text_encoder is None:
            self._check_without_text(no_text, np.setdiff1d(classes, y))
        else:
            text_features = text_encoder(classes, universe.names, X.shape[1]).astype(X.dtype)
            given = self.class_names if isinstance(self.class_names, Mapping) else ()
            text_encoder.warn_of_codes(classes, universe.names, given)
            X = of_moderate_length(X, X.dtype)
            X = unit(X) if self._to_unit_rows else X
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class, {classes.tolist()[0]!r}, and there are no new classes; at "
                "least two classes are needed. Name classes without images in new_classes."
            )
        y = np.searchsorted(classes, y)
        warn_at_chance(X, y, text_features)
        data = TrainingSet(X, y, sample_weight, text_features, len(classes))
        return data, universe, text_encoder

    def _check_images(self, X, y, sample_weight, reset=True):
        """Checked embeddings, labels and weights, without images of weight zero or not read."""
        check_label_types(y)
        _refuse_images(X)
        dtype = [np.float64, np.float32]
        X, y = validate_data(
            self,
            X,
            without_nulls(y),
            dtype=dtype,
            reset=reset,
            ensure_all_finite="allow-nan",
        )
        if y.dtype.kind == "f":  # others are classes; of many with one image it would warn
            check_classification_targets(y)
        sample_weight = check_sample_weight(
            sample_weight, X, dtype=X.dtype, ensure_non_negative=True
        )
        missing = missing_rows(X)
        if missing.any():
            warn_left_out(missing, y)
        used = (sample_weight > 0) & ~missing
        if not used.all():
            X, y, sample_weight = X[used], y[used], sample_weight[used]
        if len(y) == 0:
            raise ValueError("No sample has a positive weight; there is nothing to learn from.")
        return X, y, sample_weight

    def _check_without_text(self, reason, new_classes):
        if self._needs_text:
            raise ValueError(f"{type(self).__name__} needs text, but {reason}. Set text_encoder.")
        if len(new_classes):
            raise ValueError(
                f"The class {new_classes.tolist()[0]!r} has no image, and no text is in use: "
                f"{reason}. Set text_encoder to the model that made X, or use "
                "make_candle_pipeline."
            )
        if self.text_encoder is not None:
            warn_user(
                f"{reason}, so this fit learns from images alone. Set text_encoder to the model "
                "that made X, or to None to say that this is intended.",
                TextFeaturesWarning,
            )

    @contextmanager
    def _progress(self, total):
        """A function for the number of iterations and the objective, behind `verbose`."""
        bar = tqdm(total=total, desc=type(self).__name__, disable=not self.verbose)

        def report(n_iter, objective):
            bar.set_postfix_str(f"objective {objective:.4f}", refresh=False)
            bar.update(n_iter - bar.n)

        with bar:
            yield report
            bar.total = bar.n  # training may stop early
            bar.refresh()

    def _in_blocks(self, X, function):
        """`function` of the joint logits, one block of rows at a time; it may return a tuple.

        Besides `X` and the result, memory holds one block: `X` may be a memory map, and is
        converted to the precision of the model block by block.
        """
        check_is_fitted(self)
        results = None
        for n_samples, rows, _, logits in self._blocks(X):
            if self._log_prior is not None:
                logits += self._log_prior.astype(logits.dtype)
            value = function(logits)
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if part.dtype.kind == "i":  # positions of classes
                    part[np.isnan(logits[:, 0])] = MISSING
            if results is None:
                results = [np.empty((n_samples, *p.shape[1:]), dtype=p.dtype) for p in parts]
            for result, part in zip(results, parts, strict=True):
                result[rows] = part
        return tuple(results) if len(results) > 1 else results[0]

    def _blocks(self, X):
        """Number of rows in all; and of each block its slice, its rows, and their logits.

        Logits of images that could not be read are NaN, their rows some other vector.
        """
        _refuse_images(X)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan")
        scorer = self._model.scorer(resolve_device(self.device))
        dtype = self.prototypes_.dtype
        n_rows = max(BLOCK_LOGITS // max(self._model.counts.size, X.shape[1]), 1)
        for rows in gen_batches(len(X), n_rows):
            missing = missing_rows(X[rows], rows.start)
            block = np.where(missing[:, None], 1, X[rows]) if missing.any() else X[rows]
            if self.text_features_ is None:
                block = np.ascontiguousarray(block, dtype=dtype)
            else:  # where only directions matter, those of any length
                block = of_moderate_length(block, dtype, rows.start)
            logits = scorer.score(block)[:, self._columns]
            logits[missing] = np.nan
            yield len(X), rows, block, logits


def _as_mapping(class_names):
    """Names of string labels as a mapping."""
    if class_names is None:
        return {}
    return dict(
        class_names
        if isinstance(class_names, Mapping)
        else zip(class_names, class_names, strict=True)
    )


def _one_column_of_two(logits):
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def _most_probable(logits, k):
    """Positions of the largest logits, the first of equal ones first, and their probabilities."""
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return best, np.take_along_axis(softmax(logits, axis=1), best, axis=1)


def _refuse_images(X):
    """Raise where images are given instead of their embeddings."""
    if getattr(X, "ndim", 1) != 1 or isinstance(X, str) or not hasattr(X, "__getitem__"):
        return
    first = next(iter(X), None)
    kinds = str, bytes, bytearray, memoryview, os.PathLike, Image.Image
    if isinstance(first, kinds) or hasattr(first, "read"):
        raise TypeError(
            f"X holds images (the first is of type {type(first).__name__}) instead of their "
            "embeddings. Put a CLIPFeaturizer before this classifier, as make_candle_pipeline does."
        )
