import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from helpers import clip_like
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.special import expit, log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.classifier._logit_weights import OFFSET_HALF_WAY
from skcandle.exceptions import (
    DeviceNotAvailableError,
    TextFeaturesWarning,
    WeightsNotAvailableError,
)

N_TRAIN = [15, 12, 10, 8, 5, 4, 2, 1, 0, 0, 0, 0]
LABELS = np.array([f"class {k:02d}" for k in range(12)])
BASE, NEW = LABELS[:8].tolist(), LABELS[8:].tolist()
HEADS = {
    "anchored": {},
    "attention": {"attention": True},
    "published": {"head": "published", "attention": True, "max_iter": 3, "batch_size": 32},
}


def long_tailed(seed=0, n_train=N_TRAIN, n_test=25, **options):
    """Training images of the first classes, test images of all, and text features by label."""
    X, y, texts = clip_like(np.array(n_train) + n_test, seed=seed, **options)
    position = np.concatenate([np.arange(n) for n in np.array(n_train) + n_test])
    is_train = position < np.array(n_train)[y]
    return SimpleNamespace(
        X=X[is_train],
        y=LABELS[y[is_train]],
        X_test=X[~is_train],
        y_test=LABELS[y[~is_train]],
        texts=dict(zip(LABELS.tolist(), texts, strict=False)),
    )


DATA = long_tailed()


def classifier(**options):
    return CandleClassifier(
        **{"new_classes": NEW, "text_encoder": DATA.texts, "random_state": 0} | options
    )


def fit(**options):
    return classifier(**options).fit(DATA.X, DATA.y)


@pytest.fixture(scope="module")
def fitted():
    return fit()


# --- base and new classes --------------------------------------------------------------------


def test_classes_are_the_sorted_universe(fitted):
    assert_array_equal(fitted.classes_, LABELS)
    assert_array_equal(fitted.is_new_, np.isin(LABELS, NEW))
    assert_array_equal(fitted.class_count_, N_TRAIN)


@pytest.mark.parametrize("head", HEADS)
def test_shapes_of_the_state(head):
    clf = fit(**HEADS[head])
    assert clf.prototypes_.shape == clf.text_features_.shape == (12, 32)
    assert_allclose(np.linalg.norm(clf.text_features_, axis=1), 1)
    assert clf.n_features_in_ == 32
    assert clf.decision_function(DATA.X_test).shape == (len(DATA.X_test), 12)


def test_classes_are_those_of_y_by_default():
    clf = fit(new_classes=None)
    assert clf.classes_.tolist() == BASE
    assert not clf.is_new_.any()


def test_names_without_images_are_new_classes():
    names = LABELS[::-1].tolist()
    clf = fit(new_classes=None, class_names=names)
    assert_array_equal(clf.classes_, LABELS)
    assert clf.classes_[clf.is_new_].tolist() == NEW


def test_integer_labels_give_the_same_classifier(fitted):
    y = np.searchsorted(LABELS, DATA.y)
    texts = dict(enumerate(DATA.texts.values()))
    clf = classifier(new_classes=range(8, 12), text_encoder=texts).fit(DATA.X, y)
    assert_array_equal(clf.classes_, np.arange(12))
    assert_allclose(clf.predict_proba(DATA.X_test), fitted.predict_proba(DATA.X_test))


@pytest.mark.parametrize("seed", range(3))
def test_new_classes_are_recognised_and_base_classes_stay_so(seed):
    data = long_tailed(seed)
    clf = classifier(text_encoder=data.texts).fit(data.X, data.y)
    hit = clf.predict(data.X_test) == data.y_test
    is_new = np.isin(data.y_test, NEW)
    # chance is 1/12
    assert hit[is_new].mean() > 0.7
    assert hit[~is_new].mean() > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_training_images_improve_on_zero_shot(seed):
    data = long_tailed(seed, noise=1.0)
    clf = classifier(text_encoder=data.texts).fit(data.X, data.y)
    zero_shot = LABELS[(data.X_test @ np.stack(list(data.texts.values())).T).argmax(axis=1)]
    hits = [(p == data.y_test).mean() for p in (clf.predict(data.X_test), zero_shot)]
    assert hits[0] > hits[1]


def test_prototypes_of_new_classes_point_to_their_images(fitted):
    means = np.stack([DATA.X_test[DATA.y_test == label].mean(axis=0) for label in NEW])
    origin = DATA.X_test.mean(axis=0)
    similarity = (fitted.prototypes_[8:] - origin) @ (means - origin).T
    assert_array_equal(similarity.argmax(axis=1), np.arange(4))


