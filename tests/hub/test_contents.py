"""What a loaded pipeline consists of, whatever is in its file."""

import copy
from dataclasses import is_dataclass, replace
from itertools import product
from pickle import dumps, loads

import joblib
import numpy as np
import pytest
import skops.io
from helpers import run_command
from hostile_files import nodes_of, rewritten
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    EmbeddingCache,
    PublishedCandleClassifier,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.clip._identity import ModelIdentity
from skcandle.exceptions import ModelError
from skcandle.hub import load_pipeline, save_pipeline
from skcandle.hub._model_files import fitted_candle, from_bytes, to_bytes

PARAMETERS_OF_CLIP = {
    "model_name": str,
    "pretrained": (str, type(None)),
    "batch_size": "auto",
    "device": "auto",
    "precision": str,
    "cache": None,
    "n_jobs": None,
    "on_error": str,
    "verbose": 0,
}
ARRAYS_OF_CLASSES = ["classes_", "class_count_", "is_new_", "prototypes_", "text_features_"]
# All that a loaded file consists of: what each attribute is, or is an instance of.
ALLOWED = {
    "CandlePipeline": {"steps": list, "memory": None, "verbose": False, "transform_input": None},
    "CLIPFeaturizer": PARAMETERS_OF_CLIP | {"_identity": object},
    "CandleClassifier": {
        "new_classes": (list, type(None)),
        "class_names": (dict, list, type(None)),
        "text_encoder": (str, dict, CLIPFeaturizer, type(None)),
        "templates": (str, list),
        "temperature": (str, float),
        "margin": float,
        "class_prior": (str, dict, type(None)),
        "shrinkage": float,
        "prototype_weight": (str, float),
        "base_offset": (str, float),
        "single_image_weight": (str, float),
        "penalty": float,
        "max_iter": int,
        "device": "auto",
        "random_state": (int, type(None)),
        "verbose": 0,
        "n_features_in_": int,
        "loss_curve_": list,
        "n_iter_": int,
        "temperature_": float,
        "prototype_weight_": float,
        "count_bonus_": float,
        "base_offset_": float,
        "single_image_weight_": float,
        "class_names_": (list, type(None)),
        "_columns": np.ndarray,
        "_column_labels": np.ndarray,
        "_column_names": (list, type(None)),
        "_held_out": object,
        "_text_encoder": object,
        "_model": object,
        "_training_images": object,
        "_prior": (float, str, dict),
        "_log_prior": (np.ndarray, type(None)),
        "_identity": (ModelIdentity, type(None)),
    }
    | dict.fromkeys(ARRAYS_OF_CLASSES, (np.ndarray, type(None)))
    | {"unlabeled_count_": np.ndarray},
    "ModelIdentity": {"name": str, "fingerprints": tuple},
    "ClassTextEncoder": {
        "encoder": (CLIPFeaturizer, dict),
        "templates": (str, list),
        "default_model": str,
        "identity": object,
    },
    "AdaptedModel": {
        "before": object,
        "after": object,
        "unlabeled": object,
        "n_unlabeled": np.ndarray,
    },
    "CandleModel": {
        "space": object,
        "text_features": (np.ndarray, type(None)),
        "projection": np.ndarray,
        "weights": object,
        "statistics": object,
        "single_images": object,
    },
    "PrototypeSpace": {
        "counts": np.ndarray,
        "image_mean": np.ndarray,
        "text_mean": (np.ndarray, type(None)),
        "text_map": (np.ndarray, type(None)),
        "prototypes": np.ndarray,
        "shrinkage": float,
        "whitener": np.ndarray,
        "normalize": bool,
    },
    "ClassStatistics": dict.fromkeys(["counts", "means", "scatter"], np.ndarray),
    "LogitWeights": dict.fromkeys(
        ["temperature", "prototype_weight", "count_bonus", "base_offset"], float
    ),
    "HeldOutScores": {
        "coefficients": np.ndarray,
        "intercept": float,
        "novelty": np.ndarray,
        "gaps": np.ndarray,
        "n_images": float,
        "n_base_images": float,
        "n_base_classes": int,
    },
    "SingleImages": {
        "X": np.ndarray,
        "y": np.ndarray,
        "sample_weight": np.ndarray,
        "coordinates": np.ndarray,
        "coefficients": np.ndarray,
        "columns": np.ndarray,
        "weight": float,
    },
    "TrainingImages": dict.fromkeys(["embeddings", "contents", "columns", "weights"], np.ndarray),
    "PublishedModel": {
        "counts": np.ndarray,
        "text_features": np.ndarray,
        "image_prototypes": np.ndarray,
        "head_state": dict,
        "temperature": float,
        "prototype_scale": float,
    },
}
ALLOWED["RejectingClassifier"] = {
    "estimator": CandleClassifier,
    "estimator_": CandleClassifier,
    "reject_label": str,
    "rejection_rate": float,
    "n_features_in_": int,
    "classes_": np.ndarray,
    "reject_label_": str,
    "thresholds_": np.ndarray,
}
ALLOWED["PublishedCandleClassifier"] = ALLOWED["CandleClassifier"] | {
    "prototype_scale": float,
    "dropout": float,
    "learning_rate": float,
    "batch_size": int,
}
CONTAINERS = (list, tuple, dict)
PLAIN = (str, int, float, bool, np.ndarray, np.generic, type(None))


