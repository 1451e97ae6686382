"""What an exported file computes, as PyTorch modules that its exporter traces."""

import torch
from torch import nn
from torch.nn.functional import normalize

from ..classifier._embeddings import SAFE_NORMS

CPU = torch.device("cpu")


class Head(nn.Module):
    """From embeddings to answers and probabilities, as `predict` and `predict_proba` of one model.

    The logits are those of the scorer that the classifier itself predicts with.

    Parameters
    ----------
    classifier : CandleClassifier or PublishedCandleClassifier
        Fitted.
    rejecting : RejectingClassifier or None
        The fitted one around it.
    has_missing : bool
        Whether there is an answer for rows without a direction.
    """

    def __init__(self, classifier, rejecting, has_missing):
        super().__init__()
        self.scorer = classifier._model.scorer(CPU)
        self.dtype = getattr(torch, classifier.prototypes_.dtype.name)
        self.has_text = classifier.text_features_ is not None
        self.n_classes = len(classifier.classes_)
        self.has_missing = has_missing
        self.columns = torch.tensor(classifier._columns)
        self.log_prior = None
        if classifier._log_prior is not None:
            self.log_prior = torch.tensor(classifier._log_prior, dtype=self.dtype)
        self.rejection = None if rejecting is None else Rejection(classifier, rejecting)

    def forward(self, embeddings):
        """Answers and probabilities.

        Parameters
        ----------
        embeddings : Tensor of shape (n_samples, n_features)

        Returns
        -------
        answers : Tensor of int64 and shape (n_samples,)
            Positions in the classes, followed by the missing answer, if any, and the label of
            rejected images, if any.
        proba : Tensor of shape (n_samples, n_classes)
            NaN for rows without a direction.
        """
        rows = _rescale_extreme_rows(embeddings) if self.has_text else embeddings
        logits = self.scorer.logits(rows)[:, self.columns]
        adjusted = logits if self.log_prior is None else logits + self.log_prior
        answers = adjusted.argmax(dim=1)
        if self.rejection is not None:
            rejected = self.rejection(self.scorer, rows, logits)
            answers = torch.where(rejected, self.n_classes + self.has_missing, answers)
        if self.has_missing:
            answers = torch.where(logits[:, 0].isnan(), self.n_classes, answers)
        return answers, adjusted.softmax(dim=1)


class Rejection(nn.Module):
    """Which images look like none of the classes, as a RejectingClassifier decides.

    Parameters
    ----------
    classifier : CandleClassifier
    rejecting : RejectingClassifier
    """

    def __init__(self, classifier, rejecting):
        super().__init__()
        held_out = classifier._held_out
        self.coefficients = torch.tensor(held_out.coefficients, dtype=torch.float64)
        self.intercept = held_out.intercept
        self.thresholds = torch.tensor(rejecting.thresholds_, dtype=torch.float64)
        self.is_new = torch.tensor(classifier.is_new_.astype(int))
        texts = classifier.text_features_
        self.texts = None if texts is None else torch.tensor(texts)

    def forward(self, scorer, rows, logits):
        """Whether each image is rejected; see :meth:`CandleClassifier.novelty_score`."""
        if self.texts is None:
            tokens = (rows - scorer.image_mean) @ scorer.whitener @ scorer.projection
            other = (tokens**2).sum(dim=1) / 2
        else:
            other = (normalize(rows, dim=-1) @ self.texts.T).amax(dim=1)
        signals = torch.stack([logits.amax(dim=1), other], dim=1).double()
        novelty = (signals * self.coefficients).sum(dim=1) + self.intercept
        return novelty > self.thresholds[self.is_new[logits.argmax(dim=1)]]


class ImageClassifier(nn.Module):
    """From pixels to answers and probabilities.

    Parameters
    ----------
    clip : LoadedModel
        In float32, on the CPU.
    head : Head
    """

    def __init__(self, clip, head):
        super().__init__()
        self.clip = clip.module
        self.head = head
        normalise = clip.preprocess.normalise
        self.mean, self.std = (
            torch.tensor(values).reshape(3, 1, 1) for values in (normalise.mean, normalise.std)
        )

    def forward(self, pixels):
        """Answers and probabilities of pixels of uint8 and shape (n_samples, height, width, 3)."""
        images = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255
        # torchvision's own module looks at the values of `std`, which cannot be traced
        rows = self.clip.encode_image((images - self.mean) / self.std)
        return self.head(normalize(rows, dim=-1).to(self.head.dtype))


def _rescale_extreme_rows(X):
    """As the function of this name for arrays, but a row of zeros becomes NaN."""
    shortest, longest = SAFE_NORMS
    norms = torch.linalg.vector_norm(X, dim=1, keepdim=True)
    is_safe = (norms >= shortest) & (norms <= longest)
    return torch.where(is_safe, X, X / X.abs().amax(dim=1, keepdim=True))
