"""The bundled images and the bundled model."""

import io
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import skcandle
from skcandle.datasets import load_emoji

DATA = Path(skcandle.__file__).parent / "data"
MODEL = f"local-dir:{DATA / 'emoji-clip'}"
STYLES = ["twemoji", "fluent-emoji", "fluent-emoji-flat"]
N_CLASSES = 152


@pytest.fixture(scope="module")
def emoji():
    return load_emoji()


def test_every_image_has_a_label_and_a_style(emoji):
    assert len(emoji.images) == len(emoji.target) == len(emoji.styles) == 1455


def test_class_names_are_sorted_and_distinct(emoji):
    assert len(emoji.target_names) == N_CLASSES
    assert list(emoji.target_names) == sorted(set(emoji.target))


@pytest.mark.parametrize("style", STYLES)
def test_every_class_is_drawn_in_every_style(emoji, style):
    assert len(set(emoji.target[emoji.styles == style])) == N_CLASSES


def test_images_are_small_and_rgb(emoji):
    assert {(image.size, image.mode) for image in emoji.images} == {((64, 64), "RGB")}


def test_no_image_is_blank(emoji):
    assert min(np.ptp(image) for image in emoji.images) > 20


def test_images_lie_on_white(emoji):
    corners = np.array([np.asarray(image)[0, 0] for image in emoji.images])
    assert np.median(corners) >= 250


def test_order_is_style_then_class_name(emoji):
    keys = list(zip(map(STYLES.index, emoji.styles), emoji.target, strict=True))
    assert keys == sorted(keys)


def test_two_calls_give_the_same_images(emoji):
    again = load_emoji()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(emoji.images, again.images, strict=True))
    np.testing.assert_array_equal(emoji.target, again.target)


def test_styles_select_images_in_the_order_given(emoji):
    chosen = load_emoji(styles=["fluent-emoji", "twemoji"])
    expected = [*emoji.target[emoji.styles == "fluent-emoji"]]
    expected += [*emoji.target[emoji.styles == "twemoji"]]
    assert list(chosen.target) == expected


def test_one_style_may_be_a_plain_string():
    assert set(load_emoji(styles="twemoji").styles) == {"twemoji"}


@pytest.mark.parametrize("styles", ["noto", ["twemoji", "noto"], []])
def test_unknown_styles_are_refused(styles):
    with pytest.raises(ValueError, match="styles must name some of"):
        load_emoji(styles=styles)


def test_description_names_origin_and_licences(emoji):
    for fact in ["Twitter", "CC BY 4.0", "Microsoft", "MIT"]:
        assert fact in emoji.DESCR


def unit_features(encode, inputs):
    with torch.no_grad():
        return encode(inputs, normalize=True).numpy()


@pytest.fixture(scope="module")
def clip():
    """The bundled model, loaded with open_clip only."""
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL)
    return model.eval(), preprocess, open_clip.get_tokenizer(MODEL)


@pytest.mark.parametrize("template", ["{}", "a photo of a {}."])
def test_zero_shot_accuracy_is_far_above_chance(clip, emoji, template):
    # A guess is right once in 152; ten times as often is beyond luck on 243 images.
    model, preprocess, tokenizer = clip
    sample = slice(None, None, 6)
    pixels = torch.stack([preprocess(image) for image in emoji.images[sample]])
    tokens = tokenizer([template.format(name) for name in emoji.target_names])
    similarity = (
        unit_features(model.encode_image, pixels) @ unit_features(model.encode_text, tokens).T
    )
    guesses = emoji.target_names[similarity.argmax(axis=1)]
    assert np.mean(guesses == emoji.target[sample]) > 10 / N_CLASSES


def test_features_of_image_and_text_have_one_width(clip):
    model, preprocess, tokenizer = clip
    image = unit_features(model.encode_image, preprocess(Image.new("RGB", (9, 9)))[None])
    text = unit_features(model.encode_text, tokenizer(["a dog"]))
    assert image.shape == text.shape == (1, 128)


def test_weights_are_half_precision_on_disk():
    weights = load_file(DATA / "emoji-clip" / "open_clip_model.safetensors")
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float16}


def test_package_data_stay_small():
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16e6
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in files:
            wheel.write(path, path.relative_to(DATA))
    assert len(archive.getvalue()) <= 6.5e6


@pytest.mark.parametrize("folder", ["emoji", "emoji-clip"])
def test_licences_lie_beside_the_data(folder):
    assert (DATA / folder / "LICENSE").is_file()