@pytest.mark.parametrize("head", HEADS)
def test_an_image_does_not_depend_on_the_batch(head):
    clf = fit(**HEADS[head])
    together = clf.decision_function(DATA.X_test[:20])
    alone = np.concatenate([clf.decision_function(row[None]) for row in DATA.X_test[:20]])
    assert_allclose(alone, together, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("head", HEADS)
def test_outputs_agree(head):
    clf = fit(**HEADS[head])
    logits = clf.decision_function(DATA.X_test)
    assert_allclose(clf.predict_proba(DATA.X_test), softmax(logits, axis=1))
    assert_allclose(clf.predict_log_proba(DATA.X_test), log_softmax(logits, axis=1), atol=1e-12)
    assert_array_equal(clf.predict(DATA.X_test), clf.classes_[logits.argmax(axis=1)])


def test_log_probabilities_do_not_underflow():
    clf = fit(temperature=1e-5)
    log_proba = clf.predict_log_proba(DATA.X_test)
    assert np.isfinite(log_proba).all()
    assert log_proba.min() < -745  # exp of it is 0


def test_only_the_direction_of_an_image_matters(fitted):
    scale = np.random.default_rng(0).uniform(0.1, 10, size=(len(DATA.X), 1))
    clf = classifier().fit(DATA.X * scale, DATA.y)
    assert_allclose(clf.predict_proba(DATA.X_test), fitted.predict_proba(DATA.X_test), atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_only_the_direction_of_an_image_matters_at_prediction(head):
    clf = fit(**HEADS[head])
    expected = clf.decision_function(DATA.X_test)
    assert_allclose(clf.decision_function(3 * DATA.X_test), expected, rtol=1e-9, atol=1e-9)


# --- what the logits are made of -------------------------------------------------------------

FIXED = {"prototype_weight": 0.2, "base_offset": 0.0, "max_iter": 0}


def test_without_prototypes_and_offset_it_is_zero_shot_clip():
    clf = fit(**FIXED | {"prototype_weight": 0.0})
    similarity = DATA.X_test @ np.stack(list(DATA.texts.values())).T
    assert_allclose(clf.decision_function(DATA.X_test), similarity / 0.01)


@pytest.mark.parametrize("max_iter", [0, 5])
@pytest.mark.parametrize("base_offset", [-3.0, 2.5])
def test_the_offset_is_taken_off_classes_with_images(base_offset, max_iter):
    options = FIXED | {"max_iter": max_iter}
    plain = fit(**options).decision_function(DATA.X_test)
    moved = fit(**options | {"base_offset": base_offset}).decision_function(DATA.X_test)
    counts = np.array(N_TRAIN)
    taken_off = base_offset * counts / (counts + OFFSET_HALF_WAY)
    assert_allclose(plain - moved, np.broadcast_to(taken_off, plain.shape), atol=1e-9)


@pytest.mark.parametrize("group", ["base", "new"])
def test_the_offset_changes_no_ranking_among_classes_of_one_count(group):
    X, y, texts = clip_like([4] * 6 + [0] * 6)
    X, texts = np.concatenate([X, DATA.X_test]), dict(enumerate(texts))
    clf = CandleClassifier(text_encoder=texts, new_classes=range(6, 12), **FIXED)
    views = []
    for base_offset in (0.0, 4.0):
        fitted = clone(clf).set_params(base_offset=base_offset).fit(X[: len(y)], y)
        views.append(fitted.restrict(np.flatnonzero(fitted.is_new_ == (group == "new"))))
    assert_allclose(*(view.predict_proba(X) for view in views), atol=1e-12)
    rankings = [np.argsort(view.decision_function(X), axis=1) for view in views]
    assert_array_equal(*rankings)


def test_a_larger_offset_answers_with_new_classes_more_often():
    shares = [
        np.isin(fit(**FIXED | {"base_offset": g}).predict(DATA.X_test), NEW).mean()
        for g in (-1000, -1, 1, 1000)
    ]
    assert shares[0] == 0 and shares[-1] == 1
    assert shares == sorted(shares)


def test_weights_that_are_given_are_used():
    weights = fit(prototype_weight=0.37, base_offset=1.5).logit_weights_
    expected = {"zero_shot": 1, "prototype": 0.37, "reliability": 0, "base_offset": 1.5}
    assert weights == expected


@pytest.mark.parametrize("given", [{"prototype_weight": 0.37}, {"base_offset": 1.5}])
def test_one_weight_may_be_given_and_the_other_estimated(given):
    weights, automatic = fit(**given).logit_weights_, fit().logit_weights_
    name, value = next(iter(given.items()))
    other = "base_offset" if name == "prototype_weight" else "prototype"
    assert weights[name.replace("prototype_weight", "prototype")] == value
    assert weights[other] not in (0, 0.1)
    assert weights != automatic


def test_without_shrinkage_prototypes_are_class_means():
    clf = fit(shrinkage=0.0)
    means = [DATA.X[DATA.y == label].mean(axis=0) for label in BASE]
    assert_allclose(clf.prototypes_[:8], means)


@pytest.mark.parametrize("head", HEADS)
def test_prediction_in_blocks_is_prediction(head, monkeypatch):
    clf = fit(**HEADS[head])
    expected = clf.decision_function(DATA.X_test)
    monkeypatch.setattr("skcandle.classifier._estimator.BLOCK_LOGITS", 100)
    assert_allclose(clf.decision_function(DATA.X_test), expected, rtol=1e-9, atol=1e-9)


# --- training --------------------------------------------------------------------------------


def projection(clf):
    return clf._model.head_state["image_projection"]


@pytest.mark.parametrize(
    "changed",
    [
        {"margin": 0.0},
        {"margin": 3.0},
        {"temperature": 0.02},
        {"anchor": 10.0},
        {"shrinkage": 5.0},
        {"attention": True},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_parameters_change_what_is_learned(changed):
    options = FIXED | {"max_iter": 20}
    before, after = fit(**options), fit(**options | changed)
    # with the weights of the logits fixed, what differs is the trained head
    assert np.abs(projection(before) - projection(after)).max() > 1e-3
    assert np.abs(before.predict_proba(DATA.X_test) - after.predict_proba(DATA.X_test)).max() > 0.01


def test_margin_is_nothing_without_training():
    outputs = [fit(**FIXED, margin=m).decision_function(DATA.X_test) for m in (0.0, 5.0)]
    assert_array_equal(*outputs)


@pytest.mark.parametrize("head", ["anchored", "published"])
def test_margin_favours_rare_classes(head):
    options = {"prototype_weight": 0.2, "base_offset": 0.0, "anchor": 1.0} | HEADS[head]
    options |= {"max_iter": 20, "learning_rate": 0.01}
    gaps = []
    for margin in (0.0, 2.0):
        logits = fit(**options, margin=margin).decision_function(DATA.X_test)
        gaps.append((logits[:, 5:8].mean(axis=1) - logits[:, :3].mean(axis=1)).mean())
    assert gaps[0] < gaps[1]


@pytest.mark.parametrize("head", HEADS)
def test_training_lowers_the_objective(head):
    clf = fit(**HEADS[head])
    assert len(clf.loss_curve_) >= clf.n_iter_ > 0
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert np.isfinite(clf.loss_curve_).all()


def test_iterations_are_limited():
    assert fit(max_iter=2).n_iter_ <= 2 < fit().n_iter_
    assert fit(**HEADS["published"]).n_iter_ == len(fit(**HEADS["published"]).loss_curve_) == 3


def test_without_iterations_the_closed_form_is_the_answer():
    clf = fit(max_iter=0)
    assert (clf.n_iter_, clf.loss_curve_) == (0, [])
    far = fit(anchor=1e9)
    assert_allclose(far.predict_proba(DATA.X_test), clf.predict_proba(DATA.X_test), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_does_not_matter(fitted, batch_size):
    assert_allclose(
        fit(batch_size=batch_size).predict_proba(DATA.X_test),
        fitted.predict_proba(DATA.X_test),
        atol=1e-5,
    )


@pytest.mark.parametrize("head", ["anchored", "attention"])
def test_weight_two_is_a_repeated_image(head):
    repeats = np.arange(len(DATA.X)) % 3 + 1
    weighted = classifier(**HEADS[head]).fit(DATA.X, DATA.y, sample_weight=repeats)
    repeated = classifier(**HEADS[head]).fit(DATA.X.repeat(repeats, axis=0), DATA.y.repeat(repeats))
    assert_array_equal(weighted.class_count_, repeated.class_count_)
    assert_allclose(
        weighted.predict_proba(DATA.X_test), repeated.predict_proba(DATA.X_test), atol=1e-4
    )


@pytest.mark.parametrize("head", HEADS)
def test_weight_zero_is_a_dropped_image(head):
    kept = np.arange(len(DATA.X)) % 4 > 0
    options = HEADS[head] | {"new_classes": None, "class_names": LABELS.tolist()}
    weighted = classifier(**options).fit(DATA.X, DATA.y, sample_weight=kept)
    dropped = classifier(**options).fit(DATA.X[kept], DATA.y[kept])
    assert_array_equal(
        weighted.decision_function(DATA.X_test), dropped.decision_function(DATA.X_test)
    )


def test_a_class_of_weight_zero_is_a_new_class():
    clf = classifier(new_classes=None, class_names=LABELS.tolist())
    clf.fit(DATA.X, DATA.y, sample_weight=DATA.y != BASE[2])
    assert clf.classes_[clf.is_new_].tolist() == [BASE[2], *NEW]


def test_a_class_of_weight_zero_outside_the_universe_is_unknown():
    clf = fit(new_classes=None).fit(DATA.X, DATA.y, sample_weight=DATA.y != BASE[2])
    assert BASE[2] not in clf.classes_


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("make", [lambda: 5, lambda: np.random.RandomState(5)])
def test_random_state_determines_the_result(head, make):
    first, second = (fit(**HEADS[head] | {"random_state": make()}) for _ in range(2))
    assert_array_equal(first.decision_function(DATA.X_test), second.decision_function(DATA.X_test))


def test_random_state_draws_the_pseudo_new_classes():
    assert fit(random_state=1).logit_weights_ != fit(random_state=2).logit_weights_


def test_random_state_draws_the_start_of_the_attention():
    first, second = (fit(**HEADS["published"] | {"random_state": seed}) for seed in (1, 2))
    assert (first.decision_function(DATA.X) != second.decision_function(DATA.X)).any()


@pytest.mark.parametrize("head", HEADS)
def test_global_generators_are_left_alone(head):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    fit(**HEADS[head])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("head", HEADS)
def test_precision_is_that_of_the_images(head, dtype):
    clf = classifier(**HEADS[head]).fit(DATA.X.astype(dtype), DATA.y)
    for array in (clf.prototypes_, clf.text_features_, clf.predict_proba(DATA.X_test)):
        assert array.dtype == dtype
    assert {array.dtype for array in clf._model.head_state.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("head", HEADS)
def test_float32_and_float64_agree(head):
    single, double = (
        classifier(**HEADS[head]).fit(DATA.X.astype(dtype), DATA.y).predict_proba(DATA.X_test)
        for dtype in (np.float32, np.float64)
    )
    assert_allclose(single, double, atol=0.02)


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X[:, ::-1].copy()[:, ::-1],
        lambda X: X.astype(object),
        lambda X: X.astype(X.dtype.newbyteorder()),
    ],
    ids=["list", "fortran", "strided", "reversed", "object", "byte order"],
)
def test_any_array_like_will_do(fitted, convert):
    clf = classifier().fit(convert(DATA.X), DATA.y.tolist())
    assert_allclose(
        clf.predict_proba(convert(DATA.X_test)), fitted.predict_proba(DATA.X_test), atol=1e-6
    )


def test_threads_share_a_fitted_classifier(fitted):
    expected = fitted.predict_proba(DATA.X_test)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(fitted.predict_proba, [DATA.X_test] * 40))
    for result in results:
        assert_array_equal(result, expected)


def test_inputs_are_not_changed():
    X, X_test, weight = DATA.X.copy(), DATA.X_test.copy(), np.full(len(DATA.X), 2.0)
    classifier().fit(X, DATA.y, sample_weight=weight).predict(X_test)
    assert_array_equal(X, DATA.X)
    assert_array_equal(X_test, DATA.X_test)
    assert (weight == 2).all()


def test_fitting_again_forgets_the_first_fit(fitted):
    clf = fit(new_classes=None).set_params(new_classes=NEW).fit(DATA.X, DATA.y)
    assert_array_equal(clf.decision_function(DATA.X), fitted.decision_function(DATA.X))


@pytest.mark.parametrize("head", HEADS)
def test_verbose_shows_the_objective_on_stderr(head, capsys):
    fit(**HEADS[head] | {"verbose": 1})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "CandleClassifier" in captured.err and "objective" in captured.err


def test_silent_by_default(capsys):
    fit()
    assert capsys.readouterr() == ("", "")


# --- text and images of another model --------------------------------------------------------


def test_text_at_chance_warns():
    swapped = dict(zip(BASE, [DATA.texts[label] for label in np.roll(BASE, 1)], strict=True))
    clf = CandleClassifier(text_encoder=swapped, random_state=0)
    with pytest.warns(TextFeaturesWarning, match="right for .* of 57 .* guessing among 8 classes"):
        clf.fit(DATA.X, DATA.y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(5))
def test_text_that_fits_does_not_warn(seed):
    data = long_tailed(seed)
    classifier(text_encoder=data.texts).fit(data.X, data.y)


@pytest.mark.filterwarnings("error")
def test_few_images_do_not_tell_chance():
    rng = np.random.default_rng(0)
    texts = {label: rng.normal(size=32) for label in BASE}
    CandleClassifier(text_encoder=texts).fit(DATA.X[:19], DATA.y[:19])


# --- restrict --------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("labels", [BASE, NEW, [LABELS[9], LABELS[1], LABELS[4]]])
def test_restrict_keeps_the_logits(head, labels):
    clf = fit(**HEADS[head])
    view = clf.restrict(labels)
    kept = np.isin(LABELS, labels)
    assert_array_equal(view.classes_, LABELS[kept])
    logits = clf.decision_function(DATA.X_test)[:, kept]
    assert_array_equal(view.decision_function(DATA.X_test), logits)
    assert_allclose(view.predict_proba(DATA.X_test), softmax(logits, axis=1))
    assert_array_equal(view.predict(DATA.X_test), LABELS[kept][logits.argmax(axis=1)])
    for name in ("is_new_", "class_count_", "prototypes_", "text_features_"):
        assert_array_equal(getattr(view, name), getattr(clf, name)[kept])


def test_restrict_leaves_the_classifier_as_it_was(fitted):
    view = fitted.restrict(NEW)
    assert_array_equal(fitted.classes_, LABELS)
    assert len(fitted.prototypes_) == 12
    assert view._model is fitted._model  # light: the state is shared


def test_two_classes_have_one_logit(fitted):
    view = fitted.restrict([LABELS[2], LABELS[10]])
    logit = view.decision_function(DATA.X_test)
    assert logit.shape == (len(DATA.X_test),)
    assert_allclose(view.predict_proba(DATA.X_test)[:, 1], expit(logit))
    assert_array_equal(view.predict(DATA.X_test), view.classes_[(logit > 0).astype(int)])


def test_restrict_of_a_restricted_view(fitted):
    view = fitted.restrict(NEW).restrict(NEW[1:3])
    expected = fitted.restrict(NEW[1:3])
    assert_array_equal(view.predict_proba(DATA.X_test), expected.predict_proba(DATA.X_test))


def test_restrict_to_one_class(fitted):
    view = fitted.restrict([NEW[0]])
    assert set(view.predict(DATA.X_test)) == {NEW[0]}
    assert_array_equal(view.predict_proba(DATA.X_test), 1)


@pytest.mark.parametrize(
    "labels, message",
    [
        (["class 01", "kiwi"], "restrict got 'kiwi', which is not one of the classes_"),
        ([], "restrict got no label; name at least one"),
        ([3], "restrict got 3, which"),
        (["class 01", None], "restrict got None, which"),
    ],
)
def test_restrict_to_labels_that_are_not_there(fitted, labels, message):
    with pytest.raises(ValueError, match=message):
        fitted.restrict(labels)


# --- add_classes -----------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_added_classes_equal_new_classes(head):
    # what may depend on the universe is fixed: weights, and training
    options = HEADS[head] | FIXED
    grown = fit(**options, new_classes=NEW[:1]).add_classes({k: DATA.texts[k] for k in NEW[1:]})
    whole = fit(**options)
    assert_array_equal(grown.classes_, whole.classes_)
    assert_array_equal(grown.is_new_, whole.is_new_)
    assert_allclose(grown.prototypes_, whole.prototypes_)
    assert_allclose(
        grown.decision_function(DATA.X_test), whole.decision_function(DATA.X_test), rtol=1e-7
    )


def test_adding_leaves_the_logits_of_the_others():
    clf = fit(new_classes=None)
    grown = clf.add_classes({k: DATA.texts[k] for k in NEW})
    assert_allclose(
        grown.decision_function(DATA.X_test)[:, ~grown.is_new_], clf.decision_function(DATA.X_test)
    )
    assert clf.classes_.tolist() == BASE


def test_added_classes_are_predicted():
    grown = fit(new_classes=NEW[:2]).add_classes({k: DATA.texts[k] for k in NEW[2:]})
    added = np.isin(DATA.y_test, NEW[2:])
    assert grown.score(DATA.X_test[added], DATA.y_test[added]) > 0.7


def test_added_classes_are_sorted_in():
    grown = fit(new_classes=NEW[1:]).add_classes({NEW[0]: DATA.texts[NEW[0]], "a": np.ones(32)})
    assert grown.classes_.tolist() == ["a", *LABELS]


def spelled(prompts):
    """Text encoder that knows the texts of the labels, in any template."""
    return np.stack([DATA.texts[prompt.split("of a ")[-1].rstrip(".")] for prompt in prompts])


@pytest.mark.parametrize("names", [NEW[2:], tuple(NEW[2:]), NEW[:1:-1]])
def test_names_are_encoded_by_the_text_encoder(names):
    expected = fit(new_classes=NEW[:2]).add_classes({k: DATA.texts[k] for k in NEW[2:]})
    grown = fit(new_classes=NEW[:2], text_encoder=spelled).add_classes(names)
    assert_array_equal(grown.classes_, expected.classes_)
    assert_allclose(grown.predict_proba(DATA.X_test), expected.predict_proba(DATA.X_test))


def test_names_of_a_text_encoder_that_is_a_mapping_are_looked_up():
    grown = fit(new_classes=None).add_classes(NEW)
    assert_array_equal(grown.classes_, LABELS)


def test_integer_labels_count_on():
    y = np.searchsorted(LABELS, DATA.y)
    clf = classifier(new_classes=None, class_names=LABELS[:10].tolist(), text_encoder=spelled)
    grown = clf.fit(DATA.X, y).add_classes(LABELS[10:].tolist())
    assert_array_equal(grown.classes_, np.arange(12))
    assert np.mean(LABELS[grown.predict(DATA.X_test)] == DATA.y_test) > 0.7


def test_a_clone_of_the_copy_is_fitted_on_the_same_universe():
    grown = fit(new_classes=NEW[:2]).add_classes(NEW[2:])
    assert_array_equal(clone(grown).fit(DATA.X, DATA.y).classes_, LABELS)


def test_a_clone_of_the_copy_knows_integer_classes_too():
    y = np.searchsorted(LABELS, DATA.y)
    clf = classifier(new_classes=None, class_names=LABELS[:10].tolist(), text_encoder=spelled)
    grown = clf.fit(DATA.X, y).add_classes(LABELS[10:].tolist())
    again = clone(grown).fit(DATA.X, y)
    assert_array_equal(again.classes_, np.arange(12))
    assert clf.class_names == LABELS[:10].tolist()


def test_classes_can_be_added_twice():
    clf = fit(new_classes=None)
    stepwise = clf.add_classes(NEW[2:]).add_classes(NEW[:2])
    assert_allclose(
        stepwise.predict_proba(DATA.X_test), clf.add_classes(NEW).predict_proba(DATA.X_test)
    )


def test_classes_can_be_added_to_a_view(fitted):
    texts = {"another": np.ones(32)}
    view = fitted.restrict(BASE[:3]).add_classes(texts)
    assert view.classes_.tolist() == ["another", *BASE[:3]]
    whole = fitted.add_classes(texts).restrict(view.classes_)
    assert_allclose(view.predict_proba(DATA.X_test), whole.predict_proba(DATA.X_test))


def test_adding_nothing_is_a_copy(fitted):
    copy = fitted.add_classes([])
    assert copy is not fitted
    assert_array_equal(copy.classes_, LABELS)


@pytest.mark.parametrize(
    "names, error, message",
    [
        ("kiwi", TypeError, "single string 'kiwi'; put it in a list"),
        ([3], TypeError, "add_classes got 3; names are strings"),
        ([BASE[0]], ValueError, "'class 00' twice or it is one of the classes_"),
        (["kiwi", "kiwi"], ValueError, "'kiwi' twice"),
        (["kiwi"], ValueError, "no vector for the label 'kiwi'"),
        ({"kiwi": np.ones(5)}, ValueError, r"'kiwi' has shape \(5,\), but X has 32 columns"),
    ],
)
def test_names_that_cannot_be_added(fitted, names, error, message):
    with pytest.raises(error, match=message):
        fitted.add_classes(names)


def test_without_text_no_class_can_be_added():
    clf = fit(text_encoder=None, new_classes=None)
    with pytest.raises(ValueError, match="fitted without text.* Fit it with a text_encoder"):
        clf.add_classes(["kiwi"])


# --- few classes, few images -----------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "n_train",
    [[5, 3], [1, 1], [1, 1, 1, 1, 1, 1], [4, 0], [3] + 10 * [0], [1, 0], [1, 1, 0, 0]],
    ids=str,
)
def test_degenerate_training_sets(head, n_train):
    data = long_tailed(n_train=n_train, n_test=3)
    new = LABELS[: len(n_train)][np.array(n_train) == 0].tolist()
    clf = classifier(new_classes=new, text_encoder=data.texts, **HEADS[head])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing about class counts, matrices or line searches
        clf.fit(data.X, data.y)
    proba = clf.predict_proba(data.X_test)
    assert proba.shape == (len(data.X_test), len(n_train))
    assert_allclose(proba.sum(axis=1), 1)
    assert clf.score(data.X_test, data.y_test) > 1 / len(n_train)


@pytest.mark.parametrize("n_train", [[5, 3], [1, 1, 1, 1], [1, 4]], ids=str)
def test_degenerate_training_sets_without_text(n_train):
    data = long_tailed(n_train=n_train, n_test=3, noise=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = CandleClassifier(text_encoder=None, random_state=0).fit(data.X, data.y)
    assert clf.score(data.X_test, data.y_test) > 1 / len(n_train)


@pytest.mark.filterwarnings("error")
def test_many_classes_of_one_image():
    data = clip_like(np.full(24, 1), 16)
    for text_encoder in [dict(enumerate(data[2])), None]:
        clf = CandleClassifier(text_encoder=text_encoder, random_state=0)
        clf.fit(data[0], data[1])
        assert clf.score(data[0], data[1]) > 0.5


def test_without_text_classes_are_learned_from_images():
    clf = CandleClassifier(text_encoder=None, random_state=0).fit(DATA.X, DATA.y)
    base = np.isin(DATA.y_test, BASE)
    assert clf.score(DATA.X_test[base], DATA.y_test[base]) > 0.5


def test_more_classes_than_features():
    data = clip_like(np.full(30, 3), 8)
    texts = dict(enumerate(data[2]))
    clf = CandleClassifier(text_encoder=texts, random_state=0).fit(data[0], data[1])
    assert np.isfinite(clf.predict_log_proba(data[0])).all()


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        ["a.jpg", "b.jpg"],
        np.array(["a.jpg", "b.jpg"], dtype=object),
        [Image.new("RGB", (8, 8))] * 2,
    ],
    ids=["paths", "array of paths", "PIL images"],
)
def test_images_instead_of_embeddings_are_told(images):
    message = "X holds images .* Put a CLIPFeaturizer before this classifier"
    with pytest.raises(TypeError, match=message):
        classifier().fit(images, BASE[:2])
    with pytest.raises(TypeError, match=message):
        fit().predict(images)


def test_default_text_encoder_without_its_weights_says_what_to_set(monkeypatch):
    def fail(self, prompts):
        raise WeightsNotAvailableError("No network.")

    monkeypatch.setattr(CLIPFeaturizer, "encode_text", fail)
    X = np.random.default_rng(0).normal(size=(4, 512))
    with pytest.raises(WeightsNotAvailableError, match="Set text_encoder .*No network"):
        CandleClassifier().fit(X, ["ant", "bee"] * 2)
    with pytest.raises(WeightsNotAvailableError, match="^No network"):
        CandleClassifier(text_encoder=CLIPFeaturizer()).fit(X, ["ant", "bee"] * 2)


def test_restrict_refuses_a_single_string():
    with pytest.raises(TypeError, match="single string 'class 00'; put it in a list"):
        fit().restrict("class 00")


@pytest.mark.parametrize(
    "X, y, message",
    [
        (np.full((4, 32), np.nan), BASE[:2] * 2, "Input X contains NaN"),
        (np.full((4, 32), np.inf), BASE[:2] * 2, "Input X contains infinity"),
        (np.ones((4, 32)), BASE[:3], "inconsistent numbers of samples: .*4, 3"),
        (np.ones((0, 32)), [], "0 sample"),
        (np.ones(32), BASE[:1], "Expected 2D array, got 1D array"),
        (np.ones((4, 2, 16)), BASE[:2] * 2, "dim 3"),
        (np.ones((3, 32)), [0.5, 1.2, 3.4], "Unknown label type: continuous"),
        (np.ones((2, 32)), [[0, 1], [1, 0]], "y should be a 1d array"),
        (np.ones((2, 32)), None, "requires y to be passed, but the target y is None"),
        (np.zeros((2, 32)), BASE[:2], "Row 0 of X is all zeros; an embedding has a direction"),
    ],
)
def test_training_data_that_is_none(X, y, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, y)


def test_one_class_without_new_classes():
    message = (
        "y holds one class, 'class 00', and there are no new .* Name classes .* in new_classes"
    )
    with pytest.raises(ValueError, match=message):
        classifier(new_classes=None).fit(DATA.X[:4], BASE[:1] * 4)


@pytest.mark.parametrize(
    "weight, message",
    [
        (np.zeros(57), "No sample has a positive weight|at least one non-zero"),
        (-np.ones(57), "[Nn]egative"),
        (np.ones(5), r"sample_weight.shape == \(5,\), expected \(57,\)"),
        (np.full(57, np.nan), "sample_weight contains NaN"),
    ],
)
def test_sample_weights_that_are_none(weight, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(DATA.X, DATA.y, sample_weight=weight)


@pytest.mark.parametrize(
    "parameter, value",
    [
        ("temperature", 0.0),
        ("temperature", -1),
        ("temperature", "cold"),
        ("margin", -0.1),
        ("shrinkage", -1.0),
        ("prototype_weight", -1.0),
        ("prototype_weight", "some"),
        ("base_offset", None),
        ("base_offset", np.inf),
        ("anchor", -1),
        ("attention", "yes"),
        ("head", "paper"),
        ("max_iter", -1),
        ("max_iter", 2.5),
        ("learning_rate", 0.0),
        ("batch_size", 0),
        ("random_state", "seed"),
        ("verbose", -1),
        ("templates", 3),
        ("class_names", 3),
        ("new_classes", 3),
        ("text_encoder", "ViT-B-32"),
        ("text_encoder", 3),
        ("device", 3),
    ],
)
def test_parameters_out_of_range_are_named(parameter, value):
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of CandleClassifier must"):
        classifier(**{parameter: value}).fit(DATA.X, DATA.y)


def test_unknown_parameters_are_errors():
    with pytest.raises(TypeError, match="tau"):
        CandleClassifier(tau=1.0)


def test_parameters_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        CandleClassifier(["okapi"])


def test_a_new_class_with_images_warns():
    with pytest.warns(UserWarning, match="'class 01', which has images in y; .* a base class"):
        clf = fit(new_classes=[BASE[1], *NEW])
    assert not clf.is_new_[1]


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
@pytest.mark.parametrize("width", [31, 33])
def test_images_of_another_width(fitted, method, width):
    message = f"X has {width} features, but CandleClassifier is expecting 32"
    with pytest.raises(ValueError, match=message):
        getattr(fitted, method)(np.ones((2, width)))


@pytest.mark.parametrize(
    "method, argument",
    [
        ("predict", DATA.X),
        ("predict_proba", DATA.X),
        ("predict_log_proba", DATA.X),
        ("decision_function", DATA.X),
        ("restrict", BASE),
        ("add_classes", ["kiwi"]),
    ],
)
def test_use_before_fit(method, argument):
    with pytest.raises(NotFittedError, match="not fitted yet. Call 'fit'"):
        getattr(classifier(), method)(argument)


# --- devices ---------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")


@no_cuda
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_cuda_without_cuda(device):
    with pytest.raises(DeviceNotAvailableError, match="there are 0 CUDA .*device='auto'"):
        fit(device=device)


@pytest.mark.parametrize("device", ["gpu", "tpu0", ""])
def test_a_device_that_is_none(device):
    with pytest.raises(DeviceNotAvailableError, match="is not a device. Use 'auto', 'cpu', 'cuda'"):
        fit(device=device)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_cpu(fitted, device):
    assert_allclose(fit(device=device).predict_proba(DATA.X), fitted.predict_proba(DATA.X), 1e-4)


@needs_cuda
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-5), (np.float32, 0.02)])
def test_cuda_gives_what_the_cpu_gives(head, dtype, tolerance):
    cpu, cuda = (
        classifier(device=device, **HEADS[head]).fit(DATA.X.astype(dtype), DATA.y)
        for device in ("cpu", "cuda")
    )
    assert_allclose(cuda.predict_proba(DATA.X_test), cpu.predict_proba(DATA.X_test), atol=tolerance)
    assert_allclose(
        cuda.set_params(device="cpu").predict_proba(DATA.X_test),
        cpu.predict_proba(DATA.X_test),
        atol=tolerance,
    )


