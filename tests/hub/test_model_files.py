"""What a model file may contain, and what is loaded from it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import skops.io
from helpers import clip_like, random_images
from hostile_files import file_that_calls
from sklearn.frozen import FrozenEstimator

from skcandle import (
    CandleClassifier,
    CLIPFeaturizer,
    EmbeddingCache,
    PublishedCandleClassifier,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle._files import write_file
from skcandle.cli._evaluation import predictions
from skcandle.datasets import load_emoji
from skcandle.hub import _model_files


@pytest.fixture(scope="module", params=[False, True], ids=["Candle", "published"])
def pipe(request):
    pipe = make_candle_pipeline("emoji-clip", new_classes=["elk"]).set_params(candle__max_iter=0)
    if request.param:
        encoder = pipe["candle"].text_encoder
        published = PublishedCandleClassifier(new_classes=["elk"], text_encoder=encoder, max_iter=1)
        pipe.set_params(candle=published)
    return pipe.fit(random_images(4), ["ant", "bee"] * 2)


def test_all_types_of_fitted_pipelines_are_known(pipe):
    pipe = copy.deepcopy(pipe).set_params(clip__cache=EmbeddingCache("folder"))
    assert _model_files.foreign_types(skops.io.dumps(pipe)) == []
    grown = pipe.add_classes({"fox": ["fox", "red fox"]}).restrict(["ant", "fox"])
    assert _model_files.foreign_types(skops.io.dumps(grown)) == []


def test_types_that_later_changes_of_the_classes_add_are_known():
    X, y, texts = clip_like([6, 4], 16)
    clf = CandleClassifier(text_encoder=dict(enumerate(texts)), class_names=["ant", "bee"])
    clf = clf.set_params(class_prior={0: 0.3, 1: 0.7}).fit(X, y).add_images(X[:2], y[:2])
    rejecting = RejectingClassifier(FrozenEstimator(clf), rejection_rate=0.5).fit(X, y)
    assert _model_files.foreign_types(skops.io.dumps(rejecting)) == []


def test_a_pipeline_that_rejects_is_the_same_after_reading_and_without_settings(tmp_path):
    emoji = load_emoji()
    chosen = np.flatnonzero(np.isin(emoji.target, ["apple", "cat", "lemon"]))
    images = [emoji.images[i] for i in chosen]
    pipe = make_candle_pipeline("emoji-clip", cache=tmp_path / "cache")
    pipe.set_params(candle=RejectingClassifier(pipe["candle"], rejection_rate=0.3))
    pipe.fit(images, emoji.target[chosen])
    data = _model_files.to_bytes(pipe)
    assert str(tmp_path).encode() not in data and _model_files.foreign_types(data) == []
    again = _model_files.from_bytes(data, "a file")
    test = [*images, *random_images(5)]
    answers = again.predict(test).tolist()
    assert answers == pipe.predict(test).tolist() and "unknown" in answers
    assert "dog" in again.add_classes(["dog"]).classes_
    for part in (again["candle"].estimator, again["candle"].estimator_):
        assert part.text_encoder.cache is None


def test_a_fitted_classifier_that_was_made_to_reject_is_saved():
    fitted = make_candle_pipeline("emoji-clip")
    images, y = random_images(8), ["ant", "bee"] * 4
    fitted.fit(images, y)
    rejecting = RejectingClassifier(FrozenEstimator(fitted["candle"]), rejection_rate=0.9)
    pipe = copy.copy(fitted).set_params(candle=rejecting).fit(images, y)
    again = _model_files.from_bytes(_model_files.to_bytes(pipe), "a file")
    assert isinstance(again["candle"].estimator_, CandleClassifier)
    test = random_images(20)
    np.testing.assert_array_equal(again.predict(test), pipe.predict(test))
    assert "unknown" in again.predict(test)
    X = fitted["clip"].transform(images)
    for of_frozen, of_loaded in zip(
        predictions(pipe["candle"], X, None), predictions(again["candle"], X, None), strict=True
    ):
        np.testing.assert_array_equal(of_frozen, of_loaded)
    assert predictions(pipe["candle"], X, None).is_out_of_fold
    grown = again.add_classes(["dog"])
    np.testing.assert_array_equal(grown.predict(test), pipe.add_classes(["dog"]).predict(test))


def test_only_types_that_fitted_pipelines_have_are_known():
    """Modules of the library also contain functions that write files."""
    for name in _model_files.known_types():
        module, _, class_name = name.rpartition(".")
        assert module.startswith("skcandle.")
        imported = getattr(__import__(module, fromlist=[class_name]), class_name)
        assert isinstance(imported, type) and imported.__module__ == module


def test_a_file_that_calls_a_function_of_this_library_is_foreign(tmp_path):
    target = tmp_path / "written"
    data = file_that_calls(write_file, str(target), "text")
    name = "skcandle._files.write_file"
    assert _model_files.foreign_types(data) == [name]
    with pytest.raises(ValueError, match="can read .*write_file"):
        _model_files.from_bytes(data, "file")
    assert not target.exists()
    skops.io.loads(data, trusted=[name])  # the file does what it was made for
    assert target.read_text() == "text"


def test_settings_of_a_machine_are_neither_written_nor_read(pipe):
    local = copy.deepcopy(pipe).set_params(
        clip__cache="folder", clip__n_jobs=2, clip__device="cpu", candle__text_encoder__cache="it"
    )
    for data in (_model_files.to_bytes(local), skops.io.dumps(local)):
        again = _model_files.from_bytes(data, "file")
        for clip in (again["clip"], again["candle"].text_encoder):
            assert (clip.cache, clip.n_jobs, clip.device) == (None, None, "auto")
    assert local["clip"].cache == "folder" and local["candle"].text_encoder.cache == "it"


def test_weights_in_a_path_are_written_as_a_string(pipe):
    local = copy.deepcopy(pipe).set_params(clip__pretrained=Path("weights.pt"))
    again = _model_files.from_bytes(_model_files.to_bytes(local), "file")
    assert again["clip"].pretrained == "weights.pt"


def test_anything_but_a_fitted_pipeline_is_refused(pipe):
    unfitted = make_candle_pipeline("emoji-clip")
    for other in (unfitted, CLIPFeaturizer("emoji-clip"), pipe[:1]):
        with pytest.raises(ValueError, match="fitted pipeline from make_candle_pipeline, but a"):
            _model_files.from_bytes(skops.io.dumps(other), "file")
