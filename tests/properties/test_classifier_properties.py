"""Properties that hold for any training set, with embeddings in float64."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import clip_like
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from skcandle import CandleClassifier, PublishedCandleClassifier

# Without estimates and training, results have a closed form.
CLOSED_FORM = {
    "candle": {
        "temperature": 0.05,
        "prototype_weight": 0.2,
        "base_offset": 0.5,
        "single_image_weight": 5.0,
        "max_iter": 0,
    },
    "published": {"max_iter": 0, "random_state": 0},
}
# Without dropout, which would amplify rounding errors.
TRAINED = {
    "candle": {},
    "published": {"max_iter": 3, "batch_size": 8, "dropout": 0.0, "random_state": 0},
}
CLASSES = {"candle": CandleClassifier, "published": PublishedCandleClassifier}
TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore::skcandle.exceptions.TextFeaturesWarning")
kinds = pytest.mark.parametrize("kind", CLASSES)
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Task:
    """A training set, images to predict, and a text for each class."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    texts: dict
    rng: np.random.Generator

    @property
    def labels(self):
        return np.array(sorted(self.texts))

    @property
    def new(self):
        return [label for label in self.texts if label not in self.y]

    def make(self, kind, *, trained=True, **options):
        options = (TRAINED if trained else CLOSED_FORM)[kind] | options
        universe = {"new_classes": self.new, "text_encoder": self.texts, "device": "cpu"}
        return CLASSES[kind](**universe | options)

    def fit(self, kind, X=None, y=None, sample_weight=None, **options):
        X, y = (self.X if X is None else X), (self.y if y is None else y)
        return self.make(kind, **options).fit(X, y, sample_weight=sample_weight)


@st.composite
def tasks(draw, min_new=0, **options):
    """Any number of classes, of images of each and of features, with more or less noise."""
    counts = draw(st.lists(st.integers(1, 6), min_size=2, max_size=7))
    n_new = draw(st.integers(min_new, 3))
    n_features = draw(st.sampled_from([3, 8, 16]))
    noise = draw(st.sampled_from([0.3, 1.5, 4.0]))
    seed = draw(seeds)
    n_images = np.array(counts + [0] * n_new)
    X, y, texts = clip_like(n_images + 4, n_features, noise=noise, seed=seed)
    position = np.concatenate([np.arange(n) for n in n_images + 4])
    is_train = position < n_images[y]
    labels = [f"class {k:02d}" for k in range(len(n_images))]
    return Task(
        X=X[is_train],
        y=np.array(labels)[y[is_train]],
        X_test=X[~is_train],
        texts=dict(zip(labels, texts, strict=True)),
        rng=np.random.default_rng(seed),
    )


def assert_same(clf, other, X, tolerance=TOLERANCE):
    assert_array_equal(clf.classes_, other.classes_)
    assert_allclose(clf.class_count_, other.class_count_)
    assert_allclose(clf.predict_proba(X), other.predict_proba(X), atol=tolerance)


# --- the training set ------------------------------------------------------------------------


@given(task=tasks())
def test_the_order_of_the_images_does_not_matter(task):
    order = task.rng.permutation(len(task.y))
    assert_same(task.fit("candle"), task.fit("candle", task.X[order], task.y[order]), task.X_test)


@kinds
@given(task=tasks(), data=st.data())
def test_weight_n_is_n_copies(kind, task, data):
    trained = kind == "candle"  # copies change the mini-batches
    repeats = np.array([data.draw(st.integers(1, 4)) for _ in task.y])
    weighted = task.fit(kind, sample_weight=repeats, trained=trained)
    copies = task.X.repeat(repeats, axis=0), task.y.repeat(repeats)
    assert_same(weighted, task.fit(kind, *copies, trained=trained), task.X_test)


