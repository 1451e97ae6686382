"""What the default classifier adds: joint logits, their weights, margin and temperature."""

import numpy as np
import pytest
from helpers import clip_like
from long_tail import BASE, DATA, FIXED, LABELS, N_TRAIN, NEW, fit, long_tailed, make
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.metrics import log_loss

from skcandle import CandleClassifier
from skcandle.classifier._logit_weights import (
    BONUS_HALF_COUNT,
    CLIP_TEMPERATURE,
    DEFAULT_PROTOTYPE_WEIGHT,
    OFFSET_HALF_COUNT,
)

COUNTS = np.array(N_TRAIN)
WEIGHTS = ["temperature_", "prototype_weight_", "count_bonus_", "base_offset_"]


@pytest.fixture(scope="module")
def fitted():
    return fit()


def text_similarity(X=DATA.X_test):
    return X @ np.stack(list(DATA.texts.values())).T


# --- base and new classes --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_new_classes_are_recognised_and_base_classes_stay_so(seed):
    data = long_tailed(seed)
    clf = make(text_encoder=data.texts).fit(data.X, data.y)
    hit = clf.predict(data.X_test) == data.y_test
    is_new = np.isin(data.y_test, NEW)
    # chance is 1/12
    assert hit[is_new].mean() > 0.7
    assert hit[~is_new].mean() > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_training_images_improve_on_zero_shot(seed):
    data = long_tailed(seed, noise=1.0)
    clf = make(text_encoder=data.texts).fit(data.X, data.y)
    zero_shot = LABELS[(data.X_test @ np.stack(list(data.texts.values())).T).argmax(axis=1)]
    hits = [(p == data.y_test).mean() for p in (clf.predict(data.X_test), zero_shot)]
    assert hits[0] > hits[1]


def test_prototypes_of_new_classes_point_to_their_images(fitted):
    means = np.stack([DATA.X_test[DATA.y_test == label].mean(axis=0) for label in NEW])
    origin = DATA.X_test.mean(axis=0)
    similarity = (fitted.prototypes_[8:] - origin) @ (means - origin).T
    assert_array_equal(similarity.argmax(axis=1), np.arange(4))


def test_without_text_classes_are_learned_from_images():
    clf = CandleClassifier(text_encoder=None).fit(DATA.X, DATA.y)
    base = np.isin(DATA.y_test, BASE)
    assert clf.score(DATA.X_test[base], DATA.y_test[base]) > 0.5


@pytest.mark.parametrize("n_train", [[5, 3], [1, 1, 1, 1], [1, 4]], ids=str)
@pytest.mark.filterwarnings("error")
def test_degenerate_training_sets_without_text(n_train):
    data = long_tailed(n_train=n_train, n_test=3, noise=0.3)
    clf = CandleClassifier(text_encoder=None).fit(data.X, data.y)
    assert clf.score(data.X_test, data.y_test) > 1 / len(n_train)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [True, False])
def test_many_classes_of_one_image(text):
    X, y, texts = clip_like(np.full(24, 1), 16)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts)) if text else None)
    assert clf.fit(X, y).score(X, y) > 0.25  # chance is 1/24


def test_one_image_per_class_does_not_determine_the_weight_of_prototypes():
    X, y, texts = clip_like(np.full(24, 1), 16)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts))).fit(X, y)
    assert (clf.prototype_weight_, clf.count_bonus_) == (DEFAULT_PROTOTYPE_WEIGHT, 0)
    assert clf.temperature_ != CLIP_TEMPERATURE
    X, y, texts = clip_like(np.append(np.full(24, 1), 0), 16)
    clf = CandleClassifier(new_classes=[24], text_encoder=dict(enumerate(texts))).fit(X, y)
    assert clf.prototype_weight_ != DEFAULT_PROTOTYPE_WEIGHT  # estimated on virtual prototypes


def test_more_classes_than_features():
    X, y, texts = clip_like(np.full(30, 3), 8)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts))).fit(X, y)
    assert np.isfinite(clf.predict_log_proba(X)).all()


# --- what the logits are made of -------------------------------------------------------------