def check_all_objects(root):
    """Check each reachable object against the table, and return the featurizers and caches."""
    found, seen = [root], set()
    for value in found:
        if id(value) in seen or isinstance(value, PLAIN):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            found += [*value, *value.values()]
        elif isinstance(value, CONTAINERS):
            found += value
        else:
            assert isinstance(value, BaseEstimator) or is_dataclass(value), value
            allowed = ALLOWED[type(value).__name__]
            for name, content in vars(value).items():
                expected = allowed[name]
                if isinstance(expected, (type, tuple)):
                    assert isinstance(content, expected), (value, name, content)
                else:
                    assert content is expected or content == expected, (value, name, content)
                found.append(content)
    return [value for value in found if isinstance(value, (CLIPFeaturizer, EmbeddingCache))]


@pytest.fixture(scope="module")
def fits(quick_fit, images):
    """Pipelines of all kinds that a file can contain."""
    y = ["ant", "bee"] * 4
    vectors = dict(zip(["ant", "bee", "elk"], np.eye(3, 128), strict=True))
    clip = CLIPFeaturizer("emoji-clip")
    candle = PublishedCandleClassifier(new_classes=["elk"], text_encoder=clip, max_iter=1)
    published = CandlePipeline([("clip", clip), ("candle", candle)])
    rejecting_candle = RejectingClassifier(
        CandleClassifier(new_classes=["elk"], text_encoder=clip), rejection_rate=0.5
    )
    full = make_candle_pipeline("emoji-clip", new_classes=["elk"]).fit(images, y)
    names_alone = make_candle_pipeline("emoji-clip", new_classes=["ant", "bee", "elk"]).fit([], [])
    return {
        "full": full,
        "grown": full.add_classes({"fox": ["fox", "red fox"]}).add_images(images[:1], ["owl"]),
        "prior": full.with_prior({"ant": 0.5, "bee": 0.25, "elk": 0.25}).restrict(["ant", "elk"]),
        "vectors": quick_fit(candle__text_encoder=vectors, candle__new_classes=["elk"]),
        "no text": quick_fit(candle__text_encoder=None),
        "numbers": quick_fit(candle__class_names={0: "ant", 1: "bee"}, y=[0, 1] * 4),
        "published": published.fit(images, y),
        "rejecting": CandlePipeline([("clip", clip), ("candle", rejecting_candle)]).fit(images, y),
        "adapted": full.add_unlabeled(images).add_classes(["fox"]).restrict(["ant", "elk", "fox"]),
        "names": names_alone,
        "adapted names": names_alone.add_unlabeled(images),
    }


