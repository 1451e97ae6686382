"""The single-image term: its equation, its gate, what leaving images out of it means."""

import numpy as np
import pytest
import torch
from helpers import clip_like
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from skcandle import CandleClassifier
from skcandle.classifier import _candle, _model
from skcandle.classifier._embeddings import unit
from skcandle.classifier._logit_weights import LogitWeights
from skcandle.classifier._prototypes import fit_prototypes
from skcandle.classifier._pseudo_new import balanced_rows, leave_one_out_split
from skcandle.classifier._single_images import (
    EXPONENT,
    PRIOR_MEAN,
    PRIOR_SD,
    RIDGE,
    _kernel_ridge,
    fit_single_images,
    gate,
)
from skcandle.classifier._training_set import TrainingSet

CPU = torch.device("cpu")
COUNTS = [9, 7, 5, 4, 3, 2, 1, 0, 0]
N_BASE = 7
X, Y, TEXTS = clip_like([n + 4 for n in COUNTS], 24, noise=2.0, seed=1)
IS_TEST = np.concatenate([np.arange(n + 4) < 4 for n in COUNTS])
TEST = X[IS_TEST]
X, Y = X[~IS_TEST], Y[~IS_TEST]
FIXED = {"temperature": 0.02, "prototype_weight": 0.2, "base_offset": 0.3, "max_iter": 0}
WEIGHTS = LogitWeights(0.02, 0.2, 0.0, 0.3)


def make(**options):
    names = {"new_classes": [N_BASE, N_BASE + 1], "text_encoder": dict(enumerate(TEXTS))}
    return CandleClassifier(**names | FIXED | options)


def training_set(sample_weight=None, X=X, Y=Y):
    weight = np.ones(len(Y)) if sample_weight is None else sample_weight
    return TrainingSet(unit(X), Y, weight, TEXTS, len(COUNTS))


def term_of(data, weight="auto"):
    prototypes, columns = fit_prototypes(data, 2.0), np.unique(data.y)
    return fit_single_images(data, prototypes, columns, WEIGHTS, weight, CPU)


def kernel_of(a, b):
    return np.array([[np.exp(EXPONENT * (u @ v - 1)) for v in b] for u in a])


def ridge_prediction(U, T, sample_weight, at):
    """Kernel ridge regression as its definition: weighted squares plus a squared norm."""
    gram = kernel_of(U, U) + np.diag(RIDGE / sample_weight)
    return kernel_of(at, U) @ np.linalg.solve(gram, T)


# --- the equation ----------------------------------------------------------------------------


def test_logits_are_those_of_the_equation():
    weight, data = 4.0, training_set()
    without = make(single_image_weight=0).fit(X, Y).decision_function(TEST)
    base = data.among(np.arange(N_BASE))
    left_out = leave_one_out_split(base, 2.0).joint_logits(WEIGHTS)
    target = np.eye(N_BASE)[Y] - softmax(left_out, axis=1)
    space = fit_prototypes(data, 2.0).space
    U, V = unit(space.transform_images(data.X)), unit(space.transform_images(TEST))
    moved = without[:, :N_BASE] + weight * ridge_prediction(U, target, np.ones(len(Y)), V)
    expected = without.copy()
    expected[:, :N_BASE] = (
        moved
        + logsumexp(without[:, :N_BASE], axis=1, keepdims=True)
        - logsumexp(moved, axis=1, keepdims=True)
    )
    clf = make(single_image_weight=weight).fit(X, Y)
    assert clf.single_image_weight_ == weight
    assert_allclose(clf.decision_function(TEST), expected, atol=1e-9)


def test_many_rows_get_the_term_as_each_alone(monkeypatch):
    monkeypatch.setattr(_model, "TERM_ROWS", 5)
    clf = make(single_image_weight=4.0).fit(X, Y)
    assert len(TEST) % 5 > 0
    one_by_one = np.concatenate([clf.decision_function(row[None]) for row in TEST])
    assert_allclose(clf.decision_function(TEST), one_by_one, atol=1e-9)


@pytest.mark.parametrize("weight", [1.0, 30.0])
def test_gate_keeps_the_probability_of_all_base_classes_and_the_logits_of_new_ones(weight):
    before, after = (make(single_image_weight=w).fit(X, Y) for w in (0, weight))
    p, q = before.predict_proba(TEST), after.predict_proba(TEST)
    assert np.abs(p - q).max() > 1e-3
    assert_allclose(p[:, :N_BASE].sum(axis=1), q[:, :N_BASE].sum(axis=1), rtol=1e-9)
    assert_allclose(p[:, N_BASE:], q[:, N_BASE:], rtol=1e-9)


