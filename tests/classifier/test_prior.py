"""Frequencies of use: Bayes' rule, and which copies keep them."""

import numpy as np
import pytest
from long_tail import BASE, DATA, LABELS, N_TRAIN, NEW, fit, make
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

FREQUENCIES = np.random.default_rng(0).dirichlet(np.ones(12))
BY_LABEL = dict(zip(LABELS.tolist(), FREQUENCIES.tolist(), strict=True))


@pytest.fixture(scope="module")
def fitted():
    return fit()


def bayes(proba, frequencies):
    """Posterior for other frequencies, from that for equal ones."""
    joint = proba * frequencies
    return joint / joint.sum(axis=1, keepdims=True)


# --- Bayes' rule -----------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, 0.4, 1.0, 2.0])
def test_a_prior_is_bayes_rule_whatever_the_margin(fitted, margin):
    clf = fit(class_prior=FREQUENCIES, margin=margin)
    expected = bayes(fitted.predict_proba(DATA.X_test), FREQUENCIES)
    assert_allclose(clf.predict_proba(DATA.X_test), expected, rtol=1e-9)
    assert_array_equal(clf.predict(DATA.X_test), LABELS[expected.argmax(axis=1)])
    assert_allclose(clf.predict_log_proba(DATA.X_test), np.log(expected), rtol=1e-9)


def test_the_training_prior_is_that_of_the_loss(fitted):
    frequencies = np.array(N_TRAIN) + 1.0
    expected = bayes(fitted.predict_proba(DATA.X_test), frequencies / frequencies.sum())
    clf = fit(class_prior="training")
    assert_allclose(clf.predict_proba(DATA.X_test), expected, rtol=1e-9)
    zero_margin = fit(margin=0.0)
    assert_array_equal(
        clf.decision_function(DATA.X_test), zero_margin.decision_function(DATA.X_test)
    )


@pytest.mark.parametrize("prior", [None, "training", FREQUENCIES, BY_LABEL])
def test_with_prior_equals_a_fit_with_it(fitted, prior):
    view, whole = fitted.with_prior(prior), fit(class_prior=prior)
    assert_array_equal(view.decision_function(DATA.X_test), whole.decision_function(DATA.X_test))
    assert view.prototypes_ is fitted.prototypes_  # light: the state is shared
    assert fitted.class_prior is None


def test_with_prior_none_goes_back_to_the_margin():
    clf = fit(margin=0.5)
    again = clf.with_prior(FREQUENCIES).with_prior("training").with_prior(None)
    assert_array_equal(again.predict_proba(DATA.X_test), clf.predict_proba(DATA.X_test))


@pytest.mark.filterwarnings("error")
def test_a_class_that_does_not_occur_is_never_answered(fitted):
    frequencies = np.where(np.isin(LABELS, NEW), 0.0, 1 / len(BASE))
    view = fitted.with_prior(frequencies)
    proba = view.predict_proba(DATA.X_test)
    assert_array_equal(proba[:, np.isin(LABELS, NEW)], 0)
    assert_allclose(proba[:, :8], fitted.restrict(BASE).predict_proba(DATA.X_test))


def test_two_classes_of_which_one_does_not_occur(fitted):
    pair = fitted.restrict(LABELS[:2]).with_prior([0.0, 1.0])
    assert_array_equal(pair.predict(DATA.X_test), LABELS[1])
    assert_array_equal(pair.decision_function(DATA.X_test), np.inf)


def test_a_series_goes_by_its_index(fitted):
    pd = pytest.importorskip("pandas")
    series = pd.Series(BY_LABEL).sort_values()
    assert_allclose(
        fitted.with_prior(series).predict_proba(DATA.X_test),
        fitted.with_prior(FREQUENCIES).predict_proba(DATA.X_test),
    )


