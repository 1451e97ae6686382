"""Cases and peers of the benchmark of unlabelled images."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from benchmarks.accuracy import unlabeled, unlabeled_cases, unlabeled_peers
from benchmarks.accuracy.peers import zero_shot
from benchmarks.accuracy.protocol import Features, unit
from benchmarks.accuracy.unlabeled_cases import NAMES_ALONE, SCENARIOS, Source

REGIME = "4 a class"


@pytest.fixture(scope="module")
def source():
    """Ten classes with compact, distant images, whose texts point roughly the same way."""
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(10, 16)), np.repeat(np.arange(10), 30)
    X = unit(centres[y] + 0.4 * rng.normal(size=(300, 16)) + 2 * np.eye(16)[0])
    T = unit(centres + 0.7 * rng.normal(size=(10, 16)) - 2 * np.eye(16)[0])
    features = Features(X, y, np.array([f"class {i}" for i in range(10)]), T)
    return Source(features, unit(rng.normal(size=(40, 16))), features)


def rows_in(rows, others):
    return (rows[:, None] == others).all(axis=2).any(axis=1)


# --- cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", [REGIME, NAMES_ALONE])
def test_no_test_image_is_labelled_or_among_the_unlabelled_ones(source, regime):
    case = unlabeled_cases.full_case(source.features, regime, seed=0)
    known = np.concatenate([case.task.X, case.unlabeled])
    assert len(case.task.y_test) > 0 and not rows_in(case.task.X_test, known).any()
    assert not rows_in(case.unlabeled, case.task.X).any()


@pytest.mark.parametrize("regime", [REGIME, NAMES_ALONE])
def test_labels_are_those_of_the_unlabelled_images(source, regime):
    case = unlabeled_cases.full_case(source.features, regime, seed=0)
    for x, label in zip(case.unlabeled, case.labels, strict=True):
        i = np.flatnonzero((source.features.X == x).all(axis=1))[0]
        assert source.features.names[source.features.y[i]] == case.task.names[label]


def test_names_alone_has_no_labelled_image(source):
    task = unlabeled_cases.full_case(source.features, NAMES_ALONE, seed=0).task
    assert task.X.shape == (0, 16) and task.n_base == 0


def draw(source, scenario, regime=REGIME):
    return unlabeled_cases.draw_case(source, regime, scenario, seed=0)


def test_base_classes_only_has_no_image_of_a_new_class(source):
    case = draw(source, "base classes only")
    assert set(case.labels) == set(range(case.task.n_base))


def test_some_classes_has_30_percent_of_the_classes(source):
    assert len(set(draw(source, "30 % of the classes", NAMES_ALONE).labels)) == 3


def test_long_tail_keeps_two_percent_of_the_smallest_class(source):
    counts = np.bincount(draw(source, "long tail", NAMES_ALONE).labels, minlength=10)
    full = 15  # half of 30 images
    assert counts.max() == full and counts.min() == round(0.02 * full)


def test_half_of_the_images_are_of_classes_that_are_not_listed(source):
    case = draw(source, "half unlisted")
    full = unlabeled_cases.full_case(source.features, REGIME, seed=0)
    assert case.task.n_classes == 8 and case.task.n_base == 5  # two of five new classes are gone
    assert (case.labels < 0).mean() == 0.5
    assert case.task.y_test.max() == 7
    gone = full.unlabeled[full.labels >= 8]
    assert rows_in(case.unlabeled[case.labels < 0], gone).all()
    assert not rows_in(case.unlabeled[case.labels >= 0], gone).any()


def test_noise_and_near_copies_come_on_top_of_the_full_half(source):
    full = unlabeled_cases.full_case(source.features, NAMES_ALONE, seed=0)
    for scenario, added in {"noise and blank": 40, "near-copies": 150}.items():
        case = draw(source, scenario, NAMES_ALONE)
        np.testing.assert_array_equal(case.unlabeled[: len(full.labels)], full.unlabeled)
        assert len(case.labels) == len(full.labels) + added
    copies, original = case.unlabeled[-150:], full.unlabeled[full.labels == case.labels[-1]]
    assert ((copies @ original.T).max(axis=1) > 0.99).all()


def test_another_domain_is_away_from_home(source):
    features = source.features
    is_home = np.arange(len(features.y)) % 3 > 0
    home, away = (
        replace(features, X=features.X[mask], y=features.y[mask]) for mask in (is_home, ~is_home)
    )
    case = draw(replace(source, home=home, away=away), "other domain")
    known = np.concatenate([case.task.X, case.task.X_test])
    assert rows_in(known, home.X).all() and rows_in(case.unlabeled, away.X).all()
    np.testing.assert_array_equal(case.task.names[case.labels], away.names[away.y])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_unlabelled_images_have_unit_length_and_a_label_each(source, scenario):
    case = draw(source, scenario)
    np.testing.assert_allclose(np.linalg.norm(case.unlabeled, axis=1), 1, rtol=1e-5)
    assert len(case.labels) == len(case.unlabeled) > 0


# --- peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", unlabeled_peers.PEERS, ids=lambda peer: peer.__name__)
@pytest.mark.parametrize("regime", [REGIME, NAMES_ALONE])
def test_probabilities_of_the_unlabelled_images_add_up_to_one(source, peer, regime):
    case = draw(source, "full half", regime)
    proba = peer(case.task, case.unlabeled).unlabeled
    assert proba.shape == (len(case.unlabeled), 10) and (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1)


@pytest.mark.parametrize("peer", unlabeled_peers.PEERS, ids=lambda peer: peer.__name__)
def test_every_peer_recovers_separate_clusters_from_names_better_than_zero_shot(source, peer):
    case = draw(source, "full half", NAMES_ALONE)
    task, adapted = case.task, peer(case.task, case.unlabeled)
    before = (zero_shot(task)(task.X_test).argmax(axis=1) == task.y_test).mean()
    after = (adapted.score(task.X_test).argmax(axis=1) == task.y_test).mean()
    assert after > before + 0.02
    assert (adapted.unlabeled.argmax(axis=1) == case.labels).mean() > before + 0.02


@pytest.mark.parametrize("peer", unlabeled_peers.PEERS, ids=lambda peer: peer.__name__)
def test_every_peer_works_with_a_single_unlabelled_image(source, peer):
    case = draw(source, "full half")
    adapted = peer(case.task, case.unlabeled[:1])
    assert adapted.unlabeled.shape == (1, 10)
    assert np.isfinite(adapted.score(case.task.X_test)).all()


@pytest.mark.parametrize("n_variances", [1, 3])
def test_log_density_is_that_of_diagonal_gaussians_up_to_a_constant(n_variances):
    rng = np.random.default_rng(0)
    Z, means = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    variances = rng.uniform(0.5, 2, size=(n_variances, 4))
    expected = np.stack(
        [
            multivariate_normal(m, np.diag(v)).logpdf(Z)
            for m, v in zip(means, np.broadcast_to(variances, (3, 4)), strict=True)
        ],
        axis=1,
    )
    difference = unlabeled_peers.log_density(Z, means, variances) - expected
    np.testing.assert_allclose(difference, difference[0, 0])


def test_affinities_are_cosines_of_the_nearest_other_images():
    Z = unit(np.random.default_rng(0).normal(size=(8, 4)) + 1)
    cosines = Z @ Z.T - 2 * np.eye(8)
    third = np.sort(cosines, axis=1)[:, [-3]]
    expected = np.where(cosines >= third, np.maximum(cosines, 0), 0)
    np.testing.assert_allclose(unlabeled_peers.affinities(Z).toarray(), expected, atol=1e-6)


def test_anchored_gaussians_minimise_the_objective():
    """No small step in means or variances lowers it: -log-likelihood + alpha KL of the anchor."""
    rng = np.random.default_rng(0)
    weights, rows = rng.uniform(size=(6, 2)), rng.normal(size=(6, 3))
    T, anchor, alpha = rng.normal(size=(2, 3)), rng.uniform(0.5, 2, size=(2, 3)), 0.7

    def objective(means, variances):
        squares = (rows[:, None] - means) ** 2
        data = (weights[:, :, None] * (squares / variances + np.log(variances))).sum() / 2
        kl = np.log(variances / anchor) + (anchor + (T - means) ** 2) / variances - 1
        return data + alpha * kl.sum() / 2

    best = unlabeled_peers.anchored_gaussians(weights, rows, T, anchor, alpha)
    for i, j in np.ndindex(2, 3):
        for which in (0, 1):
            for step in (-1e-3, 1e-3):
                moved = [a.copy() for a in best]
                moved[which][i, j] += step
                assert objective(*moved) > objective(*best)


# --- results ---------------------------------------------------------------------------------


def test_results_that_exist_are_not_computed_again(source):
    found = {f"{REGIME}, full half": {"zero_shot": [{"kept": 1.0}]}}
    unlabeled.fill(found, source, REGIME, ["full half"], ["zero_shot", "stata"], seed=0)
    rows = found[f"{REGIME}, full half"]
    assert rows["zero_shot"] == [{"kept": 1.0}] and len(rows["stata"]) == 1


def test_tables_leave_out_methods_with_results_of_some_tasks_only():
    found = {f"{REGIME}, full half": {"default": [{}] * 3, "stata": [{}]}}
    kept = unlabeled.complete(found, [(REGIME, "full half")], seeds=2)
    assert kept == {f"{REGIME}, full half": {"default": [{}] * 2}}


def test_names_alone_is_measured_over_all_names_and_over_the_classes_present(source):
    case = draw(source, "30 % of the classes", NAMES_ALONE)
    row = unlabeled.measure(unlabeled.zero_shot, case)
    right = zero_shot(case.task)(case.task.X_test).argmax(axis=1) == case.task.y_test
    recall = np.array([right[case.task.y_test == label].mean() for label in range(10)])
    assert row["accuracy"] == pytest.approx(recall.mean())
    assert row["present_accuracy"] == pytest.approx(recall[np.unique(case.labels)].mean())


def test_short_cells_are_those_beyond_a_limit():
    before = dict.fromkeys(unlabeled.WITH_LABELS, 0.9) | {"n_unlabeled": 5.0}
    fine = before | {"joint_new": 0.896, "log_loss": 0.904}
    short = before | {"joint_new": 0.894, "log_loss": 0.906}
    results = {
        name: {"default": [before], "add_unlabeled": [row]}
        for name, row in {"a": fine, "b": short}.items()
    }
    assert unlabeled.short_cells(results) == [
        "* b: joint new 90.0 -0.6",
        "* b: log-loss 0.900 +0.006",
    ]
