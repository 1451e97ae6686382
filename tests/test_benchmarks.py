"""The tasks, methods and measures of the benchmarks."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.accuracy import (
    ablation,
    choose_to_label,
    conformal,
    evaluation,
    novelty,
    peers,
)
from benchmarks.accuracy.protocol import (
    Features,
    draw_task,
    load_features,
    synthetic_task,
    unit,
)
from benchmarks.speed import cuda, cuda_parts, fit, published_loop

LIBRARY = [peers.candle, peers.published_candle]
PEERS = [method for method in peers.WITH_TEXT if method not in LIBRARY]


@pytest.fixture(scope="module")
def features():
    """Eight classes whose images and texts share directions and are separated by a modality gap."""
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(8, 16)), np.repeat(np.arange(8), 25)
    X = unit(centres[y] + 0.7 * rng.normal(size=(200, 16)) + 2 * np.eye(16)[0])
    T = unit(centres + 0.5 * rng.normal(size=(8, 16)) - 2 * np.eye(16)[0])
    return Features(X, y, np.array([f"class {i}" for i in range(8)]), T)


@pytest.fixture
def task(features):
    return draw_task(features, seed=1, ratio=0.1)


def test_a_task_keeps_a_long_tail_of_base_classes_and_no_images_of_new_ones(task):
    assert task.n_base == 4
    # 20 of 25 images are in the pool: 20 * 0.1 ** (i / 3), rounded down
    np.testing.assert_array_equal(np.sort(np.bincount(task.y)), [2, 4, 9, 20])


def test_task_tests_on_images_outside_the_pool(features, task):
    assert len(task.y_test) == 8 * 5
    assert not (task.X_test[:, None] == task.X).all(axis=2).any()
    for x, label in zip(task.X_test, task.y_test, strict=True):
        source = np.flatnonzero((features.X == x).all(axis=1))[0]
        assert features.names[features.y[source]] == task.names[label]


def test_task_texts_follow_their_classes(features, task):
    for name, text in zip(task.names, task.T, strict=True):
        np.testing.assert_array_equal(text, features.T[features.names == name][0])


def test_task_without_text_has_base_classes_only(features):
    task = draw_task(replace(features, T=None), seed=0)
    assert task.n_base == 8
    assert task.T is None


@pytest.mark.parametrize("method", PEERS, ids=lambda m: m.__name__)
def test_every_peer_scores_all_classes_better_than_chance(method, task):
    row = evaluation.evaluate(method(task), task)
    assert row["base"] > 0.5
    assert row["new"] > 0.5


@pytest.mark.parametrize("method", PEERS, ids=lambda m: m.__name__)
def test_every_peer_works_with_one_image_per_class(method, features):
    task = draw_task(features, seed=0, ratio=1, max_shots=1)
    assert np.isfinite(method(task)(task.X_test)).all()


@pytest.mark.parametrize("method", ablation.ABLATION, ids=lambda m: m.__name__)
def test_every_ablation_changes_the_scores_and_leaves_the_library_as_it_was(method, task):
    before = peers.candle(task)(task.X_test)
    changed = method(task)(task.X_test)
    np.testing.assert_array_equal(peers.candle(task)(task.X_test), before)
    assert (method is peers.candle) == np.allclose(changed, before, rtol=1e-5, atol=0)


def test_ridge_precision_is_the_inverse_of_its_definition():
    residuals = np.random.default_rng(0).normal(size=(6, 9))
    covariance = residuals.T @ residuals / 5
    expected = 9 * np.linalg.inv(5 * covariance + np.trace(covariance) * np.eye(9))
    np.testing.assert_allclose(peers.ridge_precision(residuals), expected)


def test_gaussian_weights_are_the_log_density_up_to_a_common_term():
    rng = np.random.default_rng(0)
    means, Z = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    precision = np.cov(rng.normal(size=(4, 30)))
    W, b = peers.gaussian_weights(means, precision)
    difference = Z[:, None] - means
    density = -0.5 * np.einsum("nkd,de,nke->nk", difference, precision, difference)
    scores = Z @ W.T + b
    np.testing.assert_allclose(scores - scores[:, :1], density - density[:, :1])


def test_shrunk_prototypes_approach_the_class_means_without_shrinkage(task):
    prototypes, centre = peers.shrunk_prototypes(task.X, task.y, task.T, kappa=1e-9)
    means = [task.X[task.y == label].mean(axis=0) for label in range(task.n_base)]
    np.testing.assert_allclose(prototypes[: task.n_base] + centre, means, atol=1e-6)


def test_the_offset_moves_only_base_scores_and_all_equally(task):
    plain, moved = peers.closed_form(task), peers.closed_form_calibrated(task)
    change = moved(task.X_test) - plain(task.X_test)
    np.testing.assert_allclose(change[:, task.n_base :], 0)
    np.testing.assert_allclose(change[:, : task.n_base], change[0, 0], rtol=1e-5)


def test_tuning_keeps_the_default_if_all_settings_are_equal(task):
    def fit(X, y, T, setting):
        assert setting == "default" or len(y) < len(task.y)
        return lambda Z: Z @ T.T

    peers.tune(task, fit, setting=["default", "other"])


def test_paired_difference_has_the_t_interval():
    rows, reference = (
        [{"harmonic_mean": 0.5}, {"harmonic_mean": 0.6}],
        [{"harmonic_mean": 0.6}, {"harmonic_mean": 0.9}],
    )
    difference, half = evaluation.paired_difference(rows, reference, "harmonic_mean")
    assert difference == pytest.approx(0.2)
    assert half == pytest.approx(12.706 * 0.1, rel=1e-4)


def test_a_single_task_has_no_interval_in_the_table():
    row = {"harmonic_mean": 0.5, "fit_seconds": 1.0}
    rows = {"theirs": [row], "ours": [row | {"harmonic_mean": 0.6}]}
    table = evaluation.tables(rows, "ours")
    assert "| theirs | +10.00 |" in table and "nan" not in table
    both = {name: 2 * own for name, own in rows.items()}
    assert "| theirs | +10.00 ± 0.00 |" in evaluation.tables(both, "ours")


def test_feature_file_is_read(features, tmp_path):
    T = np.stack([features.T, -features.T])
    arrays = {"X": 3 * features.X, "y": features.y, "names": features.names}
    np.savez(tmp_path / "a.npz", **arrays, T=T, templates=["a", "b"])
    np.savez(tmp_path / "b.npz", **arrays)
    first = load_features(tmp_path / "a.npz")
    np.testing.assert_allclose(first.X, features.X, rtol=1e-6)
    np.testing.assert_allclose(first.T, features.T, rtol=1e-6)
    np.testing.assert_allclose(load_features(tmp_path / "a.npz", "b").T, -features.T, rtol=1e-6)
    assert load_features(tmp_path / "b.npz", text=False).T is None
    with pytest.raises(ValueError, match=r"lacks the arrays \['T', 'templates'\]"):
        load_features(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"template='c' is not one of \['a', 'b'\]"):
        load_features(tmp_path / "a.npz", "c")


def test_synthetic_task_has_the_counts_it_was_asked_for():
    task = synthetic_task(20, 100, 32, n_test=50)
    counts = np.bincount(task.y, minlength=22)
    assert (task.X.shape, task.X_test.shape, task.T.shape) == ((100, 32), (50, 32), (22, 32))
    assert counts[:20].min() >= 1 and counts[0] > 5 * counts[19] and not counts[20:].any()
    np.testing.assert_array_equal(task.X, synthetic_task(20, 100, 32, n_test=50).X)


def test_published_loop_learns_and_scores_all_classes(task):
    untrained = evaluation.evaluate(published_loop.published_loop(task, epochs=0), task)
    row = evaluation.evaluate(published_loop.published_loop(task, epochs=10), task)
    assert row["base"] > 0.5 and row["new"] > 0.5
    assert row["log_loss"] < untrained["log_loss"]


def test_published_loop_starts_as_the_equations_say(task):
    """Without attention and projections, the groups are cosines of normalised tokens."""
    head, losses = published_loop.train(task, epochs=0)
    assert losses == []
    head.residual_weight.data.zero_()
    means = [task.X[task.y == label].mean(axis=0) for label in range(task.n_base)]
    prototypes = unit(np.concatenate([means, task.T[task.n_base :]]))
    images = torch.tensor(task.X_test)
    before, to_text, to_prototype = (group.detach().numpy() for group in head(images))
    rows = np.concatenate([task.X_test, prototypes])
    np.testing.assert_allclose(before, 100 * rows @ task.T.T, atol=1e-3)

    def normalised(z):  # LN(z) has this direction, up to its small constant
        return unit(z - z.mean(axis=1, keepdims=True))

    rows, texts, prototypes = map(normalised, (rows, task.T, prototypes))
    np.testing.assert_allclose(to_text, 100 * rows @ texts.T, atol=1e-3)
    np.testing.assert_allclose(to_prototype, 50 * rows @ prototypes.T, atol=1e-3)


@pytest.mark.parametrize("method", [*fit.METHODS, fit.WITHOUT_TERM])
def test_costs_of_each_method_are_measured(method):
    row = fit.measure(method, (10, 40, 16), epochs=published_loop.EPOCHS)
    assert row.keys() > {"fit", "predict", "fit_mb", "peak_mb", "share", *fit.ACCURACIES}
    assert row["fit"] > 0 and row["share"] > 0


def test_quick_runs_report_no_accuracies_of_the_loop():
    row = fit.measure("published loop", (10, 40, 16), epochs=1)
    assert not row.keys() & set(fit.ACCURACIES)


# --- changing label sets ---------------------------------------------------------------------


def test_classes_left_out_are_in_neither_training_nor_test_images(features):
    case = novelty.draw(features, seed=0)
    assert case.task.n_classes == 6
    assert len(case.unlisted) == 2 * 25
    known = np.concatenate([case.task.X, case.task.X_test])
    assert not (case.unlisted[:, None] == known).all(axis=2).any()


def test_false_positives_at_95_percent():
    listed, unlisted = np.arange(100), np.array([10, 94, 95, 200])
    assert novelty.accepted(listed, unlisted) == 0.5
    assert novelty.auroc([0, 1], [1, 2]) == 0.875


def test_coverage_and_size_are_averages_over_classes(task):
    sets = np.zeros((len(task.y_test), task.n_classes), dtype=bool)
    sets[:, 0] = True  # correct for one of four base classes
    assert conformal.measure(task, sets) == [0.25, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "goal, rounds", [(0.4, 0), (0.5, 0), (0.6, 0.5), (0.7, 1), (0.75, 1.5), (0.9, np.nan)]
)
def test_rounds_until_an_accuracy_is_reached(goal, rounds):
    curve = np.array([0.5, 0.7, 0.8, 0.75])
    np.testing.assert_allclose(choose_to_label.rounds_to_reach(curve, goal), rounds)


@pytest.fixture
def parts(monkeypatch):
    """A function that replaces a part of the CUDA benchmark by Python code."""

    def replace_by(code):
        monkeypatch.setattr(cuda, "command_of", lambda *args: [sys.executable, "-c", code])

    return replace_by


@pytest.mark.parametrize(
    "code, limit, ending",
    [
        ("print('| 1 |')", 60, "passed"),
        ("print('| 1 |'); raise ValueError('no luck')", 60, "FAILED (exit status 1)"),
        ("print('| 1 |', flush=True); import time; time.sleep(60)", 5, "STOPPED after 5 s"),
    ],
)
def test_a_part_of_the_cuda_benchmark_keeps_its_results_however_it_ends(
    parts, tmp_path, code, limit, ending
):
    parts(code)
    assert cuda.run_part("fit", "cpu", True, tmp_path, limit) == ending
    text = cuda.report("cpu", {"fit": (ending, 1.0)}, tmp_path)
    assert f"| fit | {ending} | 1 |" in text
    assert "## fit\n\n| 1 |" in text
    assert ("ValueError: no luck" in text) == ending.startswith("FAILED")


def test_a_part_that_hangs_is_stopped_with_the_processes_that_it_started(parts, tmp_path):
    fcntl = pytest.importorskip("fcntl", reason="Windows has no such locks")
    lock = tmp_path / "lock"
    child = (
        f"import fcntl, time; file = open({str(lock)!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('| locked |', flush=True); time.sleep(120)"
    )
    parts(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    start = time.monotonic()
    assert cuda.run_part("fit", "cpu", True, tmp_path, 10) == "STOPPED after 10 s"
    assert (tmp_path / "fit.md").read_text() == "| locked |\n"
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for the end of the child
    assert time.monotonic() - start < 60


def test_all_parts_of_the_cuda_benchmark_share_one_limit(monkeypatch, parts, tmp_path):
    parts("print('| 1 |', flush=True); import time; time.sleep(60)")
    monkeypatch.setattr(cuda, "SECONDS_IN_ALL", 3)
    monkeypatch.setattr(
        sys, "argv", f"cuda --device cpu --parts tests fit --folder {tmp_path}".split()
    )
    assert cuda.main() == 1
    text = (tmp_path / "report.md").read_text()
    assert "| tests | STOPPED after 3 s |" in text
    assert "| fit | NOT RUN, no time was left | 0 |" in text


def test_the_cuda_benchmark_fails_where_answers_differ(monkeypatch, capsys):
    monkeypatch.setattr(cuda_parts, "LEAST_COSINE", {"fp32": 1.1})
    monkeypatch.setattr(
        cuda_parts, "without_card", lambda fitted, task, folder: fitted(task.X_test)
    )
    assert not cuda_parts.equality("cpu", is_small=True)
    assert "| 1.1 |" in capsys.readouterr().out