def test_integer_labels_of_a_mapping():
    y = np.searchsorted(LABELS, DATA.y)
    texts = dict(enumerate(DATA.texts.values()))
    clf = make(new_classes=[8, 9, 10, 11], text_encoder=texts)
    clf.set_params(class_prior={np.int64(k): p for k, p in enumerate(FREQUENCIES)})
    expected = fit(class_prior=FREQUENCIES).predict_proba(DATA.X_test)
    assert_allclose(clf.fit(DATA.X, y).predict_proba(DATA.X_test), expected)


def test_a_search_over_priors():
    grid = {"class_prior": [None, "training", BY_LABEL]}
    search = GridSearchCV(make(max_iter=0), grid, cv=2, error_score="raise")
    tail = np.isin(DATA.y, BASE[:6])
    search.fit(DATA.X[tail], DATA.y[tail])
    assert len(search.cv_results_["params"]) == 3


# --- views and copies ------------------------------------------------------------------------


def test_restrict_keeps_the_prior(fitted):
    labels = [*BASE[2:5], *NEW[:2]]
    kept = np.isin(LABELS, labels)
    view = fitted.with_prior(FREQUENCIES).restrict(labels)
    frequencies = FREQUENCIES[kept] / FREQUENCIES[kept].sum()
    expected = bayes(fitted.restrict(labels).predict_proba(DATA.X_test), frequencies)
    assert_allclose(view.predict_proba(DATA.X_test), expected)


def test_an_added_class_has_the_frequency_that_a_mapping_names():
    clf = fit(new_classes=NEW[:2], class_prior=BY_LABEL)
    grown = clf.add_classes(NEW[2:])
    expected = bayes(
        fit(new_classes=NEW[:2]).add_classes(NEW[2:]).predict_proba(DATA.X_test), FREQUENCIES
    )
    assert_allclose(grown.predict_proba(DATA.X_test), expected)
    assert_allclose(clone(grown).fit(DATA.X, DATA.y).class_count_, N_TRAIN)


def test_an_added_class_counts_one_in_the_training_prior():
    clf = fit(new_classes=NEW[:2], margin=1.0)
    grown = clf.with_prior("training").add_classes(NEW[2:])
    frequencies = np.array(N_TRAIN) + 1.0
    expected = bayes(
        clf.add_classes(NEW[2:]).predict_proba(DATA.X_test), frequencies / frequencies.sum()
    )
    assert_allclose(grown.predict_proba(DATA.X_test), expected)


def test_an_added_class_needs_a_frequency(fitted):
    clf = fitted.with_prior(FREQUENCIES)
    with pytest.raises(ValueError, match=r"no frequency for the class 'kiwi' \(1 of 13 classes"):
        clf.add_classes({"kiwi": np.ones(32)})
    grown = clf.with_prior(None).add_classes({"kiwi": np.ones(32)})
    assert len(grown.classes_) == 13


def test_no_class_that_is_left_occurs(fitted):
    frequencies = np.where(np.isin(LABELS, NEW), 0.0, 1 / len(BASE))
    with pytest.raises(ValueError, match="class_prior is 0 for all 4 classes, such as"):
        fitted.with_prior(frequencies).restrict(NEW)


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prior, message",
    [
        (2 * FREQUENCIES, "class_prior must sum to 1, but sums to 2"),
        ({"class 00": 1.0}, r"no frequency for the class 'class 01' \(11 of 12"),
    ],
)
def test_invalid_frequencies(fitted, prior, message):
    with pytest.raises(ValueError, match=message):
        fitted.with_prior(prior)
    with pytest.raises(ValueError, match=message):
        make(class_prior=prior).fit(DATA.X, DATA.y)


def test_an_invalid_word_for_a_prior(fitted):
    with pytest.raises(ValueError, match="class_prior must be \"training\", .* got 'uniform'"):
        fitted.with_prior("uniform")
    with pytest.raises(ValueError, match="'class_prior' .* must be a str among {'training'}"):
        make(class_prior="uniform").fit(DATA.X, DATA.y)
