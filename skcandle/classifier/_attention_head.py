"""The head of the paper: shared projections, cross-modal attention, and three logit groups.

Notation of the paper: image features x, text features t, visual prototypes p (of new classes:
virtual prototypes). All three are rows of tokens of the same width.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .._locks import ForkSafeLock

_global_generator = ForkSafeLock()


class AttentionHead(nn.Module):
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
    n_heads : int, default=8
        Number of attention heads; lowered to the next divisor of `dim` where it is none.
    residual_weight : float, default=0.1
        Start of :math:`\lambda`. 0 starts without attention.
    """

    def __init__(self, dim, *, n_heads=8, residual_weight=0.1):
        super().__init__()
        self.image_projection = nn.Parameter(torch.eye(dim))
        self.text_projection = nn.Parameter(torch.eye(dim))
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

    def project(self, images):
        """Image tokens, or prototypes, before attention."""
        return images @ self.image_projection

    def project_classes(self, texts, prototypes):
        """Texts and prototypes before attention."""
        return texts @ self.text_projection, self.project(prototypes)

    def attend_classes(self, texts, prototypes):
        """Texts and prototypes after attention, from tokens before attention."""
        tokens = torch.cat([texts, prototypes])
        normed = self.norm(tokens)
        update, _ = self.attention(normed, normed, normed, need_weights=False)
        attended = tokens + self.residual_weight * update
        return attended[: len(texts)], attended[len(texts) :]

    def attend_images(self, images, texts, prototypes):
        """Images after attention, from tokens before attention."""
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


def cosine(rows, columns):
    """Cosine similarities, of shape (n_rows, n_columns)."""
    return F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T


def logit_groups(head, images, texts, prototypes, temperature, prototype_scale):
    """The three logit groups of the paper, from features before projection.

    Parameters
    ----------
    head : AttentionHead
    images : Tensor of shape (n_images, dim)
    texts, prototypes : Tensor of shape (n_classes, dim)
    temperature, prototype_scale : float

    Returns
    -------
    image_text : Tensor of shape (n_images, n_classes)
        Image to text, before attention.
    image_text_attended : Tensor of shape (n_images, n_classes)
        Image to text, after attention.
    image_prototype : Tensor of shape (n_images, n_classes)
        Image to prototype after attention, times `prototype_scale`.
    """
    before = head.project_classes(texts, prototypes)
    after = head.attend_classes(*before)
    projected = head.project(images)
    image_text = cosine(projected, before[0]) / temperature
    attended = attended_groups(head, projected, before, after, temperature, prototype_scale)
    return image_text, *attended


def attended_groups(head, projected, before, after, temperature, prototype_scale):
    """The two logit groups after attention, whose sum is the prediction.

    Parameters
    ----------
    head : AttentionHead
    projected : Tensor of shape (n_images, dim)
        Images after projection.
    before, after : tuple of Tensor of shape (n_classes, dim)
        Texts and prototypes before and after attention.
    temperature, prototype_scale : float
    """
    images = head.attend_images(projected, *before)
    return (
        cosine(images, after[0]) / temperature,
        prototype_scale * cosine(images, after[1]) / temperature,
    )