KINDS = ["full", "grown", "prior", "vectors", "no text", "numbers", "published", "rejecting"]
KINDS += ["adapted", "names", "adapted names"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_of_a_loaded_file_is_in_the_table(fits, kind, images):
    pipe = fits[kind]
    local = copy.deepcopy(pipe).set_params(
        clip__cache=EmbeddingCache("folder"), clip__n_jobs=2, clip__device="cpu", clip__verbose=1
    )
    local.set_params(memory="folder", verbose=True)
    fitted_candle(local).set_params(device="cpu", verbose=1)
    for data in (skops.io.dumps(local), to_bytes(local)):
        again = from_bytes(data, "file")
        check_all_objects(again)
        assert_array_equal(again.predict_proba(images), pipe.predict_proba(images))


@pytest.mark.parametrize("kind", ["adapted", "names", "adapted names"])
@pytest.mark.parametrize(
    "copied", [lambda pipe: from_bytes(to_bytes(pipe), "file"), lambda pipe: loads(dumps(pipe))]
)
def test_a_classifier_from_a_file_goes_on_learning(fits, kind, copied, images):
    pipe, again = fits[kind], copied(fits[kind])
    for change in (
        lambda one: one.add_unlabeled(images[::-1]),
        lambda one: one.add_images(images[:2], ["ant", "owl"]),
        lambda one: one.add_classes(["owl"]),
    ):
        changed, expected = change(again), change(pipe)
        assert_array_equal(changed["candle"].unlabeled_count_, expected["candle"].unlabeled_count_)
        assert_array_equal(changed.predict_proba(images), expected.predict_proba(images))


@pytest.mark.parametrize("kind", ["adapted", "names", "adapted names"])
def test_folders_and_joblib_files_keep_what_images_without_labels_taught(
    fits, kind, images, tmp_path
):
    pipe = fits[kind]
    save_pipeline(pipe, tmp_path / "folder")
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    for again in (load_pipeline(tmp_path / "folder"), joblib.load(tmp_path / "pipe.joblib")):
        assert_array_equal(again.predict_proba(images), pipe.predict_proba(images))
        assert_array_equal(again["candle"].unlabeled_count_, pipe["candle"].unlabeled_count_)


# --- featurizers and caches ----------------------------------------------------------------------


def with_encoder(pipe, encoder):
    """A pipeline whose fitted text encoder is not the one of its parameters."""
    candle = copy.copy(pipe["candle"])
    candle._text_encoder = replace(candle._text_encoder, encoder=encoder)
    return CandlePipeline([("clip", pipe["clip"]), ("candle", candle)])


@pytest.mark.parametrize("kind", ["full", "published"])
@pytest.mark.parametrize("command", [False, True], ids=["load_pipeline", "command"])
def test_a_file_cannot_choose_where_embeddings_are_stored(fits, kind, command, tmp_path, images):
    chosen = tmp_path / "chosen by the file"
    encoder = CLIPFeaturizer("emoji-clip", cache=EmbeddingCache(chosen))
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(with_encoder(fits[kind], encoder)))
    if command:
        run_command(tmp_path / "cache", "add", path, "fox", "-o", tmp_path / "new.skops")
    else:
        grown = load_pipeline(path).add_classes(["fox"])
        assert len(grown.predict(images)) == len(images)
    assert not chosen.exists()


@pytest.mark.parametrize("kind", ["full", "published"])
def test_a_file_cannot_hide_the_model_that_embeds_names(fits, kind):
    pipe = with_encoder(fits[kind], CLIPFeaturizer("hf-hub:somebody/else", on_error="nan"))
    again = from_bytes(skops.io.dumps(pipe), "file")
    assert {clip.model_name for clip in check_all_objects(again)} == {"emoji-clip"}
    assert again["candle"]._text_encoder.encoder is again["candle"].text_encoder
    assert "fox" in again.add_classes(["fox"]).classes_


def test_a_file_without_text_encoder_cannot_bring_a_fitted_one(fits):
    pipe = copy.deepcopy(fits["full"]).set_params(candle__text_encoder=None)
    again = from_bytes(skops.io.dumps(pipe), "file")
    assert again["candle"]._text_encoder is None
    assert [clip.model_name for clip in check_all_objects(again)] == ["emoji-clip"]


