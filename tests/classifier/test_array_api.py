"""Arrays of other libraries come out as such, with the values that NumPy gives.

scikit-learn and SciPy read SCIPY_ARRAY_API when they are imported, so these tests run in a process
of their own, which is started at the end of this file.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skcandle import CandleClassifier, PublishedCandleClassifier, RejectingClassifier

RNG = np.random.default_rng(0)
TEXT = RNG.normal(size=(4, 16))
Y = np.repeat([0, 1, 2], 10)
X = (TEXT[Y] + RNG.normal(size=(30, 16))).astype(np.float32)
METHODS = ["decision_function", "predict_proba", "predict_log_proba", "predict"]
needs_dispatch = pytest.mark.skipif(
    os.environ.get("SCIPY_ARRAY_API") != "1", reason="runs in a process of its own"
)


NUMBERS = np.arange(4)


def fitted(classifier=CandleClassifier, names=NUMBERS, **options):
    if options.setdefault("text_encoder", "vectors") == "vectors":
        options["text_encoder"] = dict(zip(names.tolist(), TEXT, strict=True))
        options["new_classes"] = [names[3].item()]
    return classifier(**options).fit(X, names[Y])


def strict(rows):
    return pytest.importorskip("array_api_strict").asarray(rows)


@pytest.fixture(params=[torch.from_numpy, strict], ids=["torch", "array-api-strict"])
def library(request):
    """From a NumPy array to an array of another library."""
    return request.param


@pytest.fixture(autouse=True)
def dispatch(request):
    if os.environ.get("SCIPY_ARRAY_API") == "1":
        with config_context(array_api_dispatch=True):
            yield
    else:
        yield


def forbid_copies(monkeypatch):
    """Make copies of tensors to NumPy an error."""

    def fail(*args, **kwargs):
        raise AssertionError("a tensor was copied to the host")

    for name in ("cpu", "numpy", "tolist", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, fail)


MODELS = {
    "text": {},
    "vectors without text": {"text_encoder": None},
    "prior": {"class_prior": [0.1, 0.2, 0.3, 0.4]},
    "published": {"classifier": PublishedCandleClassifier, "max_iter": 2},
}


@needs_dispatch
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_answers_are_those_of_numpy(library, method, options):
    predict = getattr(fitted(**options), method)
    rows = X.copy()
    if "text_encoder" not in options:
        rows[3] *= 1e-12
        rows[4] *= 1e12
    found, expected = predict(library(rows)), predict(rows)
    assert type(found) is type(library(rows))
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(np.from_dlpack(found), expected, atol=1e-4, rtol=1e-4)


@needs_dispatch
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_no_row_and_no_answer_is_copied_to_the_host(monkeypatch, options, method):
    clf, rows = fitted(**options), torch.from_numpy(X)
    forbid_copies(monkeypatch)
    result = getattr(clf, method)(rows)
    assert isinstance(result, torch.Tensor) and result.device == rows.device


@needs_dispatch
def test_labels_of_strings_are_numpy_arrays(library):
    clf = fitted(names=np.array(["ant", "bee", "cat", "dog"]))
    found = clf.predict(library(X))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, clf.predict(X))


@needs_dispatch
def test_images_that_could_not_be_read(library):
    clf, rows = fitted(), X.copy()
    rows[2] = np.nan
    assert np.isnan(np.from_dlpack(clf.predict_proba(library(rows)))[2]).all()
    assert np.from_dlpack(clf.predict(library(rows)))[2] == -1
    rows[2, 0] = 0
    with pytest.raises(ValueError, match="row 2 has 15 of them"):
        clf.predict_proba(library(rows))


@needs_dispatch
@pytest.mark.parametrize(
    ("options", "value", "message"),
    [
        ({}, 0, "Row 5 of X is all zeros"),
        ({"text_encoder": None}, 1e20, "Row 5 of X has the value"),
    ],
)
def test_rows_that_cannot_be_used(library, options, value, message):
    rows = X.copy()
    rows[5] = value
    with pytest.raises(ValueError, match=message):
        fitted(**options).predict(library(rows))


@needs_dispatch
def test_blocks_of_rows_give_the_same(library, monkeypatch):
    clf = fitted()
    expected = clf.predict_proba(X)
    monkeypatch.setattr("skcandle.classifier._base.BLOCK_LOGITS", 7 * 16)
    found = np.from_dlpack(clf.predict_proba(library(X)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@needs_dispatch
def test_fit_and_other_methods_read_arrays_of_other_libraries(library):
    clf, expected = fitted(), fitted()
    clf.fit(library(X), library(Y))
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(clf.top_k(library(X), 2)[0], expected.top_k(X, 2)[0])
    np.testing.assert_array_equal(clf.novelty_score(library(X)), expected.novelty_score(X))


@needs_dispatch
def test_answers_with_rejection_are_numpy_arrays(library):
    clf = RejectingClassifier(fitted(), rejection_rate=0.1).fit(library(X), library(Y))
    found = clf.predict(library(X))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, clf.predict(X))


@needs_dispatch
def test_a_pipeline_of_arrays_answers_with_the_arrays_that_it_takes(library):
    pipe = make_pipeline(Normalizer(), fitted())
    expected = pipe.fit(X, Y).predict_proba(X)
    found = pipe.fit(library(X), library(Y)).predict_proba(library(X))
    assert type(found) is type(library(X))
    np.testing.assert_allclose(np.from_dlpack(found), expected, atol=1e-4)


@needs_dispatch
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_answers_stay_on_a_gpu(method):  # pragma: no cover - needs CUDA
    clf, rows = fitted(), torch.from_numpy(X).cuda()
    result = getattr(clf, method)(rows)
    assert result.device == rows.device
    np.testing.assert_allclose(result.cpu(), getattr(clf, method)(X), atol=1e-4, rtol=1e-4)


def test_without_dispatch_tensors_become_numpy_arrays():
    with config_context(array_api_dispatch=False):
        assert isinstance(fitted().predict_proba(torch.from_numpy(X)), np.ndarray)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("SCIPY_ARRAY_API") == "1", reason="this is that process")
def test_with_dispatch():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout
