"""The classifier as published, for comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from .._devices import exact_matmul, resolve_device
from .._sklearn_private import Interval, fit_context
from .._typing import ClassNames, Labels, RandomState, TextEncoder
from ._attention_head import AttentionHead, attended_groups, logit_groups
from ._base import BaseCandle
from ._losses import compensating_loss, log_prior
from ._prototypes import unit


class PublishedCandleClassifier(BaseCandle):
    r"""Candle as published: cross-modal attention, virtual prototypes, and SGD.

    It is here for comparison: in the joint label space it almost never answers with a new class
    when base classes are among the candidates. Use :class:`CandleClassifier` for anything else.

    Class means of the image features, and for new classes the text features, are visual
    prototypes. Images, texts and prototypes are projected and go through one layer of
    cross-modal attention. Three groups of logits are trained with the compensating
    logit-adjusted loss; the two after attention are added for a prediction.

    Parameters
    ----------
    new_classes : list of str or int, default=None
        Labels without images, see :class:`CandleClassifier`.

    class_names : list of str or mapping, default=None
        Names of the labels, and the label universe, see :class:`CandleClassifier`.

    text_encoder : "auto", CLIPFeaturizer, callable or mapping, default="auto"
        Makes the text features, see :class:`CandleClassifier`. This classifier needs text.

    templates : str or list of str, default="a photo of a {}."
        Prompt templates, each with one ``{}``. Text features are averaged over several.

    temperature : float, default=0.01
        Softmax temperature of the similarities, in (0, inf). CLIP's own is 1/100.

    margin : float, default=1.0
        Strength of the logit adjustment in the loss, in [0, inf); the paper's tau. 0 trains
        with plain cross-entropy and favours frequent classes.

    prototype_scale : float, default=0.5
        Factor of the image-to-prototype logits, in [0, inf).

    learning_rate : float, default=3e-4
        Initial learning rate of SGD, in (0, inf).

    batch_size : int, default=128
        Images of a mini-batch.

    max_iter : int, default=50
        Epochs. 0 leaves the head untrained.

    device : str or torch.device, default="auto"
        Where training and prediction run. ``"auto"`` takes CUDA where it is available.

    random_state : int, RandomState instance or None, default=None
        Determines the start of the attention and the order of the mini-batches. Pass an int for
        the same result in every call.

    verbose : int, default=0
        If positive, a progress bar shows the objective.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels, base and new.

    is_new_ : ndarray of shape (n_classes,) of bool
        Which classes had no image.

    class_count_ : ndarray of shape (n_classes,)
        Images of each class, as sums of `sample_weight`.

    text_features_ : ndarray of shape (n_classes, n_features)
        Unit rows.

    prototypes_ : ndarray of shape (n_classes, n_features)
        Visual prototypes, before projection; text features for new classes.

    n_iter_ : int
        Epochs of training.

    loss_curve_ : list of float
        Mean loss per sample of each epoch.

    n_features_in_ : int
        Width of `X`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names of `X`, if it has string ones.

    See Also
    --------
    CandleClassifier : The default, which is right in the joint label space.

    Notes
    -----
    With tokens :math:`z` after projection and :math:`\tilde z` after attention, the logit
    groups of class `k` are :math:`\cos(z_x, z_{t_k}) / T`, :math:`\cos(\tilde z_x, \tilde
    z_{t_k}) / T` and :math:`\beta \cos(\tilde z_x, \tilde z_{p_k}) / T`, with the temperature
    `T` and the scale :math:`\beta`. Each is trained with the loss :math:`-\log [\pi_y^m e^{s_y}
    / \sum_k \pi_k^m e^{s_k}]`, :math:`\pi_k \propto n_k + 1`, over mini-batches that also hold
    every prototype as one image of its class [1]_. SGD has momentum 0.9, weight decay 5e-4 and a
    cosine schedule.

    Images do not attend to other images of the batch, neither in training nor at prediction.

    References
    ----------
    .. [1] J.-X. Shi, C. Zhang, T. Wei, Y.-F. Li: "Efficient and Long-Tailed Generalization for
       Pre-trained Vision-Language Model", KDD 2024. arXiv:2406.12638.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import PublishedCandleClassifier
    >>> rng = np.random.default_rng(0)
    >>> names = ["ant", "bee", "cat", "dog", "elk"]
    >>> text = dict(zip(names, rng.normal(size=(5, 16))))
    >>> y = np.repeat(names[:4], [20, 10, 5, 2])   # no image of an elk
    >>> X = np.stack([text[name] for name in y]) + rng.normal(size=(37, 16))
    >>> clf = PublishedCandleClassifier(new_classes=["elk"], text_encoder=text, random_state=0)
    >>> clf.fit(X, y).predict([text["ant"]])
    array(['ant'], dtype='<U3')
    """

    _parameter_constraints = {
        **BaseCandle._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "prototype_scale": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
    }
    _needs_text = True

    def __init__(
        self,
        *,
        new_classes: Sequence[Any] | None = None,
        class_names: ClassNames = None,
        text_encoder: TextEncoder = "auto",
        templates: str | Sequence[str] = "a photo of a {}.",
        temperature: float = 0.01,
        margin: float = 1.0,
        prototype_scale: float = 0.5,
        learning_rate: float = 3e-4,
        batch_size: int = 128,
        max_iter: int = 50,
        device: str | torch.device = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.new_classes = new_classes
        self.class_names = class_names
        self.text_encoder = text_encoder
        self.templates = templates
        self.temperature = temperature
        self.margin = margin
        self.prototype_scale = prototype_scale
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: Labels, sample_weight: ArrayLike | None = None
    ) -> "PublishedCandleClassifier":
        """Learn from embeddings of base classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            CLIP embeddings of images; only their direction matters.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image in class means, counts and loss; weight 0 leaves it out.

        Returns
        -------
        self : PublishedCandleClassifier
            Fitted estimator.
        """
        device = resolve_device(self.device)
        data, universe, text_encoder = self._check_training_set(X, y, sample_weight)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        counts, prototypes = class_means(data)
        head = AttentionHead.seeded(seed, data.X.shape[1])
        head.to(device=device, dtype=getattr(torch, data.X.dtype.name))
        with self._progress(self.max_iter) as report, exact_matmul(device):
            self.loss_curve_ = train(
                head,
                data,
                counts,
                prototypes,
                temperature=float(self.temperature),
                margin=float(self.margin),
                prototype_scale=float(self.prototype_scale),
                learning_rate=self.learning_rate,
                max_iter=self.max_iter,
                batch_size=self.batch_size,
                generator=torch.Generator().manual_seed(seed),
                callback=report,
            )
        self.n_iter_ = self.max_iter
        self._text_encoder = text_encoder
        self._model = PublishedModel(
            counts=counts,
            text_features=data.text_features,
            image_prototypes=prototypes,
            head_state={name: tensor.cpu().numpy() for name, tensor in head.state_dict().items()},
            temperature=float(self.temperature),
            prototype_scale=float(self.prototype_scale),
        )
        self._set_classes(universe, np.arange(data.n_classes))
        return self


@dataclass(frozen=True)
class PublishedModel:
    """What a :class:`PublishedCandleClassifier` has learned, in NumPy arrays only.

    Attributes
    ----------
    counts : ndarray of shape (n_classes,)
    text_features : ndarray of shape (n_classes, n_features)
    image_prototypes : ndarray of shape (n_classes, n_features)
        Class means, and for new classes their text features.
    head_state : dict of str to ndarray
    temperature, prototype_scale : float
    """

    counts: np.ndarray
    text_features: np.ndarray
    image_prototypes: np.ndarray
    head_state: dict
    temperature: float
    prototype_scale: float

    def with_classes(self, text_features):
        """The same model with further classes that have a text and no image."""
        return replace(
            self,
            counts=np.concatenate([self.counts, np.zeros(len(text_features))]),
            text_features=np.concatenate([self.text_features, text_features]),
            image_prototypes=np.concatenate([self.image_prototypes, text_features]),
        )

    def scorer(self, device):
        """The model on a device; what classes need is computed once."""
        return PublishedScorer(self, device)


class PublishedScorer:
    """A :class:`PublishedModel` on a device.

    Parameters
    ----------
    model : PublishedModel
    device : torch.device
    """

    def __init__(self, model, device):
        self.device = device
        self.model = model
        dim = model.image_prototypes.shape[1]
        self.head = AttentionHead.seeded(0, dim)
        self.head.load_state_dict({k: torch.tensor(v) for k, v in model.head_state.items()})
        self.head.to(device=device, dtype=getattr(torch, model.image_prototypes.dtype.name))
        with torch.no_grad(), exact_matmul(device):
            self.before = self.head.project_classes(
                torch.tensor(model.text_features, device=device),
                torch.tensor(model.image_prototypes, device=device),
            )
            self.after = self.head.attend_classes(*self.before)

    def score(self, X):
        """Logits of a block of embeddings, of shape (n_samples, n_classes)."""
        with torch.no_grad(), exact_matmul(self.device):
            projected = self.head.project(torch.tensor(unit(X), device=self.device))
            groups = attended_groups(
                self.head,
                projected,
                self.before,
                self.after,
                self.model.temperature,
                self.model.prototype_scale,
            )
            return sum(groups).cpu().numpy()


def class_means(data):
    """Counts of all classes, and their visual prototypes: directions of means, or texts.

    Parameters
    ----------
    data : TrainingSet

    Returns
    -------
    counts : ndarray of shape (n_classes,)
    prototypes : ndarray of shape (n_classes, n_features)
    """
    counts = np.bincount(data.y, weights=data.sample_weight, minlength=data.n_classes)
    totals = np.zeros_like(data.text_features)
    np.add.at(totals, data.y, data.sample_weight[:, None] * data.X)
    return counts, np.where(counts[:, None] > 0, unit(totals), data.text_features)


def train(
    head,
    data,
    counts,
    prototypes,
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
    head : AttentionHead
        Changed in place.
    data : TrainingSet
    counts : ndarray of shape (n_classes,)
    prototypes : ndarray of shape (n_classes, n_features)
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
    """
    like = head.image_projection

    def tensor(array):
        return torch.tensor(array, device=like.device, dtype=like.dtype)

    X, texts, prototypes = tensor(data.X), tensor(data.text_features), tensor(prototypes)
    y, sample_weight = torch.tensor(data.y, device=like.device), tensor(data.sample_weight)
    prior, classes = log_prior(tensor(counts)), torch.arange(data.n_classes, device=like.device)
    ones = torch.ones_like(prior)
    optimizer = torch.optim.SGD(
        head.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(max_iter, 1))
    losses = []
    for epoch in range(max_iter):
        total = weight_sum = 0.0
        for rows in torch.randperm(len(X), generator=generator).split(batch_size):
            rows = rows.to(like.device)
            target, weight = torch.cat([y[rows], classes]), torch.cat([sample_weight[rows], ones])
            images = torch.cat([X[rows], prototypes])
            groups = logit_groups(head, images, texts, prototypes, temperature, prototype_scale)
            loss = sum(compensating_loss(s, target, prior, margin, weight) for s in groups)
            optimizer.zero_grad()
            (loss / weight.sum()).backward()
            optimizer.step()
            total, weight_sum = total + loss.item(), weight_sum + weight.sum().item()
        schedule.step()
        losses.append(total / weight_sum)
        if callback is not None:
            callback(epoch + 1, losses[-1])
    return losses
