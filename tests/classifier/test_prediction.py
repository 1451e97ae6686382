"""Behaviour of both classifiers: universe, outputs, weights of samples, precision."""

import numpy as np
import pytest
from long_tail import (
    BASE,
    BOTH,
    DATA,
    LABELS,
    N_TRAIN,
    NEW,
    UNTRAINED,
    fit,
    long_tailed,
    make,
    spelled,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.base import clone


@pytest.fixture(scope="module", params=BOTH)
def fitted(request):
    return fit(request.param)


# --- the label universe ----------------------------------------------------------------------


def test_classes_are_the_sorted_universe(fitted):
    assert_array_equal(fitted.classes_, LABELS)
    assert_array_equal(fitted.is_new_, np.isin(LABELS, NEW))
    assert_array_equal(fitted.class_count_, N_TRAIN)


def test_shapes_of_the_state(fitted):
    assert fitted.prototypes_.shape == fitted.text_features_.shape == (12, 32)
    assert_allclose(np.linalg.norm(fitted.text_features_, axis=1), 1)
    assert fitted.n_features_in_ == 32
    assert fitted.decision_function(DATA.X_test).shape == (len(DATA.X_test), 12)


@pytest.mark.parametrize("kind", BOTH)
def test_classes_are_those_of_y_by_default(kind):
    clf = fit(kind, new_classes=None)
    assert clf.classes_.tolist() == BASE
    assert not clf.is_new_.any()


@pytest.mark.parametrize("kind", BOTH)
def test_names_without_images_are_new_classes(kind):
    clf = fit(kind, new_classes=None, class_names=LABELS[::-1].tolist())
    assert_array_equal(clf.classes_, LABELS)
    assert clf.classes_[clf.is_new_].tolist() == NEW


@pytest.mark.parametrize("kind", BOTH)
def test_integer_labels_give_the_same_classifier(kind):
    texts = dict(enumerate(DATA.texts.values()))
    clf = make(kind, new_classes=range(8, 12), text_encoder=texts)
    clf.fit(DATA.X, np.searchsorted(LABELS, DATA.y))
    assert_array_equal(clf.classes_, np.arange(12))
    assert_allclose(clf.predict_proba(DATA.X_test), fit(kind).predict_proba(DATA.X_test))


@pytest.mark.parametrize("kind", BOTH)
def test_a_class_of_weight_zero_is_a_new_class(kind):
    clf = make(kind, new_classes=None, class_names=LABELS.tolist())
    clf.fit(DATA.X, DATA.y, sample_weight=DATA.y != BASE[2])
    assert clf.classes_[clf.is_new_].tolist() == [BASE[2], *NEW]


def test_a_class_of_weight_zero_outside_the_universe_is_unknown():
    clf = make(new_classes=None).fit(DATA.X, DATA.y, sample_weight=DATA.y != BASE[2])
    assert BASE[2] not in clf.classes_


def test_a_new_class_with_images_warns():
    with pytest.warns(UserWarning, match="'class 01' in new_classes has images .* a base class"):
        clf = fit(new_classes=[BASE[1], *NEW])
    assert not clf.is_new_[1]


# --- outputs ---------------------------------------------------------------------------------


def test_outputs_agree(fitted):
    logits = fitted.decision_function(DATA.X_test)
    assert_allclose(fitted.predict_proba(DATA.X_test), softmax(logits, axis=1))
    log_proba = fitted.predict_log_proba(DATA.X_test)
    assert_allclose(log_proba, log_softmax(logits, axis=1), atol=1e-12)
    assert_array_equal(fitted.predict(DATA.X_test), fitted.classes_[logits.argmax(axis=1)])


@pytest.mark.parametrize("kind", BOTH)
def test_log_probabilities_do_not_underflow(kind):
    log_proba = fit(kind, temperature=1e-5).predict_log_proba(DATA.X_test)
    assert np.isfinite(log_proba).all()
    assert log_proba.min() < -745  # its exponential underflows


def test_prediction_in_blocks_is_prediction(fitted, monkeypatch):
    expected = fitted.decision_function(DATA.X_test)
    monkeypatch.setattr("skcandle.classifier._base.BLOCK_LOGITS", 100)
    assert_allclose(fitted.decision_function(DATA.X_test), expected, rtol=1e-9, atol=1e-9)


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, options", [("candle", {}), ("published", {"max_iter": 10, "learning_rate": 0.01})]
)
def test_training_lowers_the_objective(kind, options):
    clf = fit(kind, **options)
    assert len(clf.loss_curve_) >= clf.n_iter_ > 0
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert np.isfinite(clf.loss_curve_).all()


