"""Threads, processes of every kind, and two models at once."""

import multiprocessing
import os
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import clip_like, random_images, save_tiny_clip
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    EmbeddingCache,
    PublishedCandleClassifier,
    RejectingClassifier,
    clear_memory,
)

X, Y, TEXTS = clip_like([8, 6, 3, 1, 0], 16)
NAMES = np.array(["ant", "bee", "cat", "dog", "elk"])
LABELS = NAMES[Y]
TEXT = dict(zip(NAMES.tolist(), TEXTS, strict=True))


def candle():
    return CandleClassifier(new_classes=["elk"], text_encoder=TEXT, max_iter=3)


def published():
    return PublishedCandleClassifier(
        new_classes=["elk"], text_encoder=TEXT, max_iter=2, random_state=0
    )


CLASSIFIERS = {
    "candle": candle,
    "published": published,
    "rejecting": lambda: RejectingClassifier(candle(), rejection_rate=0.3),
}
each_classifier = pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS)


def at_once(work, n_threads=6):
    """What each of some threads returns, which begin together."""
    barrier = threading.Barrier(n_threads)

    def begin(i):
        barrier.wait(30)
        return work(i)

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(begin, range(n_threads)))


@pytest.mark.slow
@each_classifier
def test_one_instance_is_fitted_and_used_by_many_threads(make):
    clf = make().fit(X, LABELS)
    expected = clf.predict_proba(X)

    def work(i):
        for _ in range(3):
            if i % 2:
                clf.fit(X, LABELS)
            assert_array_equal(clf.predict_proba(X), expected)
        return clf.predict(X)

    for labels in at_once(work):
        assert_array_equal(labels, clf.predict(X))


@pytest.mark.slow
@each_classifier
def test_clones_are_fitted_on_other_data_by_many_threads(make):
    original = make()
    rows = [np.flatnonzero(np.arange(len(X)) % 7 != i) for i in range(6)]

    def fit(i):
        return clone(original).fit(X[rows[i]], LABELS[rows[i]]).predict_proba(X)

    for i, proba in enumerate(at_once(fit)):
        assert_array_equal(proba, fit(i))


def test_one_featurizer_is_used_by_many_threads(tiny_clip, tmp_path, cold):
    images = random_images(12)
    clip = CLIPFeaturizer(tiny_clip, batch_size=5)
    expected = clip.transform(images)
    clip.set_params(cache=tmp_path)
    clear_memory()
    for order, rows in at_once(
        lambda i: (np.roll(range(12), i), clip.transform(np_roll(images, i)))
    ):
        np.testing.assert_allclose(rows, expected[order], atol=1e-6)
    assert EmbeddingCache(tmp_path).info().n_embeddings == 12


def np_roll(images, i):
    return [images[k] for k in np.roll(range(len(images)), i)]


def test_two_models_at_once(tiny_clip, tmp_path, cold):
    images = random_images(9)
    (tmp_path / "other").mkdir()
    models = [tiny_clip, f"local-dir:{save_tiny_clip(tmp_path / 'other', seed=5)}"]
    clips = [CLIPFeaturizer(model, cache=tmp_path / "cache", batch_size=4) for model in models]
    expected = [clip.transform(images) for clip in clips]
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    for cache in (tmp_path / "cache", tmp_path / "another"):
        clear_memory()
        for clip in clips:
            clip.set_params(cache=cache)
        for i, rows in enumerate(at_once(lambda i: clips[i % 2].transform(images))):
            np.testing.assert_allclose(rows, expected[i % 2], atol=1e-6)
    info = EmbeddingCache(tmp_path / "another").info()
    assert (info.n_embeddings, info.n_models) == (18, 2)


def fit_and_encode(i, model, cache, images):
    """Of a worker process: probabilities of a fit, and rows of images, some of them new."""
    clip = CLIPFeaturizer(model, cache=cache, batch_size=4, n_jobs=2)
    return candle().fit(X, LABELS).predict_proba(X), clip.transform(images[i : i + 6])


@pytest.fixture
def two_threads():
    """For PyTorch, whatever the machine has."""
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(former)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loky", "fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_processes_of_every_kind(kind, tiny_clip, tmp_path, two_threads):
    if kind != "loky" and kind not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {kind} here")
    images = random_images(9)
    expected_proba = candle().fit(X, LABELS).predict_proba(X)
    expected = CLIPFeaturizer(tiny_clip, batch_size=4).transform(images)  # the parent has a model
    tasks = [(i, tiny_clip, str(tmp_path), images) for i in range(4)]
    if kind == "loky":
        results = Parallel(2, backend="loky")(delayed(fit_and_encode)(*task) for task in tasks)
    else:
        with ProcessPoolExecutor(2, multiprocessing.get_context(kind)) as pool:
            results = [
                task.result(120) for task in [pool.submit(fit_and_encode, *t) for t in tasks]
            ]
    for i, (proba, rows) in enumerate(results):
        np.testing.assert_allclose(proba, expected_proba, atol=1e-6)
        np.testing.assert_allclose(rows, expected[i : i + 6], atol=1e-6)
    assert EmbeddingCache(tmp_path).info().n_embeddings == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_threads_encode_can_encode(tiny_clip, tmp_path, two_threads, cold):
    images = random_images(40)
    clip = CLIPFeaturizer(tiny_clip, batch_size=4, cache=tmp_path, n_jobs=2)
    expected = clip.transform(images[:4])
    done = threading.Event()

    def encode():
        while not done.is_set():
            clear_memory()
            clip.transform(images)

    thread = threading.Thread(target=encode)
    thread.start()
    try:
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
                child = os.fork()
            if child == 0:
                try:
                    rows = clip.transform(images[:4])
                    os._exit(0 if np.allclose(rows, expected, atol=1e-6) else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()
