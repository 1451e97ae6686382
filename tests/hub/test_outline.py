"""What is read from a model file without loading it."""

import json

import numpy as np
import pytest
from hostile_files import rewritten

from skcandle import RejectingClassifier, _version, make_candle_pipeline
from skcandle.hub._model_files import fitted_candle, to_bytes
from skcandle.hub._outline import OF_CLASSES, read_outline


def fitted(emoji, labels=str, reject=False, has_text=True, **parameters):
    chosen = np.flatnonzero(np.isin(emoji.target, ["apple", "lemon"]))
    pipe = make_candle_pipeline("emoji-clip", **parameters)
    if not has_text:
        pipe.set_params(candle__text_encoder=None)
    if reject:
        pipe.set_params(candle=RejectingClassifier(pipe["candle"], rejection_rate=0.25))
    y = np.array([labels(label) for label in emoji.target[chosen]])
    return pipe.fit([emoji.images[i] for i in chosen], y)


@pytest.fixture(scope="module")
def emoji():
    from skcandle.datasets import load_emoji

    return load_emoji()


@pytest.fixture(scope="module")
def data(emoji):
    return to_bytes(fitted(emoji, new_classes=["okapi"]))


@pytest.mark.parametrize(
    "options",
    [
        {"new_classes": ["okapi"]},
        {"has_text": False},
        {"reject": True},
        {
            "labels": {"apple": 5, "lemon": 4}.get,
            "class_names": {4: "lemon", 5: "apple", 6: "okapi"},
        },
    ],
)
def test_an_outline_has_the_attributes_of_the_pipeline(emoji, options):
    pipe = fitted(emoji, **options)
    clip, last, candle = read_outline(to_bytes(pipe))
    expected = fitted_candle(pipe)
    for name in OF_CLASSES:
        assert hasattr(expected, name)
        np.testing.assert_array_equal(getattr(candle, name), getattr(expected, name))
    assert candle.n_features_in_ == expected.n_features_in_
    assert (clip.model_name, clip.pretrained) == ("emoji-clip", pipe["clip"].pretrained)
    assert type(last).__name__ == type(pipe["candle"]).__name__
    assert getattr(last, "rejection_rate", None) == getattr(pipe["candle"], "rejection_rate", None)
    assert (candle.text_encoder is None) == (expected.text_encoder is None)


def classifier_of(schema):
    return schema["content"]["content"]["steps"]["content"][1]["content"][1]


def rename_type(schema):
    classifier_of(schema)["__class__"] = "LogisticRegression"


def foreign_part(schema):
    classifier_of(schema)["content"]["content"]["margin"]["__module__"] = "other.library"


def without_classes(schema):
    del classifier_of(schema)["content"]["content"]["classes_"]


def one_count_too_few(schema):
    state = classifier_of(schema)["content"]["content"]
    state["class_count_"] = state["_held_out"]["content"]["content"]["coefficients"]


@pytest.mark.parametrize("change", [rename_type, foreign_part, without_classes, one_count_too_few])
def test_a_file_that_is_not_understood_has_no_outline(data, change):
    assert read_outline(data) is not None
    assert read_outline(rewritten(data, schema=change)) is None


def test_a_file_of_another_version_has_no_outline(data, monkeypatch):
    monkeypatch.setattr(_version, "__version__", "3.1.4")
    assert read_outline(data) is None


@pytest.mark.parametrize("broken", [b"", b"no archive", json.dumps({}).encode()])
def test_damaged_files_have_no_outline(data, broken):
    assert read_outline(broken) is None
    assert read_outline(data[:-50]) is None
