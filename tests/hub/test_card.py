"""The text of a model card."""

import copy
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard

import skcandle
from skcandle import PublishedCandleClassifier, make_candle_pipeline
from skcandle.hub._card import render_card


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
