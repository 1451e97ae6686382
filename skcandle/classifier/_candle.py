"""Candle with a closed-form start: what CandleClassifier fits by default."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ._attention_head import (
    CandleHead,
    TrainingData,
    anchored_logits,
    attended_class_tokens,
    exact_matmul,
    train_anchored,
)
from ._logit_weights import (
    MAX_SIMILARITIES,
    Episode,
    LogitWeights,
    balanced_weights,
    fit_logit_weights,
    pseudo_new_masks,
)
from ._prototypes import PrototypeSpace, fit_prototypes, unit

DEFAULT_PROTOTYPE_WEIGHT = 0.1
# Pseudo-new episodes, and the part of the classes with images that each hides.
N_EPISODES = 12
HIDDEN_FRACTION = 1 / 3


@dataclass(frozen=True)
class Settings:
    """What the estimator's parameters say about the fit."""

    temperature: float
    margin: float
    shrinkage: float
    prototype_weight: float | None
    base_offset: float | None
    anchor: float
    attention: bool
    max_iter: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class TrainingSet:
    """Images and label universe of one fit; `y` indexes the classes of `text_features`."""

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray
    text_features: np.ndarray | None
    n_classes: int

    def among(self, classes):
        """The same images in a universe of the sorted `classes`, which has to hold all of `y`."""
        text = None if self.text_features is None else self.text_features[classes]
        y = np.searchsorted(classes, self.y)
        return replace(self, y=y, text_features=text, n_classes=len(classes))


@dataclass(frozen=True)
class AnchoredModel:
    """A fitted model; NumPy arrays only, torch modules are built when they are needed.

    Attributes
    ----------
    settings : Settings
    space : PrototypeSpace
    text_features : ndarray of shape (n_classes, n_features) or None
    head_state : dict of str to ndarray
    weights : LogitWeights
    losses : list of float
    n_iter : int
    """

    settings: Settings
    space: PrototypeSpace
    text_features: np.ndarray | None
    head_state: dict
    weights: LogitWeights
    losses: list
    n_iter: int

    @property
    def counts(self):
        """Images of each class, of shape (n_classes,)."""
        return self.space.counts

    @property
    def image_prototypes(self):
        """Prototypes in the space of the images, of shape (n_classes, n_features)."""
        return self.space.prototypes + self.space.image_mean

    def predictor(self, device):
        """Function from a block of rows to logits, both NumPy; the model moves to `device` once."""
        head = _build_head(self, device)
        data = _head_data(self, None, device)
        space, dtype = self.space, data.prototypes.dtype

        def on_device(array):
            return torch.tensor(array, device=device, dtype=dtype)

        image_mean, whitener = on_device(space.image_mean), on_device(space.whitener)
        offsets, text_features = on_device(self.weights.offsets(space.counts)), None
        if self.text_features is not None:
            text_features = on_device(self._zero_shot_scale * self.text_features)
        with torch.no_grad(), exact_matmul(device):
            class_tokens = attended_class_tokens(head, data.texts, data.prototypes)

        def logits(X):
            with torch.no_grad(), exact_matmul(device):
                images, fixed = on_device(X), -offsets
                if text_features is not None:
                    images = torch.nn.functional.normalize(images, dim=-1)
                    fixed = images @ text_features.T - offsets
                tokens = (images - image_mean) @ whitener
                if space.normalize:
                    tokens = torch.nn.functional.normalize(tokens, dim=-1)
                result, _ = anchored_logits(
                    head, data, tokens, fixed, space.normalize, class_tokens
                )
                return result.cpu().numpy()

        return logits

    def with_classes(self, text_features):
        """The same model with further classes that have a text and no image."""
        n_added = len(text_features)
        virtual = self.space.virtual_prototypes(text_features)

        def extend(array, rows):
            return np.concatenate([array, rows])

        space = replace(
            self.space,
            counts=extend(self.space.counts, np.zeros(n_added)),
            priors=extend(self.space.priors, virtual),
            prototypes=extend(self.space.prototypes, virtual),
        )
        return replace(self, space=space, text_features=extend(self.text_features, text_features))

    @property
    def _zero_shot_scale(self):
        return self.weights.zero_shot / self.settings.temperature

    def zero_shot_logits(self, X):
        """Weighted image-to-text similarities, which training leaves as they are."""
        if self.text_features is None:
            return None
        return self._zero_shot_scale * (X @ self.text_features.T)


def fit_anchored(data, settings, *, device, callback=None):
    """Closed-form prototypes, weights from pseudo-new episodes, anchored training.

    Parameters
    ----------
    data : TrainingSet
    settings : Settings
    device : torch.device
    callback : callable, optional
        Called with the number of each evaluation and the objective.

    Returns
    -------
    model : AnchoredModel
    """
    model = _closed_form(data, settings, _estimate_weights(data, settings))
    if settings.max_iter:
        model = _train(model, data, device, callback)
    return replace(model, space=model.space.without_statistics())


def _closed_form(data, settings, weights):
    space = fit_prototypes(
        data.X, data.y, data.sample_weight, data.text_features, data.n_classes, settings.shrinkage
    )
    return AnchoredModel(settings, space, data.text_features, {}, weights, [], 0)


