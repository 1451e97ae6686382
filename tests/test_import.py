"""What is imported when: each import in a process of its own."""

import subprocess
import sys

import pytest
from PIL import Image

import skcandle


def loaded(code):
    """Modules that a fresh Python has loaded after the code."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split("\n"))


def test_the_package_alone_loads_nothing_heavy():
    assert loaded("import skcandle").isdisjoint({"torch", "sklearn", "open_clip", "pandas"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "from skcandle import CandleClassifier",
        "from skcandle import metrics, model_selection, datasets",
        "from skcandle.metrics import base_new_report",
    ],
)
def test_classifier_and_metrics_need_no_clip(statement):
    assert loaded(statement).isdisjoint({"open_clip", "torchvision", "skcandle.clip"})


@pytest.mark.slow
def test_metrics_and_splits_need_no_torch():
    assert "torch" not in loaded("from skcandle import metrics, model_selection, datasets")


@pytest.mark.slow
def test_folders_of_images_need_neither_clip_nor_torch(tmp_path):
    (tmp_path / "red").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red" / "1.png")
    code = (
        "from skcandle.datasets import load_image_folder\n"
        f"assert load_image_folder({str(tmp_path)!r}).target.tolist() == ['red']"
    )
    assert loaded(code).isdisjoint({"torch", "open_clip", "skcandle.clip"})


@pytest.mark.slow
def test_reports_and_displays_need_no_matplotlib_before_something_is_drawn():
    modules = loaded("from skcandle.inspection import ImageReport, LongTailDisplay")
    assert modules.isdisjoint({"matplotlib", "cleanlab", "open_clip"})


@pytest.mark.slow
def test_fit_and_prediction_on_given_text_features_need_no_clip():
    code = (
        "import numpy as np, pickle; from skcandle import CandleClassifier\n"
        "clf = CandleClassifier(text_encoder={'a': [1, 0], 'b': [0, 1]})\n"
        "clf = pickle.loads(pickle.dumps(clf.fit(np.eye(2), ['a', 'b'])))\n"
        "assert clf.predict(np.eye(2)).tolist() == ['a', 'b']"
    )
    assert loaded(code).isdisjoint({"open_clip", "torchvision", "skcandle.clip"})


@pytest.mark.slow
def test_public_modules_are_there_after_the_import_of_the_package():
    code = (
        "import skcandle\n"
        "skcandle.metrics.ausuc_score, skcandle.datasets.load_emoji, skcandle.exceptions\n"
        "skcandle.clip.CLIPFeaturizer, skcandle.scale_out"
    )
    assert "skcandle.metrics" in loaded(code)


def test_every_public_name_can_be_had_and_is_listed():
    for name in skcandle.__all__:
        assert getattr(skcandle, name) is not None
    assert set(skcandle.__all__) <= set(dir(skcandle))
    with pytest.raises(AttributeError, match="no attribute 'CandleClasifier'"):
        skcandle.CandleClasifier  # noqa: B018


@pytest.mark.slow
def test_a_star_import_gives_the_public_names():
    code = "from skcandle import *\nCandleClassifier, CLIPFeaturizer, metrics, make_candle_pipeline"
    assert "open_clip" in loaded(code)
