"""Variants of the method with one part switched off, for ``compare --ablation``.

If a parameter of `CandleClassifier` can switch off the part, the variant sets it. Otherwise a
function of the library is replaced while the classifier is fitted and used.
"""

from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.accuracy.peers import FittedCandle, candle, published_candle
from skcandle import CandleClassifier, PublishedCandleClassifier
from skcandle.classifier import _model, _projection, _prototypes, _single_images
from skcandle.classifier._logit_weights import LogitWeights


class UnderPatch:
    """Scores of a fitted classifier while a function of the library is replaced."""

    def __init__(self, fitted, replacing):
        self.fitted = fitted
        self.replacing = replacing

    def __call__(self, Z):
        with self.replacing():
            return self.fitted(Z)

    def predict_proba(self, Z):
        with self.replacing():
            return self.fitted.predict_proba(Z)


def variant(name, doc, *, replaced=None, estimator=CandleClassifier, **parameters):
    """A method that fits a classifier with other parameters or with a replaced function."""

    def replacing():
        return patch.object(*replaced) if replaced else nullcontext()

    def method(task):
        with replacing():
            return UnderPatch(FittedCandle.fit(estimator(**parameters), task), replacing)

    method.__name__, method.__doc__ = name, doc
    return method


def equal_prior(counts):
    """Replaces `log_prior` in training, which gives plain cross-entropy."""
    return torch.zeros_like(counts)


def texts_as_images(text, image, weight, ridge=1.0):
    """Replaces `text_to_image`: centred texts are the virtual prototypes."""
    return np.eye(text.shape[1], dtype=text.dtype), text.copy()


def no_whitening(scatter, freedom):
    """Replaces `whitening_matrix`, which gives plain cosines of centred embeddings."""
    return np.eye(len(scatter), dtype=scatter.dtype)


def nothing_left_out(prototypes, X, y, sample_weight):
    """Replaces `transform_left_out`: an image is compared with a prototype that includes it."""
    space = prototypes.space
    return space.transform_images(X), space.transform(space.prototypes[y])


joint_logits = LogitWeights.joint_logits


def without_text_similarity(weights, text_similarity, *others):
    """Replaces `joint_logits`: the same without CLIP's own similarities."""
    return joint_logits(weights, None, *others)


def without_gate(logits, residual):
    """Replaces `gate`: the term may take probability from classes without images."""
    return logits + residual


def labels_alone(logits, y):
    """Replaces `negative_gradient`: the term fits the labels, not what is wrong with the logits."""
    return np.eye(logits.shape[1])[y]


LEFT_OUT = (_prototypes.TrainingPrototypes, "transform_left_out", nothing_left_out)
NO_TEXT_SIMILARITY = (LogitWeights, "joint_logits", without_text_similarity)

ABLATION = [
    # the parts of the paper
    variant(
        "no_logit_adjustment",
        "Plain cross-entropy.",
        replaced=(_projection, "log_prior", equal_prior),
    ),
    variant("no_visual_prototypes", "CLIP's similarities with a scale.", prototype_weight=0.0),
    variant(
        "virtual_from_text",
        "Virtual prototypes are texts.",
        replaced=(_prototypes, "text_to_image", texts_as_images),
    ),
    # the corrections
    variant("no_shrinkage", "Class means without shrinkage.", shrinkage=0.0),
    variant(
        "no_whitening", "Plain cosines.", replaced=(_prototypes, "whitening_matrix", no_whitening)
    ),
    variant("nothing_left_out", "No leave-one-out.", replaced=LEFT_OUT),
    variant("no_zero_shot", "No image-to-text similarity.", replaced=NO_TEXT_SIMILARITY),
    variant("fixed_weight", "The weight of the prototypes is 0.1.", prototype_weight=0.1),
    variant("no_offset", "No offset between base and new classes.", base_offset=0.0),
    variant("no_single_images", "Prototypes alone.", single_image_weight=0.0),
    variant(
        "no_gate",
        "Single images also move probability between base and new classes.",
        replaced=(_model, "gate", without_gate),
    ),
    variant(
        "single_images_fit_labels",
        "The single-image term fits the labels.",
        replaced=(_single_images, "negative_gradient", labels_alone),
    ),
    variant("no_training", "The closed-form start.", max_iter=0),
    variant("no_penalty", "Training without a penalty for leaving the start.", penalty=0.0),
    candle,
    # the published head
    variant(
        "published_no_adjustment",
        "The paper, plain cross-entropy.",
        estimator=PublishedCandleClassifier,
        margin=0.0,
        random_state=0,
    ),
    published_candle,
]
