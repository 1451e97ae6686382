"""The training of the paper: mini-batches, SGD, trained virtual prototypes."""

import math

import numpy as np
import torch
from torch import nn

from ._attention_head import SeededDropout, logit_groups
from ._losses import compensating_loss, log_prior

WARM_UP_RATE = 1e-5
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


def class_means(data):
    """Counts of all classes, and their visual prototypes: class means, or texts of new classes.

    Parameters
    ----------
    data : TrainingSet

    Returns
    -------
    counts : ndarray of shape (n_classes,)
    prototypes : ndarray of shape (n_classes, n_features)
        Class means; for classes without images, the texts.
    """
    counts = np.bincount(data.y, weights=data.sample_weight, minlength=data.n_classes)
    means = np.zeros_like(data.text_features)
    np.add.at(means, data.y, data.sample_weight[:, None] * data.X)
    seen = counts > 0
    means[seen] /= counts[seen, None]
    means[~seen] = data.text_features[~seen]
    return counts, means


def train(
    head,
    data,
    counts,
    prototypes,
    *,
    temperature,
    margin,
    prototype_scale,
    dropout,
    learning_rate,
    max_iter,
    batch_size,
    seed,
    callback=None,
):
    """Train the head and the virtual prototypes by SGD with momentum 0.9 and weight decay 5e-4.

    Every batch also contains the prototype of every class as one sample of the class. The loss is
    the sum of the compensating losses of the three logit groups.

    Parameters
    ----------
    head : AttentionHead
        Changed in place.
    data : TrainingSet
    counts : ndarray of shape (n_classes,)
    prototypes : ndarray of shape (n_classes, n_features)
        For classes without images, the initial virtual prototypes.
    temperature, margin, prototype_scale, dropout, learning_rate : float
    max_iter : int
        Epochs.
    batch_size : int
        Number of images in a mini-batch.
    seed : int
        Seeds the order of the images and the dropout.
    callback : callable, optional
        Called after each epoch, with its number and its mean loss.

    Returns
    -------
    losses : list of float
        Mean loss per sample of each epoch.
    prototypes : ndarray of shape (n_classes, n_features)
        With trained virtual prototypes.
    """
    like = head.image_projection

    def tensor(array):
        return torch.tensor(np.ascontiguousarray(array), device=like.device, dtype=like.dtype)

    X, texts, means = tensor(data.X), tensor(data.text_features), tensor(prototypes)
    y, sample_weight = torch.tensor(data.y, device=like.device), tensor(data.sample_weight)
    prior, classes = log_prior(tensor(counts)), torch.arange(data.n_classes, device=like.device)
    ones = torch.ones_like(prior)
    new = torch.tensor(np.flatnonzero(counts == 0), device=like.device)
    virtual = nn.Parameter(means[new])  # a copy: training does not change the texts
    optimizer = torch.optim.SGD(
        [*head.parameters(), virtual], momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    order = torch.Generator().manual_seed(seed)
    drop = None
    if dropout:
        drop = SeededDropout(dropout, torch.Generator(like.device).manual_seed(seed))
    losses = []
    for epoch in range(max_iter):
        optimizer.param_groups[0]["lr"] = rate_of_epoch(epoch, learning_rate, max_iter)
        sums = []  # of losses and weights, read once per epoch, since reading waits for a GPU
        for rows in batches(len(X), batch_size, order, like.device):
            target, weight = torch.cat([y[rows], classes]), torch.cat([sample_weight[rows], ones])
            current = means.index_copy(0, new, virtual)
            groups = logit_groups(head, X[rows], texts, current, temperature, prototype_scale, drop)
            loss = sum(compensating_loss(s, target, prior, margin, weight) for s in groups)
            optimizer.zero_grad()
            (loss / weight.sum()).backward()
            optimizer.step()
            sums.append(torch.stack([loss.detach(), weight.sum()]))
        total = weight_sum = 0.0
        for batch_loss, batch_weight in torch.stack(sums).tolist():
            total, weight_sum = total + batch_loss, weight_sum + batch_weight
        losses.append(total / weight_sum)
        if callback is not None:
            callback(epoch + 1, losses[-1])
    return losses, means.index_copy(0, new, virtual.detach()).cpu().numpy()


def rate_of_epoch(epoch, learning_rate, max_iter):
    """One epoch of warm-up, then a half cosine from `learning_rate` towards zero."""
    if epoch == 0:
        return WARM_UP_RATE
    return learning_rate * (1 + math.cos(math.pi * (epoch - 1) / max_iter)) / 2


def batches(n_images, batch_size, generator, device="cpu"):
    """Rows of each mini-batch of an epoch; an incomplete last batch is dropped if not alone."""
    rows = torch.randperm(n_images, generator=generator).to(device)
    if n_images > batch_size:
        rows = rows[: n_images // batch_size * batch_size]
    return rows.split(batch_size)