def test_logits_without_single_images_are_those_of_the_docstring():
    fitted = fit(single_image_weight=0)
    space, projection = fitted._model.space, fitted._model.projection
    z = text_similarity()

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def tokens(rows):
        return unit(unit((rows - space.image_mean) @ space.whitener) @ projection)

    v = tokens(DATA.X_test) @ tokens(fitted.prototypes_).T - 0.5
    weight = fitted.prototype_weight_ + fitted.count_bonus_ * COUNTS / (COUNTS + BONUS_HALF_COUNT)
    expected = (z + weight * v) / fitted.temperature_
    expected = expected - fitted.base_offset_ * COUNTS / (COUNTS + OFFSET_HALF_COUNT)
    assert_allclose(fitted.decision_function(DATA.X_test), expected, rtol=1e-9, atol=1e-9)


def test_without_prototypes_and_offset_it_is_zero_shot_clip():
    clf = fit(**FIXED | {"prototype_weight": 0.0, "single_image_weight": 0})
    assert_allclose(clf.decision_function(DATA.X_test), text_similarity() / 0.01)


@pytest.mark.parametrize("max_iter", [0, 5])
@pytest.mark.parametrize("base_offset", [-3.0, 2.5])
def test_the_offset_is_taken_off_classes_with_images(base_offset, max_iter):
    options = FIXED | {"max_iter": max_iter, "single_image_weight": 0}
    plain = fit(**options).decision_function(DATA.X_test)
    moved = fit(**options | {"base_offset": base_offset}).decision_function(DATA.X_test)
    taken_off = base_offset * COUNTS / (COUNTS + OFFSET_HALF_COUNT)
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


def test_a_larger_offset_answers_with_new_classes_more_often():
    shares = [
        np.isin(fit(**FIXED | {"base_offset": g}).predict(DATA.X_test), NEW).mean()
        for g in (-1000, -1, 1, 1000)
    ]
    assert shares[0] == 0 and shares[-1] == 1
    assert shares == sorted(shares)


def test_weights_that_are_given_are_used():
    clf = fit(temperature=0.02, prototype_weight=0.37, base_offset=1.5)
    assert [getattr(clf, name) for name in WEIGHTS] == [0.02, 0.37, 0.0, 1.5]


@pytest.mark.parametrize(
    "given", [{"temperature": 0.02}, {"prototype_weight": 0.37}, {"base_offset": 1.5}]
)
def test_one_weight_may_be_given_and_the_others_estimated(given):
    (name, value), clf = next(iter(given.items())), fit(**given)
    assert getattr(clf, f"{name}_") == value
    start = {"temperature": 0.01, "prototype_weight": 0.1, "base_offset": 0.0}
    for other in start.keys() - given.keys():
        assert getattr(clf, f"{other}_") != start[other]


def test_without_shrinkage_prototypes_are_class_means():
    clf = fit(shrinkage=0.0)
    means = [DATA.X[DATA.y == label].mean(axis=0) for label in BASE]
    assert_allclose(clf.prototypes_[:8], means)


# --- every parameter matters -----------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"new_classes": NEW[:2]},
        {"class_names": dict(zip(BASE, BASE[::-1], strict=True)), "new_classes": None},
        {"templates": "a photo of a not {}"},
        {"temperature": 0.02},
        {"margin": 0.5},
        {"shrinkage": 5.0},
        {"prototype_weight": 0.5},
        {"base_offset": 1.0},
        {"penalty": 1.0},
        {"max_iter": 0},
        {"random_state": 1},
    ],
    ids=lambda changed: "-".join(changed),
)
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_every_parameter_changes_the_result(changed):
    texts = DATA.texts | {f"not {name}": -text for name, text in DATA.texts.items()}

    def encode(prompts):
        return np.stack([texts[p.replace("a photo of a ", "").rstrip(".")] for p in prompts])

    base = {"text_encoder": encode}
    before = fit(**base).restrict(BASE).predict_proba(DATA.X_test)
    after = fit(**base | changed).restrict(BASE).predict_proba(DATA.X_test)
    assert np.abs(before - after).max() > 1e-3


@pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
def test_the_text_encoder_changes_the_result(fitted):
    other = fit(text_encoder=dict(zip(LABELS, np.eye(12, 32), strict=True)))
    difference = fitted.predict_proba(DATA.X_test) - other.predict_proba(DATA.X_test)
    assert np.abs(difference).max() > 0.1


# --- margin ----------------------------------------------------------------------------------


def mean_probability(margin):
    return fit(margin=margin).predict_proba(DATA.X_test).mean(axis=0)


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
def test_margin_multiplies_the_odds_by_powers_of_the_counts(fitted, margin):
    frequency = (COUNTS + 1.0) ** (1 - margin)
    expected = fitted.predict_proba(DATA.X_test) * frequency
    expected /= expected.sum(axis=1, keepdims=True)
    assert_allclose(fit(margin=margin).predict_proba(DATA.X_test), expected, rtol=1e-9)


