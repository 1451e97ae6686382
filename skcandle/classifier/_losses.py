"""The compensating logit-adjusted loss of Candle (Shi et al., KDD 2024, section 3)."""

import torch
from torch.nn import functional as F


def log_prior(counts):
    r"""Log prior of the classes, :math:`\log \pi_k` with :math:`\pi_k \propto n_k + 1`.

    The one that is added to every count is the prototype of the class, which enters the loss
    as a sample of its own. It keeps the prior of a class without images above zero.

    Parameters
    ----------
    counts : Tensor of shape (n_classes,)
        Images of each class, 0 for a new class. Sums of sample weights count as images.

    Returns
    -------
    log_prior : Tensor of shape (n_classes,)
        Without the normalising constant, which a softmax cancels.
    """
    return torch.log(counts + 1)


def compensating_loss(logits, target, log_prior, margin, sample_weight=None):
    r"""Compensating logit-adjusted cross-entropy.

    .. math:: \ell(x, y) = -\log \frac{\pi_y^{m} e^{s_y(x)}}{\sum_k \pi_k^{m} e^{s_k(x)}}

    The adjustment :math:`m \log \pi_k` is part of the loss only. Where a class is rare, its
    logit has to win without the help of the prior, and so its margin at prediction is larger.

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