def test_gate_leaves_out_classes_that_are_not_there():
    logits = torch.tensor([[1.0, -torch.inf, 2.0]])
    result = gate(logits, torch.tensor([[0.5, 3.0, -1.0]]))
    assert_allclose(result[0, [0, 2]], gate(logits[:, [0, 2]], torch.tensor([[0.5, -1.0]]))[0])
    assert result[0, 1] == -torch.inf


def test_term_improves_classes_of_two_looks():
    """Two clusters on either side of another class have a mean that is useless."""
    rng = np.random.default_rng(0)

    def draw(n):
        centres = np.array([[1.0, 0, 0.2], [-1, 0, 0.2], [0, 0.2, 0.2]])
        k = rng.integers(0, 3, n)
        return centres[k] + 0.15 * rng.normal(size=(n, 3)), np.where(k == 2, "one", "two")

    (X, y), (X_test, y_test) = draw(60), draw(300)
    scores = [
        CandleClassifier(text_encoder=None, single_image_weight=w).fit(X, y).score(X_test, y_test)
        for w in (0, "auto")
    ]
    assert scores[1] > scores[0] + 0.05


# --- images that are left out ----------------------------------------------------------------


def test_closed_forms_are_predictions_without_the_image_and_without_its_class():
    rng = np.random.default_rng(0)
    U, T = unit(rng.normal(size=(len(Y), 6))), rng.normal(size=(len(Y), 4))
    ones = np.ones(len(Y))
    alpha, one, whole = _kernel_ridge(U, T, Y, ones, CPU)
    assert_allclose(kernel_of(U, U) @ alpha, ridge_prediction(U, T, ones, U), atol=1e-10)
    for i in range(len(Y)):
        rest = np.arange(len(Y)) != i
        assert_allclose(one[i], ridge_prediction(U[rest], T[rest], ones[rest], U[[i]])[0])
        rest = Y != Y[i]
        assert_allclose(whole[i], ridge_prediction(U[rest], T[rest], ones[rest], U[[i]])[0])