@kinds
@given(task=tasks(), words=st.lists(st.text(min_size=1), min_size=10, max_size=10, unique=True))
def test_names_of_the_classes_do_not_matter(kind, task, words):
    # the number comes last, because NumPy drops trailing NUL characters
    names = {label: f"{words[i]} {i}" for i, label in enumerate(task.rng.permutation(task.labels))}
    trained = kind == "candle"  # the initial attention is the same, but sums have another order
    clf = task.fit(kind, trained=trained)
    renamed = task.fit(
        kind,
        y=[names[label] for label in task.y.tolist()],
        trained=trained,
        new_classes=[names[label] for label in task.new],
        text_encoder={names[label]: text for label, text in task.texts.items()},
    )
    columns = [renamed.classes_.tolist().index(names[label]) for label in clf.classes_]
    expected = clf.predict_proba(task.X_test)
    assert_allclose(renamed.predict_proba(task.X_test)[:, columns], expected, atol=TOLERANCE)


@given(task=tasks())
def test_a_common_rotation_of_images_and_texts_does_not_matter(task):
    n_features = task.X.shape[1]
    turn = np.linalg.qr(task.rng.normal(size=(n_features, n_features)))[0]
    texts = {label: text @ turn for label, text in task.texts.items()}
    options = {"max_iter": 0}  # L-BFGS stops after a number of steps whose first depends on axes
    clf = task.fit("candle", **options)
    turned = task.fit("candle", task.X @ turn, text_encoder=texts, **options)
    proba = turned.predict_proba(task.X_test @ turn)
    assert_allclose(proba, clf.predict_proba(task.X_test), atol=TOLERANCE)


@given(task=tasks(), low=st.integers(-100, 0), high=st.integers(0, 100))
def test_lengths_do_not_matter(task, low, high):
    def scaled(X):
        return X * 10 ** task.rng.uniform(low, high, size=(len(X), 1))

    clf = task.fit("candle", scaled(task.X))
    proba = clf.predict_proba(scaled(task.X_test))
    assert_allclose(proba, task.fit("candle").predict_proba(task.X_test), atol=TOLERANCE)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


STORAGE = {
    "Fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "read-only": read_only,
    "list": np.ndarray.tolist,
}


@kinds
@given(task=tasks(), storage=st.sampled_from(sorted(STORAGE)), dtype=st.sampled_from("fd"))
def test_the_way_arrays_are_stored_does_not_matter(kind, task, storage, dtype):
    X, X_test = task.X.astype(dtype), task.X_test.astype(dtype)
    if storage == "list":  # lists hold float64
        X, X_test = X.astype(float), X_test.astype(float)
    convert = STORAGE[storage]
    proba = task.fit(kind, convert(X)).predict_proba(convert(X_test))
    assert_allclose(proba, task.fit(kind, X).predict_proba(X_test), atol=TOLERANCE)


@kinds
@given(task=tasks(), dtype=st.sampled_from("fd"))
def test_memory_maps_are_like_arrays(kind, task, dtype, tmp_path):
    np.save(tmp_path / "X.npy", task.X.astype(dtype))
    np.save(tmp_path / "X_test.npy", task.X_test.astype(dtype))
    X, X_test = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("X", "X_test"))
    proba = task.fit(kind, X).predict_proba(X_test)
    expected = task.fit(kind, np.array(X)).predict_proba(np.array(X_test))
    assert_array_equal(proba, expected)


# --- prediction ------------------------------------------------------------------------------


@kinds
@given(task=tasks())
def test_a_row_does_not_depend_on_the_others(kind, task):
    clf = task.fit(kind)
    one_by_one = np.concatenate([clf.predict_proba(row[None]) for row in task.X_test])
    assert_allclose(one_by_one, clf.predict_proba(task.X_test), atol=TOLERANCE)


@kinds
@given(task=tasks())
def test_answers_of_a_classifier_agree_with_each_other(kind, task):
    clf = task.fit(kind)
    proba = clf.predict_proba(task.X_test)
    assert np.isfinite(proba).all() and (proba >= 0).all()
    assert_allclose(proba.sum(axis=1), 1)
    assert_allclose(np.exp(clf.predict_log_proba(task.X_test)), proba, atol=1e-12)
    assert_array_equal(clf.predict(task.X_test), clf.classes_[proba.argmax(axis=1)])
    labels, best = clf.top_k(task.X_test, 2)
    assert_array_equal(labels[:, 0], clf.predict(task.X_test))
    assert_array_equal(best, -np.sort(-proba, axis=1)[:, :2])


