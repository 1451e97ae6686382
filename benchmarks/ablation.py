"""Parts of the method switched off in turn, for ``accuracy.py --ablation``.

What a parameter of `CandleClassifier` can switch off is switched off by it; for what has no
parameter, a function of the library is replaced while the classifier is fitted.
"""

from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from peers import FittedCandle, candle, candle_paper

from skcandle import CandleClassifier
from skcandle.classifier import _candle, _prototypes


def variant(name, doc, *, replaced=None, paper=False, **parameters):
    """A method that fits `CandleClassifier` with other parameters or with a replaced function."""
    make = CandleClassifier.paper if paper else CandleClassifier

    def method(task):
        with patch.object(*replaced) if replaced else nullcontext():
            return FittedCandle(make(random_state=0, **parameters), task)

    method.__name__, method.__doc__ = name, doc
    return method


def texts_as_images(text, image, weight, ridge=1.0):
    """Instead of `text_to_image`: centred texts are the virtual prototypes."""
    return np.eye(text.shape[1], dtype=text.dtype), text.copy()


def no_whitening(scatter, freedom):
    """Instead of `whitening_matrix`: plain cosines of centred embeddings."""
    return np.eye(len(scatter), dtype=scatter.dtype)


def nothing_left_out(space, X, y, sample_weight):
    """Instead of `transform_left_out`: each image meets the prototype it is part of."""
    return space.transform_images(X), space.transform(space.prototypes[y])


fit_logit_weights = _candle.fit_logit_weights


def no_zero_shot(*args, **kwargs):
    """Instead of `fit_logit_weights`: the same without CLIP's own similarities."""
    return replace(fit_logit_weights(*args, **kwargs), zero_shot=0.0)


LEFT_OUT = (_prototypes.PrototypeSpace, "transform_left_out", nothing_left_out)

ABLATION = [
    # the four parts of the paper
    variant("no_logit_adjustment", "Plain cross-entropy.", margin=0.0),
    variant("no_visual_prototypes", "CLIP's similarities with a scale.", prototype_weight=0.0),
    variant(
        "virtual_from_text",
        "Virtual prototypes are texts.",
        replaced=(_prototypes, "text_to_image", texts_as_images),
    ),
    variant("with_attention", "Cross-modal attention, off by default.", attention=True),
    # the corrections
    variant("no_shrinkage", "Class means as they are.", shrinkage=0.0),
    variant("no_whitening", "Cosines.", replaced=(_prototypes, "whitening_matrix", no_whitening)),
    variant("nothing_left_out", "No leave-one-out.", replaced=LEFT_OUT),
    variant("no_zero_shot", "No anchor.", replaced=(_candle, "fit_logit_weights", no_zero_shot)),
    variant("fixed_weight", "The prototypes' weight is 0.1.", prototype_weight=0.1),
    variant("no_offset", "Base and new classes as they come.", base_offset=0.0),
    variant("no_training", "The closed-form start.", max_iter=0),
    variant("no_anchor", "Training without a pull to its start.", anchor=0.0),
    candle,
    # the published head
    variant("paper_no_adjustment", "The paper, plain cross-entropy.", paper=True, margin=0.0),
    variant("paper_no_attention", "The paper, no attention.", paper=True, attention=False),
    candle_paper,
]
