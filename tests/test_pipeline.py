import inspect
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from helpers import random_images
from scipy.special import softmax
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.datasets import load_emoji
from skcandle.metrics import harmonic_mean_scorer
from skcandle.model_selection import NewClassSplit

BASE = ["airplane", "apple", "bell", "camera", "cat", "guitar", "umbrella"]
NEW = ["butterfly", "penguin", "pizza", "strawberry"]


@pytest.fixture(scope="module")
def emoji():
    """Images and labels, by "base" and "new"."""
    data = load_emoji()
    chosen = {"base": np.isin(data.target, BASE), "new": np.isin(data.target, NEW)}
    return {
        side: ([data.images[i] for i in np.flatnonzero(mask)], data.target[mask])
        for side, mask in chosen.items()
    }


@pytest.fixture(scope="module")
def fitted(emoji):
    return make_candle_pipeline("emoji-clip", new_classes=NEW, random_state=0).fit(*emoji["base"])


def test_defaults_are_those_of_the_estimators():
    made = inspect.signature(make_candle_pipeline).parameters
    for estimator in (CLIPFeaturizer, CandleClassifier):
        for name, parameter in inspect.signature(estimator).parameters.items():
            if name in made:
                assert made[name].default == parameter.default


def test_settings_reach_the_steps():
    settings = {"batch_size": 5, "device": "cpu", "cache": "folder", "n_jobs": 2, "verbose": 1}
    others = {"new_classes": ["okapi"], "temperature": 0.02, "margin": 0.5, "random_state": 3}
    pipe = make_candle_pipeline("ViT-B-32", "laion2b_s34b_b79k", **settings, **others)
    assert list(pipe.named_steps) == ["clip", "candle"]
    clip, candle = pipe["clip"].get_params(), pipe["candle"].get_params(deep=False)
    assert (
        clip.items()
        >= (settings | {"model_name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}).items()
    )
    assert candle.items() >= (others | {"device": "cpu", "verbose": 1}).items()
    assert candle["text_encoder"].get_params() == clip


def published():
    """A pipeline whose classifier has been replaced by the published one."""
    pipe = make_candle_pipeline("emoji-clip")
    encoder = pipe["candle"].text_encoder
    return pipe.set_params(
        candle=PublishedCandleClassifier(text_encoder=encoder, max_iter=1, random_state=0)
    )


def test_the_published_method_in_a_pipeline(emoji):
    pipe = published().fit(*emoji["base"])
    assert pipe.classes_.tolist() == BASE
    assert pipe.score(*emoji["base"]) > 0.5


def test_base_and_new_classes_are_recognised_in_the_joint_space(emoji, fitted):
    assert fitted.classes_.tolist() == sorted(BASE + NEW)
    for images, labels in emoji.values():
        assert fitted.score(images, labels) > 0.8


def test_probabilities_cover_base_and_new_classes(emoji, fitted):
    proba = fitted.predict_proba(emoji["new"][0])
    assert proba.shape == (len(emoji["new"][0]), len(BASE + NEW))
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


def test_dumped_pipeline_predicts_the_same_and_holds_no_weights(emoji, fitted, tmp_path):
    path = tmp_path / "pipe.joblib"
    joblib.dump(fitted, path)
    images = emoji["base"][0] + emoji["new"][0]
    np.testing.assert_array_equal(
        joblib.load(path).predict_proba(images), fitted.predict_proba(images)
    )
    assert path.stat().st_size < 500_000  # the smallest CLIP of open_clip has more than 100 MB


def test_prediction_does_not_load_clip_for_known_images(emoji, fitted, no_loading):
    images, labels = emoji["base"]
    fitted.predict(images)
    loaded = pickle.loads(pickle.dumps(fitted))
    no_loading()
    loaded.predict(images)


def test_clone_fits_to_the_same_predictions(emoji, fitted):
    again = clone(fitted).fit(*emoji["base"])
    images = emoji["new"][0]
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))


def test_grid_search_encodes_each_image_once(emoji, encoded):
    images, labels = emoji["base"]
    n_distinct = len({image.tobytes() for image in images})
    pipe = make_candle_pipeline("emoji-clip", random_state=0)
    grid = {"candle__temperature": [0.005, 0.01], "candle__margin": [0.0, 1.0]}
    search = GridSearchCV(pipe, grid, cv=3, error_score="raise").fit(images, labels)
    assert sum(encoded) == n_distinct
    assert search.best_estimator_.score(images, labels) > 0.8


