"""Embeddings that remember which CLIP made them, and what refuses those of another one."""

import json
import pickle

import numpy as np
import pytest
import skops.io
from helpers import needs_onnx_exporter, random_images, run_command, save_tiny_clip
from numpy.testing import assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
    load_embeddings,
    save_embeddings,
)
from skcandle.classifier._base import model_of_fit
from skcandle.exceptions import ModelError
from skcandle.export import to_onnx
from skcandle.hub import load_pipeline, save_pipeline
from skcandle.hub._model_files import portable
from skcandle.inspection import LongTailDisplay, PrototypeDisplay, ReliabilityDisplay

IMAGES = random_images(12)
LABELS = np.repeat(["ant", "bee"], 6)
CANDLE = {"temperature": 0.1, "prototype_weight": 0.5, "base_offset": 0.0, "max_iter": 0}
REFUSAL = (
    r"fitted with the CLIP '{}' \(fingerprint \w{{12}}\), but these embeddings are from the CLIP "
    r"'{}' \(fingerprint \w{{12}}\), .* embed the images with the model of the fit, or fit again\.$"
)

# Methods that read embeddings, with their further arguments.
METHODS = {
    "predict": (),
    "predict_proba": (),
    "predict_log_proba": (),
    "decision_function": (),
    "top_k": (1,),
    "predict_set": (),
    "novelty_score": (),
    "choose_to_label": (2,),
    "add_images": (np.repeat(["ant", "cat"], 6),),
    "add_unlabeled": (),
}


@pytest.fixture
def clip(tiny_clip):
    return CLIPFeaturizer(tiny_clip)


@pytest.fixture
def other(tmp_path):
    """A model of the same width."""
    (tmp_path / "other").mkdir()
    return CLIPFeaturizer(f"local-dir:{save_tiny_clip(tmp_path / 'other', seed=1)}")


@pytest.fixture
def stored(tmp_path):
    """A function that embeds images and reads the embeddings back from a file."""

    def rows_of(clip):
        save_embeddings(tmp_path / "rows.npz", clip.transform(IMAGES), clip, overwrite=True)
        return load_embeddings(tmp_path / "rows.npz")[1]

    return rows_of


def refusal_of(fitted_with, given):
    return REFUSAL.format(fitted_with.model_name, given.model_name)


def test_a_file_keeps_rows_keys_and_model(clip, tmp_path):
    X, names = clip.transform(IMAGES), [f"photo {i}" for i in range(12)]
    save_embeddings(tmp_path / "rows.npz", X, clip, keys=names)
    keys, rows = load_embeddings(tmp_path / "rows.npz")
    assert keys.tolist() == names
    assert_array_equal(rows, X)
    assert rows.dtype == np.float32
    assert rows.model == clip._present_identity()


def test_numpy_reads_the_file(clip, tmp_path):
    X = clip.transform(IMAGES)
    save_embeddings(tmp_path / "rows.npz", X, clip)
    with np.load(tmp_path / "rows.npz") as entries:
        assert_array_equal(entries["embeddings"], X)
        assert json.loads(str(entries["model"]))["name"] == clip.model_name
    assert load_embeddings(tmp_path / "rows.npz")[0] is None


def test_rows_that_know_their_model_are_stored_without_a_featurizer(clip, stored, tmp_path):
    save_embeddings(tmp_path / "again.npz", stored(clip)[3:])
    rows = load_embeddings(tmp_path / "again.npz")[1]
    assert len(rows) == 9 and rows.model == clip._present_identity()


def test_slices_and_copies_know_the_model_and_results_of_arithmetic_do_not(clip, stored):
    X = stored(clip)
    part = train_test_split(X, LABELS, random_state=0)[0]
    for known in (X[2:], X[[1, 5]], X[LABELS == "ant"], X.copy(), part):
        assert known.model == X.model
    W = np.ones((64, 64))
    products = (X @ W, X.dot(W), np.dot(X, W), np.inner(X, W), W.dot(X.T))
    results = (X - X.mean(axis=0), *products, np.concatenate([X, X]))
    for unknown in (*results, np.asarray(X)):
        assert type(unknown) is np.ndarray
    assert isinstance(X.sum(), np.float32)


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles_know_the_model(protocol, clip, stored):
    X = stored(clip)
    again = pickle.loads(pickle.dumps(X[2:], protocol))
    assert again.model == X.model
    assert_array_equal(again, X[2:])


