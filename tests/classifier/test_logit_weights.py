"""The joint logits and the estimate of their weights, against independent optima."""

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from skcandle.classifier._logit_weights import (
    BONUS_HALF_COUNT,
    IMAGE_ONLY_PRIOR_SD,
    OFFSET_BANDWIDTH,
    OFFSET_HALF_COUNT,
    PRIOR_SD,
    LogitWeights,
    _OffsetCurve,
    _PenalisedLikelihood,
    balanced_offset,
    fit_logit_weights,
    fit_temperature,
    own_similarity,
    prototype_similarity,
    saturation,
)
from skcandle.classifier._pseudo_new import PseudoNewSplit, balanced_weights

N_CLASSES = 6
N_IMAGES = 12.0  # that the likelihood counts as
TEMPERATURE = 0.5
START = LogitWeights(TEMPERATURE, prototype_weight=0.1)
FREE = ["temperature", "prototype_weight", "count_bonus"]


def split(seed=0, *, n_images=60, text=True, hidden=(0, 3), base_advantage=0.0, signal=2.0):
    """Images whose similarity to their class is larger by `signal`."""
    rng = np.random.default_rng(seed)
    target = rng.integers(N_CLASSES, size=n_images)
    own = signal * np.eye(N_CLASSES)[target]
    mask = np.isin(np.arange(N_CLASSES), hidden)
    counts = np.where(mask, 0, rng.integers(1, 30, size=N_CLASSES))
    behind = np.tile(counts, (n_images, 1))
    behind[np.arange(n_images), target] = np.maximum(counts[target] - 1, 0)
    share = counts / (counts + OFFSET_HALF_COUNT)
    texts = own + rng.normal(size=own.shape) + base_advantage * share
    return PseudoNewSplit(
        text_similarity=TEMPERATURE * texts if text else None,
        prototype_similarity=TEMPERATURE * 10 * (own + rng.normal(size=own.shape)),
        bonus_saturation=behind / (behind + BONUS_HALF_COUNT),
        offset_saturation=share,
        hidden=mask,
        target=target,
        sample_weight=balanced_weights(target, np.ones(n_images), mask),
    )


# --- pieces ----------------------------------------------------------------------------------


def test_saturation_grows_from_zero_over_one_half_to_one():
    values = saturation(np.array([0.0, 1.0, 3.0, 10.0, 1e6]), 3.0)
    assert values[0] == 0 and values[2] == 0.5
    assert (np.diff(values) > 0).all()
    assert values[-1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_joint_logits_equal_the_equation(text, convert):
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(2, 7, 4))
    counts = np.array([0.0, 1.0, 5.0, 100.0])
    bonus, offset = counts / (counts + BONUS_HALF_COUNT), counts / (counts + OFFSET_HALF_COUNT)
    weights = LogitWeights(0.2, 0.3, 0.4, 5.0)
    arrays = (None if not text else convert(z), convert(v), convert(bonus), convert(offset))
    logits = weights.joint_logits(*arrays)
    for i in range(7):
        for k, n in enumerate(counts):
            expected = (z[i, k] if text else 0) + (0.3 + 0.4 * n / (n + 4)) * v[i, k]
            expected = expected / 0.2 - 5.0 * n / (n + 0.5)
            assert float(logits[i, k]) == pytest.approx(expected)


def test_similarity_to_prototypes_ranks_by_distance():
    rng = np.random.default_rng(0)
    tokens, prototypes = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    distances = ((tokens[:, None] - prototypes) ** 2).sum(axis=2)
    similarity = prototype_similarity(tokens, prototypes)
    gap = similarity + distances / 2
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape))
    own = own_similarity(tokens[:4], prototypes, normalize=False)
    np.testing.assert_allclose(own, np.diag(similarity[:4]))
    own = own_similarity(tokens[:4], prototypes, normalize=True)
    np.testing.assert_allclose(own, np.diag(tokens[:4] @ prototypes.T) - 0.5)


# --- offset ----------------------------------------------------------------------------------


def smooth_accuracies(splits, weights, offset):
    """Base and new accuracy, image by image, smoothed by a sigmoid."""
    accuracy = {True: 0.0, False: 0.0}
    for e in splits:
        scores = e.joint_logits(replace(weights, base_offset=offset))
        for row, target, weight in zip(scores, e.target, e.sample_weight, strict=True):
            is_new = bool(e.hidden[target])
            same = e.hidden == is_new
            if np.argmax(np.where(same, row, -np.inf)) != target:
                continue  # wrong at any offset, among the classes of its side
            lead = row[same].max() - row[~same].max()
            accuracy[is_new] += weight / (1 + np.exp(-lead / OFFSET_BANDWIDTH))
    return accuracy[False], accuracy[True]


def smooth_harmonic_mean(splits, weights, offset):
    base, new = smooth_accuracies(splits, weights, offset)
    return 2 * base * new / (base + new)


