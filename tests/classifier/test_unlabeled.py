"""Fitted copies that have learned from images without labels, and classifiers from names alone."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import clip_like
from long_tail import BASE, DATA, FIXED, LABELS, NEW, fit, long_tailed, make
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone

from benchmarks.accuracy.protocol import encode_emoji
from benchmarks.accuracy.unlabeled_cases import full_case
from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
)
from skcandle.classifier import _unlabeled
from skcandle.classifier._prototypes import prototypes_of
from skcandle.classifier._statistics import ClassStatistics
from skcandle.classifier._training_set import TrainingSet
from skcandle.classifier._unlabeled import mixed_logits
from skcandle.exceptions import UnreadableImageWarning
from skcandle.metrics import expected_calibration_error

IS_UNLABELED = np.random.default_rng(0).random(len(DATA.X_test)) < 0.5
UNLABELED, REST = DATA.X_test[IS_UNLABELED], DATA.X_test[~IS_UNLABELED]
CLASS_OF_UNLABELED = DATA.y_test[IS_UNLABELED]
NO_IMAGES = np.empty((0, 32))


def of_names(X=NO_IMAGES, **options):
    """A classifier that knows the names of all twelve classes, and no image."""
    return CandleClassifier(
        **{"new_classes": LABELS.tolist(), "text_encoder": DATA.texts, **options}
    ).fit(X, [])


KINDS = {
    "base and new classes": fit,
    "without single images": lambda: fit(single_image_weight=0),
    "without text": lambda: fit(text_encoder=None, new_classes=None),
    "names alone": of_names,
}


@pytest.fixture(scope="module", params=KINDS)
def classifier(request):
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def fitted():
    return fit()


@pytest.fixture(scope="module")
def grown(fitted):
    return fitted.add_unlabeled(UNLABELED)


def assert_same(clf, expected, atol=1e-8):
    assert_array_equal(clf.classes_, expected.classes_)
    assert_allclose(clf.unlabeled_count_, expected.unlabeled_count_, atol=atol)
    assert_allclose(clf.prototypes_, expected.prototypes_, atol=atol)
    assert_allclose(clf.predict_proba(REST), expected.predict_proba(REST), atol=atol)


def is_one_of(labels):
    return np.isin(CLASS_OF_UNLABELED, labels)


# --- what it does ----------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [False, True])
def test_later_answers_are_better_where_names_say_little(alone):
    data, rng = long_tailed(noise=1.0, n_test=60), np.random.default_rng(2)
    texts = {label: text + 0.2 * rng.normal(size=32) for label, text in data.texts.items()}
    if alone:
        candle = of_names(text_encoder=texts)
    else:
        candle = make(text_encoder=texts).fit(data.X, data.y)
    learning = np.arange(len(data.X_test)) % 2 == 0
    learned = candle.add_unlabeled(data.X_test[learning])
    X, y = data.X_test[~learning], data.y_test[~learning]
    assert learned.score(X, y) > candle.score(X, y) + 0.03


def test_labels_and_their_counts_do_not_change(fitted, grown):
    for name in ("classes_", "class_count_", "is_new_", "text_features_"):
        assert_array_equal(getattr(grown, name), getattr(fitted, name))
    assert grown.class_names_ == fitted.class_names_


def test_the_classifier_stays_as_it_was(classifier):
    before = pickle.dumps(classifier)
    classifier.add_unlabeled(UNLABELED)
    assert pickle.dumps(classifier) == before


@pytest.mark.parametrize("X, weight", [(UNLABELED[:0], None), (UNLABELED, np.zeros_like)])
def test_adding_nothing_changes_nothing(classifier, X, weight):
    same = classifier.add_unlabeled(X, sample_weight=weight and weight(X[:, 0]))
    assert_array_equal(same.predict_proba(REST), classifier.predict_proba(REST))
    assert_array_equal(same.unlabeled_count_, np.zeros(len(classifier.classes_)))


def test_images_without_a_probable_class_change_nothing(classifier, monkeypatch):
    monkeypatch.setattr(_unlabeled, "LEAST_PROBABILITY", 1)
    same = classifier.add_unlabeled(UNLABELED)
    assert_array_equal(same.predict_proba(REST), classifier.predict_proba(REST))


def test_a_fit_has_no_unlabelled_images(classifier):
    assert_array_equal(classifier.unlabeled_count_, np.zeros(len(classifier.classes_)))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(classifier, seed):
    order = np.random.default_rng(seed).permutation(len(UNLABELED))
    assert_same(classifier.add_unlabeled(UNLABELED[order]), classifier.add_unlabeled(UNLABELED))


@pytest.mark.parametrize("logits_in_a_block", [1, 1000])
def test_the_size_of_blocks_does_not_matter(classifier, logits_in_a_block, monkeypatch):
    expected = classifier.add_unlabeled(UNLABELED)
    monkeypatch.setattr("skcandle.classifier._base.BLOCK_LOGITS", logits_in_a_block)
    assert_same(classifier.add_unlabeled(UNLABELED), expected)


@pytest.mark.parametrize("seed", range(3))
def test_an_image_of_weight_n_is_n_copies(classifier, seed):
    repeats = np.random.default_rng(seed).integers(0, 4, len(UNLABELED))
    assert_same(
        classifier.add_unlabeled(UNLABELED, sample_weight=repeats),
        classifier.add_unlabeled(UNLABELED.repeat(repeats, axis=0)),
    )


def test_two_calls_give_the_same_result(classifier):
    first, second = (classifier.add_unlabeled(UNLABELED) for _ in range(2))
    assert_array_equal(first.predict_proba(REST), second.predict_proba(REST))
    assert_array_equal(first.prototypes_, second.prototypes_)


def test_adding_two_sets_differs_from_adding_them_together(classifier):
    half = len(UNLABELED) // 2
    one_by_one = classifier.add_unlabeled(UNLABELED[:half]).add_unlabeled(UNLABELED[half:])
    together = classifier.add_unlabeled(UNLABELED)
    assert np.abs(one_by_one.predict_proba(REST) - together.predict_proba(REST)).max() > 1e-4


def test_a_second_set_adds_to_the_first(fitted):
    half = len(UNLABELED) // 2
    first = fitted.add_unlabeled(UNLABELED[:half])
    second = first.add_unlabeled(UNLABELED[half:])
    assert (second.unlabeled_count_ >= first.unlabeled_count_).all()
    assert second.unlabeled_count_.sum() > first.unlabeled_count_.sum() + 1
    assert (second._model.unlabeled.counts >= first._model.unlabeled.counts).all()


def test_later_predictions_are_independent_of_each_other(classifier):
    learned = classifier.add_unlabeled(UNLABELED)
    one_by_one = np.concatenate([learned.predict_proba(row[None]) for row in REST[:20]])
    assert_allclose(one_by_one, learned.predict_proba(REST)[:20], rtol=1e-9, atol=1e-15)


# --- the equations ---------------------------------------------------------------------------


class GivenAnswers:
    """Scores of rows that hold their number in the first column."""

    def __init__(self, logits):
        self.logits = logits

    def score(self, X):
        return self.logits[X[:, 0].astype(int)]


@pytest.mark.parametrize("seed, n_blocks", [(0, 1), (1, 2), (2, 7)])
def test_sums_are_those_of_an_image_of_each_class_with_its_weight(fitted, seed, n_blocks):
    rng = np.random.default_rng(seed)
    columns, n = np.sort(rng.permutation(12)[:9]), 30
    X = rng.normal(size=(n, 32))
    X[:, 0] = np.arange(n)
    logits, weight = 3 * rng.normal(size=(n, 12)), rng.random(n)

    def blocks():
        for rows in np.array_split(np.arange(n), n_blocks):
            yield slice(rows[0], rows[-1] + 1), X[rows]

    sums = _unlabeled._SoftSums(fitted._model, columns, weight)
    sums.add(GivenAnswers(logits), blocks)
    found = sums.statistics()

    proba = np.zeros((n, 12))
    proba[:, columns] = softmax(logits[:, columns], axis=1)
    share = _unlabeled.IMAGE_WEIGHT * weight[:, None] * proba
    share[proba <= _unlabeled.LEAST_PROBABILITY] = 0
    image, label = np.nonzero(share)
    expected = ClassStatistics.of(TrainingSet(X[image], label, share[image, label], None, 12))
    assert_allclose(found.counts, expected.counts, atol=1e-10)
    assert_allclose(found.means, expected.means, atol=1e-8)
    assert_allclose(found.scatter, expected.scatter, atol=1e-8)
    certain = np.where(proba > _unlabeled.EVIDENCE_PROBABILITY, proba, 0)
    assert_allclose(sums.n_images, weight @ certain, atol=1e-10)


def test_mixed_answers_have_the_precision_of_the_model():
    logits = torch.zeros((2, 3), dtype=torch.float32)
    assert mixed_logits(logits, logits, torch.tensor([0, 0.5, 1])).dtype == torch.float32


def test_answers_after_mix_those_before_with_those_of_the_new_prototypes(fitted, grown):
    n = grown.unlabeled_count_
    half = _unlabeled.HALF_IMAGE + _unlabeled.MISTAKEN_SHARE * (n**2).sum() / n.sum()
    evidence = np.where(grown.is_new_, n**2 / (n**2 + half**2), 1)
    p = fitted.predict_proba(REST)
    moved = softmax(grown._model.after.scorer(torch.device("cpu")).score(REST), axis=1)
    ratio = (p @ evidence) / (moved @ evidence)
    expected = (1 - evidence) * p + evidence * moved * ratio[:, None]
    assert_allclose(grown.predict_proba(REST), expected, atol=1e-10)


def test_few_images_are_no_evidence_beside_large_classes(fitted):
    one, many = (UNLABELED[is_one_of([label])][:n] for label, n in ((NEW[0], 1), (NEW[1], 9)))
    alone = fitted.add_unlabeled(one)
    beside = fitted.add_unlabeled(np.concatenate([one, np.repeat(many, 50, axis=0)]))
    of_one = np.searchsorted(LABELS, NEW[0])
    assert beside._model.evidence[of_one] < 0.1 < alone._model.evidence[of_one]


def test_prototypes_are_those_of_labelled_and_unlabelled_images(fitted, grown):
    data = TrainingSet(
        DATA.X, np.searchsorted(LABELS, DATA.y), np.ones(len(DATA.y)), fitted.text_features_, 12
    )
    statistics = ClassStatistics.of(data).merged(grown._model.unlabeled)
    space = prototypes_of(statistics, fitted.text_features_, fitted.shrinkage).space
    assert_allclose(grown.prototypes_, space.prototypes + space.image_mean, atol=1e-10)


def test_classes_that_do_not_occur_keep_their_probability(fitted):
    learned = fitted.add_unlabeled(UNLABELED[is_one_of(NEW[:1])])
    unseen = learned.is_new_ & (learned.unlabeled_count_ == 0)
    assert unseen.sum() >= 2
    assert_allclose(
        learned.predict_proba(REST)[:, unseen], fitted.predict_proba(REST)[:, unseen], rtol=1e-9
    )


def test_the_frequencies_of_use_do_not_change_what_is_learned(grown):
    prior = np.arange(1, 13) / 78
    other = fit(class_prior=prior).add_unlabeled(UNLABELED)
    assert_allclose(other.unlabeled_count_, grown.unlabeled_count_)
    assert_allclose(other.predict_proba(REST), grown.with_prior(prior).predict_proba(REST))


# --- rounds ----------------------------------------------------------------------------------


@pytest.fixture
def rounds(monkeypatch):
    """The answers of each round."""
    found, add = [], _unlabeled._SoftSums.add

    def recorded(self, scorer, blocks):
        found.append(add(self, scorer, blocks))
        return found[-1]

    monkeypatch.setattr(_unlabeled._SoftSums, "add", recorded)
    return found


def test_rounds_end_when_the_answers_no_longer_change(classifier, rounds, monkeypatch):
    learned = classifier.add_unlabeled(UNLABELED)
    n_rounds, every = len(rounds), np.ones(len(UNLABELED))
    assert 2 <= n_rounds < _unlabeled.MAX_ROUNDS
    for earlier, later in zip(rounds[:-2], rounds[1:-1], strict=True):
        assert later.change(earlier, every) > 0
    monkeypatch.setattr(_unlabeled, "TOLERANCE", 0)
    monkeypatch.setattr(_unlabeled, "MAX_ROUNDS", n_rounds + 1)
    longer = classifier.add_unlabeled(UNLABELED)
    change = np.abs(longer.predict_proba(UNLABELED) - learned.predict_proba(UNLABELED))
    assert change.sum(axis=1).mean() < 0.02


def test_the_number_of_rounds_is_limited(fitted, rounds, monkeypatch):
    monkeypatch.setattr(_unlabeled, "TOLERANCE", -1)
    monkeypatch.setattr(_unlabeled, "MAX_ROUNDS", 4)
    fitted.add_unlabeled(UNLABELED)
    assert len(rounds) == 4


def test_many_rounds_reach_a_fixed_point(fitted, monkeypatch):
    monkeypatch.setattr(_unlabeled, "TOLERANCE", -1)
    probas = []
    for n_rounds in (200, 201):
        monkeypatch.setattr(_unlabeled, "MAX_ROUNDS", n_rounds)
        probas.append(fitted.add_unlabeled(UNLABELED).predict_proba(REST))
    assert_allclose(probas[0], probas[1], atol=1e-6)


# --- number formats and memory ---------------------------------------------------------------


def test_in_float32(grown):
    learned = make().fit(DATA.X.astype(np.float32), DATA.y).add_unlabeled(UNLABELED)
    for array in (
        learned.predict_proba(REST),
        learned.unlabeled_count_,
        learned.prototypes_,
        learned._model.unlabeled.scatter,
    ):
        assert array.dtype == np.float32
    assert_allclose(learned.predict_proba(REST), grown.predict_proba(REST), atol=0.02)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_memory_map_is_learned_as_its_rows(fitted, dtype, tmp_path):
    np.save(tmp_path / "X.npy", UNLABELED.astype(dtype))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same(fitted.add_unlabeled(X), fitted.add_unlabeled(np.array(X)), atol=0)


# Besides pages of the file, memory holds one block and some numbers of each image.
ALLOWED_MB = 100
N_ROWS, N_CLASSES, WIDTH = 200_000, 100, 64
MEASURE = """
import re
from pathlib import Path
import joblib, numpy as np

