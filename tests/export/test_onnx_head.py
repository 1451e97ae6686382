"""Classifiers as ONNX files: the same answers as in Python, and what cannot be exported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clip_like, needs_onnx_exporter
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skcandle
from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
)
from skcandle.exceptions import UnreadableImageWarning
from skcandle.export import _onnx, to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = needs_onnx_exporter

NAMES = np.array(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"])
X, Y, T = clip_like([30, 20, 10, 8, 5, 3, 20, 20], 16, noise=0.8)
X, T = X.astype(np.float32), T.astype(np.float32)
TEXTS = dict(zip(NAMES.tolist(), T, strict=True))
TRAIN = (Y < 5) & (np.arange(len(Y)) % 2 == 0)  # fox is new, gnu and hen are unlisted
FREQUENCIES = dict(zip(NAMES.tolist(), [0.5, 0, 0.1, 0.1, 0.1, 0.2, 0, 0], strict=True))


def fitted(classifier=CandleClassifier, X=X[TRAIN], y=NAMES[Y[TRAIN]], **params):
    """Fitted to base classes of decreasing size, with a class that has no image."""
    return classifier(**{"text_encoder": TEXTS, "new_classes": ["fox"]} | params).fit(X, y)


def without_text(classifier=CandleClassifier, y=Y[TRAIN]):
    return fitted(classifier, y=y, text_encoder=None, new_classes=None)


def rejecting(**params):
    candle = CandleClassifier(**{"text_encoder": TEXTS, "new_classes": ["fox"]} | params)
    return RejectingClassifier(candle, rejection_rate=0.2)


CLASSIFIERS = {
    "strings": fitted,
    "float64": lambda: fitted(X=X[TRAIN].astype(float)),
    "integers": lambda: fitted(
        y=Y[TRAIN], class_names=NAMES[:6].tolist(), text_encoder=lambda p: T[:6], new_classes=None
    ),
    "without text": without_text,
    "booleans": lambda: without_text(y=Y[TRAIN] > 1),
    "restricted": lambda: fitted().restrict(["bee", "dog", "fox"]),
    "frequencies as in training": lambda: fitted(margin=0.3),
    "given frequencies": lambda: fitted().with_prior(FREQUENCIES),
    "added classes": lambda: fitted().add_classes({"a hen": TEXTS["hen"]}),
    "added images": lambda: fitted().add_images(X[Y == 5], NAMES[Y[Y == 5]]),
    "unlabelled images": lambda: fitted().add_unlabeled(X[~TRAIN]),
    "without single images": lambda: fitted(single_image_weight=0),
    "published": lambda: fitted(PublishedCandleClassifier, max_iter=2),
    "published, restricted": lambda: fitted(PublishedCandleClassifier, max_iter=2).restrict(
        ["bee", "cat", "dog"]
    ),
    "rejecting": lambda: rejecting().fit(X[TRAIN], NAMES[Y[TRAIN]]),
    "rejecting, without text": lambda: rejecting(text_encoder=None, new_classes=None).fit(
        X[TRAIN], Y[TRAIN]
    ),
    "rejecting, grown": lambda: (
        rejecting().fit(X[TRAIN], NAMES[Y[TRAIN]]).add_classes({"hen": TEXTS["hen"]})
    ),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return to_onnx(fitted(), tmp_path_factory.mktemp("onnx") / "head.onnx")


def run(path, X):
    session = onnxruntime.InferenceSession(path)
    assert [node.name for node in session.get_outputs()] == ["label", "probabilities"]
    return session.run(None, {"embeddings": X})


@pytest.mark.slow
@pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS.keys())
def test_a_file_gives_the_answers_of_the_classifier(make, tmp_path):
    classifier = make()
    rows = X.astype(np.float64 if make is CLASSIFIERS["float64"] else np.float32)
    label, proba = run(to_onnx(classifier, tmp_path / "head.onnx"), rows)
    expected = classifier.predict(rows)
    assert 0.1 < classifier.predict_proba(rows).max(axis=1).min() < 0.9  # not all are certain
    assert_allclose(proba, classifier.predict_proba(rows), atol=1e-5)
    assert_array_equal(label, expected)
    if isinstance(classifier, RejectingClassifier):
        assert 5 < (label == classifier.reject_label_).sum() < len(X) - 5


@pytest.mark.slow
def test_a_file_takes_any_number_of_rows(path):
    all_at_once = run(path, X)[1]
    for n_rows in (0, 1, 3):
        label, proba = run(path, X[:n_rows])
        assert label.shape == (n_rows,)
        assert_allclose(proba, all_at_once[:n_rows], atol=1e-6)


@pytest.mark.slow
def test_only_directions_of_rows_count(path):
    expected = run(path, X)[1]
    for factor in (1e-30, 1e-3, 1e3, 1e30):
        assert_allclose(run(path, X * np.float32(factor))[1], expected, atol=1e-4)


@pytest.mark.slow
def test_rows_without_a_direction_get_the_missing_answer(path):
    rows = X[:4].copy()
    rows[1], rows[2], rows[3, 0] = np.nan, 0, np.inf
    label, proba = run(path, rows)
    assert label.tolist() == [*fitted().predict(rows[:1]), "", "", ""]
    assert np.isnan(proba).all(axis=1).tolist() == [False, True, True, True]
    with pytest.warns(UnreadableImageWarning):
        assert_array_equal(label[:2], fitted().predict(rows[:2]))


@pytest.mark.slow
def test_a_file_is_valid_and_uses_one_opset(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert not model.functions


@pytest.mark.slow
def test_a_file_tells_nothing_about_the_machine(path):
    content = path.read_bytes()
    assert str(Path(skcandle.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


@pytest.mark.slow
def test_metadata_name_the_classes_and_the_versions(path):
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == fitted().classes_.tolist()
    assert json.loads(metadata["versions"]) == {
        "skcandle": skcandle.__version__,
        "torch": torch.__version__,
    }
    assert metadata.keys() == {"classes", "versions"}  # a mapping has no fingerprint


@pytest.mark.slow
def test_the_best_frozen_estimator_of_a_search_is_exported(tmp_path):
    search = GridSearchCV(
        CandleClassifier(text_encoder=TEXTS, max_iter=0), {"margin": [0.5]}, cv=2
    ).fit(X[TRAIN], NAMES[Y[TRAIN]])
    _, proba = run(to_onnx(FrozenEstimator(search), tmp_path / "head.onnx"), X)
    assert_allclose(proba, search.predict_proba(X), atol=1e-5)


@pytest.mark.slow
def test_large_weights_go_to_a_second_file(tmp_path, monkeypatch):
    monkeypatch.setattr(_onnx, "MAX_BYTES", 1000)
    path = to_onnx(fitted(), tmp_path / "head.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["head.onnx", "head.onnx.data"]
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (path, tmp_path / "head.onnx.data"):
        file.rename(moved / file.name)
    assert_allclose(run(moved / "head.onnx", X)[1], fitted().predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (CandleClassifier(), NotFittedError, "not fitted"),
        (RejectingClassifier(CandleClassifier()), NotFittedError, "not fitted"),
        (LogisticRegression(), TypeError, "can be exported, got LogisticRegression"),
        (make_pipeline(CLIPFeaturizer(), LogisticRegression()), TypeError, "LogisticRegression"),
        (
            make_pipeline(StandardScaler(), without_text()),
            TypeError,
            "The step 'standardscaler', a StandardScaler, cannot be exported",
        ),
        (
            make_pipeline(CLIPFeaturizer(), StandardScaler(), without_text()),
            TypeError,
            "The step 'standardscaler', a StandardScaler, cannot be exported",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(estimator, error, message, tmp_path):
    with pytest.raises(error, match=message):
        to_onnx(estimator, tmp_path / "head.onnx")


def test_a_file_is_only_replaced_on_request(tmp_path):
    path = tmp_path / "head.onnx"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        to_onnx(without_text(), path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_onnx(without_text(), tmp_path / "lost" / "head.onnx")
    assert path.read_text() == "precious"


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'pip install "skcandle\[onnx\]"'):
        to_onnx(without_text(), tmp_path / "head.onnx")


def test_an_old_version_of_pytorch_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.8.1+cpu")
    with pytest.raises(ImportError, match=r"needs PyTorch 2.9 or later, but 2.8.1\+cpu"):
        to_onnx(without_text(), tmp_path / "head.onnx")