@pytest.mark.parametrize("signal", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("offset", [-2.0, 0.0, 3.0])
def test_the_curve_is_that_of_smoothed_accuracies(signal, offset):
    s = split(signal=signal)
    found = _OffsetCurve(s, START).accuracies(offset)
    np.testing.assert_allclose(found, smooth_accuracies([s], START, offset))


@pytest.mark.parametrize("base_advantage, start", [(-3.0, 0.0), (0.0, 1.3), (4.0, -2.0)])
def test_balanced_offset_has_the_largest_harmonic_mean(base_advantage, start):
    splits = [split(seed, base_advantage=base_advantage) for seed in range(2)]
    offset = balanced_offset(splits, replace(START, base_offset=start))
    eighths = 8 * (offset - start)
    assert eighths == pytest.approx(round(eighths), abs=1e-9)
    grid = np.arange(-12, 12, 0.1)
    best = max(smooth_harmonic_mean(splits, START, g) for g in grid)
    assert smooth_harmonic_mean(splits, START, offset) == pytest.approx(best, rel=1e-3)


def test_offset_follows_an_advantage_of_base_classes():
    plain = balanced_offset([split()], START)
    ahead = balanced_offset([split(base_advantage=5.0)], START)
    assert ahead - plain == pytest.approx(5.0, abs=1e-6)


def test_the_offset_does_not_change_if_nothing_was_hidden():
    weights = replace(START, base_offset=1.25)
    assert balanced_offset([split(hidden=())], weights) == 1.25


# --- weights ---------------------------------------------------------------------------------


def coordinates(weights):
    """Parameters of the prior: relative inverse temperature, and the other weights."""
    temperature, *others = astuple(weights)
    return np.array([TEMPERATURE / temperature, *others])


def penalised_loss(weights, splits, start, sd):
    """Negative log-posterior, which the weights minimise."""
    loss = (((coordinates(weights) - coordinates(start)) / sd) ** 2).sum() / 2
    total = sum(s.sample_weight.sum() for s in splits)
    for s in splits:
        log_proba = log_softmax(s.joint_logits(weights), axis=1)
        nll = -log_proba[np.arange(len(s.target)), s.target]
        loss += N_IMAGES / total * s.sample_weight @ nll
    return loss


def independent_optimum(splits, start, sd, free, weights):
    """Optimum over the weights `free`, without gradients; the others are kept as in `weights`."""

    def objective(values):
        changed = dict(zip(free, map(float, values), strict=True))
        return penalised_loss(replace(weights, **changed), splits, start, sd)

    bounds = {"temperature": (0.01, 10), "prototype_weight": (0, 50), "count_bonus": (0, 50)}
    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 20_000, "maxfev": 20_000}
    best = [getattr(weights, name) for name in free]
    for _ in range(3):  # restarts, in case the simplex collapses
        best = minimize(
            objective, best, method="Nelder-Mead", bounds=[bounds[n] for n in free], options=options
        ).x
    return objective(best), best


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("signal", [0.3, 2.0])
@pytest.mark.parametrize("base_offset", [0.0, 2.0])
def test_weights_maximise_the_penalised_likelihood(base_offset, signal):
    splits = [split(seed, signal=signal) for seed in range(3)]
    start = replace(START, base_offset=base_offset)
    result = fit_logit_weights(splits, splits, start, N_IMAGES, fixed=["base_offset"])
    best, values = independent_optimum(splits, start, PRIOR_SD, FREE, start)
    assert result.base_offset == base_offset
    assert penalised_loss(result, splits, start, PRIOR_SD) <= best + 1e-5
    np.testing.assert_allclose([getattr(result, name) for name in FREE], values, atol=2e-3)


def test_weights_are_the_optimum_at_the_offset_that_was_chosen():
    splits = [split(seed, base_advantage=2.0) for seed in range(3)]
    result = fit_logit_weights(splits, splits, START, N_IMAGES)
    best, _ = independent_optimum(splits, START, PRIOR_SD, FREE, result)
    assert penalised_loss(result, splits, START, PRIOR_SD) <= best + 1e-5


@pytest.mark.parametrize(
    "fixed",
    [
        ["temperature"],
        ["prototype_weight"],
        ["base_offset"],
        ["temperature", "prototype_weight"],
        ["temperature", "prototype_weight", "base_offset"],
    ],
)
def test_fixed_weights_stay_and_the_others_are_estimated(fixed):
    start = LogitWeights(0.4, 0.3, 0.1, 1.0)
    splits = [split(base_advantage=3.0)]
    result = fit_logit_weights(splits, splits, start, N_IMAGES, fixed=fixed)
    for name in ("temperature", "prototype_weight", "base_offset"):
        assert (getattr(result, name) == getattr(start, name)) == (name in fixed)
    assert (result.count_bonus == 0.1) == ("prototype_weight" in fixed)


