"""The objective of the projection against its equation, written out in NumPy."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import clip_like

from skcandle.classifier import _projection
from skcandle.classifier._logit_weights import BONUS_HALF_COUNT, OFFSET_HALF_COUNT, LogitWeights
from skcandle.classifier._projection import ProjectionObjective, train_projection
from skcandle.classifier._prototypes import fit_prototypes
from skcandle.classifier._pseudo_new import leave_one_out_split
from skcandle.classifier._training_set import TrainingSet

DIM, N_IMAGES, N_CLASSES = 16, 12, 5
CPU = torch.device("cpu")
WEIGHTS = LogitWeights(temperature=0.7, prototype_weight=0.6, count_bonus=0.8, base_offset=3.0)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Space:
    """Stands in for TrainingPrototypes and their space: the tokens of a fit are random numbers."""

    def __init__(self, rng, y, sample_weight, normalize):
        self.space = self
        self.normalize = normalize
        self.counts = np.bincount(y, sample_weight, minlength=N_CLASSES)
        self.image_mean = rng.normal(size=DIM)
        self.prototypes = rng.normal(size=(N_CLASSES, DIM))
        self.rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
        self.own = rng.normal(size=(len(y), DIM))

    def transform(self, centred):
        rotated = centred @ self.rotation
        return unit(rotated) if self.normalize else rotated

    def transform_left_out(self, X, y, sample_weight):
        part = np.minimum(sample_weight, 1)[:, None]  # like the real one, at most one image
        images, own = X @ self.rotation, part * self.own + y[:, None] / 5
        if not self.normalize:
            return images, own
        lengths = 1 + y[:, None] / 10  # like the real ones, near one
        return lengths * unit(images), unit(own) / lengths


def problem(*, text=True, normalize=True, seed=0, sample_weight=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=N_IMAGES)  # classes 3 and 4 have no image
    weight = rng.uniform(0.5, 2, N_IMAGES) if sample_weight is None else sample_weight
    data = TrainingSet(
        X=rng.normal(size=(N_IMAGES, DIM)),
        y=y,
        sample_weight=weight,
        text_features=unit(rng.normal(size=(N_CLASSES, DIM))) if text else None,
        n_classes=N_CLASSES,
    )
    return SimpleNamespace(data=data, space=Space(rng, y, weight, normalize))


def train(problem, **options):
    options = {"penalty": 2.0, "max_iter": 5, "device": CPU} | options
    return train_projection(problem.data, problem.space, WEIGHTS, **options)


def written_out(problem, projection, penalty):
    """Objective per sample, from the equations of the modules."""
    data, space = problem.data, problem.space

    def project(rows):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return lengths * unit(rows @ projection) if space.normalize else rows @ projection

    images, own = map(project, space.transform_left_out(data.X, data.y, data.sample_weight))
    prototypes = project(space.transform(space.prototypes))
    half_squares = 0.5 if space.normalize else (own**2).sum(axis=1) / 2
    bonus = WEIGHTS.count_bonus * space.counts / (space.counts + BONUS_HALF_COUNT)
    weight = WEIGHTS.prototype_weight + bonus
    pi = (space.counts + 1) / (space.counts + 1).sum()

    def losses(similarity, texts, target):
        logits = weight * similarity + (0 if texts is None else texts)
        logits = logits / WEIGHTS.temperature + np.log(pi)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(target)), target]

    def similarity(tokens):
        return tokens @ prototypes.T - (prototypes**2).sum(axis=1) / 2

    texts = of_prototypes = None
    if data.text_features is not None:
        texts = data.X @ data.text_features.T
        of_prototypes = unit(space.prototypes + space.image_mean) @ data.text_features.T
    to_images = similarity(images)
    to_images[np.arange(N_IMAGES), data.y] = (images * own).sum(axis=1) - half_squares
    total = data.sample_weight @ losses(to_images, texts, data.y)
    total += losses(similarity(prototypes), of_prototypes, np.arange(N_CLASSES)).sum()
    total += penalty / 2 * ((projection - np.eye(DIM)) ** 2).sum()
    return total / (data.sample_weight.sum() + N_CLASSES)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_first_loss_is_that_of_the_identity(normalize, text):
    p = problem(text=text, normalize=normalize)
    _, losses, _ = train(p, max_iter=1)
    assert losses[0] == pytest.approx(written_out(p, np.eye(DIM), 2.0), rel=1e-10)


@pytest.mark.parametrize("normalize", [True, False])
def test_training_ends_where_the_written_out_objective_is_stationary(normalize):
    p = problem(normalize=normalize)
    projection, losses, _ = train(p, penalty=10.0, max_iter=300)

    def slope(at, direction, step=1e-4):
        ahead, behind = (written_out(p, at + s * direction, 10.0) for s in (step, -step))
        return (ahead - behind) / (2 * step)

    directions = np.random.default_rng(0).normal(size=(20, DIM, DIM)) / DIM
    at_start = [slope(np.eye(DIM), d) for d in directions]
    at_end = [slope(projection, d) for d in directions]
    assert np.abs(at_end).max() < 0.01 * np.abs(at_start).max()
    assert losses[-1] == pytest.approx(written_out(p, projection, 10.0), rel=1e-9)


@pytest.mark.parametrize("normalize", [True, False])
def test_gradient_by_finite_differences(normalize):
    p = problem(normalize=normalize)
    objective = ProjectionObjective(p.data, p.space, WEIGHTS, 2.0, CPU)
    sum(objective.parts()).backward()
    gradient = objective.projection.grad.numpy()
    rng, step = np.random.default_rng(1), 1e-5
    for _ in range(10):
        direction = rng.normal(size=(DIM, DIM))
        ahead, behind = (written_out(p, np.eye(DIM) + s * direction, 2.0) for s in (step, -step))
        numeric = (ahead - behind) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(numeric, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_at_the_identity_similarities_are_those_that_the_weights_are_estimated_from(text, weighted):
    X, y, texts = clip_like([9, 5, 2, 1], 8, noise=1.0)
    sample_weight = 0.5 + np.arange(len(y)) % 3 if weighted else np.ones(len(y))
    data = TrainingSet(X, y, sample_weight, texts if text else None, 4)
    objective = ProjectionObjective(data, fit_prototypes(data, 2.0), WEIGHTS, 2.0, CPU)
    found = objective.image_similarity(slice(None)).detach().numpy()
    expected = leave_one_out_split(data, 2.0).prototype_similarity
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("block_rows", [1, 5, 12])
def test_the_size_of_a_block_does_not_change_the_result(block_rows, monkeypatch):
    expected, losses, _ = train(problem())
    monkeypatch.setattr(_projection, "BLOCK_ROWS", block_rows)
    projection, in_blocks, _ = train(problem())
    np.testing.assert_allclose(in_blocks, losses, rtol=1e-10)
    np.testing.assert_allclose(projection, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_iterations_the_projection_is_the_identity(dtype):
    p = problem()
    p.data = replace(p.data, X=p.data.X.astype(dtype))
    projection, losses, n_iter = train(p, max_iter=0)
    assert projection.dtype == dtype
    np.testing.assert_array_equal(projection, np.eye(DIM))
    assert (losses, n_iter) == ([], 0)


def test_a_weaker_penalty_lets_the_projection_go_further():
    distances = [
        np.linalg.norm(train(problem(), penalty=penalty, max_iter=50)[0] - np.eye(DIM))
        for penalty in (1e9, 100.0, 10.0, 1.0, 0.1)
    ]
    assert distances == sorted(distances)
    assert distances[0] < 1e-6 and distances[1] < distances[-1] / 10


def test_losses_decrease():
    _, losses, n_iter = train(problem(), max_iter=20)
    assert losses[-1] < losses[0]
    assert 0 < n_iter <= 20


def test_the_callback_hears_of_each_evaluation_and_of_the_end():
    heard = []
    _, losses, n_iter = train(
        problem(), max_iter=4, callback=lambda *progress: heard.append(progress)
    )
    iterations, of_objective = zip(*heard, strict=True)
    assert list(of_objective) == [*losses, losses[-1]]
    assert iterations[0] == 0 and iterations[-1] == n_iter == 4
    assert set(np.diff(iterations)) == {0, 1}


def test_an_image_is_compared_to_the_prototype_without_itself():
    plain, close = problem(), problem()
    close.space.own = close.data.X @ close.space.rotation
    assert train(close, max_iter=1)[1][0] < train(plain, max_iter=1)[1][0]


def test_sample_weight_is_repetition():
    repeats = np.arange(N_IMAGES) % 3 + 1
    weighted = problem(sample_weight=repeats.astype(float))
    repeated = problem(sample_weight=repeats.astype(float))
    data, space = repeated.data, repeated.space
    space.own = space.own.repeat(repeats, axis=0)
    repeated.data = TrainingSet(
        data.X.repeat(repeats, axis=0),
        data.y.repeat(repeats),
        np.ones(repeats.sum()),
        data.text_features,
        N_CLASSES,
    )
    np.testing.assert_allclose(train(weighted)[1], train(repeated)[1], rtol=1e-9)


def test_the_offset_is_no_part_of_the_objective():
    p = problem()
    plain = LogitWeights(WEIGHTS.temperature, WEIGHTS.prototype_weight, WEIGHTS.count_bonus)
    options = {"penalty": 2.0, "max_iter": 3, "device": CPU}
    expected = train_projection(p.data, p.space, plain, **options)[0]
    np.testing.assert_array_equal(train(p, max_iter=3)[0], expected)
    assert OFFSET_HALF_COUNT > 0


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_is_on_the_device_and_of_the_precision_of_the_images(dtype, normalize):
    p = problem(normalize=normalize)
    p.data = replace(p.data, X=p.data.X.astype(dtype))
    objective = ProjectionObjective(p.data, p.space, WEIGHTS, 2.0, torch.device("meta"))
    tensors = [*objective.parameters(), sum(objective.parts())]
    tensors += [value for value in vars(objective).values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    kinds = {tensor.dtype for tensor in tensors if tensor is not objective.target}
    assert kinds == {getattr(torch, np.dtype(dtype).name)}
