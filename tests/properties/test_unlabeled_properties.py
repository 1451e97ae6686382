"""Properties of learning from images without labels that hold for any task, in float64."""

import numpy as np
import torch
from helpers import clip_like
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, softmax

from skcandle import CandleClassifier
from skcandle.classifier._unlabeled import mixed_logits

seeds = st.integers(0, 2**32 - 1)


@st.composite
def tasks(draw):
    """A fitted classifier, images without labels and others, and a random generator."""
    counts = draw(st.lists(st.integers(0, 4), min_size=2, max_size=6))
    n_features, seed = draw(st.sampled_from([3, 8, 16])), draw(seeds)
    n_images = np.array(counts) + 6
    X, y, texts = clip_like(
        n_images, n_features, noise=draw(st.sampled_from([0.3, 1.5])), seed=seed
    )
    position = np.concatenate([np.arange(n) for n in n_images])
    is_train, is_test = position >= 6, position < 2
    clf = CandleClassifier(
        new_classes=np.flatnonzero(np.array(counts) == 0),
        text_encoder=dict(enumerate(texts)),
        single_image_weight=draw(st.sampled_from([0.0, 5.0])),
        max_iter=0,
        device="cpu",
    )
    clf.fit(X[is_train], y[is_train])
    return clf, X[~is_train & ~is_test], X[is_test], np.random.default_rng(seed)


def assert_same(clf, expected, X, atol=1e-6):
    assert_allclose(clf.unlabeled_count_, expected.unlabeled_count_, atol=atol)
    assert_allclose(clf.predict_proba(X), expected.predict_proba(X), atol=atol)


@given(task=tasks())
def test_adding_nothing_changes_nothing(task):
    clf, X, X_test, _ = task
    for same in (clf.add_unlabeled(X[:0]), clf.add_unlabeled(X, np.zeros(len(X)))):
        assert_array_equal(same.predict_proba(X_test), clf.predict_proba(X_test))


@given(task=tasks())
def test_the_order_of_rows_does_not_matter(task):
    clf, X, X_test, rng = task
    assert_same(clf.add_unlabeled(X[rng.permutation(len(X))]), clf.add_unlabeled(X), X_test)


@given(task=tasks())
def test_an_image_of_weight_n_is_n_copies(task):
    clf, X, X_test, rng = task
    repeats = rng.integers(0, 4, len(X))
    assert_same(clf.add_unlabeled(X, repeats), clf.add_unlabeled(X.repeat(repeats, 0)), X_test)


@given(task=tasks())
def test_classes_that_do_not_occur_keep_their_probability(task):
    clf, X, X_test, rng = task
    learned = clf.add_unlabeled(X[: rng.integers(1, len(X))])
    unseen = learned.is_new_ & (learned.unlabeled_count_ == 0)
    assert_allclose(
        learned.predict_proba(X_test)[:, unseen], clf.predict_proba(X_test)[:, unseen], atol=1e-12
    )


@given(task=tasks())
def test_labelled_images_and_their_absence_remain(task):
    clf, X, _, _ = task
    learned = clf.add_unlabeled(X)
    assert_array_equal(learned.class_count_, clf.class_count_)
    assert (learned.unlabeled_count_ >= 0).all()
    assert learned.unlabeled_count_.sum() <= len(X) + 1e-6


# --- the answers after -----------------------------------------------------------------------


@st.composite
def answers_and_evidence(draw):
    rng = np.random.default_rng(draw(seeds))
    n_classes = draw(st.integers(2, 6))
    size = draw(st.sampled_from([1.0, 30.0]))
    evidence = rng.random(n_classes)
    evidence[rng.random(n_classes) < draw(st.sampled_from([0.0, 0.4]))] = 0
    evidence[rng.random(n_classes) < draw(st.sampled_from([0.0, 0.4]))] = 1
    if not evidence.any():
        evidence[0] = 0.5
    before, after = size * rng.normal(size=(2, 5, n_classes))
    return before, after, evidence


@given(case=answers_and_evidence())
def test_mixed_answers_are_those_of_the_equation(case):
    before, after, evidence = case
    p, moved = softmax(before, axis=1), softmax(after, axis=1)
    ratio = (p @ evidence) / (moved @ evidence)
    expected = (1 - evidence) * p + evidence * moved * ratio[:, None]
    logits = mixed_logits(*map(torch.from_numpy, case)).numpy()
    assert_allclose(softmax(logits, axis=1), expected, rtol=1e-9)
    assert_allclose(logsumexp(logits, axis=1), logsumexp(before, axis=1), rtol=1e-9)
    without = evidence == 0
    assert_allclose(logits[:, without], before[:, without], rtol=1e-12)
