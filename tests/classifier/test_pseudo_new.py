"""Which classes are hidden together, and what their images are compared to."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import clip_like
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from skcandle.classifier import _pseudo_new
from skcandle.classifier._logit_weights import (
    BONUS_HALF_COUNT,
    OFFSET_HALF_COUNT,
    LogitWeights,
    prototype_similarity,
)
from skcandle.classifier._prototypes import fit_prototypes
from skcandle.classifier._pseudo_new import (
    _content_ranking,
    _some_rows,
    balanced_weights,
    effective_size,
    hidden_masks,
    leave_one_out_split,
    pseudo_new_splits,
    splits_of_universe,
    without_singletons,
)
from skcandle.classifier._training_set import TrainingSet

COUNTS = np.array([9, 7, 5, 4, 4, 3, 2, 2, 1, 1, 0, 0])
WEIGHTS = LogitWeights(0.05, 0.4, 0.3, 1.5)


def training_set(seed=0):
    X, y, texts = clip_like(COUNTS, 16, seed=seed)
    return TrainingSet(X, y, np.ones(len(y)), texts, len(COUNTS))


# --- the design ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [9, 18, 27, 90])
def test_every_split_hides_a_third_and_every_class_is_hidden_four_times(n_classes):
    masks = np.array(hidden_masks(np.arange(n_classes)))
    assert masks.shape == (12, n_classes)
    assert (masks.sum(axis=1) == n_classes // 3).all()
    assert (masks.sum(axis=0) == 4).all()


def test_two_of_nine_classes_are_hidden_together_once():
    together = np.array(hidden_masks(np.arange(9))).astype(int)
    assert_array_equal(together.T @ together, 1 + 3 * np.eye(9, dtype=int))


@pytest.mark.parametrize("n_classes", range(2, 40))
def test_every_split_hides_some_class_and_shows_some(n_classes):
    masks = hidden_masks(np.arange(n_classes))
    assert 1 <= len(masks) <= 12
    assert all(0 < mask.sum() < n_classes for mask in masks)
    assert np.any(masks, axis=0).all()
    assert len(np.unique(masks, axis=0)) == len(masks)


def test_one_class_leaves_nothing_to_hide():
    assert hidden_masks(np.arange(1)) == []


def test_classes_of_similar_counts_are_hidden_in_different_splits():
    masks = np.array(hidden_masks(np.argsort(-COUNTS[:10], kind="stable")))
    assert (masks[:, :3].sum(axis=1) <= 2).sum() >= 11


# --- the content ranking ---------------------------------------------------------------------


def hidden_sets(splits, names):
    return {frozenset(np.array(names)[split.hidden].tolist()) for split in splits}


def test_renaming_and_reordering_hides_the_same_classes():
    data, names = training_set(), np.arange(10)
    expected = hidden_sets(pseudo_new_splits(data, 2.0), names)
    rng = np.random.default_rng(1)
    rows, moved = rng.permutation(len(data.y)), np.append(rng.permutation(10), [10, 11])
    again = replace(
        data,
        X=data.X[rows],
        y=moved[data.y[rows]],
        text_features=data.text_features[np.argsort(moved)],
    )
    assert hidden_sets(pseudo_new_splits(again, 2.0), np.argsort(moved[:10])) == expected


def test_a_generator_hides_other_classes_together():
    names = np.arange(10)
    sets = [
        hidden_sets(pseudo_new_splits(training_set(), 2.0, np.random.default_rng(s)), names)
        for s in (0, 0, 1)
    ]
    assert sets[0] == sets[1] != sets[2]


def test_weights_and_repeated_images_hide_the_same_classes():
    data, repeats = training_set(), np.arange(COUNTS.sum()) % 3 + 1
    weighted = replace(data, sample_weight=repeats.astype(float))
    repeated = replace(
        data,
        X=data.X.repeat(repeats, axis=0),
        y=data.y.repeat(repeats),
        sample_weight=np.ones(repeats.sum()),
    )
    names = np.arange(10)
    sets = [hidden_sets(pseudo_new_splits(d, 2.0), names) for d in (weighted, repeated)]
    assert sets[0] == sets[1]


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_ranked_by_weight_and_then_by_distance_from_the_centre_of_all(seed):
    X, y, _ = clip_like([2, 3, 2, 1, 3, 2], 5, seed=seed)
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    for k, total in enumerate([6, 4, 6, 6, 9, 6]):  # four classes have the same weight
        first = np.flatnonzero(y == k)[0]
        weight[first] += total - weight[y == k].sum()
    means = np.stack([np.average(X[y == k], axis=0, weights=weight[y == k]) for k in range(6)])
    distance = np.linalg.norm(means - means.sum(axis=0) / 6, axis=1)
    ranking = _content_ranking(TrainingSet(X, y, weight, None, 6))
    assert ranking.tolist() == [4, *sorted([0, 2, 3, 5], key=distance.__getitem__), 1]


@pytest.mark.parametrize("n_rows, max_rows, n_kept", [(2, 0, 1), (2, 1, 1), (5, 3, 3), (5, 5, 5)])
def test_some_rows_are_at_least_one(n_rows, max_rows, n_kept):
    kept = _some_rows(np.random.default_rng(0).normal(size=(n_rows, 2)), max_rows)
    assert len(kept) == n_kept and (np.diff(kept) > 0).all()


def test_of_equal_rows_the_first_are_kept():
    assert_array_equal(_some_rows(np.ones((50, 2)), 20), np.arange(20))


# --- similarities ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 5])
def test_similarities_are_those_of_fits_without_the_hidden_classes_and_the_image(number):
    data = training_set()
    split = pseudo_new_splits(data, 2.0)[number]
    known = data.among(np.arange(10))
    training = fit_prototypes(known.at(~split.hidden[known.y]), 2.0)
    space = training.space
    assert_allclose(split.text_similarity, known.X @ known.text_features.T)
    prototypes = space.transform(space.prototypes)
    assert_allclose(split.offset_saturation, space.counts / (space.counts + OFFSET_HALF_COUNT))
    for i in range(0, len(known.y), 5):
        k = known.y[i]
        row = split.prototype_similarity[i]
        if split.hidden[k]:
            token = space.transform_images(known.X[i : i + 1])[0]
            assert_allclose(row, prototypes @ token - 0.5)
            expected = space.counts[k]
        else:
            token, own = training.transform_left_out(known.X[[i]], known.y[[i]], np.ones(1))
            others = np.arange(10) != k
            assert_allclose(row[others], (prototypes @ token[0] - 0.5)[others])
            assert_allclose(row[k], token[0] @ own[0] - 0.5)
            expected = space.counts[k] - 1
        assert split.bonus_saturation[i, k] == pytest.approx(
            expected / (expected + BONUS_HALF_COUNT)
        )


@pytest.mark.parametrize("text", [True, False])
def test_the_leave_one_out_split_hides_nothing(text):
    data = training_set()
    data = data.among(np.arange(10)) if text else replace(data, text_features=None, n_classes=10)
    split = leave_one_out_split(data, 2.0)
    assert not split.hidden.any()
    assert (split.text_similarity is None) == (not text)
    images, own = fit_prototypes(data, 2.0).transform_left_out(data.X, data.y, data.sample_weight)
    found = split.prototype_similarity[np.arange(len(data.y)), data.y]
    assert_allclose(found, (images * own).sum(1) - (0.5 if text else (own**2).sum(1) / 2))


@pytest.mark.parametrize("seen", [2, 3, 4, 10])
def test_splits_of_the_universe_hide_each_class_with_images_once(seen):
    X, y, texts = clip_like([3] * seen + [0, 0], 16)
    data = TrainingSet(X, y, np.ones(len(y)), texts, seen + 2)
    splits, rows = splits_of_universe(data, data, 2.0)
    masks = np.array([split.hidden for split in splits])
    assert_array_equal(masks.sum(axis=0), [1] * seen + [0, 0])
    assert np.ptp(masks.sum(axis=1)) <= 1 and len(masks) == min(seen, 3)
    assert_array_equal(rows, np.arange(len(y)))
    for split in splits:
        space = fit_prototypes(data.at(~split.hidden[data.y]), 2.0).space
        of_hidden = split.hidden[y]
        prototypes = space.transform(space.prototypes)
        expected = prototype_similarity(space.transform_images(X[of_hidden]), prototypes)
        assert_allclose(split.prototype_similarity[of_hidden], expected)


@pytest.mark.parametrize("n_images, text", [([3, 2, 0], False), ([5, 0, 0], True)])
def test_the_universe_is_split_once_where_nothing_can_be_hidden(n_images, text):
    X, y, texts = clip_like(n_images, 16)
    data = TrainingSet(X, y, np.ones(len(y)), texts if text else None, len(n_images))
    (split,), rows = splits_of_universe(data, data, 2.0)
    assert not split.hidden.any()
    assert_array_equal(rows, np.arange(len(y)))
    expected = leave_one_out_split(data, 2.0).prototype_similarity
    assert_array_equal(split.prototype_similarity, expected)


def test_the_bonus_saturation_of_the_class_of_an_image_leaves_it_out():
    X, y, texts = clip_like([3, 1, 1, 4], 16)
    weight = np.array([2, 0.5, 1, 0.5, 3, 1, 1, 0.25, 2])
    split = leave_one_out_split(TrainingSet(X, y, weight, texts, 4), 2.0)
    counts = np.array([3.5, 0.5, 3, 4.25])
    for i, k in enumerate(y):
        behind = counts.copy()
        behind[k] -= min(weight[i], 1)
        assert_allclose(split.bonus_saturation[i], behind / (behind + BONUS_HALF_COUNT), atol=1e-12)


def test_the_leave_one_out_split_is_about_some_rows_where_there_are_many(monkeypatch):
    data = training_set()
    monkeypatch.setattr(_pseudo_new, "MAX_SIMILARITIES", len(COUNTS) * 20)
    assert len(leave_one_out_split(data, 2.0).target) == 20


def test_splits_of_the_universe_are_about_some_rows_where_there_are_many(monkeypatch):
    data = training_set()
    whole, _ = splits_of_universe(data, data, 2.0)
    monkeypatch.setattr(_pseudo_new, "MAX_SIMILARITIES", 3 * len(COUNTS) * 20)
    splits, rows = splits_of_universe(data, data, 2.0)
    assert len(np.unique(rows)) == 20
    for split, of_all in zip(splits, whole, strict=True):
        assert_array_equal(split.target, data.y[rows])
        assert_array_equal(split.prototype_similarity, of_all.prototype_similarity[rows])


def test_effective_size_is_that_of_balanced_averages():
    data = training_set().among(np.arange(10))
    counts = np.bincount(data.y)
    assert effective_size(data) == pytest.approx(10 * 10 / (1 / counts).sum())
    # variance of the mean of class means, if images have variance one
    assert 1 / effective_size(data) == pytest.approx((1 / counts).sum() / 10**2)


@pytest.mark.parametrize("singletons", [True, False])
def test_effective_size_is_that_of_kish(singletons):
    X, y, _ = clip_like([4, 0, 1, 30, 1, 2], 16)
    weight = np.where(y == 2, 1.25, np.where(y == 4, 1, 2))
    data = TrainingSet(X, y, weight, None, 7)
    # a unit of weight is an image; the weights of a class are equal and sum to one
    units = np.array([8, 1.25, 60, 1, 4])
    together = np.array([1, 1 if singletons else 0.25, 1, 1 if singletons else 0, 1])
    expected = together.sum() ** 2 / (units * (together / units) ** 2).sum()
    assert effective_size(data, singletons=singletons) == pytest.approx(expected)


def test_with_singletons_only_the_effective_size_is_zero():
    X, y, _ = clip_like([1, 1, 1], 16)
    assert effective_size(TrainingSet(X, y, np.ones(3), None, 3), singletons=False) == 0


def test_singletons_get_weight_zero_and_other_images_keep_theirs():
    data = training_set().among(np.flatnonzero(COUNTS))
    split = leave_one_out_split(data, 2.0)
    weighted = without_singletons(split, data)
    single = COUNTS[split.target] == 1
    assert single.sum() == 2 and not weighted.sample_weight[single].any()
    assert_array_equal(weighted.sample_weight[~single], split.sample_weight[~single])
    counts = COUNTS[COUNTS > 1]
    expected = len(counts) ** 2 / (1 / counts).sum()
    assert effective_size(data, singletons=False) == pytest.approx(expected)


def test_part_of_an_image_weighs_nothing_either():
    data = training_set().among(np.flatnonzero(COUNTS))
    data = replace(data, sample_weight=np.where(data.y == 9, 0.5, 1.0))
    weighted = without_singletons(leave_one_out_split(data, 2.0), data)
    assert (weighted.sample_weight[data.y == 9] == 0).all()
    whole = replace(data, sample_weight=np.ones(len(data.y)))
    expected = effective_size(whole, singletons=False)
    assert effective_size(data, singletons=False) == pytest.approx(expected)


def test_half_an_additional_image_makes_a_singleton_count_half():
    counts = COUNTS[COUNTS > 0]
    data = training_set().among(np.flatnonzero(COUNTS))
    data = replace(data, sample_weight=np.where(counts[data.y] == 1, 1.5, 1.0))
    split = leave_one_out_split(data, 2.0)
    share = without_singletons(split, data).sample_weight / split.sample_weight
    assert_allclose(share, np.where(counts[split.target] == 1, 0.5, 1))


def test_only_some_rows_are_compared_where_there_are_many(monkeypatch):
    data = training_set()
    monkeypatch.setattr(_pseudo_new, "MAX_SIMILARITIES", 12 * 10 * 20)
    splits = pseudo_new_splits(data, 2.0)
    assert {len(split.target) for split in splits} == {20}
    order = np.random.default_rng(0).permutation(len(data.y))
    again = pseudo_new_splits(replace(data, X=data.X[order], y=data.y[order]), 2.0)

    def rows(splits):  # of the split that hides a given set of classes
        return {tuple(split.hidden): sorted(split.prototype_similarity.max(1)) for split in splits}

    first, second = rows(splits), rows(again)
    assert first.keys() == second.keys()
    for hidden, values in first.items():
        assert_allclose(values, second[hidden])


# --- likelihood ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [True, False])
def test_derivatives_of_the_likelihood_by_finite_differences(text):
    data = training_set()
    if not text:
        data = replace(data, text_features=None, n_classes=10)
    split = pseudo_new_splits(data, 2.0)[0] if text else leave_one_out_split(data, 2.0)

    def value(inverse, prototype_weight, count_bonus, base_offset):
        weights = LogitWeights(1 / inverse, prototype_weight, count_bonus, base_offset)
        return split.log_likelihood(weights)[0]

    theta = np.array([20.0, 0.4, 0.3, 1.5])
    _, derivatives = split.log_likelihood(WEIGHTS)
    for i, step in enumerate([1e-4, 1e-6, 1e-6, 1e-6]):
        ahead, behind = (value(*(theta + s * np.eye(4)[i])) for s in (step, -step))
        assert derivatives[i] == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_the_likelihood_is_that_of_the_softmax():
    split = pseudo_new_splits(training_set(), 2.0)[0]
    logits = split.joint_logits(WEIGHTS)
    log_proba = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own = log_proba[np.arange(len(split.target)), split.target]
    assert split.log_likelihood(WEIGHTS)[0] == pytest.approx(split.sample_weight @ own)


@pytest.mark.filterwarnings("error")
def test_the_likelihood_of_large_logits_is_finite():
    split = leave_one_out_split(training_set().among(np.arange(10)), 2.0)
    own = np.arange(len(split.target)), split.target
    # rows far apart from each other, and far from zero
    apart = 1000 * np.arange(len(split.target))[:, None]
    split = replace(split, text_similarity=split.text_similarity + apart)
    sharp = replace(WEIGHTS, temperature=1e-3)
    value, derivatives = split.log_likelihood(sharp)
    log_proba = log_softmax(split.joint_logits(sharp), axis=1)[own]
    assert value == pytest.approx(split.sample_weight @ log_proba)
    assert np.isfinite(derivatives).all()


def test_derivatives_are_double_precision_whatever_the_similarities_are():
    data = training_set()
    single = {name: getattr(data, name).astype(np.float32) for name in ("X", "sample_weight")}
    single["text_features"] = data.text_features.astype(np.float32)
    value, derivatives = pseudo_new_splits(replace(data, **single), 2.0)[0].log_likelihood(WEIGHTS)
    expected = pseudo_new_splits(data, 2.0)[0].log_likelihood(WEIGHTS)
    assert derivatives.dtype == float
    assert value == pytest.approx(expected[0], rel=1e-3)
    assert_allclose(derivatives, expected[1], rtol=1e-2)


# --- balanced weights ------------------------------------------------------------------------


def test_balanced_weights_give_each_side_one_and_its_classes_the_same():
    target = np.array([0, 0, 0, 0, 1, 2, 2, 3])
    sample_weight = np.array([1.0, 2, 1, 1, 1, 3, 1, 1])
    hidden = np.array([False, False, True, True])
    weight = balanced_weights(target, sample_weight, hidden)
    assert_allclose(np.bincount(target, weight), 0.5)
    assert_allclose(weight[:4] / weight[0], sample_weight[:4])


def test_balanced_weights_without_hidden_classes_sum_to_one():
    target = np.array([0, 0, 1])
    weight = balanced_weights(target, np.ones(3), np.zeros(2, dtype=bool))
    assert_allclose(weight, [0.25, 0.25, 0.5])