@kinds
@given(task=tasks())
def test_threads_predict_alike(kind, task):
    clf = task.fit(kind)
    with ThreadPoolExecutor(4) as pool:
        probas = list(pool.map(clf.predict_proba, [task.X_test] * 8))
    for proba in probas:
        assert_array_equal(proba, probas[0])


@kinds
@given(task=tasks())
def test_threads_fit_alike(kind, task):
    expected = task.fit(kind).predict_proba(task.X_test)
    with ThreadPoolExecutor(4) as pool:
        for clf in pool.map(lambda _: task.fit(kind), range(4)):
            assert_array_equal(clf.predict_proba(task.X_test), expected)


@kinds
@given(task=tasks())
def test_a_pickle_predicts_the_same(kind, task):
    clf = task.fit(kind)
    again = pickle.loads(pickle.dumps(clf))
    assert_array_equal(again.predict_proba(task.X_test), clf.predict_proba(task.X_test))


@kinds
@given(task=tasks(min_new=1))
def test_a_file_of_skops_predicts_the_same(kind, task):
    sio = pytest.importorskip("skops.io")
    clf = task.fit(kind, trained=False)
    data = sio.dumps(clf)
    again = sio.loads(data, trusted=sio.get_untrusted_types(data=data))
    assert_array_equal(again.predict_proba(task.X_test), clf.predict_proba(task.X_test))


# --- the life of a label set -----------------------------------------------------------------


@kinds
@given(task=tasks(min_new=1), data=st.data())
def test_restrict_keeps_the_logits(kind, task, data):
    clf = task.fit(kind)
    kept = data.draw(st.lists(st.sampled_from(task.labels), min_size=1, unique=True))
    view = clf.restrict(kept)
    assert_array_equal(view.classes_, sorted(kept))
    logits = clf.decision_function(task.X_test)
    proba = softmax(logits[:, np.isin(clf.classes_, kept)], axis=1)
    assert_allclose(view.predict_proba(task.X_test), proba, atol=TOLERANCE)
    assert_array_equal(view.predict(task.X_test), view.classes_[proba.argmax(axis=1)])


@kinds
@given(task=tasks(min_new=1))
def test_classes_added_by_name_are_those_named_at_fit(kind, task):
    expected = task.fit(kind, trained=False)
    known = {label: text for label, text in task.texts.items() if label not in task.new}
    clf = task.fit(kind, trained=False, new_classes=None, text_encoder=known)
    grown = clf.add_classes({label: task.texts[label] for label in task.new[::-1]})
    assert_same(grown, expected, task.X_test)


@given(task=tasks(min_new=1))
def test_classes_that_are_added_and_left_out_again_change_nothing(task):
    clf = task.fit("candle")
    more = {f"more {i}": task.rng.normal(size=task.X.shape[1]) for i in range(2)}
    assert_same(clf.add_classes(more).restrict(clf.classes_), clf, task.X_test)


@given(task=tasks(), data=st.data())
def test_added_images_equal_a_fit_on_all(task, data):
    later = np.array([data.draw(st.booleans()) for _ in task.y])
    later[0] = False
    first = ~later
    unseen = [label for label in task.labels if label not in task.y[first]]
    options = {"trained": False, "new_classes": unseen}
    weight = task.rng.integers(1, 4, len(task.y)).astype(float)
    clf = task.fit("candle", task.X[first], task.y[first], weight[first], **options)
    if later.any():
        clf = clf.add_images(task.X[later], task.y[later], sample_weight=weight[later])
    assert_same(clf, task.fit("candle", sample_weight=weight, trained=False), task.X_test)


@given(task=tasks(), data=st.data())
def test_a_prior_is_that_of_bayes(task, data):
    clf = task.fit("candle")
    prior = np.array([data.draw(st.integers(0, 9)) for _ in task.labels], float)
    prior[0] += 1
    prior /= prior.sum()
    expected = clf.predict_proba(task.X_test) * prior
    expected /= expected.sum(axis=1, keepdims=True)
    proba = clf.with_prior(prior).predict_proba(task.X_test)
    assert_allclose(proba, expected, atol=TOLERANCE)
