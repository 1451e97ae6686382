"""A classifier prepares its model for a device once, not for each prediction."""

import gc
import pickle
import weakref

import pytest
from long_tail import BOTH, DATA, LABELS, UNTRAINED, fit
from numpy.testing import assert_array_equal

X = DATA.X_test


@pytest.fixture(params=BOTH)
def fitted(request):
    return fit(request.param, **UNTRAINED[request.param])


@pytest.fixture
def prepared(fitted, monkeypatch):
    """The models that are prepared."""
    models, kind = [], type(fitted._model)
    scorer = kind.scorer

    def counted(model, device):
        models.append(model)
        return scorer(model, device)

    monkeypatch.setattr(kind, "scorer", counted)
    return models


def test_views_and_later_predictions_use_what_is_prepared(fitted, prepared):
    first = fitted.predict_proba(X)
    assert_array_equal(fitted.predict_proba(X), first)
    fitted.restrict(LABELS[:3]).predict(X[:1])
    assert len(prepared) == 1


def test_a_grown_copy_is_prepared_anew_and_the_original_stays(fitted, prepared):
    first = fitted.predict_proba(X)
    grown = fitted.add_classes({"class 12": DATA.texts[LABELS[0]]})
    assert grown.predict_proba(X).shape == (len(X), 13)
    assert_array_equal(fitted.predict_proba(X), first)
    assert [model is fitted._model for model in prepared] == [True, False]


def test_a_fit_replaces_what_was_prepared(fitted):
    fitted.predict(X)
    is_kept = DATA.y != LABELS[0]
    fitted.set_params(new_classes=[LABELS[0], *LABELS[8:]]).fit(DATA.X[is_kept], DATA.y[is_kept])
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(fitted.predict_proba(X), again.predict_proba(X))


def test_what_is_prepared_does_not_outlive_its_classifier(fitted):
    fitted.predict(X)
    model = weakref.ref(fitted._model)
    fitted.fit(DATA.X, DATA.y)
    gc.collect()
    assert model() is None
