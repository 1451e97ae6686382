"""The published classifier: its initialisation, its loss and its training steps."""

import math
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
import torch
from helpers import clip_like
from long_tail import DATA, LABELS, N_TRAIN, fit, make
from numpy.testing import assert_allclose, assert_array_equal
from test_attention_head import NumpyHead, numpy_cosine
from torch import nn
from torch.nn import functional as F

from skcandle import PublishedCandleClassifier
from skcandle.classifier._attention_head import AttentionHead, logit_groups
from skcandle.classifier._published_training import batches, rate_of_epoch, train
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
    prototypes = np.stack([X[y == k].mean(axis=0) if k < 3 else texts[k] for k in range(5)])
    # the initial attention is that of torch's own module with the same seed
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


def test_prototypes_are_class_means_and_start_as_texts_of_new_classes():
    clf = fit("published", max_iter=0)
    means = [DATA.X[DATA.y == label].mean(axis=0) for label in LABELS[:8]]
    assert_allclose(clf.prototypes_[:8], means)
    assert_array_equal(clf.prototypes_[8:], clf.text_features_[8:])


def test_an_image_counts_in_its_class_in_proportion_to_its_length():
    lengths = np.random.default_rng(0).uniform(1, 10, size=(len(DATA.X), 1))
    clf = make("published").fit(lengths * DATA.X, DATA.y)
    means = [(lengths * DATA.X)[DATA.y == label].mean(axis=0) for label in LABELS[:8]]
    assert_allclose(clf.prototypes_[:8], means)


def test_virtual_prototypes_are_trained_and_their_texts_are_not():
    clf = fit("published", max_iter=10)
    means = [DATA.X[DATA.y == label].mean(axis=0) for label in LABELS[:8]]
    assert_allclose(clf.prototypes_[:8], means)
    assert_allclose(clf.text_features_, [DATA.texts[label] for label in LABELS])
    assert (np.abs(clf.prototypes_[8:] - clf.text_features_[8:]).max(axis=1) > 1e-5).all()


def test_an_added_class_has_its_text_as_prototype():
    clf = fit("published", new_classes=LABELS[8:10].tolist())
    grown = clf.add_classes({label: DATA.texts[label] for label in LABELS[10:]})
    assert_array_equal(grown.prototypes_[:10], clf.prototypes_)
    assert_array_equal(grown.prototypes_[10:], grown.text_features_[10:])


def test_margin_favours_rare_classes():
    counts = np.array(N_TRAIN)
    gaps = []
    for margin in (0.0, 2.0):
        clf = fit("published", max_iter=20, learning_rate=0.01, margin=margin)
        logits = clf.decision_function(DATA.X_test)
        gaps.append(logits[:, counts == 0].mean() - logits[:, counts > 9].mean())
    assert gaps[0] < gaps[1]


def of_prompts(prompts):
    """Text features that differ from prompt to prompt."""
    return np.stack([np.random.default_rng(crc32(p.encode())).normal(size=32) for p in prompts])


CHANGED = [
    {"new_classes": LABELS[8:10].tolist()},
    {"class_names": {label: f"kind {label}" for label in LABELS}},
    {"text_encoder": dict(zip(LABELS, np.eye(12, 32), strict=True))},
    {"templates": "a drawing of a {}."},
    {"temperature": 0.02},
    {"margin": 0.0},
    {"prototype_scale": 1.0},
    {"dropout": 0.0},
    {"learning_rate": 0.1},
    {"batch_size": 5},
    {"max_iter": 0},
    {"random_state": 1},
]


@pytest.mark.parametrize("changed", CHANGED, ids=lambda changed: "-".join(changed))
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_every_parameter_changes_the_result(changed):
    common = {"text_encoder": of_prompts} if changed.keys() & {"class_names", "templates"} else {}
    before, after = (
        fit("published", **common | options).restrict(LABELS[:8]).predict_proba(DATA.X_test)
        for options in ({}, changed)
    )
    assert np.abs(before - after).max() > 1e-5


def test_the_table_of_parameters_is_complete():
    changing = {name for changed in CHANGED for name in changed}
    assert changing | {"device", "verbose"} == set(PublishedCandleClassifier().get_params())


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
        "dropout": 0.0,
        "learning_rate": 0.01,
        "max_iter": 3,
        "batch_size": 5,
        "seed": 0,
    } | options
    return train(head, *problem, **options)


