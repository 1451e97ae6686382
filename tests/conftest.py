import os
import sys

# Tests do not use the network. huggingface_hub reads this variable when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# With pytest -n 2, two busy processes share the cores: threads that have no work do not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import fsspec
import pytest
from helpers import save_tiny_clip

import skcandle
from skcandle.clip import _model

collect_ignore = [] if sys.platform.startswith("linux") else ["test_tools.py"]


@pytest.fixture(scope="session")
def tiny_clip_dir(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("tiny-clip"), seed=0)


@pytest.fixture(scope="session")
def tiny_clip(tiny_clip_dir):
    """Name of a tiny model with random weights."""
    return f"local-dir:{tiny_clip_dir}"


@pytest.fixture
def cold():
    """Start without cached embeddings and loaded models."""
    skcandle.clear_memory()


@pytest.fixture
def before_encoding(monkeypatch, cold):
    """A list of functions that are called with the pixels of each batch before it is encoded."""
    functions = []
    encode = _model.LoadedModel.encode_images

    def with_functions(self, pixels):
        for function in functions:
            function(pixels)
        return encode(self, pixels)

    monkeypatch.setattr(_model.LoadedModel, "encode_images", with_functions)
    return functions


@pytest.fixture
def encoded(before_encoding):
    """A list to which each forward pass appends its number of images."""
    sizes = []
    before_encoding.append(lambda pixels: sizes.append(len(pixels)))
    return sizes


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty before and after."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


@pytest.fixture
def no_loading(monkeypatch):
    """A function; after calling it, loading a model fails the test."""

    def forbid():
        def fail(*args):
            raise AssertionError("a model was loaded")

        monkeypatch.setattr(_model, "load_model", fail)

    return forbid


def pytest_collection_modifyitems(config, items):
    """Skip the largest models, unless they are asked for."""
    if "large" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("large"):
            item.add_marker(pytest.mark.skip(reason="a large model; run it with -m large"))
