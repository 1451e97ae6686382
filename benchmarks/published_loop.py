"""The published training, written plainly from the equations of the paper.

Shi et al., "Efficient and long-tailed generalization for pre-trained vision-language model",
KDD 2024, with the settings of the released code: mini-batches of 128 images from features that
are cached, attention over one set of tokens that holds the images of the batch and all classes,
SGD for 50 epochs, and class tokens that are computed again for every batch at prediction. Dropout
in the attention is left out.
"""

import torch
from torch import nn
from torch.nn import functional as F

BATCH_SIZE = 128
EPOCHS = 50


class Head(nn.Module):
    """Logits of images, and in training of prototypes, to all classes."""

    def __init__(self, prototypes, texts):
        super().__init__()
        n_base, d = prototypes.shape
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("texts", texts)
        self.virtual_prototypes = nn.Parameter(texts[n_base:].clone())
        self.image_projection = nn.Parameter(torch.eye(d))
        self.text_projection = nn.Parameter(torch.eye(d))
        self.norm = nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, num_heads=8)
        self.residual_weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, images):
        """The three logit groups; rows are the images, then the prototypes."""
        k = len(self.texts)
        visual = torch.cat([images, self.prototypes, self.virtual_prototypes])
        tokens = torch.cat([visual @ self.image_projection, self.texts @ self.text_projection])
        normed = self.norm(tokens)
        update, _ = self.attention(normed, normed, normed, need_weights=False)
        before = F.normalize(tokens, dim=1)
        after = F.normalize(tokens + self.residual_weight * update, dim=1)
        samples, prototypes, texts = after[:-k], after[-2 * k : -k], after[-k:]
        return (
            100 * before[:-k] @ before[-k:].T,
            100 * samples @ texts.T,
            50 * samples @ prototypes.T,
        )


def train(task, epochs=EPOCHS, learning_rate=3e-4, seed=0):
    """Head after `epochs` of a schedule that is as long as the published one."""
    torch.manual_seed(seed)
    X, y, texts = torch.tensor(task.X), torch.tensor(task.y), torch.tensor(task.T)
    counts = torch.bincount(y, minlength=task.n_classes)
    means = torch.stack([X[y == label].mean(dim=0) for label in range(task.n_base)])
    prior = torch.log((counts + 1) / (counts + 1).sum())
    classes = torch.arange(task.n_classes)
    head = Head(means, texts)
    optimizer = torch.optim.SGD(
        head.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(BATCH_SIZE):
            target = torch.cat([y[rows], classes])
            loss = sum(F.cross_entropy(logits + prior, target) for logits in head(X[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return head.eval()


def published_loop(task, epochs=EPOCHS):
    """A method as in peers.py: the sum of the two groups after attention, batch by batch."""
    head = train(task, epochs)

    def score(Z):
        with torch.no_grad():
            batches = torch.tensor(Z).split(BATCH_SIZE)
            groups = [[group[: len(batch)] for group in head(batch)] for batch in batches]
        return torch.cat([texts + prototypes for _, texts, prototypes in groups]).numpy()

    return score