def test_templates_are_those_of_the_parameters(fits):
    candle = copy.copy(fits["full"]["candle"])
    candle._text_encoder = replace(candle._text_encoder, templates="no {} at all")
    pipe = CandlePipeline([("clip", fits["full"]["clip"]), ("candle", candle)])
    again = from_bytes(skops.io.dumps(pipe), "file")
    assert again["candle"]._text_encoder.templates == "a photo of a {}."


def frozen(pipe):
    return FrozenEstimator(pipe)


def rejecting(pipe):
    clf = RejectingClassifier(pipe)
    clf.estimator_ = pipe
    return clf


PLACES = {
    "class_names": lambda candle, value: candle.set_params(class_names={"ant": value}),
    "text_encoder": lambda candle, value: candle.set_params(text_encoder=value),
    "vectors": lambda candle, value: candle.set_params(text_encoder={"ant": value}),
    "templates": lambda candle, value: candle.set_params(templates=[value]),
    "attribute": lambda candle, value: setattr(candle, "more_", np.array([value, None])),
    "model": lambda candle, value: setattr(candle, "_model", replace(candle._model, weights=value)),
    "classes_": lambda candle, value: setattr(candle, "classes_", (value,)),
}
OBJECTS = {
    "cache": lambda pipe: EmbeddingCache("folder"),
    "featurizer": lambda pipe: CLIPFeaturizer("emoji-clip", cache="folder"),
    "frozen pipeline": frozen,
    "rejecting": rejecting,
    "frozen rejecting": lambda pipe: frozen(rejecting(pipe)),
    "type": lambda pipe: str,
    "function": lambda pipe: np.add,
}


WRONG = set(product(PLACES, OBJECTS)) - {("text_encoder", "featurizer")}


@pytest.mark.parametrize("place, kind", sorted(WRONG))
def test_other_objects_are_refused_wherever_they_are(fits, place, kind):
    pipe = copy.deepcopy(fits["full"])
    PLACES[place](pipe["candle"], OBJECTS[kind](fits["full"]))
    with pytest.raises(ValueError, match="^'file' (was not loaded|is not a model)"):
        from_bytes(skops.io.dumps(pipe), "file")


@pytest.mark.parametrize("around", [frozen, rejecting, lambda pipe: frozen(rejecting(pipe))])
def test_a_pipeline_inside_another_estimator_is_refused(fits, around):
    data = skops.io.dumps(around(fits["full"]))
    with pytest.raises(ValueError, match="does not contain a fitted pipeline"):
        from_bytes(data, "file")
    parts = [fits["full"], fits["full"]["clip"]]
    if around is not rejecting:  # which may contain a frozen classifier
        parts.append(frozen(fits["full"]["candle"]))
    for part in parts:
        pipe = CandlePipeline([("clip", fits["full"]["clip"]), ("candle", around(part))])
        with pytest.raises(ValueError, match="does not contain a fitted pipeline"):
            from_bytes(skops.io.dumps(pipe), "file")


def test_a_frozen_estimator_without_estimator_is_refused(fits):
    clf = FrozenEstimator(fits["full"]["candle"])
    pipe = CandlePipeline([("clip", fits["full"]["clip"]), ("candle", rejecting(clf))])
    data = skops.io.dumps(pipe)
    emptied = []

    def empty(schema):
        for node in nodes_of(schema):
            if node["__class__"] == "FrozenEstimator":
                emptied.append(node["content"]["content"].pop("estimator"))

    data = rewritten(data, schema=empty)
    assert emptied
    with pytest.raises(ValueError, match=REFUSED):
        from_bytes(data, "file")


