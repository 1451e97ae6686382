"""The trainable head: shared projections, cross-modal attention, and the two ways to train it.

Notation of the paper: image features x, text features t, visual prototypes p (of new classes:
virtual prototypes). All three are rows of tokens of the same width.
"""

import math
from contextlib import contextmanager
from threading import Lock

import torch
from torch import nn
from torch.nn import functional as F

from ._losses import compensating_loss, log_prior

_global_generator = Lock()


class CandleHead(nn.Module):
    r"""Projections and cross-modal attention over image, text and prototype tokens.

    Images and prototypes share the projection :math:`A_{image}`, texts have
    :math:`A_{text}`; both start as the identity. The projected tokens :math:`z` then become
    :math:`z + \lambda\, \mathrm{MHA}(\mathrm{LN}(z))` with a learnable :math:`\lambda`.

    Class tokens (texts and prototypes) attend to class tokens; an image attends to class tokens
    and to itself. Images do not see each other, so a prediction does not depend on the batch.

    Parameters
    ----------
    dim : int
        Width of the tokens.
    attention : bool, default=True
    n_heads : int, default=8
        Number of attention heads; lowered to the next divisor of `dim` where it is none.
    residual_weight : float, default=0.1
        Start of :math:`\lambda`. 0 starts without attention.
    """

    def __init__(self, dim, *, attention=True, n_heads=8, residual_weight=0.1):
        super().__init__()
        self.image_projection = nn.Parameter(torch.eye(dim))
        self.text_projection = nn.Parameter(torch.eye(dim))
        self.attention = None
        if attention:
            self.norm = nn.LayerNorm(dim)
            self.attention = nn.MultiheadAttention(dim, math.gcd(dim, n_heads))
            self.residual_weight = nn.Parameter(torch.tensor(float(residual_weight)))

    @classmethod
    def seeded(cls, seed, dim, **options):
        """A head whose start depends on `seed` alone and leaves torch's generator untouched."""
        # torch initialises modules from its global generator, which all threads share
        with _global_generator, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(dim, **options)

    def project(self, images=None, texts=None, prototypes=None):
        """Tokens before attention; None stays None."""
        tokens = (images, texts, prototypes)
        projections = (self.image_projection, self.text_projection, self.image_projection)
        return [None if z is None else z @ A for z, A in zip(tokens, projections, strict=True)]

    def attend_classes(self, texts, prototypes):
        """Texts and prototypes after attention, from tokens before attention."""
        if self.attention is None:
            return texts, prototypes
        tokens = torch.cat([texts, prototypes])
        normed = self.norm(tokens)
        update, _ = self.attention(normed, normed, normed, need_weights=False)
        attended = tokens + self.residual_weight * update
        return attended[: len(texts)], attended[len(texts) :]

    def attend_images(self, images, texts, prototypes):
        """Images after attention, from tokens before attention."""
        if self.attention is None:
            return images
        dim, n_heads = images.shape[1], self.attention.num_heads
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        query, own_key, own_value = (
            F.linear(self.norm(images), weight, bias).unflatten(1, (3, n_heads, -1)).unbind(1)
        )
        key, value = (
            F.linear(self.norm(torch.cat([texts, prototypes])), weight[dim:], bias[dim:])
            .unflatten(1, (2, n_heads, -1))
            .unbind(1)
        )
        # One softmax over the class tokens and the image itself. The keys of all images side by
        # side under a mask, as torch's own module wants them, would cost n_images squared.
        to_classes = torch.einsum("nhe,khe->nhk", query, key)
        to_itself = (query * own_key).sum(-1, keepdim=True)
        scores = torch.cat([to_classes, to_itself], dim=-1) / math.sqrt(dim / n_heads)
        attention = scores.softmax(-1)
        update = torch.einsum("nhk,khe->nhe", attention[..., :-1], value)
        update = update + attention[..., -1:] * own_value
        return images + self.residual_weight * self.attention.out_proj(update.flatten(1))

    def forward(self, images, texts, prototypes):
        """Tokens before and after attention.

        Parameters
        ----------
        images : Tensor of shape (n_images, dim)
        texts, prototypes : Tensor of shape (n_classes, dim)

        Returns
        -------
        before, after : tuple of Tensor
            Images, texts and prototypes.
        """
        before = self.project(images, texts, prototypes)
        after_images = self.attend_images(*before)
        return before, (after_images, *self.attend_classes(before[1], before[2]))


def cosine(rows, columns):
    """Cosine similarities, of shape (n_rows, n_columns)."""
    return F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T


