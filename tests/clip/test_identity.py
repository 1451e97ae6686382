"""Which CLIP something was fitted with, and what happens when it is another one later."""

import json
import pickle
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
from helpers import random_images, save_tiny_clip
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    PublishedCandleClassifier,
    clear_memory,
    load_embeddings,
    save_embeddings,
)
from skcandle.clip._checkpoint import find_checkpoint, weights_digest
from skcandle.clip._identity import identify
from skcandle.exceptions import ModelError

IMAGES = random_images(8)
LABELS = np.repeat(["ant", "bee"], [6, 2])
REFUSAL = (
    r"fitted with the CLIP '(.*)' \(fingerprint (\w{12})\), but the CLIP in use is '(.*)' "
    r"\(fingerprint (\w{12})\), with other weights or another preprocessing; use the model of the "
    r"fit, or fit again\.$"
)
CANDLE = {"temperature": 0.1, "prototype_weight": 0.5, "base_offset": 0.0, "max_iter": 0}


@pytest.fixture
def folder(tmp_path):
    """A model whose weights the test replaces."""
    (tmp_path / "clip").mkdir()
    return save_tiny_clip(tmp_path / "clip", seed=0)


def name_of(folder):
    return f"local-dir:{folder}"


def fit_pipeline(clip, text_encoder, published=False):
    if published:
        candle = PublishedCandleClassifier(text_encoder=text_encoder, max_iter=0)
    else:
        candle = CandleClassifier(text_encoder=text_encoder, **CANDLE)
    return CandlePipeline([("clip", clip), ("candle", candle)]).fit(IMAGES, LABELS)


def change_preprocessing(folder):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change", [lambda folder: save_tiny_clip(folder, seed=1), change_preprocessing]
)
def test_a_pipeline_refuses_images_when_its_model_has_changed(folder, change):
    pipe = fit_pipeline(CLIPFeaturizer(name_of(folder)), None)
    again = pickle.loads(pickle.dumps(pipe))
    change(folder)
    for fitted in (pipe, again):
        with pytest.raises(ModelError, match=REFUSAL):
            fitted.predict(IMAGES[:1])
    assert len(pipe.fit(IMAGES, LABELS).predict(IMAGES)) == len(IMAGES)


def test_a_pipeline_goes_on_when_its_weights_are_restored(folder):
    pipe = fit_pipeline(CLIPFeaturizer(name_of(folder)), None)
    expected = pipe.predict_proba(IMAGES)
    save_tiny_clip(folder, seed=1)
    with pytest.raises(ModelError):
        pipe.predict(IMAGES)
    save_tiny_clip(folder, seed=0)
    assert_array_equal(pipe.predict_proba(IMAGES), expected)


@pytest.mark.parametrize("published", [False, True])
def test_names_are_not_embedded_by_another_model_than_at_fit(folder, tiny_clip, published):
    """The text encoder has a folder of its own, which the featurizer does not check."""
    pipe = fit_pipeline(CLIPFeaturizer(tiny_clip), CLIPFeaturizer(name_of(folder)), published)
    save_tiny_clip(folder, seed=1)
    assert len(pipe.predict(IMAGES)) == len(IMAGES)
    with pytest.raises(ModelError, match=REFUSAL):
        pipe.add_classes(["elk"])
    if not published:
        with pytest.raises(ModelError, match=REFUSAL):
            pipe.add_images(IMAGES[:1], ["elk"])


def test_the_refusal_names_both_models(folder, tmp_path):
    clip = CLIPFeaturizer(name_of(folder)).fit()
    (tmp_path / "other").mkdir()
    other = name_of(save_tiny_clip(tmp_path / "other", seed=1))
    with pytest.raises(ModelError, match=REFUSAL) as caught:
        clip.set_params(model_name=other).transform(IMAGES)
    old, new = (identify(find_checkpoint(name, None), name) for name in (name_of(folder), other))
    assert f"CLIP {old}, but" in str(caught.value) and f"in use is {new}, with" in str(caught.value)


def test_a_model_may_move_to_another_folder(folder, tmp_path):
    clip = CLIPFeaturizer(name_of(folder)).fit()
    rows = clip.transform(IMAGES)
    folder.rename(tmp_path / "moved")
    clip.set_params(model_name=name_of(tmp_path / "moved"))
    assert_array_equal(clip.transform(IMAGES), rows)


def test_precision_and_device_may_differ_between_machines(tiny_clip):
    clip = CLIPFeaturizer(tiny_clip, precision="fp32").fit()
    rows = clip.set_params(precision="bf16", device="cpu").transform(IMAGES)
    assert rows.shape == (8, 64)


def test_a_clone_can_have_another_model(tiny_clip):
    clip = CLIPFeaturizer(tiny_clip).fit()
    assert clone(clip).set_params(model_name="emoji-clip").transform(IMAGES).shape == (8, 128)
    with pytest.raises(ModelError, match=r"'emoji-clip' \(fing"):
        clip.set_params(model_name="emoji-clip").transform(IMAGES)
    assert clip.fit_transform(IMAGES).shape == (8, 128)


