"""The classes of a classifier: their texts, views on some of them, further ones by name."""

import os
from collections.abc import Mapping
from copy import copy

import numpy as np
from PIL import Image
from sklearn.utils.validation import check_is_fitted

from .._labels import is_textual
from .._warnings import warn_user
from ..exceptions import TextFeaturesWarning, WeightsNotAvailableError
from ._text_features import class_text_features, default_text_width


class LabelSpaceMixin:
    """Methods of :class:`skcandle.CandleClassifier` that change what it may answer.

    The fitted model has one column of logits a class, in the order in which classes came;
    `_columns` picks those of `classes_`, in sorted order.
    """

    def restrict(self, labels):
        """Return a fitted view that answers with some of the classes only.

        Parameters
        ----------
        labels : array-like
            Labels among `classes_`, for example ``clf.classes_[~clf.is_new_]``.

        Returns
        -------
        view : CandleClassifier
            Shares the fitted state; logits are those of this classifier.

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
        kept = np.isin(self.classes_, wanted)
        view = copy(self)
        view.classes_ = self.classes_[kept]
        view._set_class_attributes(self._columns[kept])
        return view

    def add_classes(self, names):
        """Return a fitted copy that also knows further classes by name.

        No image, no training; the logits of the other classes stay what they are (with
        attention they change slightly, as images attend to all classes).

        Parameters
        ----------
        names : list of str or mapping of str to vector
            With string labels the names are the labels; with integer labels the new labels
            count on from the largest of `classes_`. A mapping gives the text features, in the
            case that `text_encoder` is itself a mapping.

        Returns
        -------
        classifier : CandleClassifier

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
        if self.text_features_ is None:
            raise ValueError(
                "This classifier was fitted without text, so a name says nothing to it. Fit it "
                "with a text_encoder."
            )
        added = list(names)
        textual = is_textual(self.classes_)
        for name in added:
            if not isinstance(name, str):
                raise TypeError(f"add_classes got {name!r}; names are strings.")
        known = set(self.classes_.tolist() if textual else self._names_by_label().values())
        for name in added:
            if name in known:
                raise ValueError(f"add_classes got {name!r} twice or it is one of the classes_.")
            known.add(name)
        if not added:
            return copy(self)
        if textual:
            labels = np.array(added, dtype=object if self.classes_.dtype == object else None)
        else:
            labels = self.classes_.max() + 1 + np.arange(len(added), dtype=self.classes_.dtype)
        encoder = names if isinstance(names, Mapping) else self._encoder()
        keys = added if isinstance(names, Mapping) else labels
        text_features = class_text_features(
            encoder, keys, added, self.templates, self.n_features_in_
        )
        model = self._model.with_classes(text_features.astype(self.text_features_.dtype))

        grown = copy(self)
        grown._model = model
        everything = np.concatenate([self.classes_, labels])
        columns = np.concatenate(
            [self._columns, len(model.text_features) - len(added) + np.arange(len(added))]
        )
        order = np.argsort(everything)
        grown.classes_ = everything[order]
        grown._set_class_attributes(columns[order])
        # a clone of the copy is to be fitted on the same universe
        if textual:
            grown.new_classes = [*([] if self.new_classes is None else self.new_classes), *added]
        elif self.class_names is not None:
            named = self._names_by_label() | dict(zip(labels.tolist(), added, strict=True))
            grown.class_names = named
        return grown

    def _names_by_label(self):
        """Names of integer labels, as far as there are any."""
        if self.class_names is None:
            return {}
        if isinstance(self.class_names, Mapping):
            return dict(self.class_names)
        return dict(enumerate(self.class_names))

    def _set_class_attributes(self, columns):
        """Public per-class attributes from columns of the model."""
        self._columns = columns
        self.class_count_ = self._model.counts[columns]
        self.is_new_ = self.class_count_ == 0
        self.prototypes_ = self._model.image_prototypes[columns]
        text = self._model.text_features
        self.text_features_ = None if text is None else text[columns]
        if self.head == "anchored":
            self.logit_weights_ = self._model.weights.as_dict()

    def _encoder(self):
        """What `text_encoder` stands for, without loading anything."""
        if isinstance(self.text_encoder, str):
            from ..clip._featurizer import CLIPFeaturizer

            return CLIPFeaturizer(device=self.device)
        return self.text_encoder

    def _text_features(self, classes, names, is_new, n_features):
        """Text features of all classes, or None if this fit is without text."""
        reason = None
        if self.text_encoder is None:
            reason = "text_encoder=None"
        elif isinstance(self.text_encoder, str):
            width = default_text_width()
            if n_features != width:
                reason = (
                    f"X has {n_features} columns and the text features of the default CLIP have "
                    f"{width}"
                )
        if reason is None:
            encoder = self._encoder()
            try:
                return class_text_features(encoder, classes, names, self.templates, n_features)
            except WeightsNotAvailableError as error:
                if self.text_encoder is encoder:
                    raise
                raise WeightsNotAvailableError(
                    f'text_encoder="auto" stands for {encoder.model_name!r}, whose weights are '
                    "not here. Set text_encoder to the model that made X, or to None to learn from "
                    f"images alone. ({error})"
                ) from error
        if self.head == "published":
            raise ValueError(f"The published head needs text, but {reason}. Set text_encoder.")
        if is_new.any():
            raise ValueError(
                f"The class {classes[is_new].tolist()[0]!r} has no image, and no text is in use: "
                f"{reason}. Set text_encoder to the model that made X, or use "
                "make_candle_pipeline."
            )
        if self.text_encoder is not None:
            warn_user(
                f"{reason}, so this fit learns from images alone. Set text_encoder to the model "
                "that made X, or to None to say that this is intended.",
                TextFeaturesWarning,
            )
        return None


def refuse_images(X):
    """Raise where images are given instead of their embeddings."""
    if getattr(X, "ndim", 1) != 1 or isinstance(X, str) or not hasattr(X, "__getitem__"):
        return
    first = next(iter(X), None)
    if isinstance(first, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"X holds images (the first is of type {type(first).__name__}) instead of their "
            "embeddings. Put a CLIPFeaturizer before this classifier, as make_candle_pipeline does."
        )