def test_grid_search_over_folds_that_hide_classes(emoji):
    images = emoji["base"][0] + emoji["new"][0]
    labels = np.concatenate([emoji["base"][1], emoji["new"][1]])
    pipe = make_candle_pipeline("emoji-clip", class_names=BASE + NEW, random_state=0)
    search = GridSearchCV(
        pipe,
        {"candle__margin": [0.0, 1.0]},
        cv=NewClassSplit(n_splits=2, random_state=0),
        scoring=harmonic_mean_scorer,
        error_score="raise",
    ).fit(images, labels)
    assert (search.cv_results_["mean_test_score"] > 0.5).all()
    assert not search.best_estimator_["candle"].is_new_.any()


def test_cross_val_predict(emoji):
    images, labels = emoji["base"]
    pipe = make_candle_pipeline("emoji-clip", random_state=0)
    assert np.mean(cross_val_predict(pipe, images, labels, cv=3) == labels) > 0.8


def test_search_over_models_sets_both_encoders(emoji, tiny_clip):
    images, labels = emoji["base"]
    clips = [CLIPFeaturizer(name) for name in ("emoji-clip", tiny_clip)]
    grid = [{"clip": [clip], "candle__text_encoder": [clip]} for clip in clips]
    pipe = make_candle_pipeline("emoji-clip", random_state=0)
    with pytest.warns(UserWarning, match="not seem to come from the same model"):  # random weights
        search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(images, labels)
    assert search.best_estimator_["clip"].model_name == "emoji-clip"
    assert search.best_estimator_["candle"].text_encoder.model_name == "emoji-clip"