def published_logits(head, images, texts, prototypes, temperature, prototype_scale):
    """The three logit groups of the paper.

    Returns
    -------
    image_text : Tensor of shape (n_images, n_classes)
        Image to text, before attention.
    image_text_attended : Tensor of shape (n_images, n_classes)
        Image to text, after attention.
    image_prototype : Tensor of shape (n_images, n_classes)
        Image to prototype after attention, times `prototype_scale`.
    """
    before, after = head(images, texts, prototypes)
    return (
        cosine(before[0], before[1]) / temperature,
        cosine(after[0], after[1]) / temperature,
        prototype_scale * cosine(after[0], after[2]) / temperature,
    )


def attended_class_tokens(head, texts, prototypes):
    """Class tokens before and after attention; they do not depend on the images."""
    _, *before = head.project(None, texts, prototypes)
    return before, head.attend_classes(*before)


def published_prediction(head, images, class_tokens, temperature, prototype_scale):
    """Logits at prediction: the sum of the two groups after attention."""
    before, (texts, prototypes) = class_tokens
    projected, _, _ = head.project(images)
    attended = head.attend_images(projected, *before)
    similarity = cosine(attended, texts) + prototype_scale * cosine(attended, prototypes)
    return similarity / temperature


def train_published(
    head,
    data,
    *,
    temperature,
    margin,
    prototype_scale,
    learning_rate,
    max_iter,
    batch_size,
    generator,
    callback=None,
):
    """Train as published: mini-batches, SGD with momentum 0.9, cosine schedule, weight decay 5e-4.

    Every batch also holds the prototype of every class as one sample of the class. The loss is
    the sum of the compensating losses of the three logit groups.

    Parameters
    ----------
    head : CandleHead
    data : TrainingData
    temperature, margin, prototype_scale, learning_rate : float
    max_iter : int
        Epochs.
    batch_size : int
        Images of a mini-batch.
    generator : torch.Generator
        Order of the images.
    callback : callable, optional
        Called after each epoch with its number and its mean loss.

    Returns
    -------
    losses : list of float
        Mean loss per sample of each epoch.
    n_iter : int
    """
    prior = log_prior(data.counts)
    n_classes = len(data.prototypes)
    classes = torch.arange(n_classes, device=data.target.device)
    ones = torch.ones(n_classes, dtype=data.weight.dtype, device=data.weight.device)
    optimizer = torch.optim.SGD(
        head.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(max_iter, 1))
    losses = []
    for epoch in range(max_iter):
        total = weight_sum = 0.0
        for rows in torch.randperm(len(data.images), generator=generator).split(batch_size):
            rows = rows.to(data.images.device)
            images = torch.cat([data.images[rows], data.prototypes])
            target = torch.cat([data.target[rows], classes])
            weight = torch.cat([data.weight[rows], ones])
            groups = published_logits(
                head, images, data.texts, data.prototypes, temperature, prototype_scale
            )
            loss = sum(compensating_loss(s, target, prior, margin, weight) for s in groups)
            optimizer.zero_grad()
            (loss / weight.sum()).backward()
            optimizer.step()
            total, weight_sum = total + loss.item(), weight_sum + weight.sum().item()
        schedule.step()
        losses.append(total / weight_sum)
        if callback is not None:
            callback(epoch + 1, losses[-1])
    return losses, max_iter


class TrainingData:
    """Tensors of one fit, on the device.

    Attributes
    ----------
    images : Tensor of shape (n_images, dim)
    target : Tensor of shape (n_images,)
    weight : Tensor of shape (n_images,)
    counts : Tensor of shape (n_classes,)
    texts, prototypes : Tensor of shape (n_classes, dim)
    own_prototypes : Tensor of shape (n_images, dim) or None
        For each image the prototype of its class without the image.
    fixed_logits, prototype_fixed_logits : Tensor or None
        Logits that training leaves as they are, of the images and of the prototypes.
    prototype_weight : Tensor of shape (n_classes,) or None
        Weight of the image-to-prototype similarities.
    """

    def __init__(self, device, dtype, **arrays):
        for name, array in arrays.items():
            # a copy: fitted arrays may be read-only memory maps
            tensor = None if array is None else torch.tensor(array, device=device)
            if tensor is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            setattr(self, name, tensor)