def test_embeddings_from_a_cache_do_not_hide_another_model(folder, tmp_path):
    """Both models have embeddings of these images, so that neither has to be loaded."""
    (tmp_path / "other").mkdir()
    other = name_of(save_tiny_clip(tmp_path / "other", seed=1))
    cache = tmp_path / "cache"
    for name in (name_of(folder), other):
        CLIPFeaturizer(name, cache=cache).transform(IMAGES)
    clear_memory()
    clip = CLIPFeaturizer(name_of(folder), cache=cache).fit()
    assert len(clip.transform(IMAGES)) == len(IMAGES)
    with pytest.raises(ModelError, match=REFUSAL):
        clip.set_params(model_name=other).transform(IMAGES)


def test_published_weights_are_known_by_their_name_before_they_are_downloaded():
    clip = CLIPFeaturizer("ViT-B-32-quickgelu", "openai").fit()
    with pytest.raises(ModelError, match=r"'ViT-B-32-quickgelu, openai' .* is 'ViT-B-32-quickgelu"):
        clip.set_params(pretrained="metaclip_400m").transform(IMAGES)


# --- the Hub -------------------------------------------------------------------------------------


class Hub:
    """The cache of huggingface_hub: references to commits, and links to blobs by their hash."""

    def __init__(self, root):
        self.folder = root / "models--acme--tiny"

    def fill(self, folder, commit, weights_hash=None):
        snapshot = self.folder / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (self.folder / "refs").mkdir(exist_ok=True)
        (self.folder / "refs" / "main").write_text(commit)
        (self.folder / "blobs").mkdir(exist_ok=True)
        shutil.copy(folder / "open_clip_config.json", snapshot)
        if weights_hash:
            blob = self.folder / "blobs" / weights_hash
            shutil.copy(folder / "open_clip_model.safetensors", blob)
            (snapshot / "open_clip_model.safetensors").symlink_to(blob)

    def identity(self):
        return identify(find_checkpoint("hf-hub:acme/tiny", None), "name")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Hub(tmp_path / "hub")


OLD, NEW = "0" * 40, "1" * 40


def test_a_model_of_the_hub_that_is_not_downloaded_is_not_identified(hub):
    assert hub.identity() is None
    assert CLIPFeaturizer("hf-hub:acme/tiny").fit()._identity is None


def test_another_commit_with_the_same_weights_is_the_same_model(hub, folder):
    hub.fill(folder, OLD, "a" * 64)
    old = hub.identity()
    shutil.rmtree(hub.folder)
    hub.fill(folder, NEW, "a" * 64)
    assert old.is_same(hub.identity())
    shutil.rmtree(hub.folder)
    hub.fill(folder, NEW, "b" * 64)
    assert not old.is_same(hub.identity())


def test_a_commit_identifies_a_model_before_its_weights_are_downloaded(hub, folder):
    hub.fill(folder, OLD)
    before = hub.identity()
    hub.fill(folder, OLD, "a" * 64)
    assert before.is_same(hub.identity()) and len(hub.identity().fingerprints) == 2


def test_weights_are_downloaded_if_only_they_can_tell(hub, folder, monkeypatch):
    hub.fill(folder, OLD, "a" * 64)
    clip = CLIPFeaturizer("hf-hub:acme/tiny")
    rows = clip.fit_transform(IMAGES)
    shutil.rmtree(hub.folder)
    hub.fill(folder, NEW)
    downloads = []

    def download(repository, name, revision):
        downloads.append((name, revision))
        hub.fill(folder, NEW, "a" * 64)
        return str(hub.folder / "snapshots" / NEW / name)

    # The network is asked first, because a download without one tries again for half a minute.
    asked = []
    monkeypatch.setattr(
        "skcandle.clip._checkpoint.get_hf_file_metadata", lambda url, timeout: asked.append(url)
    )
    monkeypatch.setattr("skcandle.clip._checkpoint.hf_hub_download", download)
    assert_array_equal(clip.transform(IMAGES), rows)
    assert [url.split("/resolve/")[1] for url in asked] == [f"{NEW}/open_clip_model.safetensors"]
    assert downloads == [("open_clip_model.safetensors", NEW)]


def test_stored_rows_know_the_weights_that_their_fit_did_not_download(hub, folder, tmp_path):
    hub.fill(folder, OLD)
    clip = CLIPFeaturizer("hf-hub:acme/tiny").fit()
    hub.fill(folder, OLD, weights_digest(folder / "open_clip_model.safetensors"))
    save_embeddings(tmp_path / "rows.npz", clip.transform(IMAGES), clip)
    copy = CLIPFeaturizer(name_of(folder))._present_identity()
    assert load_embeddings(tmp_path / "rows.npz")[1].model.is_same(copy)


def test_a_copy_of_a_model_of_the_hub_is_the_same_model(hub, folder):
    hub.fill(folder, OLD, weights_digest(folder / "open_clip_model.safetensors"))
    copy = identify(find_checkpoint(name_of(folder), None), "copy")
    assert copy.is_same(hub.identity())
