"""Pipelines of steps on arrays, converted by skl2onnx."""

import sys

import numpy as np
import pytest
from helpers import clip_like, needs_onnx_exporter
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skcandle import CandleClassifier, RejectingClassifier
from skcandle.export import register_converters

skl2onnx = pytest.importorskip("skl2onnx")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = needs_onnx_exporter

NAMES = np.array(["ant", "bee", "cat", "dog"])
X, Y, _ = clip_like([20, 15, 10, 8], 16, noise=0.8)
X = X.astype(np.float32)
REJECTING = RejectingClassifier(CandleClassifier(text_encoder=None), rejection_rate=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("classifier", [CandleClassifier(text_encoder=None), REJECTING])
@pytest.mark.parametrize("precision", [np.float32, np.float64])  # of the fit
def test_a_pipeline_gives_the_same_answers(classifier, precision):
    register_converters()
    pipe = make_pipeline(PCA(12), classifier).fit(X.astype(precision), NAMES[Y])
    model = skl2onnx.to_onnx(pipe, X[:1], options={"zipmap": False})
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    label, proba = session.run(["label", "probabilities"], {"X": X})
    assert proba.dtype == np.float32
    assert_allclose(proba, pipe.predict_proba(X), atol=1e-4)
    assert_array_equal(label, pipe.predict(X))


@pytest.mark.slow
def test_probabilities_have_the_names_of_the_classes_by_default():
    register_converters()
    pipe = make_pipeline(CandleClassifier(text_encoder=None)).fit(X, NAMES[Y])
    session = onnxruntime.InferenceSession(skl2onnx.to_onnx(pipe, X[:1]).SerializeToString())
    label, proba = session.run(["output_label", "output_probability"], {"X": X[:3]})
    assert [max(row, key=row.get) for row in proba] == label.tolist()
    assert set(proba[0]) == set(NAMES)


def test_an_old_opset_is_refused():
    register_converters()
    pipe = make_pipeline(CandleClassifier(text_encoder=None, max_iter=0)).fit(X, NAMES[Y])
    with pytest.raises(ValueError, match="need target_opset=18 or higher, got 17"):
        skl2onnx.to_onnx(pipe, X[:1], target_opset=17)


def test_a_missing_skl2onnx_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match="pip install skl2onnx"):
        register_converters()