@pytest.mark.parametrize(
    ("X", "keys", "message"),
    [
        (np.ones((2, 64)), None, "does not say which model made it. Pass the CLIPFeaturizer"),
        (np.ones(64), None, r"shape \(n_images, n_features\), got shape \(64,\)"),
        (np.ones((2, 64), int), None, "got shape .* dtype int"),
        (np.ones((2, 32)), None, "X has 32 columns, but embeddings of .* have 64"),
        (np.ones((2, 64)), ["a"], r"one key per row, got the shape \(1,\) for 2 rows"),
        (np.ones((2, 64)), "ab", r"one key per row, got the shape \(\) for 2 rows"),
    ],
)
def test_what_cannot_be_stored(X, keys, message, clip, tmp_path):
    featurizer = None if "does not say" in message else clip
    with pytest.raises(ValueError, match=message):
        save_embeddings(tmp_path / "rows.npz", X, featurizer, keys=keys)
    assert not (tmp_path / "rows.npz").exists()


def test_rows_are_not_stored_under_the_name_of_another_model(clip, other, stored, tmp_path):
    with pytest.raises(ModelError, match=rf"X was made by the CLIP '{clip.model_name}'.*but feat"):
        save_embeddings(tmp_path / "again.npz", stored(clip), other)


@pytest.mark.parametrize("featurizer", ["emoji-clip", ["a.png", "b.png"]])
def test_a_featurizer_that_is_not_one_is_refused(featurizer, tmp_path):
    kind = type(featurizer).__name__
    with pytest.raises(TypeError, match=rf"must be a CLIPFeaturizer or None, got a {kind}\."):
        save_embeddings(tmp_path / "rows.npz", np.ones((2, 64)), featurizer)


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_is_not_on_this_machine_made_no_rows(known, clip, stored, tmp_path):
    X = stored(clip) if known else np.ones((2, 64))
    name = f"local-dir:{tmp_path / 'gone'}"
    with pytest.raises(ModelError, match=f"The model of featurizer, '{name}', is not available"):
        save_embeddings(tmp_path / "again.npz", X, CLIPFeaturizer(name))


def test_rows_of_a_fit_are_of_its_model_after_a_change_of_parameters(clip, other, tmp_path):
    X = clip.fit_transform(IMAGES)
    save_embeddings(tmp_path / "rows.npz", X, clip.set_params(model_name=other.model_name))
    model = load_embeddings(tmp_path / "rows.npz")[1].model
    assert not model.is_same(other._present_identity())


def test_a_file_that_exists_is_replaced_only_on_request(clip, stored, tmp_path):
    X = stored(clip)
    with pytest.raises(FileExistsError, match="already exists; overwrite=True replaces it"):
        save_embeddings(tmp_path / "rows.npz", X)


