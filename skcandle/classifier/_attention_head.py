"""The head of the paper: shared projections, cross-modal attention, and three logit groups.

In the notation of the paper, x are image features, t text features and p visual prototypes (virtual
prototypes for new classes). All three are rows of tokens of the same width.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .._devices import seeded_defaults

N_HEADS = 8
RESIDUAL_WEIGHT = 0.1  # start of the learnable weight of attention


class AttentionHead(nn.Module):
    r"""Projections and cross-modal attention over image, text and prototype tokens.

    Images and prototypes share the projection :math:`A_{image}`, texts have
    :math:`A_{text}`; both start as the identity. The projected tokens :math:`z` then become
    :math:`\mathrm{LN}(z) + \lambda\, \mathrm{MHA}(\mathrm{LN}(z))` with a learnable
    :math:`\lambda`.

    Class tokens (texts and prototypes) attend to class tokens; an image attends to class tokens
    and to itself. Images do not attend to each other, so predictions do not depend on the batch.

    Parameters
    ----------
    dim : int
        Width of the tokens. The number of attention heads is its greatest common divisor with
        `N_HEADS`.
    """

    def __init__(self, dim):
        super().__init__()
        self.image_projection = nn.Parameter(torch.eye(dim))
        self.text_projection = nn.Parameter(torch.eye(dim))
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, math.gcd(dim, N_HEADS))
        self.residual_weight = nn.Parameter(torch.tensor(RESIDUAL_WEIGHT))

    @classmethod
    def seeded(cls, seed, dim):
        """A head initialised from `seed`; torch's global generator is not changed."""
        with seeded_defaults(seed):
            return cls(dim)

    def project(self, images):
        """Image tokens, or prototypes, before attention."""
        return images @ self.image_projection

    def project_classes(self, texts, prototypes):
        """Texts and prototypes before attention."""
        return texts @ self.text_projection, self.project(prototypes)

    def attend_classes(self, texts, prototypes, dropout=None):
        """Texts and prototypes after attention, from tokens before attention."""
        normed = self.norm(torch.cat([texts, prototypes]))
        query, key, value = self._per_head(normed)
        if dropout is None:
            update = F.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.mT / math.sqrt(query.shape[-1])
            update = dropout(scores.softmax(-1)) @ value
        attended = self._add(normed, update)
        return attended[: len(texts)], attended[len(texts) :]

    def attend_images(self, images, texts, prototypes, dropout=None):
        """Images after attention, from tokens before attention."""
        normed = self.norm(images)
        query, own_key, own_value = self._per_head(normed)
        _, key, value = self._per_head(self.norm(torch.cat([texts, prototypes])))
        # One softmax over the class tokens and the image itself. torch's own module would need the
        # keys of all images and a mask, at a cost of n_images squared.
        to_itself = (query * own_key).sum(-1, keepdim=True)
        scores = torch.cat([query @ key.mT, to_itself], dim=-1) / math.sqrt(query.shape[-1])
        attention = scores.softmax(-1)
        if dropout is not None:
            attention = dropout(attention)
        update = attention[..., :-1] @ value + attention[..., -1:] * own_value
        return self._add(normed, update)

    def _per_head(self, normed):
        """Queries, keys and values of tokens, each of shape (n_heads, n_tokens, dim / n_heads)."""
        rows = F.linear(normed, self.attention.in_proj_weight, self.attention.in_proj_bias)
        return rows.unflatten(1, (3, self.attention.num_heads, -1)).permute(1, 2, 0, 3).unbind(0)

    def _add(self, normed, update):
        """Tokens after attention, from the update of each head."""
        update = self.attention.out_proj(update.transpose(0, 1).flatten(1))
        return normed + self.residual_weight * update


class SeededDropout:
    """Dropout of attention weights that uses its own generator.

    Parameters
    ----------
    rate : float
        Share of the weights that become zero, in [0, 1). The others are scaled up to compensate.
    generator : torch.Generator
        On the device of the weights.
    """

    def __init__(self, rate, generator):
        self.rate = rate
        self.generator = generator

    def __call__(self, weights):
        factors = torch.rand(
            weights.shape, generator=self.generator, device=weights.device, dtype=torch.float32
        )
        factors.ge_(self.rate).div_(1 - self.rate)
        return weights * factors.to(weights.dtype)


def cosine(rows, columns):
    """Cosine similarities, of shape (n_rows, n_columns)."""
    return F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T


def logit_groups(head, images, texts, prototypes, temperature, prototype_scale, dropout=None):
    """The three logit groups of the paper, from features before projection.

    The rows are the images, followed by the prototypes as samples of their classes.

    Parameters
    ----------
    head : AttentionHead
    images : Tensor of shape (n_images, dim)
    texts, prototypes : Tensor of shape (n_classes, dim)
    temperature, prototype_scale : float
    dropout : SeededDropout, optional
        Dropout of the attention weights, in training.

    Returns
    -------
    image_text : Tensor of shape (n_images + n_classes, n_classes)
        Image to text, before attention.
    image_text_attended : Tensor of shape (n_images + n_classes, n_classes)
        Image to text, after attention.
    image_prototype : Tensor of shape (n_images + n_classes, n_classes)
        Image to prototype after attention, times `prototype_scale`.
    """
    before = head.project_classes(texts, prototypes)
    after = head.attend_classes(*before, dropout)
    projected = head.project(images)
    attended = head.attend_images(projected, *before, dropout)
    image_text = cosine(torch.cat([projected, before[1]]), before[0]) / temperature
    samples = torch.cat([attended, after[1]])
    after_attention = groups_after_attention(
        samples, *after, temperature=temperature, prototype_scale=prototype_scale
    )
    return image_text, *after_attention


def groups_after_attention(images, texts, prototypes, *, temperature, prototype_scale):
    """The two logit groups after attention, from attended tokens. Their sum is the prediction."""
    return (
        cosine(images, texts) / temperature,
        prototype_scale * cosine(images, prototypes) / temperature,
    )