def test_a_classifier_inside_a_rejecting_one_is_created_anew(fits, tmp_path):
    pipe = copy.deepcopy(fits["rejecting"])
    evil = CLIPFeaturizer("hf-hub:somebody/else", cache=EmbeddingCache(tmp_path / "chosen"))
    inner = pipe["candle"].estimator_
    inner._text_encoder = replace(inner._text_encoder, encoder=evil)
    pipe["candle"].estimator = frozen(pipe["candle"].estimator.set_params(text_encoder=evil))
    again = from_bytes(skops.io.dumps(pipe), "file")
    assert {clip.model_name for clip in check_all_objects(again)} == {"emoji-clip"}
    assert "fox" in fitted_candle(again).add_classes(["fox"]).classes_
    assert not (tmp_path / "chosen").exists()


@pytest.mark.parametrize(
    "name, value",
    [
        ("thresholds_", np.zeros(3)),
        ("classes_", np.array(["ant", "bee", "fox"])),
        ("rejection_rate", 2.0),
        ("more", EmbeddingCache("folder")),
    ],
)
def test_a_rejecting_classifier_does_not_contradict_the_one_inside(fits, name, value):
    pipe = copy.deepcopy(fits["rejecting"])
    setattr(pipe["candle"], name, value)
    with pytest.raises(ValueError, match=REFUSED):
        from_bytes(skops.io.dumps(pipe), "file")


@pytest.mark.parametrize("attribute", ["cache", "more"])
def test_attributes_of_a_featurizer_are_its_parameters(fits, attribute):
    pipe = copy.deepcopy(fits["full"])
    for clip in (pipe["clip"], pipe["candle"].text_encoder):
        setattr(clip, attribute, EmbeddingCache("folder"))
    again = from_bytes(skops.io.dumps(pipe), "file")
    assert "more" not in vars(again["clip"]) | vars(again["candle"].text_encoder)
    check_all_objects(again)


def test_wrong_parameters_are_refused(fits):
    for wrong in ({"clip__model_name": 3}, {"candle__margin": "x"}, {"clip__on_error": "hide"}):
        pipe = copy.deepcopy(fits["full"]).set_params(**wrong)
        with pytest.raises(ValueError, match="^'file' is not a model"):
            from_bytes(skops.io.dumps(pipe), "file")


def test_output_as_data_frames_is_kept(fits, images):
    pytest.importorskip("pandas")
    pipe = copy.deepcopy(fits["full"])
    pipe["clip"].set_output(transform="pandas")
    again = from_bytes(to_bytes(pipe), "file")
    assert list(again["clip"].transform(images[:1]).columns)[:1] == ["clipfeaturizer0"]


def test_a_function_as_text_encoder_needs_trust(quick_fit):
    pipe = quick_fit(candle__text_encoder=embed)
    data, name = to_bytes(pipe), f"{__name__}.embed"
    assert from_bytes(data, "file", trusted=[name])["candle"]._text_encoder.encoder is embed


def embed(prompts):
    return np.eye(len(prompts), 128)


# --- shapes --------------------------------------------------------------------------------------

