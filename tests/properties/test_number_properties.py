"""Probabilities for extreme parameters, weights and data."""

import numpy as np
import pytest
from helpers import clip_like
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skcandle import CandleClassifier, PublishedCandleClassifier, RejectingClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # on few or useless images
AT_ONCE = {"max_iter": 3, "batch_size": 8, "random_state": 0}
CLASSIFIERS = {
    "candle": (CandleClassifier, {}),
    "candle without text": (CandleClassifier, {"text_encoder": None, "new_classes": None}),
    "published": (PublishedCandleClassifier, AT_ONCE),
    "rejecting": (lambda **options: RejectingClassifier(CandleClassifier(**options)), {}),
}
COMMON = {"temperature": (1e-6, 1e6), "margin": (0, 1e6)}
OF_CANDLE = {
    "shrinkage": (0, 1e12),
    "prototype_weight": (0, 1e6),
    "single_image_weight": (0, 1e6),
    "base_offset": (-1e6, 1e6),
    "penalty": (0, 1e12),
}
RANGES = {
    "candle": COMMON | OF_CANDLE,
    "candle without text": COMMON | OF_CANDLE,
    "published": COMMON
    | {"prototype_scale": (0, 1e6), "learning_rate": (1e-300, 1e3), "dropout": (0, 1 - 1e-9)},
    "rejecting": COMMON | OF_CANDLE,
}
DATA = {
    "plain": lambda X, y: X,
    "all images equal": lambda X, y: np.tile(X[:1], (len(X), 1)),
    "images of a class equal": lambda X, y: X[np.unique(y, return_index=True)[1]][y],
    "two classes of the same images": lambda X, y: X[np.maximum(np.arange(len(X)) - y, 0)],
    "constant features": lambda X, y: np.ones_like(X),
    "hardly any difference": lambda X, y: X[:1] + 1e-7 * X,
    "with zeros": lambda X, y: np.where(X > 0, X, 0),
}
large = pytest.mark.skipif(
    settings.default.max_examples < 100, reason="half a minute; runs with HYPOTHESIS_PROFILE=long"
)
kinds = pytest.mark.parametrize("kind", CLASSIFIERS)


def make(kind, texts, new, **options):
    classifier, own = CLASSIFIERS[kind]
    universe = {"new_classes": new, "text_encoder": dict(enumerate(texts)), "device": "cpu"}
    return classifier(**universe | own | options)


def assert_probabilities(proba, dtype):
    assert np.isfinite(proba).all() and (proba >= 0).all()
    assert_allclose(proba.sum(axis=1), 1, atol=1e-5 if dtype == "f" else 1e-12)


def between(low, high):
    """Numbers of all magnitudes in a range, including its ends."""
    if low > 0:
        steps = st.floats(np.log10(low), np.log10(high)).map(lambda power: 10.0**power)
    else:
        steps = st.floats(-300, np.log10(high)).map(lambda power: 10.0**power)
        steps = steps | (steps.map(lambda value: -value) if low < 0 else st.just(0.0))
    return (st.sampled_from([low, high]) | steps).map(lambda value: min(max(value, low), high))


@kinds
@given(
    data=st.data(),
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    images=st.sampled_from(sorted(DATA)),
    n_features=st.sampled_from([1, 2, 8]),
    dtype=st.sampled_from("fd"),
    powers=st.sampled_from([(0, 0), (-12, -12), (12, 12), (-12, 12)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_probabilities_are_finite_and_sum_to_one(
    kind, data, counts, images, n_features, dtype, powers, seed
):
    X, y, texts = clip_like([*counts, 0], 8, seed=seed)
    X, texts = DATA[images](X, y)[:, :n_features].astype(dtype), texts[:, :n_features]
    X[~X.any(axis=1), 0] = 1  # a row of zeros has no direction
    names = data.draw(st.lists(st.sampled_from(sorted(RANGES[kind])), unique=True))
    options = {name: data.draw(between(*RANGES[kind][name]), label=name) for name in names}
    weight = 10 ** np.random.default_rng(seed).uniform(*powers, size=len(y))
    clf = make(kind, texts, [len(counts)], **options)
    assert_probabilities(clf.fit(X, y, sample_weight=weight).predict_proba(X), dtype)
    if kind != "published":
        assert np.isfinite(clf.novelty_score(X)).all()
    if kind == "rejecting":
        assert set(clf.predict(X)) <= {clf.reject_label_, *clf.classes_}


@pytest.mark.parametrize("n_images", [1, 1e3, 1e6])
@pytest.mark.parametrize("dtype", "fd")
@kinds
def test_counts(kind, n_images, dtype):
    X, y, texts = clip_like([1] * 5 + [0], 8)
    weight, X = np.array([n_images, 1, 1, 1, 1]), X.astype(dtype)
    proba = make(kind, texts, [5]).fit(X, y, sample_weight=weight).predict_proba(X)
    assert_probabilities(proba, dtype)


@large
@pytest.mark.parametrize("text", [True, False], ids=["text", "no text"])
def test_ten_thousand_classes(text):
    kind = "candle" if text else "candle without text"
    X, y, texts = clip_like([1] * 9_990 + [0] * 10 * text, 4)
    clf = make(kind, texts, list(range(9_990, len(texts))), max_iter=1)
    proba = clf.fit(X.astype("f"), y).predict_proba(X[:10].astype("f"))
    assert proba.shape == (10, len(texts))
    assert_probabilities(proba, "f")


@large
@pytest.mark.parametrize("kind", ["candle", "candle without text", "published"])
def test_four_thousand_features(kind):
    X, y, texts = clip_like([2, 1, 0], 4096)
    clf = make(kind, texts, [2], max_iter=1).fit(X.astype("f"), y)
    assert_probabilities(clf.predict_proba(X.astype("f")), "f")