def test_the_offset_comes_from_splits_that_hide_classes_and_the_rest_from_the_others():
    plain, hiding = split(hidden=()), split(1, base_advantage=2.0)
    result = fit_logit_weights([plain], [hiding], START, N_IMAGES)
    before = fit_logit_weights([plain], [], START, N_IMAGES, fixed=["base_offset"])
    assert result.base_offset == balanced_offset([hiding], before)
    best, _ = independent_optimum([plain], START, PRIOR_SD, FREE, result)
    assert penalised_loss(result, [plain], START, PRIOR_SD) <= best + 1e-5


def test_many_images_move_weights_further_from_the_prior():
    splits = [split(signal=0.3)]
    few, many = (fit_logit_weights(splits, splits, START, n) for n in (1.0, 1000.0))
    start = coordinates(START)[:3] / PRIOR_SD[:3]
    distances = [np.abs(coordinates(w)[:3] / PRIOR_SD[:3] - start).max() for w in (few, many)]
    assert distances[0] < distances[1]


def test_without_text_only_the_temperature_is_estimated():
    start = LogitWeights(TEMPERATURE, 1.0)
    s = split(text=False, hidden=())
    fixed = ["prototype_weight", "base_offset"]
    result = fit_logit_weights([s], [], start, N_IMAGES, fixed=fixed)
    _, values = independent_optimum([s], start, IMAGE_ONLY_PRIOR_SD, ["temperature"], start)
    assert result.temperature == pytest.approx(values[0], rel=1e-3)
    assert (result.prototype_weight, result.count_bonus, result.base_offset) == (1, 0, 0)


def test_the_temperature_alone_is_the_optimum_at_weights_that_stay():
    weights = LogitWeights(0.2, 0.4, 0.3, 1.5)
    result = fit_temperature([split(hidden=())], weights, START, N_IMAGES)
    assert replace(result, temperature=0.2) == weights
    _, values = independent_optimum([split(hidden=())], START, PRIOR_SD, ["temperature"], weights)
    assert result.temperature == pytest.approx(values[0], rel=2e-3)


@pytest.mark.filterwarnings("error")
def test_images_of_no_weight_leave_the_start():
    plain = split(hidden=())
    nothing = replace(plain, sample_weight=0 * plain.sample_weight)
    assert fit_logit_weights([nothing], [], START, 0.0, fixed=["base_offset"]) == START


def test_without_splits_the_start_is_the_answer():
    assert fit_logit_weights([], [], START, N_IMAGES) == START


def test_useless_prototypes_lose_weight_and_useful_ones_gain():
    rng = np.random.default_rng(0)
    useful = split()
    noise = TEMPERATURE * 10 * rng.normal(size=useful.prototype_similarity.shape)
    useless = replace(useful, prototype_similarity=noise)
    estimates = [fit_logit_weights([s], [s], START, N_IMAGES) for s in (useless, useful)]
    weights = [estimate.prototype_weight for estimate in estimates]
    assert weights[0] < START.prototype_weight < weights[1]


def test_prototypes_that_mislead_get_no_weight():
    plain = split()
    misleading = replace(plain, prototype_similarity=-plain.prototype_similarity)
    result = fit_logit_weights([misleading], [misleading], START, 1e4)
    assert (result.prototype_weight, result.count_bonus) == (0, 0)


@pytest.mark.parametrize("text, times", [(True, 20), (False, 100)])
def test_similarities_that_mislead_lead_to_the_largest_temperature(text, times):
    s = split(text=text, hidden=(), signal=-2.0)
    start = LogitWeights(TEMPERATURE, 1.0)
    result = fit_logit_weights([s], [], start, 1e6, fixed=["prototype_weight", "base_offset"])
    assert result.temperature == pytest.approx(times * TEMPERATURE)


def test_only_the_proportions_of_sample_weights_count():
    plain = [split(seed, hidden=()) for seed in range(2)]
    light = [replace(s, sample_weight=s.sample_weight / 8) for s in plain]
    fixed = ["base_offset"]
    expected = fit_logit_weights(plain, [], START, N_IMAGES, fixed=fixed)
    found = fit_logit_weights(light, [], START, N_IMAGES, fixed=fixed)
    np.testing.assert_allclose(astuple(found), astuple(expected), rtol=1e-6)


def test_gradient_of_the_penalised_likelihood_by_finite_differences():
    start = replace(START, base_offset=1.0)
    estimate = _PenalisedLikelihood([split(0), split(1)], start, N_IMAGES, ())
    u, step = np.random.default_rng(0).uniform(0.1, 1, 4), 1e-6
    gradient = estimate._objective(u)[1]
    for i, direction in enumerate(step * np.eye(4)):
        ahead, behind = (estimate._objective(u + s * direction)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)
