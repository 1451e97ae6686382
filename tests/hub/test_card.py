"""The text of a model card."""

import copy
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard
from sklearn.frozen import FrozenEstimator

import skcandle
from skcandle import (
    CandlePipeline,
    PublishedCandleClassifier,
    RejectingClassifier,
    make_candle_pipeline,
)
from skcandle.hub._card import render_card
from skcandle.hub._model_files import fitted_candle, from_bytes, to_bytes


def section(card, title):
    """Text below a heading."""
    _, _, rest = card.partition(f"\n## {title}\n")
    assert rest, card
    return rest.partition("\n## ")[0]


def rows(card, title):
    """Cells of the table below a heading."""
    lines = [line for line in section(card, title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_metadata_are_those_of_the_hub(pipe):
    data = ModelCard(render_card(pipe, license="cc-by-4.0")).data
    assert (data.library_name, data.license) == ("skcandle", "cc-by-4.0")
    assert data.pipeline_tag == "image-classification" and "clip" in data.tags
    assert data.base_model is None
    assert ModelCard(render_card(pipe)).data.license is None


def test_classes_have_their_numbers_of_training_images(pipe):
    card = render_card(pipe)
    assert rows(card, "Classes") == [
        ["ant", "6"],
        ["bee", "2"],
        ["elk", "none, known by name only"],
    ]
    assert "2 classes from 8 training images, and 1 by name only" in card
    assert "Classes with fewer than 3 training images (1 of them)" in section(card, "Limits")
    assert "a class without training images" in section(card, "Limits")


def test_integer_labels_and_synonyms_have_their_names(quick_fit):
    names = {0: "ant", 1: ["bee", "honey bee"]}
    pipe = quick_fit(candle__class_names=names, y=np.repeat([0, 1], [6, 2]))
    assert rows(render_card(pipe), "Classes") == [
        ["0", "ant", "6"],
        ["1", "bee, honey bee", "2"],
    ]


def test_names_of_classes_are_not_read_as_markup(pipe):
    card = render_card(pipe.add_classes(["a|b\n<script>`x`"]))
    assert "<script>" not in card
    assert rows(card, "Classes")[1][0] == "a&#124;b &#60;script&#62;&#96;x&#96;"


def test_many_classes_are_folded(pipe):
    assert "<details>" not in section(render_card(pipe), "Classes")
    many = pipe.add_classes([f"fox {i}" for i in range(40)])
    assert "<details>" in section(render_card(many), "Classes")


@pytest.mark.parametrize(
    "model_name, pretrained, said, base_model",
    [
        ("emoji-clip", "openai", "part of skcandle", None),
        ("hf-hub:owner/name", "openai", "hf-hub&#58;owner/name", "owner/name"),
        (
            "ViT-B-32-quickgelu",
            "openai",
            "**ViT-B-32-quickgelu** from open_clip embeds the images, with the weights **openai**",
            "timm/vit_base_patch32_clip_224.openai",
        ),
        ("ViT-B-32", None, "random weights", None),
    ],
)
def test_the_model_is_named(pipe, model_name, pretrained, said, base_model):
    other = copy.deepcopy(pipe)
    other["clip"].set_params(model_name=model_name, pretrained=pretrained)
    card = render_card(other)
    assert said in card
    assert ModelCard(card).data.base_model == base_model
    assert "set_params" not in section(card, "How to load it")


@pytest.mark.parametrize(
    "model_name, pretrained, parameter",
    [
        ("local-dir:/home/ann/clip", "openai", "model_name"),
        ("ViT-B-32", "/home/ann/w.pt", "pretrained"),
    ],
)
def test_paths_of_the_author_are_not_in_the_card(pipe, model_name, pretrained, parameter):
    other = copy.deepcopy(pipe)
    other["clip"].set_params(model_name=model_name, pretrained=pretrained)
    card = render_card(other)
    assert "/home/ann" not in card
    assert re.search("is not (part of|in) this repository", card)
    assert f"pipe.set_params(clip__{parameter}=" in section(card, "How to load it")


@pytest.mark.parametrize(
    "params, said",
    [
        ({"temperature": "auto"}, "calibrated on held-out training images"),
        ({"temperature": 0.5}, "not calibrated; the temperature was set to 0.5"),
        ({}, "equally frequent"),
        ({"margin": 0}, "as frequent as in training"),
        ({"margin": 0.5}, "to the power of 0.5"),
        ({"class_prior": "training"}, "as frequent as in training"),
        ({"class_prior": {"ant": 0.5}}, "as the parameter `class_prior` says"),
    ],
)
def test_what_probabilities_mean_follows_from_the_parameters(pipe, params, said):
    other = copy.deepcopy(pipe)
    other["candle"].set_params(**params)
    assert said in section(render_card(other), "What the probabilities mean")


def test_probabilities_of_the_published_method_are_not_called_calibrated(images):
    pipe = make_candle_pipeline("emoji-clip")
    encoder = pipe["candle"].text_encoder
    published = PublishedCandleClassifier(new_classes=["elk"], text_encoder=encoder, max_iter=1)
    card = render_card(pipe.set_params(candle=published).fit(images[:4], ["ant", "bee"] * 2))
    assert "is not calibrated" in section(card, "What the probabilities mean")


def test_what_the_file_says_of_training_images_follows_from_the_model(quick_fit, images):
    start = "The file contains the names of the classes, the class means of the embeddings, "
    end = "and a digest of each training image, but not the training images themselves."
    with_images = quick_fit(candle__single_image_weight=2.0)
    assert len(with_images["candle"]._model.single_images.X) == len(images)
    said = f"the embeddings of {len(images)} training images, "
    assert start + said + end in section(render_card(with_images), "Limits")
    without = quick_fit(candle__single_image_weight=0.0)
    assert start + end in section(render_card(without), "Limits")


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pipeline_that_rejects_says_how_often_and_with_which_label(pipe, images, frozen):
    candle = FrozenEstimator(pipe["candle"]) if frozen else pipe["candle"]
    rejecting = RejectingClassifier(candle, reject_label="no *insect*", rejection_rate=0.25)
    rejecting_pipe = CandlePipeline([("clip", pipe["clip"]), ("candle", rejecting)])
    card = render_card(rejecting_pipe.fit(images, np.repeat(["ant", "bee"], [6, 2])))
    said = section(card, "What the probabilities mean")
    assert "answers **no &#42;insect&#42;** where" in said and "25% of the images" in said
    assert "cannot say" not in said
    assert "gets one of these classes" not in section(card, "Limits")
    code = section(card, "How to load it")
    assert 'pipe.predict(["photo.jpg"])' in code and "top_k" not in code
    assert not hasattr(rejecting_pipe, "top_k")


@pytest.mark.parametrize("rejects", [False, True])
def test_the_code_of_a_card_sets_the_path_of_both_models(pipe, images, tmp_path, rejects):
    other = copy.deepcopy(pipe)
    if rejects:
        rejecting = RejectingClassifier(FrozenEstimator(other["candle"]), rejection_rate=0.25)
        other = CandlePipeline([("clip", other["clip"]), ("candle", rejecting)])
        other.fit(images, np.repeat(["ant", "bee"], [6, 2]))
    for clip in (other["clip"], fitted_candle(other).text_encoder):
        clip.set_params(model_name="local-dir:/home/ann/clip")
    code = section(render_card(other), "How to load it").split("```")[1].splitlines()
    loaded = from_bytes(to_bytes(other), "file")
    for line in code:
        if "set_params" in line:
            exec(line, {"pipe": loaded, "path": "local-dir:/home/bob/clip"})
    for clip in (loaded["clip"], fitted_candle(loaded)._text_encoder.encoder):
        assert clip.model_name == "local-dir:/home/bob/clip"


def test_a_pipeline_that_does_not_reject_says_so(pipe):
    card = render_card(pipe)
    assert 'cannot say "none of these"' in section(card, "What the probabilities mean")
    assert "gets one of these classes too" in section(card, "Limits")
    assert "pipe.top_k" in section(card, "How to load it")


def test_metrics_are_shown_or_said_to_be_missing(pipe):
    assert "The author gave none." in section(render_card(pipe), "Evaluation")
    card = render_card(pipe, metrics={"joint_base": 0.51239, "log_loss": np.float32(2)})
    assert rows(card, "Evaluation") == [["joint base", "0.5124"], ["log loss", "2"]]


def test_a_description_comes_first(pipe):
    card = render_card(pipe, description="Beetles of *Crete*.\n\n")
    _, _, body = card.partition("\n# Image classifier of 3 classes\n\n")
    assert body.startswith("Beetles of *Crete*.\n\nA `CandleClassifier`")


def test_parameters_and_versions(pipe):
    card = render_card(pipe)
    parameters = dict(rows(card, "Parameters"))
    assert parameters["candle__new_classes"] == "&#91;'elk'&#93;"
    assert parameters["candle__text_encoder"] == "the same model"
    assert "clip__cache" not in parameters and "clip__pretrained" not in parameters
    versions = dict(rows(card, "Versions"))
    assert versions["skcandle"] == skcandle.__version__ and "torch" in versions


@pytest.mark.parametrize(
    "wrong", [{"license": 1}, {"description": ["x"]}, {"metrics": [1]}, {"metrics": {}},
              {"metrics": {"a": "b"}}, {"metrics": {1: 2}}]
)  # fmt: skip
def test_wrong_parts_are_named(pipe, wrong):
    with pytest.raises(TypeError, match=f"^{next(iter(wrong))} "):
        render_card(pipe, **wrong)


@pytest.mark.parametrize(
    "encoder, said",
    [
        (skcandle.CLIPFeaturizer("hf-hub:a/b"), "another model&#58; hf-hub&#58;a/b, openai"),
        (
            skcandle.CLIPFeaturizer("local-dir:/home/ann"),
            "another model, at a path on the author's",
        ),
        ("auto", "'auto'"),
        (None, "None&#58; class names are not used"),
    ],
)
def test_the_model_that_embeds_class_names_is_named(pipe, encoder, said):
    other = copy.deepcopy(pipe)
    other["candle"].text_encoder = encoder
    assert said in dict(rows(render_card(other), "Parameters"))["candle__text_encoder"]


def test_a_card_says_what_images_without_labels_have_taught(pipe, images):
    adapted = pipe.add_unlabeled(images)
    n_images = adapted["candle"].unlabeled_count_.sum()
    assert n_images > 0
    card, earlier = render_card(adapted), render_card(pipe)
    assert f"It has also learned from about {n_images:.0f} images without labels." in card
    assert "the class means of images without labels, the embeddings of 8 training images," in card
    assert "without labels" not in earlier


def test_a_card_of_names_alone_claims_neither_training_images_nor_calibration():
    names = ["ant", "bee"]
    card = render_card(make_candle_pipeline("emoji-clip", new_classes=names).fit([], []))
    assert "It knows 2 classes by name only." in card
    said = section(card, "What the probabilities mean")
    assert "not calibrated, because the classifier was fitted on names alone" in said
    assert "resemble the training images" not in card
