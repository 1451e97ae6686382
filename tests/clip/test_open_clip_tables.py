"""The tables of open_clip, read without importing it, are those of open_clip."""

import dataclasses

import open_clip
import pytest
from open_clip import constants, pretrained, transform

from skcandle.clip import _checkpoint, _open_clip_tables


@pytest.fixture
def not_imported(monkeypatch):
    monkeypatch.setattr(_open_clip_tables, "_is_imported", lambda: False)


def test_architectures(not_imported):
    assert sorted(_open_clip_tables.list_models()) == sorted(open_clip.list_models())
    for name in open_clip.list_models():
        assert _open_clip_tables.get_model_config(name) == open_clip.get_model_config(name)
    assert _open_clip_tables.get_model_config("none") is None


def test_published_weights(not_imported):
    tables = _open_clip_tables.pretrained()
    assert tables is not pretrained
    assert tables.list_pretrained() == pretrained.list_pretrained()
    for name, tag in pretrained.list_pretrained():
        assert tables.get_pretrained_cfg(name, tag) == pretrained.get_pretrained_cfg(name, tag)


def test_the_configuration_of_a_model_is_a_copy(not_imported):
    _open_clip_tables.get_model_config("RN50")["embed_dim"] = 0
    assert _open_clip_tables.get_model_config("RN50")["embed_dim"] == 1024


def test_architectures_that_the_user_added_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"mine": {"embed_dim": 8}})
    assert _open_clip_tables.list_models() == ["mine"]
    assert _open_clip_tables.get_model_config("mine") == {"embed_dim": 8}


def test_names_of_settings_and_files():
    fields = {field.name for field in dataclasses.fields(transform.PreprocessCfg)}
    assert fields == _open_clip_tables.PREPROCESSING
    weights = [constants.HF_SAFE_WEIGHTS_NAME, constants.HF_WEIGHTS_NAME]
    assert weights == _checkpoint.HUB_WEIGHTS
