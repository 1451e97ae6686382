"""Which training images each weight of the joint logits is estimated from."""

import numpy as np

from .._devices import in_threads_for_data
from ._logit_weights import (
    CLIP_TEMPERATURE,
    DEFAULT_PROTOTYPE_WEIGHT,
    IMAGE_ONLY_TEMPERATURE,
    LogitWeights,
    fit_logit_weights,
    fit_temperature,
)
from ._pseudo_new import (
    effective_size,
    leave_one_out_split,
    pseudo_new_splits,
    without_singletons,
)

# Without labelled images nothing can be estimated, and prototypes matter once `add_unlabeled` has
# formed them. Chosen on the WHU sets of the benchmarks, where 0.2 is better if images of all
# classes are added, and 0.1 if those of a third.
NAMES_PROTOTYPE_WEIGHT = 0.15


@in_threads_for_data
def estimate_logit_weights(data, shrinkage, rng=None, **given):
    """Estimate those weights of the joint logits that are not given.

    If some class is new, all come from splits that hide classes. Otherwise, they come from images
    that are left out one by one. There are two exceptions: the offset, which is needed for classes
    that are added later, still comes from splits that hide classes; and the temperature is
    estimated last, on all images, while the other weights do not use the only image of a class.

    Parameters
    ----------
    data : TrainingSet
    shrinkage : float
    rng : numpy.random.Generator, optional
        See :func:`pseudo_new_splits`.
    **given : dict
        `temperature`, `prototype_weight` and `base_offset`: each a number or "auto".

    Returns
    -------
    weights : LogitWeights
    """
    has_text = data.text_features is not None
    start = {
        "temperature": CLIP_TEMPERATURE if has_text else IMAGE_ONLY_TEMPERATURE,
        "prototype_weight": DEFAULT_PROTOTYPE_WEIGHT,
        "base_offset": 0.0,
    }
    fixed = {name: float(value) for name, value in given.items() if value != "auto"}
    if not has_text:  # there are prototypes only, and no new classes
        fixed |= {"prototype_weight": 1.0, "base_offset": 0.0}
    if not len(data.y):
        return LogitWeights(**(start | {"prototype_weight": NAMES_PROTOTYPE_WEIGHT} | fixed))
    weights = LogitWeights(**(start | fixed))
    if len(fixed) == len(start):
        return weights
    some_are_new, hiding = len(np.unique(data.y)) < data.n_classes, []
    if some_are_new or "base_offset" not in fixed:
        hiding = pseudo_new_splits(data, shrinkage, rng)
    if some_are_new:
        return fit_logit_weights(hiding, hiding, weights, effective_size(data), fixed=fixed)
    split = leave_one_out_split(data, shrinkage)
    n_images = effective_size(data, singletons=False)
    estimated = fit_logit_weights(
        [without_singletons(split, data)], hiding, weights, n_images, fixed=fixed
    )
    if "temperature" in fixed:
        return estimated
    return fit_temperature([split], estimated, weights, effective_size(data))
