from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from skcandle.classifier._logit_weights import (
    IMAGE_ONLY_PRIOR_SD,
    OFFSET_BANDWIDTH,
    OFFSET_HALF_WAY,
    PRIOR_SD,
    PROTOTYPE_HALF_WAY,
    Episode,
    LogitWeights,
    balanced_offset,
    balanced_weights,
    fit_logit_weights,
    pseudo_new_masks,
    reliability,
)

N_CLASSES = 6
PRIOR = LogitWeights(zero_shot=1.0, prototype=0.1)


def episode(seed=0, *, n_images=60, text=True, hidden=(0, 3), base_advantage=0.0, signal=2.0):
    """Images whose similarities to their own class are larger by `signal`."""
    rng = np.random.default_rng(seed)
    target = rng.integers(N_CLASSES, size=n_images)
    own = signal * np.eye(N_CLASSES)[target]
    mask = np.isin(np.arange(N_CLASSES), hidden)
    counts = np.where(mask, 0, rng.integers(1, 30, size=N_CLASSES))
    share = counts / (counts + OFFSET_HALF_WAY)
    zero_shot = own + rng.normal(size=own.shape) + base_advantage * share
    return Episode(
        zero_shot=zero_shot if text else None,
        prototype=10 * (own + rng.normal(size=own.shape)),
        counts=counts,
        own_counts=np.maximum(counts[target] - 1, 0),
        target=target,
        weight=balanced_weights(target, np.ones(n_images), mask),
    )


# --- pieces ----------------------------------------------------------------------------------


