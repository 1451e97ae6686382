r"""The trained projection of images and prototypes, held near the identity by a penalty.

.. math:: \min_A \sum_i w_i \ell(x_i, y_i) + \sum_k \ell(p_k, k) + \frac{\alpha}{2} \|A - I\|_F^2

The joint logits score every image, and every class prototype as one more image of its class. The
loss is the compensating logit-adjusted one. It is a sum, so the more images there are, the less the
penalty counts.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from .._devices import exact_matmul, in_threads_for_data
from ._embeddings import unit
from ._logit_weights import (
    BONUS_HALF_COUNT,
    OFFSET_HALF_COUNT,
    own_similarity,
    prototype_similarity,
    saturation,
)
from ._losses import compensating_loss, log_prior
from ._pseudo_new import balanced_rows

# Rows at a time. This bounds the memory and does not change the result.
BLOCK_ROWS = 4096
# These bound the time of training: similarities of images to classes, with at least so many images
# per class. On simulated features, which gain from training, eight images per class instead of
# thirty keep four fifths of the gain; real ones with that many images gained nothing from training.
MAX_SIMILARITIES = 8_000_000
MIN_IMAGES_PER_CLASS = 8


class ProjectionObjective(nn.Module):
    """The objective of the projection, as a sum of parts that each need little memory.

    Parameters
    ----------
    data : TrainingSet
    prototypes : TrainingPrototypes
    weights : LogitWeights
    penalty : float
        Strength of the pull towards the identity.
    device : torch.device
    """

    def __init__(self, data, prototypes, weights, penalty, device):
        super().__init__()
        space = prototypes.space
        dtype = getattr(torch, data.X.dtype.name)

        def tensor(array):
            return torch.tensor(array, device=device, dtype=dtype)

        # An image is compared to the prototype of its class *without* that image. Otherwise, the
        # only image of a class would be correct by construction.
        images, loss_weight = _training_images(data)
        rows, own_prototypes = prototypes.transform_left_out(
            images.X, images.y, images.sample_weight
        )
        self.images, self.own_prototypes = tensor(rows), tensor(own_prototypes)
        self.target = torch.tensor(images.y, device=device)
        self.loss_weight = tensor(loss_weight)
        self.prototypes = tensor(space.transform(space.prototypes))
        self.texts_of_images = self.texts_of_prototypes = None
        if data.text_features is not None:
            in_image_space = unit(space.prototypes + space.image_mean)
            self.texts_of_images = tensor(images.X @ data.text_features.T)
            self.texts_of_prototypes = tensor(in_image_space @ data.text_features.T)
        # the offset balances decisions between base and new classes; it is not part of the fit
        self.weights = replace(weights, base_offset=0.0)
        self.penalty = penalty
        self.normalize = space.normalize
        counts = tensor(space.counts)
        self.bonus_saturation = saturation(counts, BONUS_HALF_COUNT)
        self.offset_saturation = saturation(counts, OFFSET_HALF_COUNT)
        self.log_prior = log_prior(counts)
        self.n_samples = self.loss_weight.sum() + len(counts)
        self.identity = torch.eye(data.X.shape[1], device=device, dtype=dtype)
        self.projection = nn.Parameter(self.identity.clone())

    def parts(self):
        """Yield the losses of blocks of images, that of the prototypes, and the penalty."""
        for start in range(0, len(self.images), BLOCK_ROWS):
            yield self._image_loss(slice(start, start + BLOCK_ROWS)) / self.n_samples
        yield self._prototype_loss() / self.n_samples
        yield self._penalty() / self.n_samples

    def image_similarity(self, rows):
        """Similarities of images to the prototypes; that of their class is formed without them."""
        tokens = self._project(self.images[rows])
        similarity = prototype_similarity(tokens, self._project(self.prototypes))
        own = own_similarity(tokens, self._project(self.own_prototypes[rows]), self.normalize)
        return similarity.scatter(1, self.target[rows, None], own[:, None])

    def _image_loss(self, rows):
        texts = None if self.texts_of_images is None else self.texts_of_images[rows]
        return self._loss(
            texts, self.image_similarity(rows), self.target[rows], self.loss_weight[rows]
        )

    def _prototype_loss(self):
        prototypes = self._project(self.prototypes)
        similarity = prototype_similarity(prototypes, prototypes)
        classes = torch.arange(len(prototypes), device=prototypes.device)
        return self._loss(self.texts_of_prototypes, similarity, classes)

    def _penalty(self):
        return self.penalty / 2 * ((self.projection - self.identity) ** 2).sum()

    def _loss(self, text_similarity, similarity, target, sample_weight=None):
        logits = self.weights.joint_logits(
            text_similarity, similarity, self.bonus_saturation, self.offset_saturation
        )
        # Predictions add (1 - margin) log prior to these logits, and the loss adds margin times log
        # prior to those: the sum is the log prior, whatever the margin.
        return compensating_loss(logits, target, self.log_prior, 1.0, sample_weight)

    def _project(self, tokens):
        r"""Project rows. If directions are compared, each row keeps its length.

        A left-out image is :math:`M x / \|x\|_M`, and the prototype of its class :math:`p /
        \|p\|_M`, in the metric `M` that leaves the image out. Their scalar product is
        :math:`\cos_M(x, p) = x^T M p / (\|x\|_M \|p\|_M)`. Scaling them to Euclidean length one
        would turn it into the cosine of :math:`M x` and `p`. As they keep their lengths, the
        similarities at the identity are the ones that the weights were estimated from.
        """
        projected = tokens @ self.projection
        if not self.normalize:
            return projected
        return normalize(projected) * tokens.norm(dim=-1, keepdim=True)


def _training_images(data):
    """Images to train on, and their weights in the loss, which sum to the count of each class."""
    max_images = max(MAX_SIMILARITIES // data.n_classes, MIN_IMAGES_PER_CLASS * data.n_classes)
    images = data.at(balanced_rows(data, max_images))
    if len(images.y) == len(data.y):
        return images, images.sample_weight
    return images, images.sample_weight * (data.counts[images.y] / images.counts[images.y])


@in_threads_for_data
def train_projection(data, prototypes, weights, *, penalty, max_iter, device, callback=None):
    """Minimise the objective by full-batch L-BFGS, from the identity.

    Parameters
    ----------
    data : TrainingSet
    prototypes : TrainingPrototypes
    weights : LogitWeights
    penalty : float
    max_iter : int
        0 keeps the identity.
    device : torch.device
    callback : callable, optional
        Called after each evaluation, with the number of iterations and the objective.

    Returns
    -------
    projection : ndarray of shape (n_features, n_features)
    losses : list of float
        Objective per sample at each evaluation, the first at the identity.
    n_iter : int
    """
    if not max_iter:
        return np.eye(data.X.shape[1], dtype=data.X.dtype), [], 0
    # in this order, because inference mode also disables gradients
    with torch.inference_mode(False), torch.enable_grad(), exact_matmul(device):
        objective = ProjectionObjective(data, prototypes, weights, penalty, device)
        losses, n_iter = _minimise(objective, max_iter, callback)
    return objective.projection.detach().cpu().numpy(), losses, n_iter


def _minimise(objective, max_iter, callback):
    """Minimise the objective; return its values at all evaluations and the number of iterations."""
    optimizer = torch.optim.LBFGS(
        objective.parameters(),
        max_iter=max_iter,
        max_eval=4 * max_iter,
        history_size=5,  # two copies of the parameters each
        tolerance_grad=1e-6,
        tolerance_change=1e-4,  # smaller steps change accuracy and log-loss by nothing measurable
        line_search_fn="strong_wolfe",
    )
    state = optimizer.state[objective.projection]
    values: list = []  # of the objective

    def evaluate():
        optimizer.zero_grad()
        total = 0.0
        for part in objective.parts():
            part.backward()
            total = total + part.detach()
        values.append(total)  # as a tensor, since reading its value would wait for a GPU
        if callback is not None:
            callback(state["n_iter"], float(total))
        return total

    optimizer.step(evaluate)
    losses = torch.stack(values).tolist()
    if callback is not None:
        callback(state["n_iter"], losses[-1])
    return losses, state["n_iter"]
