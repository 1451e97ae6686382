"""The classifier of the paper: its start, its loss, its steps."""

import numpy as np
import pytest
import torch
from helpers import clip_like
from long_tail import DATA, LABELS, N_TRAIN, fit
from numpy.testing import assert_allclose
from test_attention_head import NumpyHead, numpy_cosine
from torch import nn
from torch.nn import functional as F

from skcandle import PublishedCandleClassifier
from skcandle.classifier._attention_head import AttentionHead, logit_groups
from skcandle.classifier._published import train
from skcandle.classifier._training_set import TrainingSet

DIM, N_CLASSES = 16, 5


@pytest.mark.parametrize("temperature", [0.01, 0.05])
def test_an_untrained_classifier_equals_the_equations(temperature):
    X, y, texts = clip_like([6, 3, 1, 0, 0], 24)
    names = np.array(["ant", "bee", "cat", "dog", "elk"])
    clf = PublishedCandleClassifier(
        class_names=names.tolist(),
        text_encoder=dict(zip(names, texts, strict=True)),
        temperature=temperature,
        max_iter=0,
        random_state=3,
    ).fit(X, names[y])
    means = np.stack([X[y == k].mean(axis=0) if k < 3 else texts[k] for k in range(5)])
    prototypes = means / np.linalg.norm(means, axis=1, keepdims=True)
    # the start of the attention is random: torch's own module after the same seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(np.random.RandomState(3).randint(2**31 - 1))
        attention = nn.MultiheadAttention(24, 8).double()
    head = AttentionHead(24).double()
    head.attention = attention
    oracle = NumpyHead(head)
    assert oracle.state["residual_weight"] == pytest.approx(0.1)
    _, (images, texts, prototypes) = oracle.before_and_after(X, texts, prototypes)
    similarity = numpy_cosine(images, texts) + 0.5 * numpy_cosine(images, prototypes)
    np.testing.assert_allclose(clf.decision_function(X), similarity / temperature, rtol=1e-6)


def test_prototypes_are_directions_of_class_means_and_texts_of_new_classes():
    clf = fit("published")
    means = np.stack([DATA.X[DATA.y == label].mean(axis=0) for label in LABELS[:8]])
    assert_allclose(clf.prototypes_[:8], means / np.linalg.norm(means, axis=1, keepdims=True))
    assert_allclose(clf.prototypes_[8:], clf.text_features_[8:])


def test_margin_favours_rare_classes():
    counts = np.array(N_TRAIN)
    gaps = []
    for margin in (0.0, 2.0):
        clf = fit("published", max_iter=20, learning_rate=0.01, margin=margin)
        logits = clf.decision_function(DATA.X_test)
        gaps.append(logits[:, counts == 0].mean() - logits[:, counts > 9].mean())
    assert gaps[0] < gaps[1]


@pytest.mark.parametrize(
    "changed",
    [
        {"new_classes": LABELS[8:10].tolist()},
        {"text_encoder": dict(zip(LABELS, np.eye(12, 32), strict=True))},
        {"temperature": 0.02},
        {"margin": 0.0},
        {"prototype_scale": 1.0},
        {"learning_rate": 0.1},
        {"batch_size": 5},
        {"max_iter": 0},
        {"random_state": 1},
    ],
    ids=lambda changed: "-".join(changed),
)
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_every_parameter_changes_the_result(changed):
    before, after = (
        fit("published", **options).restrict(LABELS[:8]).predict_proba(DATA.X_test)
        for options in ({}, changed)
    )
    assert np.abs(before - after).max() > 1e-5


# --- training --------------------------------------------------------------------------------


def problem(seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=12)  # classes 3 and 4 have no image
    data = TrainingSet(
        X=rng.normal(size=(12, DIM)),
        y=y,
        sample_weight=rng.uniform(0.5, 2, 12),
        text_features=rng.normal(size=(N_CLASSES, DIM)),
        n_classes=N_CLASSES,
    )
    counts = np.bincount(y, data.sample_weight, minlength=N_CLASSES)
    return data, counts, rng.normal(size=(N_CLASSES, DIM))


def trained(problem, head, **options):
    options = {
        "temperature": 0.1,
        "margin": 1.0,
        "prototype_scale": 0.5,
        "learning_rate": 0.01,
        "max_iter": 3,
        "batch_size": 5,
        "generator": torch.Generator().manual_seed(0),
    } | options
    return train(head, *problem, **options)


def test_the_loss_is_the_sum_over_groups_of_images_and_prototypes():
    data, counts, prototypes = problem()
    head = AttentionHead.seeded(0, DIM).double()
    oracle = NumpyHead(head)
    losses = trained((data, counts, prototypes), head, max_iter=1, batch_size=100)
    images = np.concatenate([data.X, prototypes])
    target = np.r_[data.y, np.arange(N_CLASSES)]
    weight = np.r_[data.sample_weight, np.ones(N_CLASSES)]
    before, after = oracle.before_and_after(images, data.text_features, prototypes)
    groups = [
        numpy_cosine(before[0], before[1]) / 0.1,
        numpy_cosine(after[0], after[1]) / 0.1,
        0.5 * numpy_cosine(after[0], after[2]) / 0.1,
    ]
    log_pi = np.log((counts + 1) / (counts + 1).sum())
    expected = 0.0
    for logits in groups:
        adjusted = logits + log_pi
        nll = np.log(np.exp(adjusted).sum(axis=1)) - adjusted[np.arange(len(target)), target]
        expected += weight @ nll / weight.sum()
    assert losses[0] == pytest.approx(expected, rel=1e-7)


def test_there_is_one_loss_an_epoch():
    losses = trained(problem(), AttentionHead.seeded(0, DIM).double(), max_iter=4)
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_the_first_step_follows_the_gradient_and_the_weight_decay():
    data, counts, prototypes = problem()
    head, reference = (AttentionHead.seeded(0, DIM).double() for _ in range(2))
    trained((data, counts, prototypes), head, max_iter=1, batch_size=100, margin=0.0)
    images = torch.tensor(np.concatenate([data.X, prototypes]))
    target = torch.tensor(np.r_[data.y, np.arange(N_CLASSES)])
    weight = torch.tensor(np.r_[data.sample_weight, np.ones(N_CLASSES)])
    classes = torch.tensor(data.text_features), torch.tensor(prototypes)
    groups = logit_groups(reference, images, *classes, 0.1, 0.5)
    loss = sum(F.cross_entropy(g, target, reduction="none") @ weight for g in groups)
    (loss / weight.sum()).backward()
    for after, start in zip(head.parameters(), reference.parameters(), strict=True):
        expected = start - 0.01 * (start.grad + 5e-4 * start)
        torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-12)
