"""Candle as published, for comparison: CandleClassifier.paper()."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ._attention_head import (
    CandleHead,
    TrainingData,
    attended_class_tokens,
    exact_matmul,
    published_prediction,
    train_published,
)
from ._prototypes import unit

# Factor of the image-to-prototype logits.
PROTOTYPE_SCALE = 0.5


@dataclass(frozen=True)
class PublishedModel:
    """A fitted model; NumPy arrays only.

    Attributes
    ----------
    temperature : float
    attention : bool
    seed : int
    counts : ndarray of shape (n_classes,)
    text_features : ndarray of shape (n_classes, n_features)
    prototypes : ndarray of shape (n_classes, n_features)
        Class means, and for new classes their text features.
    head_state : dict of str to ndarray
    losses : list of float
    n_iter : int
    """

    temperature: float
    attention: bool
    seed: int
    counts: np.ndarray
    text_features: np.ndarray
    prototypes: np.ndarray
    head_state: dict
    losses: list
    n_iter: int

    @property
    def image_prototypes(self):
        """Prototypes in the space of the images, of shape (n_classes, n_features)."""
        return self.prototypes

    def predictor(self, device):
        """Function from a block of rows to logits, both NumPy; the model moves to `device` once."""
        head = _build_head(self, device)
        data = _class_tensors(self, device)
        with torch.no_grad(), exact_matmul(device):
            class_tokens = attended_class_tokens(head, data.texts, data.prototypes)

        def logits(X):
            images = torch.tensor(unit(X), device=device)
            with torch.no_grad(), exact_matmul(device):
                result = published_prediction(
                    head, images, class_tokens, self.temperature, PROTOTYPE_SCALE
                )
            return result.cpu().numpy()

        return logits

    def with_classes(self, text_features):
        """The same model with further classes that have a text and no image."""
        return replace(
            self,
            counts=np.concatenate([self.counts, np.zeros(len(text_features))]),
            text_features=np.concatenate([self.text_features, text_features]),
            prototypes=np.concatenate([self.prototypes, text_features]),
        )


def fit_published(data, settings, *, learning_rate, device, callback=None):
    """Class means and raw texts as prototypes, then the published training.

    Parameters
    ----------
    data : TrainingSet
    settings : Settings
    learning_rate : float
    device : torch.device
    callback : callable, optional

    Returns
    -------
    model : PublishedModel
    """
    X = unit(data.X)
    weight = data.sample_weight
    counts = np.bincount(data.y, weights=weight, minlength=data.n_classes)
    totals = np.zeros_like(data.text_features)
    np.add.at(totals, data.y, weight[:, None] * X)
    prototypes = np.where(counts[:, None] > 0, unit(totals), data.text_features)
    model = PublishedModel(
        settings.temperature,
        settings.attention,
        settings.seed,
        counts,
        data.text_features,
        prototypes,
        {},
        [],
        0,
    )
    tensors = _class_tensors(model, device, images=X, target=data.y, weight=weight)
    head = _build_head(model, device)
    with exact_matmul(device):
        losses, n_iter = train_published(
            head,
            tensors,
            temperature=settings.temperature,
            margin=settings.margin,
            prototype_scale=PROTOTYPE_SCALE,
            learning_rate=learning_rate,
            max_iter=settings.max_iter,
            batch_size=settings.batch_size,
            generator=torch.Generator().manual_seed(settings.seed),
            callback=callback,
        )
    state = {name: tensor.cpu().numpy() for name, tensor in head.state_dict().items()}
    return replace(model, head_state=state, losses=losses, n_iter=n_iter)


def _build_head(model, device):
    head = CandleHead.seeded(
        model.seed, model.prototypes.shape[1], attention=model.attention, residual_weight=0.1
    )
    if model.head_state:
        head.load_state_dict({k: torch.tensor(v) for k, v in model.head_state.items()})
    return head.to(device=device, dtype=getattr(torch, model.prototypes.dtype.name))


def _class_tensors(model, device, **arrays):
    return TrainingData(
        device,
        getattr(torch, model.prototypes.dtype.name),
        texts=model.text_features,
        prototypes=model.prototypes,
        counts=model.counts,
        **arrays,
    )