def test_search_over_the_model_of_one_step_says_that_both_must_agree(emoji, tiny_clip):
    pipe = make_candle_pipeline("emoji-clip")
    search = GridSearchCV(pipe, {"clip__model_name": [tiny_clip]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="128 columns, but X has 64. Both must come from the same"):
        search.fit(*emoji["base"])


@pytest.mark.parametrize("container", [list, pd.Series, pd.DataFrame])
def test_files_in_a_list_a_series_and_a_data_frame(emoji, fitted, tmp_path, container):
    images, labels = emoji["base"]
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    X = container(paths)
    by_path = clone(fitted).fit(X, pd.Series(labels))
    np.testing.assert_array_equal(by_path.predict(X), fitted.predict(images))


def test_encoded_bytes(emoji, fitted):
    buffer = io.BytesIO()
    emoji["new"][0][0].save(buffer, "PNG")
    np.testing.assert_array_equal(
        fitted.predict([buffer.getvalue()]), fitted.predict(emoji["new"][0][:1])
    )


def test_set_output_names_the_features(emoji, fitted):
    images, labels = emoji["base"]
    column = pd.DataFrame({"image": images}, index=np.arange(len(images)) + 100)
    pipe = clone(fitted).set_output(transform="pandas").fit(column, labels)
    frame = pipe[:-1].transform(column)
    assert frame.index.equals(column.index)
    assert pipe["candle"].feature_names_in_.tolist() == frame.columns.tolist()
    np.testing.assert_array_equal(pipe.predict(column), fitted.predict(images))


def test_integer_labels_with_names_of_classes(emoji, fitted):
    images, labels = emoji["base"]
    names = sorted(BASE + NEW)
    pipe = make_candle_pipeline("emoji-clip", class_names=names, random_state=0)
    pipe.fit(images, np.searchsorted(names, labels))
    np.testing.assert_array_equal(
        np.array(names)[pipe.predict(emoji["new"][0])], fitted.predict(emoji["new"][0])
    )


def test_class_added_after_fit_is_recognised(emoji):
    pipe = make_candle_pipeline("emoji-clip", random_state=0).fit(*emoji["base"])
    grown = make_pipeline(pipe["clip"], pipe["candle"].add_classes(NEW))
    assert grown.score(*emoji["new"]) > 0.8
    assert not np.isin(pipe.predict(emoji["new"][0]), NEW).any()


def test_a_missing_label_is_found_before_images_are_encoded(encoded):
    pipe = make_candle_pipeline("emoji-clip")
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
        pipe.fit(random_images(3), ["cat", "cow"])
    assert sum(encoded) == 0


def test_is_a_pipeline_with_methods():
    assert type(make_candle_pipeline()) is CandlePipeline


# --- the life of a label set -----------------------------------------------------------------


@pytest.fixture(scope="module")
def grown(fitted, emoji):
    """The fitted pipeline and its classifier, and images of new classes."""
    images, labels = emoji["new"]
    return fitted, fitted["candle"], images, labels


def embed(pipe, images):
    return pipe["clip"].transform(images)


@pytest.mark.parametrize(
    "method, arguments",
    [
        ("restrict", (BASE[:3],)),
        ("add_classes", (["lion"],)),
        ("add_classes", ({"lion": ["lion", "big cat"]},)),
        ("with_prior", ("training",)),
    ],
)
def test_copies_of_a_pipeline_are_those_of_its_classifier(grown, method, arguments):
    pipe, candle, images, _ = grown
    copy = getattr(pipe, method)(*arguments)
    expected = getattr(candle, method)(*arguments)
    assert copy["clip"] is pipe["clip"]
    assert copy.classes_.tolist() == expected.classes_.tolist()
    np.testing.assert_array_equal(
        copy.predict_proba(images), expected.predict_proba(embed(pipe, images))
    )
    assert pipe["candle"] is candle


def test_images_are_added_to_a_pipeline(grown):
    pipe, candle, images, labels = grown
    weight = np.arange(len(labels)) + 1.0
    copy = pipe.add_images(images, labels, weight)
    expected = candle.add_images(embed(pipe, images), labels, weight)
    np.testing.assert_array_equal(
        copy.predict_proba(images), expected.predict_proba(embed(pipe, images))
    )


def test_a_pipeline_learns_from_images_without_labels(grown):
    pipe, candle, images, labels = grown
    weight = np.arange(len(labels)) + 1.0
    copy = pipe.add_unlabeled(images, weight)
    expected = candle.add_unlabeled(embed(pipe, images), weight)
    np.testing.assert_array_equal(
        copy.predict_proba(images), expected.predict_proba(embed(pipe, images))
    )
    assert copy["clip"] is pipe["clip"] and pipe["candle"] is candle


def test_a_pipeline_of_names_alone_gives_the_answers_of_zero_shot_clip(emoji):
    images, _ = emoji["new"]
    pipe = make_candle_pipeline("emoji-clip", new_classes=NEW).fit([], [])
    clip = CLIPFeaturizer("emoji-clip")
    texts = clip.encode_text([f"a photo of a {name}." for name in NEW])
    expected = softmax(100 * clip.transform(images).astype(float) @ texts.T, axis=1)
    np.testing.assert_allclose(pipe.predict_proba(images), expected, atol=1e-4)
    assert pipe.classes_.tolist() == NEW and pipe["candle"].is_new_.all()


def test_a_pipeline_of_names_alone_learns_from_all_kinds_of_images(emoji):
    pipe = make_candle_pipeline("emoji-clip", new_classes=NEW).fit([], [])
    images, labels = emoji["new"]
    adapted = pipe.add_unlabeled(images)
    assert adapted["candle"].unlabeled_count_.sum() > len(images) / 2
    assert adapted["candle"].is_new_.all()
    labelled = pipe.add_images(images, labels).add_classes(["lion"])
    assert labelled["candle"].is_new_.tolist() == [False, True, False, False, False]
    assert labelled.classes_.tolist() == sorted([*NEW, "lion"])


@pytest.mark.parametrize("order", ["around", "inside"])
def test_rejecting_with_names_alone_warns_that_nothing_is_rejected(emoji, order):
    images = emoji["new"][0] + random_images(5)
    pipe = make_candle_pipeline("emoji-clip", new_classes=NEW)
    clf = RejectingClassifier(pipe)
    if order == "inside":
        clf = pipe.set_params(candle=RejectingClassifier(pipe["candle"]))
    with pytest.warns(UserWarning, match="Answers with new classes are never rejected"):
        clf.fit([], [])
    with pytest.warns(UserWarning, match="never rejected"):
        adapted = clf.add_unlabeled(images)
    assert set(clf.predict(images)) == set(adapted.predict(images)) == set(NEW)


def test_no_labels_need_no_images():
    pipe = make_candle_pipeline("emoji-clip", new_classes=NEW)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        pipe.fit([], ["pizza"])
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        make_candle_pipeline("emoji-clip").fit([], [])


def test_answers_of_a_pipeline_are_those_of_its_classifier(grown):
    pipe, candle, images, _ = grown
    rows = embed(pipe, images)
    for part, expected in zip(pipe.top_k(images, 2), candle.top_k(rows, 2), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(pipe.novelty_score(images), candle.novelty_score(rows))
    for part, expected in zip(
        pipe.novelty_score(images, return_is_new=True),
        candle.novelty_score(rows, return_is_new=True),
        strict=True,
    ):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(pipe.novelty_thresholds(0.3), candle.novelty_thresholds(0.3))
    np.testing.assert_array_equal(pipe.predict_set(images, 0.6), candle.predict_set(rows, 0.6))
    np.testing.assert_array_equal(pipe.choose_to_label(images, 3), candle.choose_to_label(rows, 3))


def test_a_pipeline_with_methods_is_a_pipeline(fitted, emoji):
    images, _ = emoji["base"]
    assert isinstance(fitted, Pipeline)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
    copy = clone(fitted).set_params(candle__margin=0.5, clip__batch_size=8)
    assert type(copy) is type(fitted) is CandlePipeline
    assert (copy["candle"].margin, copy["clip"].batch_size) == (0.5, 8)
    assert "CandlePipeline" in fitted._repr_html_()
    assert "CLIPFeaturizer" in fitted._repr_html_()
    assert isinstance(fitted[:-1], Pipeline)


def test_a_search_returns_a_pipeline_with_methods(emoji):
    pipe = make_candle_pipeline("emoji-clip").set_params(candle__max_iter=0)
    search = GridSearchCV(pipe, {"candle__margin": [0.0, 1.0]}, cv=2).fit(*emoji["base"])
    assert "lion" in search.best_estimator_.add_classes(["lion"]).classes_


def test_a_method_exists_only_if_the_last_step_has_it(fitted):
    assert hasattr(published(), "add_classes")
    assert not hasattr(published(), "add_images") and not hasattr(published(), "add_unlabeled")
    rejecting = CandlePipeline([("candle", RejectingClassifier(CandleClassifier()))])
    assert hasattr(rejecting, "novelty_score")
    assert not hasattr(rejecting, "novelty_thresholds")
    without = CandlePipeline([("candle", RejectingClassifier(PublishedCandleClassifier()))])
    assert hasattr(rejecting, "add_images") and not hasattr(without, "add_images")


def test_another_pipeline_can_be_converted(fitted, emoji):
    images, _ = emoji["new"]
    by_hand = CandlePipeline(Pipeline(fitted.steps).steps)
    for part, expected in zip(by_hand.top_k(images, 1), fitted.top_k(images, 1), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_rejecting_from_images(emoji):
    pipe = make_candle_pipeline("emoji-clip", new_classes=NEW)
    clf = RejectingClassifier(pipe, rejection_rate=0.3).fit(*emoji["base"])
    images = random_images(5)
    inside = Pipeline(
        [
            ("clip", pipe["clip"]),
            ("candle", RejectingClassifier(pipe["candle"], rejection_rate=0.3)),
        ]
    )
    inside.fit(*emoji["base"])
    np.testing.assert_array_equal(inside.predict(images), clf.predict(images))


@pytest.mark.parametrize("kind", [CandlePipeline, Pipeline])
@pytest.mark.parametrize(
    "method, arguments",
    [
        ("add_classes", (["lion"],)),
        ("add_images", (random_images(2), ["lion", "lion"])),
        ("add_unlabeled", (load_emoji().images[::40],)),
        ("restrict", (NEW,)),
    ],
)
def test_rejecting_with_a_fitted_pipeline_that_has_changed(fitted, emoji, kind, method, arguments):
    changed = getattr(fitted, method)(*arguments)
    frozen = FrozenEstimator(kind(changed.steps))
    clf = RejectingClassifier(frozen, rejection_rate=0.3).fit(*emoji["base"])
    images = emoji["new"][0] + random_images(5)
    score, is_new = changed.novelty_score(images, return_is_new=True)
    rejected = score > changed.novelty_thresholds(0.3)[is_new.astype(int)]
    assert rejected.any() and not rejected.all()
    expected = np.where(rejected, "unknown", changed.predict(images))
    np.testing.assert_array_equal(clf.predict(images), expected)
