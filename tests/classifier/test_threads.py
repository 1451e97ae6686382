"""Small work uses one thread of PyTorch and of BLAS; the numbers of threads are restored."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

from skcandle import CandleClassifier, _devices
from skcandle._devices import SMALL_PRODUCT, threads_for
from skcandle.classifier import _projection

BLAS = ThreadpoolController().select(user_api="blas")


@pytest.fixture(autouse=True)
def two_threads():
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(former)


def numbers():
    return {torch.get_num_threads(), *(library["num_threads"] for library in BLAS.info())}


def test_small_work_uses_one_thread_and_large_work_all():
    with threads_for(SMALL_PRODUCT):
        assert numbers() == {1}
        with threads_for(1):  # within itself
            assert numbers() == {1}
        assert numbers() == {1}
    assert numbers() == {2}
    with threads_for(SMALL_PRODUCT + 1):
        assert numbers() == {2}


def test_an_error_restores_the_numbers():
    with pytest.raises(KeyError), threads_for(1):
        raise KeyError
    assert numbers() == {2}


def test_threads_that_overlap_restore_the_numbers():
    first_left, second_entered, found = threading.Event(), threading.Event(), []

    def second():
        with threads_for(1):
            second_entered.set()
            first_left.wait(60)
        found.append(numbers())

    thread = threading.Thread(target=second)
    with threads_for(1):
        thread.start()
        assert second_entered.wait(60)
        assert numbers() == {1}
    first_left.set()
    thread.join()
    assert found == [{2}]
    assert numbers() == {2}


def test_a_small_fit_and_its_predictions_use_one_thread(monkeypatch):
    found = []

    def noting(self, place=_projection.ProjectionObjective.parts):
        found.append(numbers())
        return place(self)

    monkeypatch.setattr(_projection.ProjectionObjective, "parts", noting)
    X = np.random.default_rng(0).normal(size=(12, 5))
    y = np.arange(12) % 3
    clf = CandleClassifier(text_encoder=None).fit(X, y)
    assert found and all(seen == {1} for seen in found)
    assert numbers() == {2}
    proba = clf.predict_proba(X)
    assert numbers() == {2}
    monkeypatch.setattr(_devices, "SMALL_PRODUCT", -1)
    found.clear()
    again = CandleClassifier(text_encoder=None).fit(X, y)
    assert all(seen == {2} for seen in found)
    np.testing.assert_allclose(again.predict_proba(X), proba, atol=1e-9)
