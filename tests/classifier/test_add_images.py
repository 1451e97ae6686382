"""Fitted copies that have learned from more images."""

import numpy as np
import pytest
from long_tail import BASE, DATA, FIXED, LABELS, NEW, fit, make, spelled
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

RNG = np.random.default_rng(0)
FIRST = RNG.random(len(DATA.y)) < 0.6
FIRST[[np.flatnonzero(DATA.y == label)[0] for label in BASE]] = True
# more images of base classes, and first images of two classes known by name
NEXT = np.flatnonzero(np.isin(DATA.y_test, [BASE[0], BASE[7], *NEW[:2]]))[::3]
X = np.concatenate([DATA.X[~FIRST], DATA.X_test[NEXT]])
Y = np.concatenate([DATA.y[~FIRST], DATA.y_test[NEXT]])
ALL_X, ALL_Y = np.concatenate([DATA.X[FIRST], X]), np.concatenate([DATA.y[FIRST], Y])
WEIGHT = RNG.integers(0, 4, len(ALL_Y)).astype(float)
REST = slice(FIRST.sum(), None)
# some listed new classes get images later
pytestmark = pytest.mark.filterwarnings("ignore:The class .* in new_classes has images:UserWarning")


def assert_same(clf, expected, rtol=1e-6):
    assert_array_equal(clf.classes_, expected.classes_)
    assert_array_equal(clf.is_new_, expected.is_new_)
    assert_allclose(clf.class_count_, expected.class_count_)
    for name in ("prototypes_", "text_features_"):
        if getattr(expected, name) is not None:
            assert_allclose(getattr(clf, name), getattr(expected, name), rtol, 1e-9)
    assert_allclose(
        clf.decision_function(DATA.X_test), expected.decision_function(DATA.X_test), rtol, 1e-6
    )


# --- equal to a fit on all images ------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [0.0, 2.0])
@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_equal_to_a_fit_on_all_images(margin, shrinkage):
    clf = make(**FIXED, margin=margin, shrinkage=shrinkage)
    grown = clone(clf).fit(DATA.X[FIRST], DATA.y[FIRST]).add_images(X, Y)
    assert_same(grown, clf.fit(ALL_X, ALL_Y))


def test_one_image_after_the_other():
    clf = make(**FIXED)
    grown = clone(clf).fit(DATA.X[FIRST], DATA.y[FIRST])
    for x, label in zip(X[:15], Y[:15], strict=True):
        grown = grown.add_images(x[None], [label])
    assert_same(grown, clf.fit(ALL_X[: FIRST.sum() + 15], ALL_Y[: FIRST.sum() + 15]))


def test_a_label_that_was_not_listed():
    listed = DATA.y[FIRST] != BASE[2]
    clf = make(**FIXED).fit(DATA.X[FIRST][listed], DATA.y[FIRST][listed])
    assert BASE[2] not in clf.classes_
    rest = np.r_[np.flatnonzero(~listed), FIRST.sum() : len(ALL_Y)]
    assert_same(clf.add_images(ALL_X[rest], ALL_Y[rest]), make(**FIXED).fit(ALL_X, ALL_Y))


def test_a_label_that_was_not_listed_names_itself():
    options = {**FIXED, "text_encoder": spelled, "new_classes": NEW[2:]}
    grown = make(**options).fit(DATA.X[FIRST], DATA.y[FIRST]).add_images(X, Y)
    assert_same(grown, make(**options).fit(ALL_X, ALL_Y))
    assert_same(clone(grown).fit(ALL_X, ALL_Y), make(**options).fit(ALL_X, ALL_Y))


def test_images_alone():
    options = {"text_encoder": None, "new_classes": None, "max_iter": 0, "temperature": 1.0}
    options["single_image_weight"] = 5.0
    grown = make(**options).fit(DATA.X[FIRST], DATA.y[FIRST]).add_images(X, Y)
    assert NEW[0] in grown.classes_
    assert_same(grown, make(**options).fit(ALL_X, ALL_Y))
    clone(grown).fit(DATA.X, DATA.y)  # does not require classes without images


def test_integer_labels_with_vectors_or_without_text():
    y, all_y = np.searchsorted(LABELS, DATA.y[FIRST]), np.searchsorted(LABELS, ALL_Y)
    texts = dict(enumerate(DATA.texts.values()))
    for text in (texts, None):
        options = {**FIXED, "temperature": 1.0, "new_classes": None, "text_encoder": text}
        grown = make(**options).fit(DATA.X[FIRST], y).add_images(X, all_y[REST])
        assert_same(grown, make(**options).fit(ALL_X, all_y))


def test_names_first_then_images():
    y, all_y = np.searchsorted(LABELS, DATA.y[FIRST]), np.searchsorted(LABELS, ALL_Y)
    options = {**FIXED, "new_classes": None, "text_encoder": spelled}
    clf = make(**options, class_names=LABELS[:8].tolist()).fit(DATA.X[FIRST], y)
    grown = clf.add_classes(NEW).add_images(X, all_y[REST])
    assert_same(grown, make(**options, class_names=LABELS.tolist()).fit(ALL_X, all_y))