@needs_cuda
def test_a_file_written_on_cuda_loads_on_the_cpu(tmp_path):
    classifiers = [fit(device="auto", **options) for options in HEADS.values()]
    probas = probas_in_a_fresh_process(classifiers, tmp_path, CUDA_VISIBLE_DEVICES="")
    for clf, proba in zip(classifiers, probas, strict=True):
        assert_allclose(proba, clf.predict_proba(DATA.X_test), atol=1e-5)


@needs_cuda
def test_cuda_is_deterministic():
    first, second = (fit(device="cuda").decision_function(DATA.X_test) for _ in range(2))
    assert_array_equal(first, second)


# --- persistence -----------------------------------------------------------------------------


def probas_in_a_fresh_process(classifiers, folder, **environment):
    """Probabilities of the test images, computed by another Python from files."""
    joblib.dump(classifiers, folder / "classifiers.joblib")
    np.save(folder / "X.npy", DATA.X_test)
    code = (
        "import joblib, numpy as np; X = np.load('X.npy'); "
        "probas = [clf.predict_proba(X) for clf in joblib.load('classifiers.joblib')]; "
        "np.save('probas.npy', probas)"
    )
    path = os.pathsep.join(p for p in (os.getcwd(), os.environ.get("PYTHONPATH")) if p)
    env = os.environ | {"PYTHONPATH": path} | environment
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, check=True)
    return np.load(folder / "probas.npy")