def test_with_margin_zero_probabilities_follow_the_counts():
    # the test images are equally frequent, so that only the prior makes the difference
    gain = mean_probability(0.0) / mean_probability(1.0)
    assert spearmanr(gain, COUNTS).statistic > 0.9
    # among images as frequent as in training, mean probabilities are the frequencies
    weight = COUNTS[np.searchsorted(LABELS, DATA.y_test)]
    proba = np.average(fit(margin=0.0).predict_proba(DATA.X_test), axis=0, weights=weight)
    assert_allclose(proba[:8], COUNTS[:8] / COUNTS.sum(), atol=0.05)
    assert spearmanr(proba[:8], COUNTS[:8]).statistic > 0.9


def test_probabilities_of_rare_and_new_classes_grow_with_the_margin():
    shares = [mean_probability(m)[5:].sum() for m in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)]
    assert (np.diff(shares) > 0.01).all()


def test_margin_keeps_the_ranking_of_classes_of_one_count():
    logits = [fit(margin=m).decision_function(DATA.X_test) for m in (0.0, 1.0, 3.0)]
    for other in logits[1:]:
        assert_allclose(np.ptp((other - logits[0])[:, COUNTS == 0], axis=1), 0, atol=1e-9)


def test_margin_one_is_the_default(fitted):
    assert_array_equal(
        fit(margin=1.0).decision_function(DATA.X_test), fitted.decision_function(DATA.X_test)
    )


# --- temperature -----------------------------------------------------------------------------


def test_log_loss_has_its_optimum_inside_a_grid_of_temperatures():
    grid = 0.01 * 2.0 ** np.arange(-4, 7)
    losses = [
        log_loss(DATA.y_test, fit(temperature=t).predict_proba(DATA.X_test), labels=LABELS)
        for t in grid
    ]
    assert 0 < np.argmin(losses) < len(grid) - 1
    assert max(losses) > 2 * min(losses)


def test_the_estimated_temperature_is_near_the_best_of_the_grid(fitted):
    automatic = log_loss(DATA.y_test, fitted.predict_proba(DATA.X_test), labels=LABELS)
    grid = 0.01 * 2.0 ** np.arange(-4, 7)
    best = min(
        log_loss(DATA.y_test, fit(temperature=t).predict_proba(DATA.X_test), labels=LABELS)
        for t in grid
    )
    assert automatic < 1.15 * best


def test_temperature_divides_the_logits_without_text():
    cold, warm = (
        CandleClassifier(text_encoder=None, temperature=t, single_image_weight=0, max_iter=0).fit(
            DATA.X, DATA.y
        )
        for t in (0.5, 1.0)
    )
    assert (cold.temperature_, warm.temperature_) == (0.5, 1.0)
    assert_allclose(cold.decision_function(DATA.X), 2 * warm.decision_function(DATA.X))


def test_training_sees_the_temperature_that_was_asked_for():
    projections = [
        fit(**FIXED | {"max_iter": 20, "temperature": t})._model.projection for t in (0.01, 0.05)
    ]
    assert np.abs(projections[0] - projections[1]).max() > 1e-3


# --- the estimate ----------------------------------------------------------------------------


def test_without_a_seed_two_fits_are_equal(fitted):
    assert_array_equal(fit().decision_function(DATA.X_test), fitted.decision_function(DATA.X_test))


def test_another_random_state_hides_other_classes():
    assert fit(random_state=1).base_offset_ != fit(random_state=2).base_offset_


def test_a_huge_penalty_keeps_the_closed_form_start():
    clf = fit(max_iter=0)
    far = fit(penalty=1e9)
    assert_allclose(far.predict_proba(DATA.X_test), clf.predict_proba(DATA.X_test), atol=1e-5)


def test_probabilities_are_softmax_of_the_logits_under_a_margin():
    clf = fit(margin=0.3)
    logits = clf.decision_function(DATA.X_test)
    assert_allclose(clf.predict_proba(DATA.X_test), softmax(logits, axis=1))


def test_a_temperature_that_is_given_stays_where_no_class_is_new():
    seen = {label: DATA.texts[label] for label in BASE}
    options = {"new_classes": None, "text_encoder": seen}
    given, estimated = fit(temperature=0.5, **options), fit(**options)
    assert given.temperature_ == 0.5 != estimated.temperature_
    assert given.prototype_weight_ != DEFAULT_PROTOTYPE_WEIGHT