def test_the_loss_is_the_sum_over_groups_of_images_and_prototypes():
    data, counts, prototypes = problem()
    head = AttentionHead.seeded(0, DIM).double()
    oracle = NumpyHead(head)
    losses, _ = trained((data, counts, prototypes), head, max_iter=1, batch_size=100)
    target = np.r_[data.y, np.arange(N_CLASSES)]
    weight = np.r_[data.sample_weight, np.ones(N_CLASSES)]
    before, after = oracle.before_and_after(data.X, data.text_features, prototypes)
    samples = [np.concatenate([images, prototypes]) for images, _, prototypes in (before, after)]
    groups = [
        numpy_cosine(samples[0], before[1]) / 0.1,
        numpy_cosine(samples[1], after[1]) / 0.1,
        0.5 * numpy_cosine(samples[1], after[2]) / 0.1,
    ]
    log_pi = np.log((counts + 1) / (counts + 1).sum())
    expected = 0.0
    for logits in groups:
        adjusted = logits + log_pi
        nll = np.log(np.exp(adjusted).sum(axis=1)) - adjusted[np.arange(len(target)), target]
        expected += weight @ nll / weight.sum()
    assert losses[0] == pytest.approx(expected, rel=1e-7)


def test_there_is_one_loss_per_epoch():
    losses, _ = trained(problem(), AttentionHead.seeded(0, DIM).double(), max_iter=4)
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_the_first_step_follows_the_gradient_and_the_weight_decay():
    data, counts, prototypes = problem()
    head, reference = (AttentionHead.seeded(0, DIM).double() for _ in range(2))
    _, moved = trained((data, counts, prototypes), head, max_iter=1, batch_size=100, margin=0.0)
    target = torch.tensor(np.r_[data.y, np.arange(N_CLASSES)])
    weight = torch.tensor(np.r_[data.sample_weight, np.ones(N_CLASSES)])
    start = torch.tensor(prototypes, requires_grad=True)
    texts = torch.tensor(data.text_features)
    groups = logit_groups(reference, torch.tensor(data.X), texts, start, 0.1, 0.5)
    loss = sum(F.cross_entropy(g, target, reduction="none") @ weight for g in groups)
    (loss / weight.sum()).backward()

    def stepped(parameter):  # the first epoch is the warm-up
        return (parameter - 1e-5 * (parameter.grad + 5e-4 * parameter)).detach()

    for after, before in zip(head.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), stepped(before), rtol=1e-9, atol=1e-12)
    assert_allclose(moved[3:], stepped(start)[3:], rtol=1e-9, atol=1e-12)
    assert_array_equal(moved[:3], prototypes[:3])


def test_the_rate_warms_up_for_one_epoch_and_falls_along_a_cosine():
    rates = [rate_of_epoch(epoch, 0.1, 4) for epoch in range(4)]
    assert_allclose(rates, [1e-5, 0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05])


@pytest.mark.parametrize(
    "n_images, sizes", [(3, [3]), (4, [4]), (7, [4]), (8, [4, 4]), (9, [4, 4])]
)
def test_an_incomplete_last_batch_is_dropped_if_it_is_not_the_only_one(n_images, sizes):
    generator = torch.Generator().manual_seed(0)
    rows = list(batches(n_images, 4, generator))
    assert [len(batch) for batch in rows] == sizes
    assert len(set(torch.cat(rows).tolist())) == sum(sizes)


def test_all_images_take_part_over_the_epochs():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.cat(batches(9, 4, generator)) for _ in range(20)]
    assert set(torch.cat(rows).tolist()) == set(range(9))


@pytest.fixture
def published_loop():
    """The training as the benchmark writes it, without use of this library."""
    return pytest.importorskip("benchmarks.speed.published_loop")


@pytest.mark.parametrize("scale", [0.5, 1.0])
@pytest.mark.parametrize("epochs, batch_size", [(5, 128), (2, 14), (5, 40)])
def test_training_is_that_of_an_independent_loop_step_by_step(
    published_loop, epochs, batch_size, scale
):
    X, y, texts = clip_like([15, 12, 8, 4, 1, 0, 0], 24)  # 40 images: two steps of 14 an epoch
    head, losses = published_loop.train(
        SimpleNamespace(X=X, y=y, T=texts, n_classes=7, n_base=5),
        epochs,
        of=epochs,
        learning_rate=0.01,
        batch_size=batch_size,
        seed=np.random.RandomState(3).randint(2**31 - 1),
        scale=scale,
        dropout=0.0,
        see_each_other=False,
    )
    clf = PublishedCandleClassifier(
        class_names=list("abcdefg"),
        text_encoder=dict(zip("abcdefg", texts, strict=True)),
        learning_rate=0.01,
        batch_size=batch_size,
        max_iter=epochs,
        prototype_scale=scale,
        dropout=0.0,
        random_state=3,
    ).fit(X, np.array(list("abcdefg"))[y])
    assert_allclose(clf.loss_curve_, np.reshape(losses, (epochs, -1)).mean(axis=1), rtol=1e-12)
    with torch.no_grad():
        _, to_text, to_prototype = head(torch.tensor(X))
    expected = (to_text + to_prototype)[: len(X)]
    assert_allclose(clf.decision_function(X), expected, rtol=1e-10, atol=1e-10)
    assert_allclose(clf.prototypes_[5:], head.virtual_prototypes.detach(), rtol=1e-12)
    assert losses[-1] < losses[0] - 0.1  # it has moved