def test_a_fresh_process_predicts_the_same(tmp_path):
    classifiers = [fit(**options) for options in HEADS.values()]
    probas = probas_in_a_fresh_process(classifiers, tmp_path)
    for clf, proba in zip(classifiers, probas, strict=True):
        assert_array_equal(proba, clf.predict_proba(DATA.X_test))


@pytest.mark.parametrize("head", HEADS)
def test_a_read_only_memory_map_predicts_the_same(head, tmp_path):
    clf = fit(**HEADS[head])
    joblib.dump(clf, tmp_path / "clf.joblib")
    mapped = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")
    assert not mapped.prototypes_.flags.writeable
    assert_array_equal(mapped.decision_function(DATA.X_test), clf.decision_function(DATA.X_test))
    grown = mapped.add_classes({"kiwi": np.ones(32)}).restrict(["kiwi", *BASE])
    assert grown.predict_proba(DATA.X_test).shape == (len(DATA.X_test), 9)


@pytest.mark.parametrize("change", [lambda c: c.restrict(NEW), lambda c: c.add_classes([])])
def test_views_and_copies_can_be_pickled(fitted, change):
    clf = change(fitted)
    again = pickle.loads(pickle.dumps(clf))
    assert_array_equal(again.predict_proba(DATA.X_test), clf.predict_proba(DATA.X_test))