def test_iterations_are_limited():
    assert fit(max_iter=2).n_iter_ <= 2 < fit().n_iter_
    published = fit("published", max_iter=4)
    assert published.n_iter_ == len(published.loss_curve_) == 4


@pytest.mark.parametrize("kind", BOTH)
def test_without_iterations_nothing_is_trained(kind):
    clf = fit(kind, max_iter=0)
    assert (clf.n_iter_, clf.loss_curve_) == (0, [])


@pytest.mark.parametrize("seed", range(3))
def test_weight_three_is_three_copies_with_one_image_per_class(seed):
    data = long_tailed(seed, n_train=[1] * 8 + [0] * 4)
    clf = make(text_encoder=data.texts)
    weighted = clone(clf).fit(data.X, data.y, sample_weight=np.full(8, 3))
    copies = clone(clf).fit(np.tile(data.X, (3, 1)), np.tile(data.y, 3))
    assert_allclose(
        weighted.predict_proba(data.X_test), copies.predict_proba(data.X_test), atol=1e-6
    )


@pytest.mark.parametrize("kind", BOTH)
def test_weight_zero_is_a_dropped_image(kind):
    kept = np.arange(len(DATA.X)) % 4 > 0
    options = {"new_classes": None, "class_names": LABELS.tolist()}
    weighted = make(kind, **options).fit(DATA.X, DATA.y, sample_weight=kept)
    dropped = make(kind, **options).fit(DATA.X[kept], DATA.y[kept])
    assert_array_equal(
        weighted.decision_function(DATA.X_test), dropped.decision_function(DATA.X_test)
    )


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("seed", [lambda: 5, lambda: np.random.RandomState(5)])
def test_random_state_determines_the_result(kind, seed):
    first, second = (fit(kind, random_state=seed()) for _ in range(2))
    assert_array_equal(first.decision_function(DATA.X_test), second.decision_function(DATA.X_test))


@pytest.mark.parametrize("kind", BOTH)
def test_fitting_again_forgets_the_first_fit(kind):
    clf = fit(kind, new_classes=None).set_params(new_classes=NEW).fit(DATA.X, DATA.y)
    assert_array_equal(clf.decision_function(DATA.X), fit(kind).decision_function(DATA.X))