def anchored_logits(head, data, images, fixed_logits, normalize, class_tokens=None):
    r"""Logits of the anchored head: fixed part plus weighted similarity to the prototypes.

    The similarity is :math:`\langle u, v_k \rangle - \|v_k\|^2 / 2`: the cosine where tokens are
    normalised, up to a constant, and otherwise the Gaussian discriminant, up to a term that all
    classes share.

    Returns
    -------
    logits : Tensor of shape (n_images, n_classes)
    tokens : Tensor of shape (n_images, dim)
        Images after projection and attention.
    """
    scale = _unit if normalize else _as_is
    (texts, prototypes), (_, attended) = class_tokens or attended_class_tokens(
        head, data.texts, data.prototypes
    )
    projected, _, _ = head.project(images)
    tokens = scale(head.attend_images(projected, texts, prototypes))
    classes = scale(attended)
    similarity = tokens @ classes.T - (classes**2).sum(-1) / 2
    logits = data.prototype_weight * similarity
    return logits if fixed_logits is None else logits + fixed_logits, tokens


def train_anchored(head, data, *, margin, anchor, normalize, max_iter, batch_size, callback=None):
    r"""Train from a closed-form start, held there by a penalty: full batch, L-BFGS.

    .. math:: \min_\theta \sum_i w_i \ell(x_i, y_i) + \sum_k \ell(p_k, k)
              + \frac{a}{2} \|\theta - \theta_0\|^2

    The loss is a sum, so the anchor `a` weighs less the more images there are. An image is
    compared to the prototype of its class *without* that image; otherwise a class of one image
    would be right by construction.

    Parameters
    ----------
    head : CandleHead
    data : TrainingData
    margin, anchor : float
    normalize : bool
        Compare directions; see :func:`anchored_logits`.
    max_iter : int
    batch_size : int
        Rows at a time; bounds the memory and does not change the result.
    callback : callable, optional
        Called after each evaluation with its number and the objective.

    Returns
    -------
    losses : list of float
        Objective per sample at each evaluation. The first is the closed-form start.
    n_iter : int
        L-BFGS iterations.
    """
    parameters = [q for q in head.parameters() if q.requires_grad]
    start = [q.detach().clone() for q in parameters]
    prior = log_prior(data.counts)
    classes = torch.arange(len(data.prototypes), device=data.target.device)
    n_samples = data.weight.sum() + len(classes)
    scale = _unit if normalize else _as_is
    losses = []

    def sample_loss(rows):
        class_tokens = attended_class_tokens(head, data.texts, data.prototypes)
        (_, prototypes), (_, attended) = class_tokens
        fixed = None if data.fixed_logits is None else data.fixed_logits[rows]
        logits, tokens = anchored_logits(
            head, data, data.images[rows], fixed, normalize, class_tokens
        )
        target = data.target[rows]
        # what attention adds to a prototype does not change with one of its images
        own = head.project(data.own_prototypes[rows])[0] + (attended - prototypes)[target]
        own = scale(own)
        similarity = (tokens * own).sum(-1) - (own**2).sum(-1) / 2
        own_logits = data.prototype_weight[target] * similarity
        if fixed is not None:
            own_logits = own_logits + fixed.gather(1, target[:, None])[:, 0]
        logits = logits.scatter(1, target[:, None], own_logits[:, None])
        return compensating_loss(logits, target, prior, margin, data.weight[rows])

    def prototype_loss():
        logits, _ = anchored_logits(
            head, data, data.prototypes, data.prototype_fixed_logits, normalize
        )
        return compensating_loss(logits, classes, prior, margin)

    def penalty():
        distances = [((q - s) ** 2).sum() for q, s in zip(parameters, start, strict=True)]
        return anchor / 2 * sum(distances)

    def objective():
        optimizer.zero_grad()
        total = 0.0
        row_blocks = torch.arange(len(data.images), device=data.target.device).split(batch_size)
        # gradients add up over the blocks, so memory does not grow with the number of images
        for part in [*(lambda rows=rows: sample_loss(rows) for rows in row_blocks),
                     prototype_loss, penalty]:  # fmt: skip
            loss = part() / n_samples
            loss.backward()
            total = total + loss.detach()
        losses.append(float(total))
        if callback is not None:
            callback(len(losses), losses[-1])
        return total

    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iter,
        max_eval=4 * max_iter,
        history_size=5,  # two copies of the parameters each
        tolerance_grad=1e-6,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(objective)
    return losses, optimizer.state[parameters[0]]["n_iter"]


def _unit(tokens):
    return F.normalize(tokens, dim=-1)


def _as_is(tokens):
    return tokens


@contextmanager
def exact_matmul(device):
    """Do not round float32 products to TF32 on CUDA, so that a GPU gives what a CPU gives."""
    if device.type != "cuda":
        yield
        return
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
