"""The published training, implemented plainly from the equations of the paper.

Shi et al., "Efficient and long-tailed generalization for pre-trained vision-language model",
KDD 2024, with the settings of the released code: mini-batches of 128 images from cached features,
attention over one set of tokens with the images of the batch and all classes, SGD for 50 epochs
with a slow first one, and class tokens that are computed again for every batch at prediction. The
tests compare ``PublishedCandleClassifier`` with it step by step.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

BATCH_SIZE = 128
EPOCHS = 50


class Head(nn.Module):
    """Logits of images, and in training also of prototypes, for all classes.

    With ``see_each_other=False``, images attend only to classes and themselves, and classes only to
    classes, as in the library.
    """

    def __init__(self, prototypes, texts, *, scale=0.5, dropout=0.1, see_each_other=True):
        super().__init__()
        n_base, d = prototypes.shape
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("texts", texts)
        self.virtual_prototypes = nn.Parameter(texts[n_base:].clone())
        self.image_projection = nn.Parameter(torch.eye(d))
        self.text_projection = nn.Parameter(torch.eye(d))
        self.norm = nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, num_heads=8, dropout=dropout)
        self.residual_weight = nn.Parameter(torch.tensor(0.1))
        self.scale = scale
        self.see_each_other = see_each_other
        self.to(texts.dtype)

    def forward(self, images):
        """The three logit groups, with rows for the images and then for the prototypes."""
        k, n = len(self.texts), len(images)
        visual = torch.cat([images, self.prototypes, self.virtual_prototypes])
        tokens = torch.cat([visual @ self.image_projection, self.texts @ self.text_projection])
        normed = self.norm(tokens)
        hidden = None
        if not self.see_each_other:
            hidden = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
            hidden[:, :n] = ~torch.eye(len(tokens), n, dtype=torch.bool)
        update, _ = self.attention(normed, normed, normed, attn_mask=hidden, need_weights=False)
        before = F.normalize(tokens, dim=1)
        after = F.normalize(normed + self.residual_weight * update, dim=1)
        samples, prototypes, texts = after[:-k], after[-2 * k : -k], after[-k:]
        return (
            100 * before[:-k] @ before[-k:].T,
            100 * samples @ texts.T,
            self.scale * 100 * samples @ prototypes.T,
        )


def train(task, epochs=EPOCHS, *, of=EPOCHS, learning_rate=3e-4, batch_size=BATCH_SIZE, seed=0,
          **options):  # fmt: skip
    """Head after `epochs` epochs of a schedule for `of` epochs, and the loss of every step."""
    torch.manual_seed(seed)
    X, y, texts = torch.tensor(task.X), torch.tensor(task.y), torch.tensor(task.T)
    counts = torch.bincount(y, minlength=task.n_classes)
    means = torch.stack([X[y == label].mean(dim=0) for label in range(task.n_base)])
    prior = torch.log((counts + 1).to(X.dtype) / (counts + 1).sum())
    classes = torch.arange(task.n_classes)
    head = Head(means, texts, **options)
    optimizer = torch.optim.SGD(
        head.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    shuffled = torch.Generator().manual_seed(seed)
    losses = []
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            cosine = 0.5 + 0.5 * math.cos((epoch - 1) / of * math.pi)
            group["lr"] = learning_rate * cosine if epoch > 0 else 1e-5
        for rows in torch.randperm(len(X), generator=shuffled).split(batch_size):
            if len(rows) < batch_size < len(X):
                continue
            target = torch.cat([y[rows], classes])
            loss = sum(F.cross_entropy(logits + prior, target) for logits in head(X[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return head.eval(), losses


def published_loop(task, epochs=EPOCHS, **options):
    """A method as in peers.py: the sum of the two groups after attention, batch by batch."""
    head, _ = train(task, epochs, **options)

    def score(Z):
        with torch.no_grad():
            batches = torch.tensor(Z).split(BATCH_SIZE)
            groups = [[group[: len(batch)] for group in head(batch)] for batch in batches]
        return torch.cat([texts + prototypes for _, texts, prototypes in groups]).numpy()

    return score
