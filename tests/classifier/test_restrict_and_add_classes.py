"""Fitted views on some of the classes, and fitted copies with more classes."""

import numpy as np
import pytest
from long_tail import BASE, BOTH, DATA, LABELS, NEW, UNTRAINED, fit, make, spelled
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from sklearn.base import clone


@pytest.fixture(scope="module")
def fitted():
    return fit()


# --- restrict --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("labels", [BASE, NEW, [LABELS[9], LABELS[1], LABELS[4]]])
def test_restrict_keeps_the_logits(kind, labels):
    clf = fit(kind)
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
        ([], "restrict needs at least one label"),
        ([3], "restrict got 3, which"),
        (["class 01", None], "restrict got None, which"),
    ],
)
def test_restrict_to_unknown_labels(fitted, labels, message):
    with pytest.raises(ValueError, match=message):
        fitted.restrict(labels)


@pytest.mark.parametrize("kind", BOTH)
def test_names_follow_the_classes(kind):
    clf = fit(kind, text_encoder=spelled, class_names={NEW[0]: [NEW[0], NEW[1]]}, new_classes=None)
    assert clf.class_names_ == [*BASE, (NEW[0], NEW[1])]
    assert clf.restrict(NEW[:1] + BASE[:1]).class_names_ == [BASE[0], (NEW[0], NEW[1])]
    grown = clf.add_classes({"a class": NEW[2]})
    assert grown.class_names_ == [NEW[2], *BASE, (NEW[0], NEW[1])]


def test_numbers_without_names_have_none():
    texts = dict(enumerate(DATA.texts.values()))
    clf = make(new_classes=None, text_encoder=texts).fit(DATA.X, np.searchsorted(LABELS, DATA.y))
    assert clf.class_names_ is None
    assert clf.restrict([0, 1]).class_names_ is None
    assert clf.add_classes({"a class": np.ones(32)}).class_names_ is None


# --- add_classes -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_added_classes_equal_new_classes(kind):
    # weights and training, which depend on the universe, are fixed
    options = UNTRAINED[kind]
    texts = {k: DATA.texts[k] for k in NEW[1:]}
    grown = fit(kind, **options, new_classes=NEW[:1]).add_classes(texts)
    whole = fit(kind, **options)
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
    clf = make(new_classes=None, class_names=LABELS[:10].tolist(), text_encoder=spelled)
    grown = clf.fit(DATA.X, y).add_classes(LABELS[10:].tolist())
    assert_array_equal(grown.classes_, np.arange(12))
    assert np.mean(LABELS[grown.predict(DATA.X_test)] == DATA.y_test) > 0.7


def test_a_clone_of_the_copy_is_fitted_on_the_same_universe():
    grown = fit(new_classes=NEW[:2]).add_classes(NEW[2:])
    assert_array_equal(clone(grown).fit(DATA.X, DATA.y).classes_, LABELS)


def test_a_clone_of_the_copy_knows_integer_classes_too():
    y = np.searchsorted(LABELS, DATA.y)
    clf = make(new_classes=None, class_names=LABELS[:10].tolist(), text_encoder=spelled)
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
        ("kiwi", TypeError, "add_classes needs a list of names, got the string 'kiwi'"),
        ([3], TypeError, "Names in add_classes must be strings, got 3"),
        ([BASE[0]], ValueError, "'class 00', which is repeated or one of the classes_"),
        (["kiwi", "kiwi"], ValueError, "'kiwi', which is repeated"),
        (["kiwi"], ValueError, "no vector for the label 'kiwi'"),
        (["kiwi", ["fig"]], TypeError, r"add_classes must be strings, got \['fig'\]"),
        ({"kiwi": np.ones(5)}, ValueError, r"'kiwi' has shape \(5,\), but X has 32 columns"),
    ],
)
def test_invalid_names_of_added_classes(fitted, names, error, message):
    with pytest.raises(error, match=message):
        fitted.add_classes(names)