def peak_mb():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

clf, X = joblib.load("clf.joblib"), np.load("X.npy", mmap_mode="r")
clf.add_unlabeled(X[:1000])
before = peak_mb()
clf.add_unlabeled(X)
print(peak_mb() - before - X.nbytes / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak memory")
def test_many_images_need_the_memory_of_one_block(tmp_path):
    X, y, texts = clip_like([3] * N_CLASSES, WIDTH)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts)), max_iter=0, device="cpu")
    joblib.dump(clf.fit(X.astype(np.float32), y), tmp_path / "clf.joblib")
    rows = np.random.default_rng(0).integers(len(X), size=N_ROWS)
    np.save(tmp_path / "X.npy", X.astype(np.float16)[rows])
    path = os.pathsep.join(p for p in (os.getcwd(), os.environ.get("PYTHONPATH")) if p)
    process = subprocess.run(
        [sys.executable, "-c", MEASURE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert float(process.stdout) < ALLOWED_MB


# --- unusual and wrong input -----------------------------------------------------------------


def test_images_that_could_not_be_read_are_left_out(classifier):
    X = UNLABELED.copy()
    X[[0, 7]] = np.nan
    with pytest.warns(UnreadableImageWarning, match=f"2 of {len(X)} rows of X are NaN") as caught:
        learned = classifier.add_unlabeled(X)
    assert len(caught) == 1
    assert_same(learned, classifier.add_unlabeled(np.delete(X, [0, 7], axis=0)))


@pytest.mark.parametrize(
    "X, sample_weight, message",
    [
        (UNLABELED[:, :5], None, "X has 5 features, but CandleClassifier is expecting 32"),
        (UNLABELED[:0, :5], None, "X has 5 features, but CandleClassifier is expecting 32"),
        (np.full((3, 32), np.nan), None, "NaN in all 3 rows: no image could be read"),
        (np.where(np.eye(3, 32), np.nan, 1), None, "NaN: row 0 has 1"),
        (np.full((3, 32), np.inf), None, "infinity"),
        (np.zeros((3, 32)), None, "Row 0 of X is all zeros"),
        (UNLABELED[0], None, "Expected 2D array, got 1D"),
        (UNLABELED[:3], [1, -1, 1], "[Nn]egative"),
        (UNLABELED[:3], [1, np.nan, 1], "sample_weight contains NaN"),
        (UNLABELED[:3], [1, 1], r"inconsistent numbers of samples: \[3, 2\]"),
        (UNLABELED[:3], [0, 0], r"inconsistent numbers of samples: \[3, 2\]"),
        (UNLABELED[:0], [1, 1], r"inconsistent numbers of samples: \[0, 2\]"),
    ],
)
def test_invalid_input(fitted, X, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        fitted.add_unlabeled(X, sample_weight=sample_weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_copies", [10, 100, 1000])
@pytest.mark.parametrize("n_distinct", [1, 5])
def test_copies_have_no_covariance(n_distinct, n_copies, dtype):
    rng = np.random.default_rng(3)
    texts = rng.normal(size=(5, 64)).astype(dtype)
    distinct = (texts + 0.5 * rng.normal(size=texts.shape)).astype(dtype)[:n_distinct]
    clf = CandleClassifier(new_classes=range(5), text_encoder=dict(enumerate(texts)))
    names = clf.fit(texts[:0], np.empty(0, dtype=int))
    learned = names.add_unlabeled(np.repeat(distinct, n_copies, axis=0))
    assert_allclose(learned.unlabeled_count_, np.where(np.arange(5) < n_distinct, n_copies, 0))
    assert_array_equal(learned._model.unlabeled.scatter, np.zeros((64, 64)))
    assert_array_equal(learned.predict(distinct), np.arange(n_distinct))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight", [1e-30, 1e30])
def test_weights_may_be_tiny_or_huge(weight, dtype):
    names = of_names(NO_IMAGES.astype(dtype))
    proba = names.add_unlabeled(UNLABELED, np.full(len(UNLABELED), weight)).predict_proba(REST)
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    if weight < 1:  # no evidence for any class
        assert_allclose(proba, names.predict_proba(REST), atol=1e-6)


def test_a_weight_for_all_images_may_be_zero(fitted):
    assert not fitted.add_unlabeled(UNLABELED, 0).unlabeled_count_.any()


def test_tables_with_column_names_do_not_warn(recwarn):
    columns = [f"feature {i}" for i in range(32)]
    clf = make(**FIXED).fit(pd.DataFrame(DATA.X, columns=columns), DATA.y)
    clf.add_unlabeled(pd.DataFrame(UNLABELED, columns=columns))
    assert not recwarn.list


def test_images_themselves_are_refused(fitted):
    with pytest.raises(TypeError, match="X must hold embeddings, got images"):
        fitted.add_unlabeled(["photo.jpg"])


@pytest.mark.parametrize("n_images", [1, 5])
def test_fewer_images_than_classes(classifier, n_images):
    proba = classifier.add_unlabeled(UNLABELED[:n_images]).predict_proba(REST)
    assert_allclose(proba.sum(axis=1), 1)


def test_two_classes(fitted):
    pair = fitted.restrict([BASE[0], NEW[0]])
    learned = pair.add_unlabeled(UNLABELED)
    logit = learned.decision_function(REST)
    assert logit.shape == (len(REST),)
    assert_allclose(learned.predict_proba(REST)[:, 1], 1 / (1 + np.exp(-logit)))


def test_classes_of_names_alone_may_be_two():
    names = of_names(new_classes=NEW[:2])
    learned = names.add_unlabeled(UNLABELED[is_one_of(NEW[:2])])
    odd = np.isin(DATA.y_test[~IS_UNLABELED], NEW[:2])
    assert learned.score(REST[odd], DATA.y_test[~IS_UNLABELED][odd]) > 0.9


def test_images_that_look_like_no_class_warn():
    X, y, texts = clip_like([30] * 30, 16, noise=0.5)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts)), max_iter=0).fit(X, y)
    with pytest.warns(UserWarning, match="Most unlabelled images look like none of the 30 classes"):
        learned = clf.add_unlabeled(-X)
    assert learned.unlabeled_count_.sum() < 0.1 * len(X)


def test_images_of_listed_classes_do_not_warn(classifier, recwarn):
    classifier.add_unlabeled(UNLABELED)
    assert not recwarn.list


def test_images_of_no_listed_class_count_less_than_others(fitted):
    listed = fitted.restrict(BASE)
    own, others = (UNLABELED[is_one_of(labels)] for labels in (BASE, NEW))
    shares = [listed.add_unlabeled(X)._model.unlabeled.counts.sum() / len(X) for X in (own, others)]
    assert shares[1] < shares[0]


def test_copies_of_one_photo_do_not_take_other_images(fitted):
    one = np.flatnonzero(is_one_of(NEW[:1]))[0]
    y = DATA.y_test[~IS_UNLABELED]
    X = np.concatenate([UNLABELED, np.repeat(UNLABELED[[one]], 2000, axis=0)])
    learned = fitted.add_unlabeled(X)
    assert learned.score(REST, y) > fitted.score(REST, y) - 0.02


# --- views, copies and other methods ---------------------------------------------------------


def test_a_view_learns_for_its_classes_only(fitted):
    kept, left_out = [*BASE[:5], *NEW[:2]], [*BASE[5:], *NEW[2:]]
    view = fitted.restrict(kept).add_unlabeled(UNLABELED)
    assert_array_equal(view.classes_, np.sort(kept))
    whole = view.add_classes(left_out)
    is_kept = np.isin(whole.classes_, kept)
    assert_array_equal(whole.unlabeled_count_[~is_kept], 0)
    assert_array_equal(whole._model.unlabeled.counts[~is_kept], 0)
    assert whole.unlabeled_count_[is_kept].min() > 0
    assert_array_equal(whole.unlabeled_count_[is_kept], view.unlabeled_count_)


def test_a_view_has_the_conditional_probabilities_of_the_whole(fitted):
    kept = [*BASE[:5], *NEW[:2]]
    view = fitted.restrict(kept).add_unlabeled(UNLABELED)
    whole = view.add_classes([*BASE[5:], *NEW[2:]])
    proba = whole.predict_proba(REST)[:, np.isin(whole.classes_, kept)]
    assert_allclose(view.predict_proba(REST), proba / proba.sum(axis=1, keepdims=True))


def test_a_view_of_what_has_learned(grown):
    view = grown.restrict(NEW)
    assert_array_equal(view.unlabeled_count_, grown.unlabeled_count_[8:])
    assert_array_equal(view.decision_function(REST), grown.decision_function(REST)[:, 8:])


def test_another_prior_afterwards(grown):
    prior = np.arange(1, 13) / 78
    proba = grown.predict_proba(REST) * prior
    assert_allclose(
        grown.with_prior(prior).predict_proba(REST), proba / proba.sum(axis=1, keepdims=True)
    )


def test_classes_that_are_added_afterwards_leave_the_other_logits(grown):
    more = grown.add_classes({"another": DATA.X_test[0]})
    is_old = more.classes_ != "another"
    assert_allclose(
        more.decision_function(REST)[:, is_old], grown.decision_function(REST), rtol=1e-10
    )
    assert_array_equal(more.unlabeled_count_[~is_old], 0)
    assert_array_equal(more.unlabeled_count_[is_old], grown.unlabeled_count_)


def test_a_class_that_was_added_afterwards_learns_from_a_second_set(grown):
    more = grown.restrict(LABELS[:11]).add_classes([LABELS[11]])
    learned = more.add_unlabeled(UNLABELED[is_one_of(LABELS[11:])])
    assert learned.unlabeled_count_[11] > more.unlabeled_count_[11]


def test_labelled_images_that_are_added_afterwards_join(fitted, grown):
    X, y = DATA.X_test[IS_UNLABELED][is_one_of(NEW[:1])], NEW[:1] * is_one_of(NEW[:1]).sum()
    joined, labelled = grown.add_images(X, y), fitted.add_images(X, y)
    assert_array_equal(joined.class_count_, labelled.class_count_)
    assert_array_equal(joined.is_new_, labelled.is_new_)
    assert_array_equal(joined.unlabeled_count_, grown.unlabeled_count_)
    statistics = labelled._model.statistics.merged(grown._model.unlabeled)
    space = prototypes_of(statistics, fitted.text_features_, fitted.shrinkage).space
    assert_allclose(joined.prototypes_, space.prototypes + space.image_mean, atol=1e-10)


def test_single_images_are_those_with_labels(fitted, grown):
    for name in ("X", "columns"):
        labelled = getattr(fitted._model.single_images, name)
        assert_array_equal(getattr(grown._model.after.single_images, name), labelled)


def test_a_file_that_is_mapped_into_memory_answers_and_learns_alike(classifier, tmp_path):
    learned = classifier.add_unlabeled(UNLABELED)
    joblib.dump(learned, tmp_path / "clf.joblib")
    same = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")
    assert_array_equal(same.predict_proba(REST), learned.predict_proba(REST))
    assert_same(same.add_unlabeled(UNLABELED[:9]), learned.add_unlabeled(UNLABELED[:9]), atol=0)


def test_a_clone_has_learned_nothing(fitted, grown):
    again = clone(grown).fit(DATA.X, DATA.y)
    assert_array_equal(again.predict_proba(REST), fitted.predict_proba(REST))
    assert not again.unlabeled_count_.any()


def test_sets_scores_and_choices_still_work(classifier):
    learned = classifier.add_unlabeled(UNLABELED)
    assert np.isfinite(learned.novelty_score(REST)).all()
    assert len(set(learned.choose_to_label(REST, 5))) == 5
    labels, proba = learned.top_k(REST, 3)
    assert_array_equal(labels[:, 0], learned.predict(REST))
    assert (np.diff(proba, axis=1) <= 0).all()


def test_thresholds_of_the_fit_remain(fitted, grown):
    for rate in (0.1, 0.3):
        assert_array_equal(grown.novelty_thresholds(rate), fitted.novelty_thresholds(rate))


@pytest.mark.slow
def test_emoji_keep_calibration_coverage_and_rejection_rate():
    features, measured = encode_emoji(CLIPFeaturizer("emoji-clip")), []
    for seed in range(3):
        case = full_case(features, "ratio 0.02", seed)
        task, clf = case.task, case.default().model
        column = np.searchsorted(clf.classes_, task.names)
        for one in (clf, clf.add_unlabeled(case.unlabeled)):
            proba = one.predict_proba(task.X_test)[:, column]
            sets = one.predict_set(task.X_test, 0.9)[:, column]
            score, is_new = one.novelty_score(task.X_test, return_is_new=True)
            error = expected_calibration_error(
                task.y_test, proba, classes=np.arange(task.n_classes)
            )
            missed = ~sets[np.arange(len(sets)), task.y_test]
            rejected = score > one.novelty_thresholds(0.1)[is_new.astype(int)]
            measured.append([error, missed.mean(), rejected.mean()])
    before, after = np.array(measured).reshape(3, 2, 3).mean(axis=0)
    assert (after < before + 0.015).all()


# --- names alone -----------------------------------------------------------------------------

TEXTS = np.stack([DATA.texts[label] for label in LABELS])


def test_answers_from_names_alone_are_those_of_zero_shot_clip():
    logits = of_names().decision_function(REST)
    assert_allclose(logits, REST @ TEXTS.T / 0.01, rtol=1e-10)
    assert_allclose(of_names().predict_proba(REST), softmax(REST @ TEXTS.T / 0.01, axis=1))


def test_the_temperature_of_names_alone():
    assert of_names().temperature_ == 0.01
    logits = of_names(temperature=0.5).decision_function(REST)
    assert_allclose(logits, REST @ TEXTS.T / 0.5, rtol=1e-10)


@pytest.mark.parametrize("listed", ["new_classes", "class_names"])
def test_either_parameter_lists_the_names(listed):
    options = {"new_classes": None, listed: LABELS.tolist()}
    clf = of_names(**options)
    assert_array_equal(clf.classes_, LABELS)
    assert clf.is_new_.all() and not clf.class_count_.any()
    assert_array_equal(clf.predict_proba(REST), of_names().predict_proba(REST))


@pytest.mark.parametrize(
    "options",
    [
        {"new_classes": list(range(12)), "class_names": LABELS.tolist()},
        {"new_classes": None, "class_names": dict(enumerate(LABELS.tolist()))},
    ],
)
def test_names_alone_with_integer_labels(options):
    def encode(prompts):
        return np.stack([DATA.texts[p.removeprefix("a photo of a ")[:-1]] for p in prompts])

    clf = of_names(**options, text_encoder=encode)
    assert clf.predict(REST).dtype.kind == "i"
    assert_array_equal(LABELS[clf.predict(REST)], of_names().predict(REST))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_names_alone_have_the_precision_of_the_empty_array(dtype):
    clf = of_names(NO_IMAGES.astype(dtype))
    assert clf.predict_proba(REST).dtype == dtype
    assert clf.add_unlabeled(UNLABELED).predict_proba(REST).dtype == dtype


@pytest.mark.parametrize("sign", [1, -1])
def test_all_images_count_alike_for_names_alone(sign, recwarn):
    names = of_names(temperature=1)
    assert_array_equal(names._probably_listed(sign * UNLABELED), np.ones(len(UNLABELED)))
    assert not recwarn.list


def test_weights_without_images_are_an_error():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[0, 2\]"):
        make().fit(NO_IMAGES, [], sample_weight=[1, 2])


def test_names_alone_take_images_as_a_fit_does():
    options = FIXED | {"single_image_weight": 0}
    expected = make(**options).fit(DATA.X, DATA.y)
    grown = of_names(**options).add_images(DATA.X, DATA.y)
    assert_array_equal(grown.class_count_, expected.class_count_)
    assert_allclose(grown.decision_function(REST), expected.decision_function(REST))


def test_names_alone_with_a_prior_and_with_more_names():
    clf, prior = of_names(new_classes=LABELS[:10].tolist()), np.arange(1, 13) / 78
    grown = clf.add_classes(LABELS[10:].tolist())
    proba = of_names().predict_proba(REST) * prior
    assert_allclose(
        grown.with_prior(prior).predict_proba(REST), proba / proba.sum(axis=1, keepdims=True)
    )


def test_sets_from_names_alone_hold_all_classes_with_one_warning():
    with pytest.warns(UserWarning, match="Every set holds all new classes, because no") as caught:
        assert of_names().predict_set(REST).all()
    assert len(caught) == 1


@pytest.mark.parametrize("frozen", [False, True])
def test_names_alone_reject_nothing_with_one_warning(frozen):
    clf = of_names()
    with pytest.warns(UserWarning, match="Answers with new classes are never rejected") as caught:
        if frozen:
            assert_array_equal(clf.novelty_thresholds(), np.inf)
        else:
            rejecting = RejectingClassifier(clone(clf)).fit(NO_IMAGES, [])
            assert_array_equal(rejecting.predict(REST), clf.predict(REST))
    assert len(caught) == 1


@pytest.mark.parametrize(
    "classifier, message",
    [
        (CandleClassifier(), "Found array with 0 sample"),
        (CandleClassifier(new_classes=[]), "Found array with 0 sample"),
        (CandleClassifier(class_names={}), "Found array with 0 sample"),
        (
            PublishedCandleClassifier(new_classes=NEW, text_encoder=DATA.texts),
            "Found array with 0 sample.* required by PublishedCandleClassifier",
        ),
        (
            CandleClassifier(new_classes=NEW, text_encoder=None),
            "class 'class 08' has no image, and no text is used",
        ),
        (
            CandleClassifier(new_classes=NEW[:1], text_encoder=DATA.texts),
            "At least two classes are needed, but there is one class, 'class 08'",
        ),
    ],
)
def test_fits_without_images_or_names_are_errors(classifier, message):
    with pytest.raises(ValueError, match=message):
        classifier.fit(NO_IMAGES, [])


def test_texts_of_another_width_than_the_empty_array():
    with pytest.raises(ValueError, match=r"has shape \(32,\), but X has 31 columns"):
        of_names(np.empty((0, 31)))