def test_reliability_grows_from_zero_over_one_half_to_one():
    values = reliability(np.array([0.0, 1.0, 3.0, 10.0, 1e6]), half_way=3.0)
    assert values[0] == 0 and values[2] == 0.5
    assert (np.diff(values) > 0).all()
    assert values[-1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", [True, False])
def test_scores_equal_the_equation(text):
    e = episode(text=text)
    zero_shot = e.zero_shot if text else 0
    counts = np.tile(e.counts, (len(e.target), 1))
    counts[np.arange(len(e.target)), e.target] = e.own_counts
    trust = counts / (counts + PROTOTYPE_HALF_WAY)
    expected = 1.5 * zero_shot + (0.2 + 0.3 * trust) * e.prototype
    expected -= 4.0 * e.counts / (e.counts + OFFSET_HALF_WAY)
    np.testing.assert_allclose(e.scores(LogitWeights(1.5, 0.2, 0.3, 4.0)), expected)


def test_weights_of_prototypes_and_offsets_by_count():
    counts = np.array([0.0, 2.0, 30.0])
    weights = LogitWeights(1.0, 0.2, 0.5, 3.0)
    trust, share = counts / (counts + PROTOTYPE_HALF_WAY), counts / (counts + OFFSET_HALF_WAY)
    np.testing.assert_allclose(weights.prototype_weights(counts), 0.2 + 0.5 * trust)
    np.testing.assert_allclose(weights.offsets(counts), 3.0 * share)


@pytest.mark.parametrize(
    "n_classes, fraction, n_hidden", [(2, 0.5, 1), (10, 0.5, 5), (12, 0.25, 3), (12, 0.001, 1)]
)
def test_pseudo_new_classes_take_turns(n_classes, fraction, n_hidden):
    masks = np.array(pseudo_new_masks(n_classes, fraction, 12, np.random.default_rng(0)))
    assert masks.shape == (12, n_classes)
    assert (masks.sum(axis=1) == n_hidden).all()
    np.testing.assert_array_equal(masks.sum(axis=0), 12 * n_hidden // n_classes)


@pytest.mark.parametrize("n_classes", [3, 7, 41])
def test_no_pseudo_new_class_is_hidden_twice_more_often_than_another(n_classes):
    masks = np.array(pseudo_new_masks(n_classes, 1 / 3, 5, np.random.default_rng(0)))
    assert (masks.sum(axis=1) == round(n_classes / 3)).all()
    assert np.ptp(masks.sum(axis=0)) <= 1


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_an_episode_hides_some_class_and_shows_some(fraction):
    for mask in pseudo_new_masks(7, fraction, 12, np.random.default_rng(0)):
        assert 0 < mask.sum() < 7


def test_one_class_leaves_nothing_to_hide():
    assert pseudo_new_masks(1, 0.5, 12, np.random.default_rng(0)) == []


def test_pseudo_new_classes_follow_the_generator():
    first, again, other = (
        np.array(pseudo_new_masks(20, 0.5, 12, np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_balanced_weights_give_each_side_one_and_its_classes_the_same():
    target = np.array([0, 0, 0, 0, 1, 2, 2, 3])
    sample_weight = np.array([1.0, 2, 1, 1, 1, 3, 1, 1])
    hidden = np.array([False, False, True, True])
    weight = balanced_weights(target, sample_weight, hidden)
    np.testing.assert_allclose(np.bincount(target, weight), 0.5)
    np.testing.assert_allclose(weight[:4] / weight[0], sample_weight[:4])


def test_balanced_weights_without_hidden_classes_sum_to_one():
    target = np.array([0, 0, 1])
    weight = balanced_weights(target, np.ones(3), np.zeros(2, dtype=bool))
    np.testing.assert_allclose(weight, [0.25, 0.25, 0.5])


# --- offset ----------------------------------------------------------------------------------


def smooth_harmonic_mean(episodes, weights, offset):
    """Harmonic mean of base and new accuracy, image by image; a win is worth a sigmoid."""
    accuracy = {True: 0.0, False: 0.0}
    for e in episodes:
        scores = e.scores(replace(weights, base_offset=offset))
        for row, target, weight in zip(scores, e.target, e.weight, strict=True):
            is_new = bool(e.hidden[target])
            same = e.hidden == is_new
            if np.argmax(np.where(same, row, -np.inf)) != target:
                continue  # wrong among the classes of its side, at any offset
            lead = row[same].max() - row[~same].max()
            accuracy[is_new] += weight / (1 + np.exp(-lead / OFFSET_BANDWIDTH))
    return 2 * accuracy[True] * accuracy[False] / (accuracy[True] + accuracy[False])


@pytest.mark.parametrize("base_advantage", [-3.0, 0.0, 4.0])
def test_balanced_offset_has_the_largest_harmonic_mean(base_advantage):
    episodes = [episode(seed, base_advantage=base_advantage) for seed in range(2)]
    offset = balanced_offset(episodes, PRIOR)
    grid = np.arange(-12, 12, 0.1)
    best = max(smooth_harmonic_mean(episodes, PRIOR, g) for g in grid)
    assert smooth_harmonic_mean(episodes, PRIOR, offset) == pytest.approx(best, rel=1e-3)


def test_offset_follows_an_advantage_of_base_classes():
    plain = balanced_offset([episode()], PRIOR)
    ahead = balanced_offset([episode(base_advantage=5.0)], PRIOR)
    assert ahead - plain == pytest.approx(5.0, abs=1e-6)


def test_offset_stays_where_nothing_was_hidden():
    weights = replace(PRIOR, base_offset=1.25)
    assert balanced_offset([episode(hidden=())], weights) == 1.25


# --- weights ---------------------------------------------------------------------------------


def _relative(theta):
    """The prior is on the weights of prototypes next to that of the text, if there is one."""
    a, b, c, g = theta
    return np.array([a, b / a, c / a, g]) if a else np.array([1, b, c, g])


def penalised_loss(theta, episodes, prior, sd):
    """Negative logarithm of the posterior that the weights maximise."""
    loss = (((_relative(theta) - _relative(astuple(prior))) / sd) ** 2).sum() / 2
    for e in episodes:
        log_proba = log_softmax(e.scores(LogitWeights(*theta)), axis=1)
        nll = -log_proba[np.arange(len(e.target)), e.target]
        loss += 2 * N_CLASSES / len(episodes) * e.weight @ nll
    return loss


def independent_optimum(episodes, prior, sd, free, theta):
    """Optimum over the parameters `free` without gradients, the others as in `theta`."""
    theta = np.array(theta, dtype=float)

    def objective(values):
        full = theta.copy()
        full[free] = values
        return penalised_loss(full, episodes, prior, sd)

    bounds = np.array([(0.05, 50), (0, 50), (0, 50), (-50, 50)])[free]
    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 20_000, "maxfev": 20_000}
    start = theta[free]
    for _ in range(3):  # restarts free a simplex that has collapsed
        start = minimize(objective, start, method="Nelder-Mead", bounds=bounds, options=options).x
    return objective(start), start


@pytest.mark.parametrize("signal", [0.3, 2.0])
@pytest.mark.parametrize("base_offset", [0.0, 2.0])
def test_weights_maximise_the_penalised_likelihood(base_offset, signal):
    episodes = [episode(seed, signal=signal) for seed in range(3)]
    prior = replace(PRIOR, base_offset=base_offset)
    result = fit_logit_weights(episodes, prior, N_CLASSES, keep_offset=True)
    best, theta = independent_optimum(episodes, prior, PRIOR_SD, [0, 1, 2], astuple(prior))
    assert result.base_offset == base_offset
    assert penalised_loss(np.array(astuple(result)), episodes, prior, PRIOR_SD) <= best + 1e-5
    np.testing.assert_allclose(astuple(result)[:3], theta, atol=2e-3)


def test_weights_are_the_optimum_at_the_offset_that_was_chosen():
    episodes = [episode(seed, base_advantage=2.0) for seed in range(3)]
    result = fit_logit_weights(episodes, PRIOR, N_CLASSES)
    best, _ = independent_optimum(episodes, PRIOR, PRIOR_SD, [0, 1, 2], astuple(result))
    assert penalised_loss(np.array(astuple(result)), episodes, PRIOR, PRIOR_SD) <= best + 1e-5


def test_without_text_only_the_weight_of_prototypes_is_estimated():
    prior = LogitWeights(zero_shot=0.0, prototype=1.0)
    e = episode(text=False, hidden=())
    result = fit_logit_weights([e], prior, N_CLASSES)
    _, theta = independent_optimum([e], prior, IMAGE_ONLY_PRIOR_SD, [1], (0.0, 1.0, 0.0, 0.0))
    assert result.prototype == pytest.approx(theta[0], rel=1e-3)
    assert (result.zero_shot, result.reliability, result.base_offset) == (0, 0, 0)


def test_without_episodes_the_prior_is_the_answer():
    assert fit_logit_weights([], PRIOR, N_CLASSES) == PRIOR


@pytest.mark.parametrize("keep_offset", [True, False])
def test_keep_weights(keep_offset):
    prior = LogitWeights(0.8, 0.3, 0.1, 1.0)
    result = fit_logit_weights(
        [episode(base_advantage=3.0)], prior, N_CLASSES, keep_weights=True, keep_offset=keep_offset
    )
    assert astuple(result)[:3] == (0.8, 0.3, 0.1)
    assert (result.base_offset == 1.0) == keep_offset


def test_useless_prototypes_lose_weight_and_useful_ones_gain():
    rng = np.random.default_rng(0)
    useful = episode()
    useless = replace(useful, prototype=10 * rng.normal(size=useful.prototype.shape))
    weights = [fit_logit_weights([e], PRIOR, N_CLASSES).prototype for e in (useless, useful)]
    assert weights[0] < PRIOR.prototype < weights[1]
