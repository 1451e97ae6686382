"""The compensating logit-adjusted loss of Candle (Shi et al., KDD 2024, section 3)."""

import torch
from torch.nn import functional as F


def log_prior(counts):
    r"""Log prior of the classes, :math:`\log \pi_k` with :math:`\pi_k \propto n_k + 1`.

    One is added to every count because the prototype of the class enters the loss as one more
    sample. It also keeps the prior of a class without images above zero.

    Parameters
    ----------
    counts : Tensor of shape (n_classes,)
        Number of images of each class, or sum of their sample weights; 0 for a new class.

    Returns
    -------
    log_prior : Tensor of shape (n_classes,)
        Up to an additive constant, which a softmax cancels.
    """
    return torch.log(counts + 1)


def compensating_loss(logits, target, log_prior, margin, sample_weight=None):
    r"""Compensating logit-adjusted cross-entropy.

    .. math:: \ell(x, y) = -\log \frac{\pi_y^{m} e^{s_y(x)}}{\sum_k \pi_k^{m} e^{s_k(x)}}

    The adjustment :math:`m \log \pi_k` is part of the loss only. In training, it lowers the logit
    of a rare class, which therefore learns a larger margin, and keeps it at prediction.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Similarities divided by the softmax temperature, :math:`s_k(x)`.
    target : Tensor of shape (n_samples,)
        Class indices.
    log_prior : Tensor of shape (n_classes,)
    margin : float
        Strength of the adjustment, :math:`m`; the paper's tau. 0 gives plain cross-entropy.
    sample_weight : Tensor of shape (n_samples,), optional

    Returns
    -------
    loss : Tensor of shape ()
        Weighted *sum* over the samples.

    References
    ----------
    Shi, Zhang, Wei, Li: "Efficient and Long-Tailed Generalization for Pre-trained
    Vision-Language Model", KDD 2024, arXiv:2406.12638. Menon et al.: "Long-tail learning via
    logit adjustment", ICLR 2021.
    """
    adjusted = logits + margin * log_prior
    if sample_weight is None:
        return F.cross_entropy(adjusted, target, reduction="sum")
    return sample_weight @ F.cross_entropy(adjusted, target, reduction="none")
