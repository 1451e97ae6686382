"""Batches in, batches with answers out: the same answers as from the pipeline."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import clip_like, random_images
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skcandle.batch_inference
from skcandle import (
    BatchPredictor,
    CandleClassifier,
    CLIPFeaturizer,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.exceptions import ImageReadError
from skcandle.hub import load_pipeline, save_pipeline

IMAGES = random_images(8)
LABELS = ["ant", "bee"] * 4
BROKEN = "is not of a known image format"


@pytest.fixture(scope="module")
def pipe(tiny_clip):
    return make_candle_pipeline(tiny_clip, new_classes=["elk"]).fit(IMAGES, LABELS)


@pytest.fixture(scope="module")
def X(tiny_clip):
    return CLIPFeaturizer(tiny_clip).transform(IMAGES)


@pytest.fixture
def paths(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        image.save(path)
    return paths


@pytest.fixture
def model(pipe, tmp_path):
    return save_pipeline(pipe, tmp_path / "model")


def as_dict(column):
    return {"id": np.arange(len(column)), "image": column}


def as_frame(column):
    pd = pytest.importorskip("pandas")
    index = np.arange(len(column)) + 5
    return pd.DataFrame({"id": np.arange(len(column)), "image": list(column)}, index=index)


COLUMNS = {
    "paths": lambda paths: np.array(paths, dtype=object),
    "bytes": lambda paths: [Path(path).read_bytes() for path in paths],
    "arrays": lambda paths: np.stack([np.asarray(image) for image in IMAGES]),
    "list of arrays": lambda paths: [np.asarray(image) for image in IMAGES],
}


@pytest.mark.parametrize("form", [as_dict, as_frame])
@pytest.mark.parametrize("kind", ["paths", "bytes", "arrays", "list of arrays"])
def test_answers_for_images_are_those_of_the_pipeline(pipe, paths, form, kind, cold):
    batch = form(COLUMNS[kind](paths))
    names = list(batch)
    answers = BatchPredictor(pipe, proba=True)(batch)
    assert type(answers) is type(batch)
    assert list(batch) == names  # unchanged
    assert list(answers) == [*names, "label", "probability", "probabilities"]
    assert list(answers["id"]) == list(range(len(IMAGES)))
    assert list(answers["label"]) == pipe.predict(IMAGES).tolist()
    proba = np.stack(list(answers["probabilities"]))
    np.testing.assert_array_equal(proba, pipe.predict_proba(IMAGES).astype(np.float32))
    np.testing.assert_array_equal(answers["probability"], proba.max(axis=1))
    assert proba.dtype == answers["probability"].dtype == np.float32


def test_an_array_with_one_column_of_paths(pipe, paths):
    column = np.array(paths, dtype=object)[:, np.newaxis]
    assert BatchPredictor(pipe)({"image": column})["label"].tolist() == pipe.predict(paths).tolist()


@pytest.mark.parametrize("form", [as_dict, as_frame])
def test_a_featurizer_adds_embeddings(pipe, X, form):
    answers = BatchPredictor(pipe["clip"])(form(IMAGES))
    assert list(answers) == ["id", "image", "embedding"]
    np.testing.assert_array_equal(np.stack(list(answers["embedding"])), X)


@pytest.mark.parametrize("part", ["pipeline", "classifier"])
@pytest.mark.parametrize(
    "column",
    [
        np.asarray,
        list,
        lambda X: [row.tolist() for row in X],
        lambda X: as_frame(X)["image"],
        lambda X: X.astype(object),
    ],
)
def test_embeddings_are_classified_without_clip(pipe, X, part, column, no_loading, cold):
    no_loading()
    predictor = BatchPredictor(pipe if part == "pipeline" else pipe["candle"], "embedding")
    answers = predictor({"embedding": column(X)})
    assert answers["label"].tolist() == pipe["candle"].predict(X).tolist()


def test_steps_after_clip_are_applied_to_images_and_embeddings(tiny_clip, X):
    steps = make_pipeline(CLIPFeaturizer(tiny_clip), StandardScaler(), LogisticRegression())
    search = GridSearchCV(steps, {"logisticregression__C": [1.0]}, cv=2).fit(IMAGES, LABELS)
    expected = search.predict(IMAGES).tolist()
    for column in (IMAGES, X):
        assert BatchPredictor(search)({"image": column})["label"].tolist() == expected


def test_a_rejected_image_has_the_answer_of_predict():
    X, y, texts = clip_like([8, 8, 8])
    candle = CandleClassifier(text_encoder=dict(zip("abc", texts, strict=True)))
    clf = RejectingClassifier(candle, rejection_rate=0.2).fit(X, np.array(["a", "b", "c"])[y])
    rows = np.concatenate([X, -X])
    expected = clf.predict(rows).tolist()
    assert {"a", "b", "c", "unknown"} == set(expected)
    assert BatchPredictor(clf, "x")({"x": rows})["label"].tolist() == expected


# --- images that cannot be read --------------------------------------------------------------


@pytest.mark.parametrize("form", [as_dict, as_frame])
def test_broken_images_get_a_reason_and_the_others_their_answers(pipe, X, form):
    column = np.empty(4, dtype=object)
    column[:] = [IMAGES[0], b"broken" * 99, None, IMAGES[3]]
    answers = BatchPredictor(pipe, proba=True, on_error="nan")(form(column))
    expected = pipe.predict(IMAGES[:4])
    assert list(answers["label"]) == [expected[0], "", "", expected[3]]
    assert list(answers["error"]) == ["", BROKEN, "it is missing", ""]
    np.testing.assert_array_equal(np.isnan(answers["probability"]), [False, True, True, False])
    proba = np.stack(list(answers["probabilities"]))
    np.testing.assert_allclose(proba[[0, 3]], pipe.predict_proba(IMAGES)[[0, 3]], atol=1e-6)
    rows = list(BatchPredictor(pipe["clip"], on_error="nan")(form(column))["embedding"])
    np.testing.assert_allclose(rows[0], X[0], atol=1e-6)
    assert np.isnan(rows[1]).all() and np.isnan(rows[2]).all()


def test_broken_embeddings_get_a_reason(pipe, X):
    reason = "its embedding is missing or not finite"
    column = [X[0], None, np.full(X.shape[1], np.nan), X[3]]
    for model in (pipe, pipe["candle"]):
        answers = BatchPredictor(model, "x", on_error="nan")({"x": column})
        assert answers["error"].tolist() == ["", reason, reason, ""]
        assert answers["label"].tolist()[1:3] == ["", ""]
        with pytest.raises(ImageReadError, match=f"1 of 2 images .*image 0: {reason}"):
            BatchPredictor(model, "x")({"x": column[2:]})


@pytest.mark.parametrize("missing", [None, float("nan"), "row with None"])
def test_all_forms_of_a_missing_embedding_get_a_reason(pipe, X, missing):
    missing = [None, *X[0].tolist()[1:]] if missing == "row with None" else missing
    predictor = BatchPredictor(pipe["candle"], "x", on_error="nan")
    answers = predictor({"x": [X[0].tolist(), missing]})
    assert answers["label"].tolist() == [pipe["candle"].predict(X[:1])[0], ""]
    assert answers["error"].tolist() == ["", "its embedding is missing or not finite"]


@pytest.mark.parametrize("n_rows", [0, 2])
def test_a_classifier_accepts_batches_without_any_embedding(pipe, n_rows):
    answers = BatchPredictor(pipe["candle"], "x", on_error="nan")({"x": [None] * n_rows})
    assert answers["label"].tolist() == [""] * n_rows
    assert answers["error"].tolist() == ["its embedding is missing or not finite"] * n_rows
    assert np.isnan(answers["probability"]).all()


def test_a_batch_without_any_readable_image(pipe):
    answers = BatchPredictor(pipe, on_error="nan")({"image": [b"broken" * 99, None]})
    assert answers["label"].tolist() == ["", ""] and np.isnan(answers["probability"]).all()


def test_unreadable_images_are_an_error_by_default(pipe):
    with pytest.raises(ImageReadError, match=rf"1 of 2 images .*image 1: {BROKEN}"):
        BatchPredictor(pipe)({"image": [IMAGES[0], b"broken" * 99]})
    with pytest.raises(TypeError, match="image 1 is missing"):
        BatchPredictor(pipe)({"image": [IMAGES[0], None]})


@pytest.mark.parametrize("form", [as_dict, as_frame])
def test_an_empty_batch_has_all_columns(pipe, form):
    answers = BatchPredictor(pipe, proba=True, on_error="nan")(form([]))
    names = ["id", "image", "label", "probability", "probabilities", "error"]
    assert list(answers) == names and not any(len(answers[name]) for name in names)
    assert len(BatchPredictor(pipe["clip"])(form([]))["embedding"]) == 0


def test_numbers_have_the_missing_answer_of_predict(X):
    clf = CandleClassifier(text_encoder=None).fit(X, [0, 7] * 4)
    answers = BatchPredictor(clf, "x", on_error="nan")({"x": [X[0], None]})
    assert answers["label"].tolist() == [clf.predict(X)[0], -1]
    clf = CandleClassifier(text_encoder=None).fit(X, [True, False] * 4)
    with pytest.raises(ValueError, match="there is no value for a missing answer"):
        BatchPredictor(clf, "x", on_error="nan")({"x": [X[0], None]})


# --- the model -------------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch):
    """Sources from which pipelines were loaded."""
    loaded = []

    def noting(source):
        loaded.append(source)
        return load_pipeline(source)

    skcandle.batch_inference._load_once.cache_clear()
    monkeypatch.setattr(skcandle.batch_inference, "load_pipeline", noting)
    return loaded


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_model_is_loaded_once_in_a_process_until_it_changes(pipe, model, X, loaded, kind):
    source = model if kind == "folder" else model / "model.skops"
    predictor = BatchPredictor(source, "x")
    assert loaded == []
    copies = [pickle.loads(pickle.dumps(predictor)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda copy: copy({"x": X}), copies):
            assert answers["label"].tolist() == pipe.predict(IMAGES).tolist()
    assert len(loaded) == 1
    save_pipeline(pipe.restrict(["elk"]), model, overwrite=True)
    assert set(copies[0]({"x": X})["label"]) == {"elk"}
    assert len(loaded) == 2


def test_the_pickle_holds_the_absolute_path_or_the_pipeline(pipe, model, X, monkeypatch):
    monkeypatch.chdir(model.parent)
    data = pickle.dumps(BatchPredictor("model", "x"))
    assert len(data) < 1000
    monkeypatch.chdir("/")
    expected = pipe.predict(IMAGES).tolist()
    assert pickle.loads(data)({"x": X})["label"].tolist() == expected
    again = pickle.loads(pickle.dumps(BatchPredictor(pipe, "x")))
    assert again({"x": X})["label"].tolist() == expected


def test_the_cache_is_shared_by_processes_and_leaves_the_pipeline_alone(
    pipe, model, paths, tmp_path, encoded, no_loading
):
    for source in (model, pipe):
        BatchPredictor(source, cache=tmp_path / "cache")({"image": paths})
    assert sum(encoded) == len(paths)
    skcandle.clear_memory()
    no_loading()
    answers = BatchPredictor(pipe, cache=os.fspath(tmp_path / "cache"))({"image": paths})
    assert len(answers["label"]) == len(paths)
    assert pipe["clip"].cache is None


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([1, 2], TypeError, "A batch must be a dict of arrays or a DataFrame, got a list"),
        ({"path": ["a"]}, ValueError, r"must have a column 'image', got \['path'\]"),
        ({"image": IMAGES, "label": LABELS}, ValueError, "already has a column 'label'. Rename"),
        ({"image": [0.5]}, TypeError, "image 0 is of type float; each image must be a path"),
        ({"image": [[0.5], [0.5, 1]]}, ValueError, r"X\[1\] must be a list of 1 numbers"),
        ({"image": np.ones((2, 5))}, ValueError, "5 features"),
    ],
)
def test_batches_that_do_not_fit_are_explained(pipe, batch, error, message):
    with pytest.raises(error, match=message):
        BatchPredictor(pipe)(batch)


def test_images_and_embeddings_in_the_wrong_place_are_explained(pipe, X):
    with pytest.raises(TypeError, match="'image' must have embeddings .* without a CLIPFeaturizer"):
        BatchPredictor(pipe["candle"])({"image": IMAGES})
    with pytest.raises(TypeError, match="'image' already has embeddings, not images"):
        BatchPredictor(pipe["clip"])({"image": X})


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (None, {"on_error": "skip"}, ValueError, 'on_error must be "raise" or "nan", got \'skip\''),
        (None, {"column": 3}, TypeError, "column must be a string, got int"),
        (CandleClassifier(), {}, ValueError, "not fitted"),
        (StandardScaler(), {}, TypeError, "must be a classifier with predict_proba"),
        (
            Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression())]).fit(
                np.eye(2), [0, 1]
            ),
            {},
            TypeError,
            "first step of a pipeline must be a CLIPFeaturizer, got a StandardScaler",
        ),
    ],
)
def test_parameters_that_cannot_be_used_are_explained(pipe, model, options, error, message):
    with pytest.raises(error, match=message):
        BatchPredictor(pipe if model is None else model, **options)


def test_a_model_that_does_not_exist_is_named(X, tmp_path):
    predictor = BatchPredictor(tmp_path / "none", "x")
    with pytest.raises(FileNotFoundError, match="none'"):
        predictor({"x": X})
