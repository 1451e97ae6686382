"""Saved estimators: formats, versions, sizes."""

import copy
import io
import pickle
import warnings
from functools import cache

import joblib
import numpy as np
import pytest
from helpers import clip_like
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import skcandle
from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    EmbeddingCache,
    PublishedCandleClassifier,
    RejectingClassifier,
    _version,
)
from skcandle.exceptions import VersionWarning

CLASSIFIERS = [CandleClassifier, PublishedCandleClassifier]
NAMES = np.array(["ant", "bee", "cat", "dog", "elk"])
X, Y, TEXTS = clip_like([6, 4, 2, 1, 0], 16)


@cache
def fit(classifier=CandleClassifier):
    text = dict(zip(NAMES.tolist(), TEXTS, strict=True))
    clf = classifier(new_classes=["elk"], text_encoder=text, max_iter=2, device="cpu")
    return clf.fit(X.astype(np.float32), NAMES[Y])


@pytest.fixture(scope="module")
def fitted():
    return fit()


def joblib_dumps(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return file.getvalue()


def joblib_loads(data):
    return joblib.load(io.BytesIO(data))


def skops_dumps(estimator):
    return pytest.importorskip("skops.io").dumps(estimator)


def skops_loads(data):
    sio = pytest.importorskip("skops.io")
    return sio.loads(data, trusted=sio.get_untrusted_types(data=data))


FORMATS = {
    "joblib": (joblib_dumps, joblib_loads),
    "pickle": (pickle.dumps, pickle.loads),
    "skops": (skops_dumps, skops_loads),
}
all_formats = pytest.mark.parametrize("dumps, loads", FORMATS.values(), ids=FORMATS)


# --- formats ---------------------------------------------------------------------------------


@all_formats
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_saved_classifier_predicts_the_same(classifier, dumps, loads):
    clf = fit(classifier)
    again = loads(dumps(clf))
    assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert_array_equal(again.predict(X), clf.predict(X))


@all_formats
def test_a_saved_classifier_learns_names_and_narrows_its_answers(fitted, dumps, loads):
    again = loads(dumps(fitted))
    grown = again.add_classes({"fox": np.ones(16)}).restrict(["elk", "fox"])
    assert loads(dumps(grown)).classes_.tolist() == ["elk", "fox"]
    assert again.classes_.tolist() == NAMES.tolist()


@all_formats
def test_priors_and_added_images_can_be_saved(fitted, dumps, loads):
    grown = fitted.with_prior(dict.fromkeys(NAMES, 0.2)).add_images(X[:2], ["elk", "elk"])
    again = loads(dumps(grown))
    assert_array_equal(again.predict_proba(X), grown.predict_proba(X))
    assert_array_equal(again.novelty_score(X), grown.novelty_score(X))
    assert_array_equal(again.predict_set(X, 0.5), grown.predict_set(X, 0.5))
    more = [loads(dumps(clf)).add_images(X[2:4], ["elk", "ant"]) for clf in (grown, again)]
    assert_array_equal(more[0].predict_proba(X), more[1].predict_proba(X))


@all_formats
def test_a_saved_classifier_rejects_the_same(fitted, dumps, loads):
    clf = RejectingClassifier(FrozenEstimator(fitted), rejection_rate=0.5).fit(X, NAMES[Y])
    pipe = CandlePipeline([("candle", clf)])
    assert_array_equal(loads(dumps(pipe)).predict(X), pipe.predict(X))


@all_formats
@pytest.mark.parametrize("folder", [None, "folder", EmbeddingCache("folder")], ids=repr)
def test_a_saved_featurizer_has_its_parameters(folder, dumps, loads):
    clip = CLIPFeaturizer("emoji-clip", cache=folder)
    assert loads(dumps(clip)).get_params() == clip.get_params()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_skops_has_to_trust_types_of_this_library_only(classifier):
    sio = pytest.importorskip("skops.io")
    pipe = make_pipeline(CLIPFeaturizer("emoji-clip", cache=EmbeddingCache("c")), fit(classifier))
    types = sio.get_untrusted_types(data=sio.dumps(pipe))
    assert all(name.startswith("skcandle.") for name in types)


# --- versions --------------------------------------------------------------------------------


@pytest.fixture
def pipe(fitted):
    """Three estimators of this library, one of them a parameter."""
    return make_pipeline(
        CLIPFeaturizer("emoji-clip"), clone(fitted).set_params(text_encoder=CLIPFeaturizer())
    )


def saved_by(version, estimator, dumps, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_version, "__version__", version)
        return dumps(estimator)


@all_formats
@pytest.mark.parametrize("estimator", [CandleClassifier(), CLIPFeaturizer()], ids=repr)
def test_another_version_warns_with_both(estimator, dumps, loads, monkeypatch):
    data = saved_by("0.0.7", estimator, dumps, monkeypatch)
    monkeypatch.setattr(_version, "__version__", "3.1.4")
    with pytest.warns(
        VersionWarning, match=r"saved by skcandle 0\.0\.7 .* loaded by skcandle 3\.1\.4"
    ):
        loads(data)


@all_formats
def test_a_pipeline_of_another_version_warns_once(pipe, dumps, loads, monkeypatch):
    data = saved_by("0.0.7", pipe, dumps, monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as Python does outside of tests
        loads(data)
    assert [w.category for w in caught] == [VersionWarning]


@all_formats
def test_the_same_version_does_not_warn(pipe, dumps, loads):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loads(dumps(pipe))


def test_a_file_without_a_version_warns():
    with pytest.warns(VersionWarning, match="skcandle before 0.1.0"):
        CandleClassifier().__setstate__(vars(CandleClassifier()))


def test_copies_do_not_warn_and_have_no_attribute_for_the_version(fitted, monkeypatch):
    data = saved_by("0.0.7", fitted, pickle.dumps, monkeypatch)
    with pytest.warns(VersionWarning):
        again = pickle.loads(data)
    assert vars(again).keys() == vars(fitted).keys()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for change in (copy.copy, copy.deepcopy, clone, lambda clf: clf.restrict(["ant", "bee"])):
            assert "_skcandle_version" not in vars(change(again))


def test_a_saved_state_has_the_version_of_the_library(fitted):
    assert fitted.__getstate__()["_skcandle_version"] == skcandle.__version__