@pytest.mark.parametrize("head", HEADS)
def test_state_is_numpy(head):
    assert b"torch" not in pickle.dumps(fit(**HEADS[head]))


@pytest.mark.parametrize("head", HEADS)
def test_size_of_a_file_does_not_grow_with_the_images(head):
    sizes = []
    for repeats in (1, 20):
        clf = classifier(**HEADS[head])
        clf.fit(DATA.X.repeat(repeats, axis=0), DATA.y.repeat(repeats))
        sizes.append(len(pickle.dumps(clf)))
    assert sizes[1] < sizes[0] + 1000


def test_a_file_holds_a_few_matrices(fitted):
    d, n_classes = 32, 12
    n_numbers = 6 * d * d + 10 * n_classes * d
    assert len(pickle.dumps(fitted)) < 8 * n_numbers + 10_000


# --- scikit-learn's habits -------------------------------------------------------------------


def test_the_constructor_stores_and_clone_copies():
    clf = classifier(templates=["a {}", "the {}"], margin=0.5)
    params = clone(clf).get_params()
    assert params["new_classes"] == NEW and params["margin"] == 0.5
    assert vars(CandleClassifier()) == CandleClassifier().get_params()


def test_fit_leaves_the_parameters(fitted):
    untouched = classifier().get_params()
    assert fitted.get_params().keys() == untouched.keys()
    assert fitted.get_params()["new_classes"] == NEW


@pytest.mark.parametrize("head", HEADS)
def test_with_text_only_the_direction_of_an_embedding_matters(head):
    plain = fit(**HEADS[head])
    scaled = classifier(**HEADS[head]).fit(3 * DATA.X, DATA.y)
    expected = plain.predict_proba(DATA.X_test)
    assert_allclose(plain.predict_proba(7 * DATA.X_test), expected, rtol=1e-6)
    assert_allclose(scaled.predict_proba(DATA.X_test), expected, rtol=1e-5)