CLASSIFIER = {
    "classes_": lambda value: value[:2],
    "class_count_": lambda value: value + 1,
    "is_new_": lambda value: ~value,
    "prototypes_": lambda value: value[:, :5],
    "text_features_": lambda value: value[::-1],
    "n_features_in_": lambda value: 64,
    "class_names_": lambda value: value[:2],
    "_columns": lambda value: value + 1,
    "_column_labels": lambda value: value[:2],
    "_column_names": lambda value: value[:1],
    "_training_images": lambda value: None,
    "_model": lambda value: None,
}
MODEL = {
    "text_features": lambda value: value[:2],
    "projection": lambda value: value[:64],
    "space.counts": lambda value: np.append(value, 1),
    "space.image_mean": lambda value: value[:, None],
    "space.text_mean": lambda value: None,
    "space.text_map": lambda value: value[:64, :64],
    "space.prototypes": lambda value: value[:, :64],
    "space.whitener": lambda value: None,
    "space.shrinkage": lambda value: "2",
    "statistics.counts": lambda value: value[:1],
    "statistics.means": lambda value: value.T,
    "statistics.scatter": lambda value: value.astype(int),
    "weights.temperature": lambda value: None,
    "weights": lambda value: None,
    "statistics": lambda value: {},
    "single_images.X": lambda value: value[:, :64],
    "single_images.y": lambda value: value + 3,
    "single_images.sample_weight": lambda value: value[1:],
    "single_images.coordinates": lambda value: value[1:],
    "single_images.coefficients": lambda value: value[:, :1],
    "single_images.columns": lambda value: value - 1,
    "single_images.weight": lambda value: "1",
}
ADAPTED = {
    "n_unlabeled": lambda value: value + 1,
    "unlabeled.counts": lambda value: value[:1],
    "unlabeled.scatter": lambda value: value[:64, :64],
    "unlabeled": lambda value: None,
    "before.text_features": lambda value: value[:1],
    "before.space.prototypes": lambda value: value[:, :64],
    "before.single_images.y": lambda value: value + 4,
    "after.text_features": lambda value: value[::-1],
    "after.space.text_map": lambda value: None,
    "after.space.prototypes": lambda value: value + 1,
    "after.projection": lambda value: value[:64],
    "after.single_images.coefficients": lambda value: value[:, :1],
    "after": lambda value: None,
    "before": lambda value: {},
}
HELD_OUT = {
    "coefficients": lambda value: value[:1],
    "novelty": lambda value: value[:, :10],
    "gaps": lambda value: value[0],
    "n_images": lambda value: [1],
}
PUBLISHED = {
    "counts": lambda value: value[:2],
    "text_features": lambda value: value[:, :64],
    "image_prototypes": lambda value: value.astype("f2"),
    "head_state": lambda value: value | {"image_projection": np.eye(64, dtype="f4")},
}
REFUSED = "^'file' (was not loaded, because .*; fit the pipeline again, or ask|is not a model that)"


def changed(part, path, change):
    """A dataclass with a change at a path of attributes."""
    name, _, rest = path.partition(".")
    value = getattr(part, name)
    return replace(part, **{name: changed(value, rest, change) if rest else change(value)})


def refuse(pipe, attribute, value):
    pipe = copy.deepcopy(pipe)
    setattr(pipe["candle"], attribute, value)
    with pytest.raises(ValueError, match=REFUSED):
        from_bytes(skops.io.dumps(pipe), "file")


@pytest.mark.parametrize("name", CLASSIFIER)
@pytest.mark.parametrize("kind", ["full", "published"])
def test_attributes_of_a_classifier_contradict_neither_each_other_nor_the_model(fits, kind, name):
    refuse(fits[kind], name, CLASSIFIER[name](getattr(fits[kind]["candle"], name)))


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("_column_labels", np.array(["ant", "bee", "fox"]), "not the labels of its classes"),
        ("_column_names", ["ant", "bee", "fox"], "not the names of its classes"),
        ("_column_names", "abe", "3 classes have the names 'abe'"),
        ("_held_out", None, "_held_out is missing or of type NoneType"),
        ("_prior", "abc", "_prior is missing or of type str"),
        ("_prior", 1.0, "_log_prior does not follow"),
        ("_prior", {"ant": 0.5, "bee": 0.5, "elk": 0.0}, "_log_prior does not follow"),
        ("_prior", {"ant": 1.0}, "no frequency for the class 'bee'"),
        ("_log_prior", None, "_log_prior does not follow"),
        ("_log_prior", np.zeros(2), "_log_prior has shape"),
    ],
)
def test_labels_names_and_frequencies_of_a_file_do_not_contradict_each_other(
    fits, name, value, reason
):
    pipe = copy.deepcopy(fits["full"])
    setattr(pipe["candle"], name, value)
    with pytest.raises(ValueError, match=reason):
        from_bytes(to_bytes(pipe), "file")


def test_classes_that_restrict_left_out_have_labels_of_their_own(fits):
    pipe = copy.deepcopy(fits["full"].restrict(["ant", "elk"]))
    pipe["candle"]._column_labels = np.array(["ant", "ant", "elk"])
    with pytest.raises(ValueError, match="labels of its classes contain duplicates"):
        from_bytes(to_bytes(pipe), "file")


