"""Which images a classifier was fitted on, and copies of it without some of them."""

import numpy as np
import pytest
import torch
from long_tail import BASE, DATA, FIXED, fit, make
from numpy.testing import assert_allclose, assert_array_equal

from skcandle import CandleClassifier
from skcandle.classifier._out_of_fold import training_images
from skcandle.classifier._training_images import content_digests
from skcandle.classifier._unlabeled import AdaptedModel

RNG = np.random.default_rng(0)


def is_training(clf, X, contents=None):
    return training_images(clf, X, contents)[0].tolist()


@pytest.mark.parametrize("kind", ["candle", "published"])
def test_training_images_are_recognised_among_others(kind):
    clf = fit(kind)
    X = np.concatenate([DATA.X_test[:20], DATA.X[:5]])
    assert is_training(clf, X) == [False] * 20 + [True] * 5


def test_rounding_number_format_and_length_do_not_matter():
    clf = fit()
    noise = 2e-7 * RNG.normal(size=DATA.X.shape) / np.sqrt(DATA.X.shape[1])
    assert np.mean(is_training(clf, 3 * (DATA.X + noise))) > 0.99
    assert np.mean(is_training(clf, DATA.X.astype(np.float32))) > 0.99


def test_other_images_with_the_same_counts_are_not_training_images():
    other = np.concatenate(
        [DATA.X_test[DATA.y_test == label][: np.sum(DATA.y == label)] for label in BASE]
    )
    assert not any(is_training(fit(), other))


def test_equal_contents_are_recognised_whatever_their_embeddings():
    clf = fit()
    contents = content_digests([bytes([i + 1]) * 32 for i in range(len(DATA.X))])
    clf._training_images = clf._training_images.with_contents(DATA.X, contents)
    rough = DATA.X + 0.02 * RNG.normal(size=DATA.X.shape)
    assert not any(is_training(clf, rough))
    assert all(is_training(clf, rough, contents))
    unknown = content_digests([None, b"other" * 8])
    assert is_training(clf, DATA.X_test[:2], unknown) == [False, False]


def test_views_and_copies_know_all_training_images():
    first, rest = slice(0, None, 2), slice(1, None, 2)
    clf = make().fit(DATA.X[first], DATA.y[first])
    grown = clf.add_images(DATA.X[rest], DATA.y[rest])
    assert all(is_training(grown, DATA.X)) and not all(is_training(clf, DATA.X))
    view = grown.restrict(BASE[:2]).add_classes({"a further one": DATA.X[0]})
    assert all(is_training(view, DATA.X))


def test_images_that_were_left_out_of_the_fit_are_not_training_images():
    weight = np.ones(len(DATA.y))
    weight[3] = 0
    X = DATA.X.copy()
    X[5] = np.nan
    with pytest.warns(UserWarning, match="1 of 57 rows"):
        clf = make().fit(X, DATA.y, weight)
    found = np.array(is_training(clf, DATA.X))
    assert np.flatnonzero(~found).tolist() == [3, 5]


@pytest.mark.parametrize("dtype, atol", [(np.float64, 1e-6), (np.float32, 2e-3)])
def test_a_copy_without_a_fold_equals_a_fit_without_it(dtype, atol):
    X, weight = DATA.X.astype(dtype), RNG.integers(1, 4, len(DATA.y)).astype(float)
    clf = make(**FIXED).fit(X, DATA.y, weight)
    asked = RNG.permutation(len(X))[:30]
    found, copies = training_images(clf, X[asked])
    assert found.all()
    n_answered = 0
    for rows, copy in copies:
        kept = np.setdiff1d(np.arange(len(X)), asked[rows])
        lost = sorted(set(DATA.y) - set(DATA.y[kept]))
        options = FIXED | {"new_classes": [*make().new_classes, *lost]}
        expected = make(**options).fit(X[kept], DATA.y[kept], weight[kept])
        assert_array_equal(copy.classes_, expected.classes_)
        assert_array_equal(copy.is_new_, expected.is_new_)
        test = DATA.X_test
        assert_allclose(copy.predict_proba(test), expected.predict_proba(test), atol=atol)
        n_answered += len(rows)
    assert n_answered == len(asked)


def test_a_copy_loses_all_copies_of_an_image_whatever_their_classes():
    X = np.concatenate([DATA.X, DATA.X[:1], DATA.X[:1]])
    y = np.concatenate([DATA.y, DATA.y[:1], [BASE[-1]]])
    clf = make(**FIXED).fit(X, y)
    [(rows, copy)] = training_images(clf, DATA.X[:1])[1]
    assert rows.tolist() == [0]
    lost = clf.class_count_ - copy.class_count_
    assert dict(zip(clf.classes_[lost > 0], lost[lost > 0], strict=True)) == {
        DATA.y[0]: 2,
        BASE[-1]: 1,
    }


def test_there_are_no_copies_without_text_and_of_the_published_classifier():
    for clf in (CandleClassifier(text_encoder=None).fit(DATA.X, DATA.y), fit("published")):
        found, copies = training_images(clf, DATA.X)
        assert found.all() and copies is None


def test_a_copy_keeps_what_unlabelled_images_taught():
    clf = make(**FIXED).fit(DATA.X, DATA.y)
    adapted = clf.add_unlabeled(DATA.X_test)
    taught = adapted._model.unlabeled, adapted._model.n_unlabeled
    n_answered = 0
    for rows, copy in training_images(adapted, DATA.X)[1]:
        kept = np.setdiff1d(np.arange(len(DATA.X)), rows)
        lost = sorted(set(DATA.y) - set(DATA.y[kept]))
        options = FIXED | {"new_classes": [*make().new_classes, *lost]}
        expected = make(**options).fit(DATA.X[kept], DATA.y[kept])
        expected._model = AdaptedModel.of(expected._model, *taught, torch.device("cpu"))
        assert_allclose(
            copy.predict_proba(DATA.X_test), expected.predict_proba(DATA.X_test), atol=1e-6
        )
        n_answered += len(rows)
    assert n_answered == len(DATA.X)


def test_a_classifier_of_names_alone_has_no_training_images():
    clf = make().fit(DATA.X[:0], DATA.y[:0])
    for one in (clf, clf.add_unlabeled(DATA.X_test)):
        found, copies = training_images(one, DATA.X_test)
        assert not found.any() and copies is None


def test_there_is_no_copy_without_any_image():
    clf = make(**FIXED).fit(DATA.X[[0, 0]], DATA.y[[0, 0]])
    found, copies = training_images(clf, DATA.X[[0, 0]])
    assert found.all() and copies is None