@pytest.mark.parametrize(
    "names, error, message",
    [
        ({"kiwi": []}, ValueError, "add_classes has an empty list of names for label 'kiwi'"),
        ({"kiwi": np.ones(32)}, TypeError, "must be strings, .* for label 'kiwi'"),
        ({"kiwi": ["fruit", BASE[0]]}, ValueError, "'class 00' of the labels 'class 00' and 'ki"),
        ({"kiwi": "class_00"}, ValueError, "'class 00' and 'class_00' of the labels 'class 00'"),
    ],
)
def test_invalid_synonyms_of_added_classes(names, error, message):
    clf = fit(new_classes=None, text_encoder=spelled)
    with pytest.raises(error, match=message):
        clf.add_classes(names)


def test_without_text_no_class_can_be_added():
    clf = fit(text_encoder=None, new_classes=None)
    with pytest.raises(ValueError, match="fitted without text.* Fit it with a text_encoder"):
        clf.add_classes(["kiwi"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_added_integer_labels_do_not_wrap_around(dtype):
    y = np.array([0, 1, np.iinfo(np.uint8).max if dtype == np.uint8 else 127], dtype=dtype)
    texts = {int(label): DATA.texts[BASE[i]] for i, label in enumerate(y)}
    X = np.stack(list(texts.values()))
    clf = make(new_classes=None, text_encoder=texts).fit(X, y)
    largest = int(y.max())
    grown = clf.add_classes({"kiwi": np.ones(32), "fig": -np.ones(32)})
    assert grown.classes_.tolist() == [0, 1, largest, largest + 1, largest + 2]


@pytest.mark.parametrize("largest", [np.int64(2**63 - 2), np.uint64(2**64 - 1), np.float64(2**53)])
def test_labels_too_large_to_continue_are_an_error(largest):
    y = np.array([0, largest], dtype=largest.dtype)
    texts = {label: DATA.texts[BASE[i]] for i, label in enumerate(y.tolist())}
    clf = make(new_classes=None, text_encoder=texts).fit(np.stack(list(texts.values())), y)
    message = f"2 more labels after the largest, {int(largest)}, would exceed .* smaller numbers"
    with pytest.raises(ValueError, match=message):
        clf.add_classes({"kiwi": np.ones(32), "fig": -np.ones(32)})


def test_no_class_can_be_added_to_booleans():
    texts = {False: DATA.texts[BASE[0]], True: DATA.texts[BASE[1]]}
    clf = make(new_classes=None, text_encoder=texts)
    clf.fit(np.stack(list(texts.values())), np.array([False, True]))
    with pytest.raises(TypeError, match="No class can be added, because the labels are booleans"):
        clf.add_classes({"kiwi": np.ones(32)})


@pytest.mark.parametrize("kind", BOTH)
def test_adding_with_a_margin_leaves_the_logits_of_the_others(kind):
    clf = fit(kind, new_classes=None, margin=0.3)
    grown = clf.add_classes(NEW)
    if kind == "candle":  # in the published one, images attend to all classes
        kept = grown.decision_function(DATA.X_test)[:, ~grown.is_new_]
        assert_allclose(kept, clf.decision_function(DATA.X_test))
    assert grown.predict_proba(DATA.X_test).shape[1] == 12


@pytest.mark.parametrize("names", [None, BASE, {BASE[0]: NEW[2]}])
def test_words_of_added_classes_are_kept_for_a_clone(names):
    clf = fit(new_classes=None, text_encoder=spelled, class_names=names)
    grown = clf.add_classes({NEW[0]: NEW[1]})
    kept = dict(zip(BASE, BASE, strict=True)) if names is BASE else names or {}
    assert grown.class_names == kept | {NEW[0]: NEW[1]}
    again = clone(grown).fit(DATA.X, DATA.y)
    assert_array_equal(again.classes_, grown.classes_)
    assert_allclose(again.text_features_, grown.text_features_)


# --- restrict, then more classes ---------------------------------------

NUMBERS = np.searchsorted(LABELS, DATA.y)


def numbered(**options):
    """A classifier of integer labels whose names are strings."""
    options = {"class_names": BASE, "text_encoder": spelled, "new_classes": None} | options
    return make(**UNTRAINED["candle"] | options).fit(DATA.X, NUMBERS)


def test_new_numbers_are_free_in_the_training_set_of_a_view():
    grown = numbered().restrict([0, 1]).add_classes([NEW[0]])
    assert grown.classes_.tolist() == [0, 1, 8]
    assert grown.class_names_ == [*BASE[:2], NEW[0]]


@pytest.mark.parametrize("kind", BOTH)
def test_a_class_that_was_left_out_returns_as_it_was(kind):
    clf = fit(kind, text_encoder=spelled)
    view = clf.restrict([BASE[0], NEW[0]]).add_classes([NEW[1], BASE[3]])
    expected = clf.restrict([BASE[0], BASE[3], *NEW[:2]])
    assert_array_equal(view.classes_, expected.classes_)
    assert_array_equal(view.class_count_, expected.class_count_)
    assert_array_equal(view.predict_proba(DATA.X_test), expected.predict_proba(DATA.X_test))


def test_a_number_that_was_left_out_returns_by_its_name():
    clf = numbered()
    view = clf.restrict([0, 1]).add_classes([BASE[5]])
    assert view.classes_.tolist() == [0, 1, 5]
    assert_array_equal(view.class_count_, clf.class_count_[[0, 1, 5]])


def test_a_class_that_was_left_out_is_not_named_anew():
    view = fit(text_encoder=spelled).restrict(BASE)
    with pytest.raises(ValueError, match="'class 08', which restrict left out, keeps its name"):
        view.add_classes({NEW[0]: NEW[1]})


def test_a_name_of_a_class_that_was_left_out_is_added_once():
    with pytest.raises(ValueError, match="'class 08', which is repeated"):
        fit(text_encoder=spelled).restrict(BASE).add_classes([NEW[0], NEW[0]])


def test_names_may_come_from_an_iterator(fitted):
    view = fitted.restrict(BASE).add_classes(iter(NEW))
    assert_array_equal(view.classes_, LABELS)


def test_images_of_a_class_that_was_left_out_have_its_name():
    clf = fit(text_encoder=spelled, class_names={NEW[0]: NEW[1]}, new_classes=None)
    view = clf.restrict(BASE[:2]).add_images(DATA.X_test[:2], [NEW[0]] * 2)
    assert view.class_names_ == [*BASE[:2], NEW[1]]
    whole = clf.add_images(DATA.X_test[:2], [NEW[0]] * 2).restrict([*BASE[:2], NEW[0]])
    assert_array_equal(view.predict_proba(DATA.X_test), whole.predict_proba(DATA.X_test))


@pytest.mark.parametrize("convert", [list, np.array])
def test_a_mask_selects_classes(fitted, convert):
    mask = convert(np.isin(LABELS, [BASE[1], NEW[0]]).tolist())
    assert fitted.restrict(mask).classes_.tolist() == [BASE[1], NEW[0]]
    view = numbered().restrict(convert([False, True, True] + 5 * [False]))
    assert view.classes_.tolist() == [1, 2]


def test_a_mask_has_the_length_of_the_classes():
    with pytest.raises(ValueError, match=r"shape of classes_, \(8,\), got \(3,\)"):
        numbered().restrict([False, True, True])
    with pytest.raises(ValueError, match="restrict needs at least one label"):
        numbered().restrict(np.zeros(8, dtype=bool))


def test_labels_that_are_booleans_are_not_a_mask():
    texts = {False: DATA.texts[BASE[0]], True: DATA.texts[BASE[1]]}
    clf = make(new_classes=None, text_encoder=texts)
    clf.fit(np.stack(list(texts.values())), np.array([False, True]))
    assert clf.restrict([True]).classes_.tolist() == [True]


def test_a_clone_knows_added_vectors():
    vectors = {"kiwi": np.ones(32), "fig": -np.ones(32)}
    grown = fit().add_classes(vectors)
    again = clone(grown).fit(DATA.X, DATA.y)
    assert_array_equal(again.classes_, grown.classes_)
    assert_allclose(again.text_features_, grown.text_features_)


@pytest.mark.parametrize("names", [None, BASE])
def test_a_clone_knows_numbers_with_vectors(names):
    texts = dict(enumerate(DATA.texts.values()))
    clf = make(new_classes=None, text_encoder=texts, class_names=names).fit(DATA.X, NUMBERS)
    grown = clf.add_images(DATA.X_test[:1], [9]).add_classes({"kiwi": np.ones(32)})
    assert grown.classes_.tolist() == [*range(8), 9, 10]
    again = clone(grown).fit(DATA.X, NUMBERS)
    assert_array_equal(again.classes_, grown.classes_)