def test_no_part_of_a_classifier_stands_in_for_another(fits):
    other = fits["full"]["candle"]._held_out
    model = fits["full"]["candle"]._model
    refuse(fits["full"], "_training_images", other)
    refuse(fits["full"], "_model", fits["published"]["candle"]._model)
    refuse(fits["full"], "_held_out", fits["full"]["candle"]._training_images)
    for name in ("single_images", "text_features", "space.shrinkage", "statistics.means"):
        refuse(fits["full"], "_model", changed(model, name, lambda value: other))


@pytest.mark.parametrize("name", MODEL)
def test_arrays_of_a_model_do_not_contradict_each_other(fits, name):
    refuse(fits["full"], "_model", changed(fits["full"]["candle"]._model, name, MODEL[name]))


@pytest.mark.parametrize("name", ADAPTED)
def test_arrays_of_an_adapted_model_do_not_contradict_each_other(fits, name):
    model = fits["adapted"]["candle"]._model
    refuse(fits["adapted"], "_model", changed(model, name, ADAPTED[name]))


def test_an_adapted_model_has_two_models_inside_and_none_of_its_kind(fits):
    model = fits["adapted"]["candle"]._model
    refuse(fits["adapted"], "_model", replace(model, before=model))
    refuse(fits["adapted"], "_model", replace(model, after=fits["published"]["candle"]._model))


def test_a_file_from_before_unlabeled_count_says_to_fit_again(fits):
    pipe = copy.deepcopy(fits["full"])
    del pipe["candle"].unlabeled_count_
    with pytest.raises(ValueError, match="this version of skcandle can read .*; fit it again"):
        from_bytes(to_bytes(pipe), "file")


def test_unlabeled_count_is_what_the_model_has_learned(fits):
    refuse(fits["full"], "unlabeled_count_", np.ones(3, "f4"))


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_scores_do_not_contradict_each_other(fits, name):
    value = changed(fits["full"]["candle"]._held_out, name, HELD_OUT[name])
    refuse(fits["full"], "_held_out", value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_arrays_of_a_published_model_do_not_contradict_each_other(fits, name):
    model = changed(fits["published"]["candle"]._model, name, PUBLISHED[name])
    refuse(fits["published"], "_model", model)


def test_classes_are_sorted_and_distinct(fits):
    for classes in (["bee", "ant", "elk"], ["ant", "ant", "elk"]):
        pipe = copy.deepcopy(fits["full"])
        candle = pipe["candle"]
        assert_array_equal(candle._columns, [0, 1, 2])
        candle.classes_ = candle._column_labels = np.array(classes)
        candle.class_names_ = candle._column_names = classes
        with pytest.raises(ValueError, match="classes_ are not sorted, or contain duplicates"):
            from_bytes(skops.io.dumps(pipe), "file")


# --- the CLIP of the fit -------------------------------------------------------------------------


def test_a_file_without_fit_of_its_featurizer_has_the_model_of_the_day(fits, images):
    pipe = CandlePipeline([("clip", CLIPFeaturizer("emoji-clip")), fits["full"].steps[1]])
    assert from_bytes(skops.io.dumps(pipe), "file")["clip"]._identity is None
    again = from_bytes(to_bytes(pipe), "file")
    with pytest.raises(ModelError, match="'emoji-clip' .* is 'RN50, None'"):
        again.set_params(clip__model_name="RN50", clip__pretrained=None).predict(images)


@pytest.mark.parametrize("place", ["clip", "text encoder"])
@pytest.mark.parametrize(
    "wrong",
    ["abc", {"name": 1}, {"fingerprints": ()}, {"fingerprints": "ab"}, {"fingerprints": [1]}],
)
def test_a_file_says_in_the_right_form_which_model_it_was_fitted_with(fits, wrong, place):
    pipe = copy.deepcopy(fits["full"])
    identity = pipe["clip"]._identity
    step = pipe["clip"] if place == "clip" else pipe["candle"].text_encoder
    step._identity = replace(identity, **wrong) if isinstance(wrong, dict) else wrong
    with pytest.raises(ValueError, match="does not say which CLIP it was fitted with"):
        from_bytes(skops.io.dumps(pipe), "file")
