"""Metadata that RejectingClassifier passes on."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcandle import CandleClassifier, RejectingClassifier


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 12)
    centres = dict(zip("abc", rng.normal(size=(3, 8)), strict=True))
    X = np.stack([centres[label] for label in y]) + 0.5 * rng.normal(size=(36, 8))
    return X, y, rng.integers(1, 4, 36).astype(float)


def candle():
    return CandleClassifier(text_encoder=None)


def requesting():
    return candle().set_fit_request(sample_weight=True)


def fitted_proba(clf, data, **metadata):
    X, y, _ = data
    return clf.fit(X, y, **metadata).predict_proba(X)


def test_sample_weight_reaches_the_classifier_that_requests_it(data):
    weight = data[2]
    expected = fitted_proba(RejectingClassifier(candle()), data, sample_weight=weight)
    with config_context(enable_metadata_routing=True):
        for inner in (requesting(), make_pipeline(FunctionTransformer(), requesting())):
            clf = RejectingClassifier(inner)
            np.testing.assert_array_equal(fitted_proba(clf, data, sample_weight=weight), expected)
    assert not np.allclose(fitted_proba(RejectingClassifier(candle()), data), expected)


def test_cross_validation_routes_weights_to_the_classifier(data):
    X, y, weight = data
    seen = []

    class Recording(CandleClassifier):
        def fit(self, X, y, sample_weight=None):
            seen.append(sample_weight)
            return super().fit(X, y, sample_weight)

    with config_context(enable_metadata_routing=True):
        clf = RejectingClassifier(Recording(text_encoder=None).set_fit_request(sample_weight=True))
        cross_validate(clf, X, y, params={"sample_weight": weight}, cv=3, error_score="raise")
    assert [len(weights) for weights in seen] == [24, 24, 24]


def test_weights_that_nobody_requests_are_an_error(data):
    with (
        config_context(enable_metadata_routing=True),
        pytest.raises(UnsetMetadataPassedError, match="sample_weight"),
    ):
        fitted_proba(RejectingClassifier(candle()), data, sample_weight=data[2])


def test_a_parameter_of_fit_without_routing_is_an_error(data):
    with pytest.raises(TypeError, match="'colour', but metadata routing is not enabled"):
        fitted_proba(RejectingClassifier(candle()), data, colour="red")


def test_the_rejecting_classifier_requests_nothing_for_itself():
    assert not hasattr(RejectingClassifier(candle()), "set_fit_request")