def _train(model, data, device, callback):
    settings = model.settings
    head = _build_head(model, device)
    with exact_matmul(device):
        losses, n_iter = train_anchored(
            head,
            _head_data(model, data, device),
            margin=settings.margin,
            anchor=settings.anchor,
            normalize=model.space.normalize,
            max_iter=settings.max_iter,
            batch_size=settings.batch_size,
            callback=callback,
        )
    # what is not trained stays the identity and needs no room in a file
    state = {
        name: parameter.detach().cpu().numpy()
        for name, parameter in head.named_parameters()
        if parameter.requires_grad
    }
    return replace(model, head_state=state, losses=losses, n_iter=n_iter)


def _build_head(model, device):
    dtype = getattr(torch, model.space.prototypes.dtype.name)
    # the seed only matters for attention; the rest of the head starts as the identity
    head = CandleHead.seeded(
        model.settings.seed,
        model.space.prototypes.shape[1],
        attention=model.settings.attention and model.text_features is not None,
        residual_weight=0.0,
    )
    if head.attention is None:
        head.text_projection.requires_grad_(False)
    head.load_state_dict({k: torch.tensor(v) for k, v in model.head_state.items()}, strict=False)
    return head.to(device=device, dtype=dtype)


def _head_data(model, data, device):
    """Tokens of the classes, and those of the images where `data` is given."""
    space, temperature = model.space, model.settings.temperature
    scale = 1 / temperature if space.normalize else 1.0
    arrays = {
        "texts": space.transform(space.priors),
        "prototypes": space.transform(space.prototypes),
        "prototype_weight": scale * model.weights.prototype_weights(space.counts),
        "counts": space.counts,
    }
    if data is not None:
        images, own = space.transform_left_out(data.X, data.y, data.sample_weight)
        images_of_prototypes = unit(space.prototypes + space.image_mean)
        arrays |= {
            "images": images,
            "target": data.y,
            "weight": data.sample_weight,
            "own_prototypes": own,
            "fixed_logits": model.zero_shot_logits(data.X),
            "prototype_fixed_logits": model.zero_shot_logits(images_of_prototypes),
        }
    return TrainingData(device, getattr(torch, space.prototypes.dtype.name), **arrays)


def _estimate_weights(data, settings):
    """Weights of the logit groups from pseudo-new episodes over the classes with images."""
    text, weight = data.text_features is not None, settings.prototype_weight
    default = DEFAULT_PROTOTYPE_WEIGHT if text else 1.0
    prior = LogitWeights(
        zero_shot=float(text),
        prototype=default if weight is None else weight,
        base_offset=settings.base_offset or 0.0,
    )
    if weight is not None and (settings.base_offset is not None or not text):
        return prior
    rng = np.random.default_rng(settings.seed)
    seen = np.flatnonzero(np.bincount(data.y, minlength=data.n_classes))
    known = data.among(seen)
    masks = [np.zeros(len(seen), dtype=bool)]
    if text:
        masks = pseudo_new_masks(len(seen), HIDDEN_FRACTION, N_EPISODES, rng)
    rows = np.arange(len(data.X))
    max_rows = max(MAX_SIMILARITIES // (len(seen) * max(len(masks), 1)), 1)
    if len(rows) > max_rows:
        rows = np.sort(rng.choice(rows, max_rows, replace=False))
    zero_shot = None
    if text:
        zero_shot = data.X[rows] @ known.text_features.T / settings.temperature
    return fit_logit_weights(
        [_episode(known, rows, mask, zero_shot, settings) for mask in masks],
        prior,
        len(seen),
        keep_weights=weight is not None,
        keep_offset=settings.base_offset is not None,
    )


def _episode(data, rows, hidden, zero_shot, settings):
    """Similarities of the images `rows` in a world where the `hidden` classes have no image."""
    visible = ~hidden[data.y]
    space = fit_prototypes(
        data.X[visible],
        data.y[visible],
        data.sample_weight[visible],
        data.text_features,
        data.n_classes,
        settings.shrinkage,
    )
    X, y, sample_weight = data.X[rows], data.y[rows], data.sample_weight[rows]
    images = np.empty_like(X)
    images[hidden[y]] = space.transform_images(X[hidden[y]])
    prototypes = space.transform(space.prototypes)
    own_counts = space.counts[y]
    # what the images of the other classes meet was formed without them
    own = np.flatnonzero(~hidden[y])
    images[own], held_out = space.transform_left_out(X[own], y[own], sample_weight[own])
    similarity = images @ prototypes.T - (prototypes**2).sum(axis=1) / 2
    similarity[own, y[own]] = (images[own] * held_out).sum(axis=1)
    similarity[own, y[own]] -= (held_out**2).sum(axis=1) / 2 if not space.normalize else 0.5
    own_counts[own] -= np.minimum(sample_weight[own], 1)
    if zero_shot is not None:
        similarity /= settings.temperature
    return Episode(
        zero_shot=zero_shot,
        prototype=similarity,
        counts=space.counts,
        own_counts=np.maximum(own_counts, 0),
        target=y,
        weight=balanced_weights(y, sample_weight, hidden),
    )