FAULTS = {"candle": ("_candle", "fit_held_out_scores"), "published": ("_published", "train")}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_a_fit_that_fails_keeps_the_earlier_fit(kind, error, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    clf = fit(kind)
    expected, before = clf.predict_proba(DATA.X_test), dict(vars(clf))
    module, name = FAULTS[kind]
    monkeypatch.setattr(f"skcandle.classifier.{module}.{name}", fail)
    texts = {label: text[:8] for label, text in DATA.texts.items()}
    clf.set_params(text_encoder=texts)
    with pytest.raises(error):
        clf.fit(DATA.X[::2, :8], DATA.y[::2])
    assert vars(clf) == before | {"text_encoder": texts}
    assert_array_equal(clf.predict_proba(DATA.X_test), expected)


@pytest.mark.parametrize("kind", BOTH)
def test_a_first_fit_that_fails_leaves_no_attributes(kind):
    clf = make(kind)
    before = dict(vars(clf))
    with pytest.raises(ValueError):
        clf.fit(DATA.X, DATA.y, sample_weight=np.zeros(len(DATA.y)))
    assert vars(clf) == before


CHANGED = {
    "candle": {"temperature": 0.5, "margin": 3.0, "templates": "no {}", "max_iter": 7},
    "published": {"temperature": 0.5, "margin": 3.0, "templates": "no {}", "prototype_scale": 2.0},
}


@pytest.mark.parametrize("kind", BOTH)
def test_parameters_that_are_set_after_fit_wait_for_the_next_fit(kind):
    clf, changed = fit(kind, new_classes=NEW[:2], text_encoder=spelled), CHANGED[kind]
    expected = clf.add_classes(NEW[2:]).decision_function(DATA.X_test)
    clf.set_params(**changed, text_encoder=None, class_names=["kiwi"])
    assert_array_equal(clf.add_classes(NEW[2:]).decision_function(DATA.X_test), expected)


@pytest.mark.parametrize("kind", BOTH)
def test_verbose_shows_the_objective_on_stderr(kind, capsys):
    fit(kind, verbose=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert type(make(kind)).__name__ in captured.err and "objective" in captured.err


@pytest.mark.parametrize("max_iter", [3, 20])
def test_the_progress_bar_ends_full(max_iter, capsys):
    clf = fit(max_iter=max_iter, verbose=1)
    assert f"100%|██████████| {clf.n_iter_}/{clf.n_iter_}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", BOTH)
def test_silent_by_default(kind, capsys):
    fit(kind)
    assert capsys.readouterr() == ("", "")


# --- precision and input ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", BOTH)
def test_precision_is_that_of_the_images(kind, dtype):
    clf = make(kind).fit(DATA.X.astype(dtype), DATA.y)
    for array in (clf.prototypes_, clf.text_features_, clf.predict_proba(DATA.X_test)):
        assert array.dtype == dtype


@pytest.mark.parametrize("kind", BOTH)
def test_float32_and_float64_agree(kind):
    single, double = (
        make(kind).fit(DATA.X.astype(dtype), DATA.y).predict_proba(DATA.X_test)
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
@pytest.mark.parametrize("kind", BOTH)
def test_any_array_like_will_do(kind, convert):
    clf = make(kind).fit(convert(DATA.X), DATA.y.tolist())
    expected = fit(kind).predict_proba(DATA.X_test)
    assert_allclose(clf.predict_proba(convert(DATA.X_test)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_inputs_are_not_changed(kind):
    X, X_test, weight = DATA.X.copy(), DATA.X_test.copy(), np.full(len(DATA.X), 2.0)
    make(kind).fit(X, DATA.y, sample_weight=weight).predict(X_test)
    assert_array_equal(X, DATA.X)
    assert_array_equal(X_test, DATA.X_test)
    assert (weight == 2).all()


# --- few classes, few images -----------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "n_train",
    [[5, 3], [1, 1], [1, 1, 1, 1, 1, 1], [4, 0], [3] + 10 * [0], [1, 0], [1, 1, 0, 0]],
    ids=str,
)
@pytest.mark.filterwarnings("error")  # nothing about class counts, matrices or line searches
def test_degenerate_training_sets(kind, n_train):
    data = long_tailed(n_train=n_train, n_test=3)
    new = LABELS[: len(n_train)][np.array(n_train) == 0].tolist()
    clf = make(kind, new_classes=new, text_encoder=data.texts).fit(data.X, data.y)
    proba = clf.predict_proba(data.X_test)
    assert proba.shape == (len(data.X_test), len(n_train))
    assert_allclose(proba.sum(axis=1), 1)
    assert clf.score(data.X_test, data.y_test) > 1 / len(n_train)


# --- scikit-learn's habits -------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_the_constructor_stores_and_clone_copies(kind):
    params = clone(make(kind, templates=["a {}", "the {}"], margin=0.5)).get_params()
    assert params["new_classes"] == NEW and params["margin"] == 0.5
    plain = type(make(kind))()
    assert vars(plain) == plain.get_params()


def test_fit_leaves_the_parameters(fitted):
    assert fitted.get_params().keys() == clone(fitted).get_params().keys()
    assert fitted.get_params()["new_classes"] == NEW


@pytest.mark.parametrize("kind", BOTH)
def test_untrained_classifiers_predict_too(kind):
    assert fit(kind, **UNTRAINED[kind]).score(DATA.X_test, DATA.y_test) > 0.5