def damaged(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        with np.load(path) as entries:
            content = dict(entries)
        content |= {
            "no model": {"model": np.array("{}")},
            "no fingerprint": {"model": np.array('{"name": "a", "fingerprints": []}')},
            "one string": {"model": np.array('{"name": "a", "fingerprints": "abc"}')},
            "one row": {"embeddings": np.ones(64)},
            "strings": {"embeddings": np.full((12, 64), "a")},
            "objects": {"embeddings": np.array([{}], dtype=object)},
            "keys": {"keys": np.array(["one"])},
        }[how]
        np.savez(path, **content)


DAMAGES = ["truncated", "empty", "no model", "no fingerprint", "one string", "objects", "strings"]


@pytest.mark.parametrize("how", [*DAMAGES, "one row", "keys"])
def test_a_damaged_file_is_named(how, clip, stored, tmp_path):
    stored(clip)
    damaged(tmp_path / "rows.npz", how)
    with pytest.raises(ValueError, match=r"rows.npz' .* Make the file again"):
        load_embeddings(tmp_path / "rows.npz")


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_refuses_rows_of_another_model(method, text, clip, other, stored):
    candle = CandleClassifier(text_encoder=clip if text else None, **CANDLE)
    candle.fit(stored(clip), LABELS)
    rows, args = stored(other), METHODS[method]
    getattr(candle, method)(stored(clip), *args)
    getattr(candle, method)(np.asarray(rows), *args)  # a plain array cannot tell
    with pytest.raises(ModelError, match=refusal_of(clip, other)):
        getattr(candle, method)(rows, *args)


def test_the_answers_do_not_depend_on_whether_the_model_is_known(clip, stored):
    X = stored(clip)
    proba = []
    for rows in (X, np.asarray(X)):
        candle = CandleClassifier(text_encoder=clip).fit(rows, LABELS)
        proba.append(candle.add_unlabeled(rows).predict_proba(rows))
    assert type(proba[0]) is np.ndarray
    assert_array_equal(*proba)


@pytest.mark.parametrize("display", [LongTailDisplay, PrototypeDisplay, ReliabilityDisplay])
def test_displays_refuse_rows_of_another_model(display, clip, other, stored):
    candle = CandleClassifier(text_encoder=None, **CANDLE).fit(stored(clip), LABELS)
    rows = stored(other)
    rows[0] = np.nan  # an image that could not be read
    with pytest.raises(ModelError, match=refusal_of(clip, other)):
        display.from_estimator(candle, rows, LABELS)


def test_the_published_classifier_refuses_rows_of_another_model(clip, other, stored):
    candle = PublishedCandleClassifier(text_encoder=clip, max_iter=0).fit(stored(clip), LABELS)
    with pytest.raises(ModelError, match=refusal_of(clip, other)):
        candle.predict(stored(other))


def test_after_a_fit_on_a_plain_array_the_model_is_that_of_the_names(clip, other, stored):
    candle = CandleClassifier(text_encoder=clip, **CANDLE).fit(clip.transform(IMAGES), LABELS)
    with pytest.raises(ModelError, match=refusal_of(clip, other)):
        candle.predict(stored(other))
    without = CandleClassifier(text_encoder=None, **CANDLE).fit(clip.transform(IMAGES), LABELS)
    assert len(without.predict(stored(other))) == 12


@pytest.mark.parametrize("method", ["add_images", "add_unlabeled"])
def test_a_copy_that_learns_from_more_rows_remembers_their_model(method, clip, other, stored):
    candle = CandleClassifier(text_encoder=None, **CANDLE).fit(clip.transform(IMAGES), LABELS)
    grown = getattr(candle, method)(stored(clip), *METHODS[method])
    with pytest.raises(ModelError, match=refusal_of(clip, other)):
        grown.predict(stored(other))
    assert len(candle.predict(stored(other))) == 12


def test_a_new_fit_forgets_the_model_of_the_last_one(clip, other, stored):
    candle = CandleClassifier(text_encoder=None, **CANDLE).fit(stored(clip), LABELS)
    assert len(candle.fit(stored(other), LABELS).predict(stored(other))) == 12
    assert len(candle.fit(np.asarray(stored(other)), LABELS).predict(stored(clip))) == 12


def test_views_copies_and_classifiers_around_another_know_the_model(clip, other, stored):
    X, rows = stored(clip), stored(other)
    candle = CandleClassifier(text_encoder=None, **CANDLE)
    pipe = Pipeline([("candle", candle)]).fit(X, LABELS)
    search = GridSearchCV(pipe, {"candle__margin": [0, 1]}, cv=2).fit(X, LABELS)
    rejecting = RejectingClassifier(candle, rejection_rate=0.1).fit(X, LABELS)
    again = pickle.loads(pickle.dumps(pipe["candle"]))
    for fitted in (pipe, search, rejecting, again, again.add_images(X[:1], ["cat"])):
        assert model_of_fit(fitted) == X.model
        with pytest.raises(ModelError, match=refusal_of(clip, other)):
            fitted.predict(rows)


def test_after_a_step_that_changes_the_rows_the_model_is_that_of_the_names(clip, stored):
    X = stored(clip)
    for text_encoder, expected in ((clip, X.model), (None, None)):
        candle = CandleClassifier(text_encoder=text_encoder, **CANDLE)
        pipe = make_pipeline(Normalizer(), candle).fit(X, LABELS)
        rejecting = RejectingClassifier(FrozenEstimator(pipe), rejection_rate=0.1).fit(X, LABELS)
        assert model_of_fit(rejecting) == expected
    assert model_of_fit(LogisticRegression().fit(X, LABELS)) is None


def test_copies_of_a_fitted_classifier_have_the_model_of_their_own_fit(clip, other, stored):
    rows, X = stored(clip), stored(other)
    earlier = CandleClassifier(text_encoder=None, **CANDLE).fit(rows, LABELS)
    for ensemble in (CalibratedClassifierCV, BaggingClassifier, AdaBoostClassifier):
        assert model_of_fit(ensemble(earlier).fit(X, LABELS)) is None
    calibrated = CalibratedClassifierCV(FrozenEstimator(earlier)).fit(rows, LABELS)
    assert model_of_fit(calibrated) == rows.model


def test_images_and_names_of_different_models_are_refused_if_the_rows_can_tell(clip, other, stored):
    candle = CandleClassifier(text_encoder=other, **CANDLE)
    assert candle.fit(clip.transform(IMAGES), LABELS).n_features_in_ == 64
    with pytest.raises(ModelError, match=rf"'{clip.model_name}'.*'{other.model_name}'.*Use one"):
        candle.fit(stored(clip), LABELS)
    assert candle._identity is None  # as before the failed fit
    candle.set_params(text_encoder=other.encode_text).fit(stored(clip), LABELS)


def test_stored_text_vectors_are_saved_with_a_pipeline(clip, tmp_path):
    names = ["ant", "bee"]
    save_embeddings(tmp_path / "names.npz", clip.encode_text(names), clip, keys=names)
    keys, vectors = load_embeddings(tmp_path / "names.npz")
    text_encoder = dict(zip(keys.tolist(), vectors, strict=True))
    candle = CandleClassifier(text_encoder=text_encoder, **CANDLE)
    pipe = CandlePipeline([("clip", clip), ("candle", candle)]).fit(IMAGES, LABELS)
    save_pipeline(pipe, tmp_path / "folder")
    again = load_pipeline(tmp_path / "folder")
    assert_array_equal(again.predict_proba(IMAGES), pipe.predict_proba(IMAGES))


@pytest.fixture
def mixed(clip, other, stored):
    """A pipeline whose classifier was fitted on embeddings of another model."""
    candle = CandleClassifier(text_encoder=None, **CANDLE).fit(stored(clip), LABELS)
    return CandlePipeline([("clip", other), ("candle", candle)])


def test_a_pipeline_of_two_models_is_not_saved(mixed, clip, other, tmp_path):
    match = rf"'{clip.model_name}' .*embeds images with the CLIP '{other.model_name}'.*one model"
    with pytest.raises(ModelError, match=match):
        save_pipeline(mixed, tmp_path / "folder")


@pytest.mark.slow
@needs_onnx_exporter
def test_a_pipeline_of_two_models_is_not_exported(mixed, clip, other, tmp_path):
    pytest.importorskip("onnxscript")
    match = rf"'{clip.model_name}' .*embeds images with the CLIP '{other.model_name}'.*one model"
    with pytest.raises(ModelError, match=match):
        to_onnx(mixed, tmp_path / "model.onnx")


def test_a_file_with_a_pipeline_of_two_models_is_refused_by_name(mixed, clip, other, tmp_path):
    other.fit()
    (tmp_path / "model.skops").write_bytes(skops.io.dumps(portable(mixed)))
    IMAGES[0].save(tmp_path / "photo.png")
    with pytest.raises(ModelError) as caught:
        load_pipeline(tmp_path / "model.skops")
    assert clip.model_name in str(caught.value) and other.model_name in str(caught.value)
    args = ["predict", tmp_path / "model.skops", tmp_path / "photo.png"]
    assert str(caught.value) in run_command(tmp_path / "cache", *args, code=1).stderr


def test_the_model_of_stored_rows_is_in_the_model_file(clip, stored, tmp_path):
    candle = CandleClassifier(text_encoder=None, **CANDLE).fit(stored(clip), LABELS)
    save_pipeline(CandlePipeline([("clip", clip), ("candle", candle)]), tmp_path / "folder")
    assert load_pipeline(tmp_path / "folder")["candle"]._identity == clip._present_identity()