def test_an_image_of_weight_three_is_three_images():
    rng = np.random.default_rng(0)
    U, T = unit(rng.normal(size=(len(Y), 6))), rng.normal(size=(len(Y), 4))
    copies = rng.integers(1, 4, len(Y))
    rows = np.repeat(np.arange(len(Y)), copies)
    alpha, one, whole = _kernel_ridge(U, T, Y, copies.astype(float), CPU)
    *_, one_of_copies, whole_of_copies = _kernel_ridge(
        U[rows], T[rows], Y[rows], np.ones(len(rows)), CPU
    )
    assert_allclose(one[rows], one_of_copies, atol=1e-9)
    assert_allclose(whole[rows], whole_of_copies, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_weights_and_copies_of_one_image_give_finite_answers(scale, dtype):
    same = np.concatenate([X, X[:1], X[:1]]).astype(dtype)
    y, weight = np.append(Y, Y[[0, 0]]), np.full(len(Y) + 2, scale)
    clf = make(single_image_weight=5.0).fit(same, y, weight)
    assert np.isfinite(clf.predict_proba(TEST)).all()


# --- the weight ------------------------------------------------------------------------------


def test_weight_maximises_the_penalised_likelihood_of_left_out_images():
    data = training_set()
    term, _ = term_of(data)
    columns = np.arange(N_BASE)
    base = data.among(columns)
    logits = leave_one_out_split(base, 2.0).joint_logits(WEIGHTS)
    _, left_out = term_of(data, 1.0)
    counts = np.bincount(Y)
    share = np.where(counts > 1, 1 / counts, 0)[Y]  # a class of one image says nothing
    n_images = (counts > 1).sum() ** 2 / (1 / counts[counts > 1]).sum()
    share *= n_images / share.sum()

    def loss(weight):
        own = log_softmax(logits + weight * left_out.without_image, axis=1)
        own = own[np.arange(len(Y)), Y]
        return -share @ own + ((weight - PRIOR_MEAN) / PRIOR_SD) ** 2 / 2

    expected = minimize_scalar(loss, bounds=(0, 60), method="bounded", options={"xatol": 1e-9})
    assert 0.1 < expected.x < 59
    assert term.weight == pytest.approx(expected.x, abs=1e-4)


def test_weight_is_that_of_the_prior_where_each_class_has_one_image():
    first = np.unique(Y, return_index=True)[1]
    assert make().fit(X[first], Y[first]).single_image_weight_ == PRIOR_MEAN


def test_weight_is_zero_where_likeness_misleads():
    """Images of one class, two by two, that sit in another class: neighbours are always wrong."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(300, 16))
    X = np.repeat(pairs, 2, axis=0) + 0.01 * rng.normal(size=(600, 16))
    y = np.tile(["cat", "dog"], 300)
    clf = CandleClassifier(text_encoder=None).fit(X, y)
    assert clf.single_image_weight_ == 0
    assert clf._model.single_images is None


def test_with_one_class_the_term_is_zero_until_another_has_images():
    options = {"new_classes": list(range(1, len(COUNTS))), "single_image_weight": 5.0}
    one = make(**options).fit(X[Y == 0], Y[Y == 0])
    without = make(**options | {"single_image_weight": 0}).fit(X[Y == 0], Y[Y == 0])
    assert_allclose(one.decision_function(X), without.decision_function(X), atol=1e-9)
    grown = one.add_images(X[Y > 0], Y[Y > 0])
    assert_allclose(
        grown.decision_function(X), make(**options).fit(X, Y).decision_function(X), atol=1e-6
    )


# --- what is kept ----------------------------------------------------------------------------


def test_rare_classes_keep_all_of_their_images_first():
    data = training_set()
    kept = np.bincount(Y[balanced_rows(data, 20)], minlength=N_BASE)
    assert kept.sum() == 20
    assert_array_equal(kept[4:], COUNTS[4:N_BASE])
    assert np.ptp(kept[:4]) <= 1


def test_which_images_are_kept_does_not_depend_on_their_order():
    data, order = training_set(), np.random.default_rng(0).permutation(len(Y))
    rows = balanced_rows(data, 20)
    assert_array_equal(np.sort(order[balanced_rows(data.at(order), 20)]), rows)


def test_model_keeps_no_more_images_than_it_may(monkeypatch):
    for module in (_candle, _model):
        monkeypatch.setattr(module, "MAX_IMAGES", 15)
    clf = make(single_image_weight=5.0).fit(X, Y)
    assert len(clf._model.single_images.X) == 15
    grown = clf.add_images(TEST[:8], np.repeat([0, 1], 4))
    assert len(grown._model.single_images.X) == 15
    assert clf.predict_set(TEST, 0.5).any(axis=1).all()
    assert np.isfinite(grown.predict_proba(TEST)).all()


def test_nothing_is_kept_without_a_weight():
    assert make(single_image_weight=0).fit(X, Y)._model.single_images is None


def test_kept_in_the_precision_of_the_data():
    term = make(single_image_weight=5.0).fit(X.astype(np.float32), Y)._model.single_images
    assert term.X.dtype == term.coefficients.dtype == np.float32


# --- with everything else --------------------------------------------------------------------


def test_added_images_join_the_term_as_in_a_fit_on_all():
    clf = make(single_image_weight=5.0)
    first = np.arange(len(Y)) % 3 > 0
    first[np.unique(Y, return_index=True)[1]] = True
    grown = make(single_image_weight=5.0).fit(X[first], Y[first])
    for i in np.flatnonzero(~first):
        grown = grown.add_images(X[[i]], Y[[i]])
    assert_allclose(grown.decision_function(TEST), clf.fit(X, Y).decision_function(TEST), atol=1e-7)


@pytest.mark.parametrize("scale", [1e39, 1e-50])
def test_added_images_of_any_length_count_by_their_direction(scale):
    clf = make().fit(X.astype(np.float32), Y)
    expected, found = (clf.add_images(TEST[:3] * s, [0, 1, 2]) for s in (1, scale))
    assert_allclose(found.predict_proba(TEST), expected.predict_proba(TEST), atol=1e-5)


def test_first_image_of_a_new_class_joins_the_term():
    clf = make(single_image_weight=5.0).fit(X, Y)
    grown = clf.add_images(TEST[-1:], [N_BASE])
    assert N_BASE in grown._model.single_images.columns
    assert N_BASE not in clf._model.single_images.columns


def test_restriction_is_conditioning():
    clf = make(single_image_weight=5.0).fit(X, Y)
    kept = [0, 2, 3, N_BASE]
    proba = clf.predict_proba(TEST)[:, kept]
    expected = proba / proba.sum(axis=1, keepdims=True)
    assert_allclose(clf.restrict(kept).predict_proba(TEST), expected, atol=1e-12)


def test_added_classes_leave_the_logits_of_others():
    clf = make(new_classes=None, single_image_weight=5.0, class_names=dict(enumerate("abcdefg")))
    clf.set_params(text_encoder=lambda prompts: TEXTS[["abcdefghi".index(p[-2]) for p in prompts]])
    clf.fit(X, Y)
    grown = clf.add_classes(["h", "i"])
    assert_allclose(
        grown.decision_function(TEST)[:, :N_BASE], clf.decision_function(TEST), atol=1e-12
    )


def test_prediction_sets_hold_the_answer():
    clf = make(single_image_weight=20.0).fit(X, Y)
    sets, answers = clf.predict_set(TEST, 0.5), clf.predict(TEST)
    assert sets[np.arange(len(TEST)), answers].all()


def test_held_out_gap_of_an_image_is_that_of_a_fit_without_it():
    """Where nothing is hidden, gaps are those of images that took no part in the term."""
    weight, data = 5.0, training_set()
    _, left_out = term_of(data, weight)
    base = data.among(np.arange(N_BASE))
    split = leave_one_out_split(base, 2.0)
    logits = split.joint_logits(WEIGHTS)
    none = np.zeros(len(COUNTS), dtype=bool)
    rows = np.arange(len(Y))
    wide = np.pad(logits, ((0, 0), (0, 2)), constant_values=-50.0)
    gated = left_out.gated(wide, rows, none, np.zeros(len(Y), dtype=bool))
    moved = logits + left_out.without_image
    assert_allclose(softmax(gated[:, :N_BASE], axis=1), softmax(moved, axis=1), atol=1e-10)
    assert_array_equal(gated[:, N_BASE:], wide[:, N_BASE:])


def test_hidden_classes_take_no_part():
    data = training_set()
    _, left_out = term_of(data, 5.0)
    hidden = np.isin(np.arange(len(COUNTS)), [1, 4])
    logits = np.random.default_rng(0).normal(size=(len(Y), len(COUNTS)))
    is_hidden = hidden[Y]
    gated = left_out.gated(logits, np.arange(len(Y)), hidden, is_hidden)
    assert_array_equal(gated[:, hidden], logits[:, hidden])
    shown = ~hidden[:N_BASE]
    moved = logits[:, :N_BASE] + np.where(
        is_hidden[:, None], left_out.without_class, left_out.without_image
    )
    assert_allclose(
        softmax(gated[:, :N_BASE][:, shown], axis=1), softmax(moved[:, shown], axis=1), atol=1e-10
    )


def test_term_of_the_only_image_of_a_class_does_not_see_its_target():
    """Leaving out the only image leaves a prediction that does not depend on its own target."""
    data = training_set()
    _, left_out = term_of(data, 1.0)
    single = np.flatnonzero(np.bincount(Y)[Y] == 1)
    assert_allclose(left_out.without_image[single], left_out.without_class[single], atol=1e-9)


def test_predictions_without_text_have_the_term_as_well():
    X_seen, y = X, Y
    scores = [
        CandleClassifier(text_encoder=None, single_image_weight=w, max_iter=0)
        .fit(X_seen, y)
        .decision_function(TEST)
        for w in (0, 5.0)
    ]
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    assert_allclose(logsumexp(scores[0], axis=1), logsumexp(scores[1], axis=1))


def test_with_sample_weights_the_order_of_rows_does_not_matter():
    weight = np.random.default_rng(0).uniform(0.5, 3, len(Y))
    order = np.random.default_rng(1).permutation(len(Y))
    first = make(temperature="auto").fit(X, Y, weight)
    second = make(temperature="auto").fit(X[order], Y[order], weight[order])
    assert first.single_image_weight_ == pytest.approx(second.single_image_weight_, rel=1e-5)
    assert_allclose(first.predict_proba(TEST), second.predict_proba(TEST), atol=1e-5)
