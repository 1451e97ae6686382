import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.nn import functional as F

from skcandle.classifier._losses import compensating_loss, log_prior

COUNTS = np.array([20.0, 3.0, 1.0, 0.0, 0.0])
MARGINS = [0.0, 0.5, 1.0, 2.5]


def numpy_loss(logits, target, counts, margin):
    """Loss of each sample, from the equation: -log(pi_y^m e^s_y / sum_k pi_k^m e^s_k)."""
    pi = (counts + 1) / np.sum(counts + 1)
    numerator = pi[target] ** margin * np.exp(logits[np.arange(len(target)), target])
    return -np.log(numerator / (pi**margin * np.exp(logits)).sum(axis=1))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return 3 * rng.normal(size=(40, 5)), rng.integers(5, size=40)


def loss(logits, target, margin, sample_weight=None, counts=COUNTS):
    weight = None if sample_weight is None else torch.tensor(sample_weight)
    prior = log_prior(torch.tensor(counts))
    return compensating_loss(
        torch.as_tensor(logits), torch.as_tensor(target), prior, margin, weight
    )


def test_prior_of_a_class_is_its_share_of_images_and_one_prototype_each():
    prior = log_prior(torch.tensor([6.0, 2.0, 0.0])).softmax(dim=0)
    np.testing.assert_allclose(prior, [7 / 11, 3 / 11, 1 / 11])


def test_further_classes_leave_the_prior_of_the_others():
    first, more = log_prior(torch.tensor([6.0, 2.0])), log_prior(torch.tensor([6.0, 2.0, 0.0]))
    assert torch.equal(more[:2], first)


@pytest.mark.parametrize("margin", MARGINS)
def test_loss_equals_the_equation(batch, margin):
    expected = numpy_loss(*batch, COUNTS, margin).sum()
    assert loss(*batch, margin).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("margin", MARGINS)
def test_weighted_loss_equals_the_equation(batch, margin):
    weight = np.random.default_rng(1).uniform(size=40)
    expected = weight @ numpy_loss(*batch, COUNTS, margin)
    assert loss(*batch, margin, weight).item() == pytest.approx(expected, rel=1e-12)


def test_margin_zero_is_cross_entropy(batch):
    logits, target = map(torch.as_tensor, batch)
    expected = F.cross_entropy(logits, target, reduction="sum")
    assert loss(logits, target, 0.0).item() == pytest.approx(expected.item(), rel=1e-12)


def test_equal_counts_are_cross_entropy_at_any_margin(batch):
    expected = loss(*batch, 0.0)
    for margin in MARGINS:
        result = loss(*batch, margin, counts=np.full(5, 7.0))
        assert result.item() == pytest.approx(expected.item())


def test_sample_weight_is_repetition(batch):
    logits, target = batch
    repeats = np.random.default_rng(2).integers(0, 4, size=40)
    repeated = loss(logits.repeat(repeats, axis=0), target.repeat(repeats), 1.0)
    weighted = loss(logits, target, 1.0, repeats.astype(float))
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-12)


def test_a_rare_class_needs_a_larger_logit():
    logits = np.zeros((1, 5))
    losses = [loss(logits, [k], 1.0).item() for k in range(5)]
    assert losses[0] < losses[1] < losses[2] < losses[3] == losses[4]


def test_margin_moves_the_decision_of_least_loss_by_the_log_prior():
    # at the logits s_k = -m log pi_k all classes are equally likely under the loss
    margin = 1.5
    logits = -margin * log_prior(torch.tensor(COUNTS))[None]
    for k in range(5):
        assert loss(logits, [k], margin).item() == pytest.approx(np.log(5))


def test_large_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0.0, 0.0, 0.0]])
    expected = logsumexp(logits) - logits[0, 1]
    assert loss(logits, [1], 0.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_by_finite_differences(batch, margin, weighted):
    logits = torch.tensor(batch[0][:6], requires_grad=True)
    target = torch.tensor(batch[1][:6])
    weight = torch.linspace(0.1, 2, 6, dtype=torch.float64) if weighted else None
    prior = log_prior(torch.tensor(COUNTS))
    assert torch.autograd.gradcheck(
        lambda s: compensating_loss(s, target, prior, margin, weight), logits
    )
