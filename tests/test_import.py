"""What each import loads, in a process of its own."""

import re
import subprocess
import sys
from importlib import import_module
from inspect import ismodule
from pathlib import Path

import pytest

import skcandle


def loaded(code):
    """Modules that a new Python process has loaded after running the code."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split("\n"))


FOLDER_OF_IMAGES = """
import tempfile, pathlib
from PIL import Image
from skcandle.datasets import load_image_folder
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "red" / "1.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 8), "red").save(path)
    assert load_image_folder(folder).target.tolist() == ["red"]
"""
CLIP = {"open_clip", "torchvision", "skcandle.clip"}
PREDICT_ON_GIVEN_TEXT_FEATURES = """
import numpy as np, pickle
from skcandle import CandleClassifier
clf = CandleClassifier(text_encoder={"a": [1, 0], "b": [0, 1]})
clf = pickle.loads(pickle.dumps(clf.fit(np.eye(2), ["a", "b"])))
assert clf.predict(np.eye(2)).tolist() == ["a", "b"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        ("import skcandle", {"torch", "sklearn", "open_clip", "pandas"}),
        ("from skcandle import metrics, model_selection, datasets", CLIP | {"torch"}),
        (FOLDER_OF_IMAGES, CLIP | {"torch"}),
        ("from skcandle import CandleClassifier", CLIP),
        (PREDICT_ON_GIVEN_TEXT_FEATURES, CLIP),
        ("from skcandle import BatchPredictor", {"matplotlib", "open_clip", "fsspec"}),
        ("from skcandle.inspection import ImageReport", {"matplotlib", "cleanlab", "open_clip"}),
        ("from skcandle.inspection import LongTailDisplay", {"matplotlib", "open_clip"}),
    ],
)
def test_code_loads_only_what_it_needs(code, unneeded):
    assert loaded(code).isdisjoint(unneeded)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import skcandle\nskcandle.metrics.ausuc_score, skcandle.inspection.ImageReport",
        "from skcandle import *\nCandleClassifier, CLIPFeaturizer, metrics, make_candle_pipeline",
    ],
)
def test_public_names_are_available_after_an_import(code):
    assert "skcandle.metrics" in loaded(code)


def test_every_public_name_exists_and_is_listed():
    for name in skcandle.__all__:
        assert getattr(skcandle, name) is not None
    assert set(skcandle.__all__) <= set(dir(skcandle))
    with pytest.raises(AttributeError, match="no attribute 'CandleClasifier'"):
        skcandle.CandleClasifier  # noqa: B018


def test_the_api_reference_lists_every_public_name_once():
    text = (Path(__file__).parents[1] / "doc" / "api.rst").read_text(encoding="utf-8")
    listed, module = [], None
    for line in text.splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.removeprefix(".. currentmodule:: ")
        elif re.fullmatch(r" {3}\w+", line):
            listed.append(f"{module}.{line.strip()}")
        elif line.startswith(".. autodata:: "):
            listed.append(f"{module}.{line.removeprefix('.. autodata:: ')}")
    rooms = [name for name in skcandle.__all__ if ismodule(getattr(skcandle, name))]
    public = [f"skcandle.{name}" for name in skcandle.__all__ if name not in rooms]
    for room in set(rooms) - {"exceptions"}:  # listed by automodule
        public += [f"skcandle.{room}.{name}" for name in getattr(skcandle, room).__all__]
    assert sorted(listed) == sorted(public)
    things = [getattr(import_module(m), name) for m, _, name in (p.rpartition(".") for p in listed)]
    assert len({id(thing) for thing in things}) == len(things)