def test_other_types_and_lengths_of_rows():
    clf = make(**FIXED).fit(DATA.X[FIRST].astype(np.float32), DATA.y[FIRST])
    grown = clf.add_images((7 * X).tolist(), Y.astype(object))
    assert grown.prototypes_.dtype == np.float32
    assert_allclose(
        grown.predict_proba(DATA.X_test),
        make(**FIXED).fit(ALL_X, ALL_Y).predict_proba(DATA.X_test),
        atol=1e-3,
    )


# --- a copy ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    return make().fit(DATA.X[FIRST], DATA.y[FIRST])


def test_the_classifier_stays_as_it_was(fitted):
    before = fitted.predict_proba(DATA.X_test)
    grown = fitted.add_images(X, Y)
    assert_array_equal(fitted.predict_proba(DATA.X_test), before)
    assert fitted.is_new_.sum() == 4
    assert grown.is_new_.sum() == 2
    assert grown.temperature_ == fitted.temperature_


def test_what_was_trained_is_kept(fitted):
    grown = fitted.add_images(X, Y)
    assert_array_equal(grown._model.projection, fitted._model.projection)
    assert grown._model.weights == fitted._model.weights


def test_first_images_bring_the_prototype_nearer_to_other_images(fitted):
    grown = fitted.add_images(X, Y)
    for label in NEW[:2]:
        others = np.flatnonzero(DATA.y_test == label)
        centre = DATA.X_test[np.setdiff1d(others, NEXT)].mean(axis=0)
        k = LABELS.tolist().index(label)
        before, after = (np.linalg.norm(c.prototypes_[k] - centre) for c in (fitted, grown))
        assert after < before


def test_of_a_view(fitted):
    labels = [*BASE[:3], *NEW[:2]]
    kept = np.isin(Y, labels)
    view = fitted.restrict(labels).add_images(X[kept], Y[kept])
    whole = fitted.add_images(X[kept], Y[kept]).restrict(labels)
    assert_array_equal(view.predict_proba(DATA.X_test), whole.predict_proba(DATA.X_test))


def test_priors_follow_the_counts(fitted):
    grown = fitted.with_prior("training").add_images(X, Y)
    proba = fitted.add_images(X, Y).predict_proba(DATA.X_test) * (grown.class_count_ + 1)
    expected = proba / proba.sum(axis=1, keepdims=True)
    assert_allclose(grown.predict_proba(DATA.X_test), expected)


def test_an_unlisted_label_needs_a_frequency():
    prior = dict.fromkeys(BASE, 1 / 8)
    clf = fit(new_classes=None, class_prior=prior)
    with pytest.raises(ValueError, match="no frequency for the class 'class 08'"):
        clf.add_images(DATA.X_test[:1], [NEW[0]])


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, labels, weight, error, message",
    [
        (X[:2, :30], Y[:2], None, ValueError, "X has 30 features, but .* is expecting 32 features"),
        (X[:2], [0, 1], None, TypeError, "y has numbers, but the classes_ are strings"),
        (X[:2], [Y[0], None], None, ValueError, r"y\[1\] is missing"),
        (X[:2], Y[:3], None, ValueError, "inconsistent numbers of samples"),
        (X[:2], ["kiwi", "kiwi"], None, ValueError, "no vector for the label 'kiwi'"),
        (
            X[:2],
            Y[:2],
            [0, 0],
            ValueError,
            "At least one sample must have|at least one non-zero",
        ),
        (X[:2], Y[:2], [1, -1], ValueError, "Negative values"),
        (np.zeros((1, 32)), Y[:1], None, ValueError, "Row 0 of X is all zeros"),
        (np.array(["a.jpg"]), Y[:1], None, TypeError, "X must hold embeddings, got images"),
    ],
)
def test_invalid_added_images(fitted, rows, labels, weight, error, message):
    with pytest.raises(error, match=message):
        fitted.add_images(rows, labels, weight)


def test_numbers_without_names_cannot_be_added():
    y = np.searchsorted(LABELS, DATA.y)
    options = {"class_names": LABELS[:8].tolist(), "text_encoder": spelled, "new_classes": None}
    clf = make(**options).fit(DATA.X, y)
    with pytest.raises(ValueError, match="label 9 .* has no name. Use add_classes first"):
        clf.add_images(DATA.X[:1], [9])


@pytest.mark.filterwarnings("ignore:Zero-shot predictions:UserWarning")
def test_two_labels_that_read_the_same_are_an_error():
    options = {"text_encoder": lambda prompts: np.eye(32)[: len(prompts)], "new_classes": None}
    clf = make(**options).fit(DATA.X, DATA.y)
    with pytest.raises(ValueError, match="'class 00' and 'class_00' both read 'class 00'"):
        clf.add_images(DATA.X[:1], ["class_00"])
