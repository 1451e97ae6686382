import hashlib
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from helpers import TINY_CONFIG, open_clip_rows, random_images, save_tiny_clip
from safetensors.torch import load_file, save_file

from skcandle import CLIPFeaturizer
from skcandle._images import file_digests
from skcandle._images.reading import read_image
from skcandle.clip import _checkpoint, _model
from skcandle.clip._checkpoint import embedding_dim, find_checkpoint, fingerprint
from skcandle.clip._model import load_model
from skcandle.exceptions import (
    ModelError,
    WeightsNotAvailableError,
)

CPU = torch.device("cpu")


def load(model_name, pretrained=None, precision="fp32"):
    return load_model(find_checkpoint(model_name, pretrained), precision, CPU)


@pytest.mark.parametrize(
    "model_name, width",
    [("ViT-B-16-quickgelu", 512), ("ViT-L-14", 768), ("RN50-quickgelu", 1024), ("ViT-B/16", 512)],
)
def test_embedding_dim_is_known_without_weights(model_name, width):
    assert embedding_dim(model_name) == width


def test_embedding_dim_of_a_folder(tiny_clip):
    assert embedding_dim(tiny_clip) == TINY_CONFIG["model_cfg"]["embed_dim"]


@pytest.mark.parametrize(
    "model_name, message",
    [
        ("ViT-B16", "model_name='ViT-B16' is unknown.* Did you mean 'ViT-B-16'"),
        ("vit-b-16-quickgelu", "Did you mean 'ViT-B-16-quickgelu'"),
        ("emoji-klip", "Did you mean 'emoji-clip'"),
        ("zzzzzz", "model_name='zzzzzz' is unknown.* Use a name from"),
        ("local-dir:nowhere", "the folder 'nowhere' has no open_clip_config.json"),
        ("local-dir:", "model_name='local-dir:' is unknown"),
    ],
)
def test_unknown_names_are_refused_with_near_misses(model_name, message):
    for check in (embedding_dim, lambda name: find_checkpoint(name, None)):
        with pytest.raises(ModelError, match=message):
            check(model_name)


@pytest.mark.parametrize(
    "model_name, pretrained, right_name",
    [
        ("ViT-B-16", "openai", "ViT-B-16-quickgelu"),
        ("RN50", "openai", "RN50-quickgelu"),
        ("ViT-L-14", "dfn2b", "ViT-L-14-quickgelu"),
        ("ViT-B-16-quickgelu", "laion2b_s34b_b88k", "ViT-B-16"),
        ("ViT-L-14-quickgelu", "datacomp_xl_s13b_b90k", "ViT-L-14"),
    ],
)
def test_activation_and_weights_must_match(model_name, pretrained, right_name):
    with pytest.raises(ModelError, match=f"Use model_name='{right_name}'"):
        find_checkpoint(model_name, pretrained)
    assert find_checkpoint(right_name, pretrained).weights == pretrained


def test_unknown_tag_names_the_known_ones():
    with pytest.raises(
        ModelError, match="'openai_'.*Did you mean 'openai'.*'openai', .*'metaclip_fullcc'"
    ):
        find_checkpoint("ViT-B-16-quickgelu", "openai_")


def test_missing_file_of_weights():
    with pytest.raises(WeightsNotAvailableError, match="'folder/clip.pt' does not exist"):
        find_checkpoint("ViT-B-16-quickgelu", "folder/clip.pt")


def test_pretrained_has_no_meaning_for_a_folder(tiny_clip):
    with pytest.raises(ModelError, match="pretrained must be None .*got 'laion2b'"):
        find_checkpoint(tiny_clip, "laion2b")
    assert find_checkpoint(tiny_clip, "openai") == find_checkpoint(tiny_clip, None)


@pytest.mark.parametrize(
    "name, pretrained, command",
    [
        ("ViT-B-16-quickgelu", "openai", "'ViT-B-16-quickgelu', 'openai'"),
        ("hf-hub:no/model", None, "'hf-hub:no/model', None"),
    ],
)
def test_without_a_network_the_error_says_how_to_bring_a_model(
    name, pretrained, command, cold, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotAvailableError) as caught:
        load(name, pretrained)
    message = str(caught.value)
    assert repr(name) in message
    assert f"in the folder {str(tmp_path)!r}, and the download failed" in message
    assert f"CLIPFeaturizer({command}).encode_text(['a'])\"`, then copy the same folder" in message
    assert "emoji-clip" not in message


REFUSED = """
import sys, time
from skcandle import CLIPFeaturizer
from skcandle.exceptions import WeightsNotAvailableError

waited = []
time.sleep = waited.append  # as the client of the Hub does before it tries again
try:
    CLIPFeaturizer(sys.argv[1]).encode_text(["a"])
except WeightsNotAvailableError as error:
    assert "Connect" in str(error) and sys.argv[1] in str(error), error
    assert waited == [], waited
else:
    raise AssertionError
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "hf-hub:no/model"])
def test_a_refused_connection_is_not_tried_again(name, tmp_path):
    surroundings = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | surroundings
    subprocess.run([sys.executable, "-c", REFUSED, name], env=environment, check=True)


def test_folder_without_weights(tiny_clip_dir, tmp_path):
    shutil.copy(tiny_clip_dir / "open_clip_config.json", tmp_path)
    with pytest.raises(WeightsNotAvailableError, match="but no weights: no file"):
        find_checkpoint(f"local-dir:{tmp_path}", None)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_cfg": {}}'])
def test_folder_with_a_broken_configuration(tmp_path, text):
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(ModelError, match="must be a model configuration of open_clip"):
        embedding_dim(f"local-dir:{tmp_path}")


def test_truncated_weights(tiny_clip_dir, tmp_path):
    shutil.copytree(tiny_clip_dir, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsNotAvailableError, match="cannot be read; it may be incomplete"):
        load(f"local-dir:{tmp_path}")


class Program:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "weights.pth"])
def test_weights_that_are_a_program_are_not_run(tiny_clip_dir, tmp_path, name):
    shutil.copy(tiny_clip_dir / "open_clip_config.json", tmp_path)
    for save in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        save({"state_dict": Program(tmp_path / "run")}, tmp_path / name)
        with pytest.raises(WeightsNotAvailableError, match="cannot be read"):
            load(f"local-dir:{tmp_path}")
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(Program(tmp_path / "run")))
    assert (tmp_path / "run").exists()  # it would have run


def test_weights_of_another_architecture(tiny_clip_dir):
    path = tiny_clip_dir / "open_clip_model.safetensors"
    with pytest.raises(ModelError, match="belongs to a different architecture"):
        load("RN50-quickgelu", path)


def test_weights_that_are_not_finite(tiny_clip_dir, tmp_path):
    shutil.copytree(tiny_clip_dir, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "open_clip_model.safetensors")
    weights["visual.proj"].fill_(float("nan"))
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    for precision in ("auto", "fp32", "bf16"):
        clip = CLIPFeaturizer(f"local-dir:{tmp_path}", precision=precision)
        with pytest.raises(ValueError, match="not finite because its weights are damaged"):
            clip.transform(random_images(1))


def test_fingerprint_tells_weights_apart_even_behind_equal_file_names_sizes_and_times(tmp_path):
    prints = set()
    for seed in (0, 1):
        save_tiny_clip(tmp_path, seed)
        os.utime(tmp_path / "open_clip_model.safetensors", ns=(0, 0))
        prints.add(fingerprint(find_checkpoint(f"local-dir:{tmp_path}", None), "fp32"))
    assert len(prints) == 2


def test_fingerprint_does_not_depend_on_the_place_of_a_model(tiny_clip_dir, tmp_path):
    shutil.copytree(tiny_clip_dir, tmp_path, dirs_exist_ok=True)
    here, there = (
        fingerprint(find_checkpoint(f"local-dir:{folder}", None), "fp32")
        for folder in (tiny_clip_dir, tmp_path)
    )
    assert here == there


def test_fingerprint_tells_preprocessing_precision_tag_and_architecture_apart(
    tiny_clip, tiny_clip_dir, tmp_path
):
    shutil.copytree(tiny_clip_dir, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    prints = [
        fingerprint(find_checkpoint(model_name, pretrained), precision)
        for model_name, pretrained, precision in [
            (tiny_clip, None, "fp32"),
            (tiny_clip, None, "bf16"),
            (f"local-dir:{tmp_path}", None, "fp32"),
            ("ViT-B-16-quickgelu", "openai", "fp32"),
            ("ViT-B-16-quickgelu", "metaclip_400m", "fp32"),
            ("ViT-B-32-quickgelu", "openai", "fp32"),
            ("ViT-B-32-quickgelu", None, "fp32"),
            ("ViT-B-32", None, "fp32"),
        ]
    ]
    assert len(set(prints)) == len(prints)


def test_weights_are_hashed_whole(tmp_path):
    path = tmp_path / "weights.pt"
    digests = set()
    for changed in (0, 1, 37_000_000, 68_000_001):  # anywhere in a file of 68 MB
        with open(path, "wb") as file:
            file.truncate(68_000_002)
            file.seek(changed)
            file.write(b"x")
        os.utime(path, ns=(0, 0))
        digests.add(_checkpoint.weights_digest(path))
    assert len(digests) == 4


def test_weights_that_stay_the_same_are_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(file_digests, "SETTLED_NS", -1)  # the file was written just now
    assert _checkpoint.weights_digest(path) == digest
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", None)
        assert _checkpoint.weights_digest(path) == digest
    path.write_bytes(b"WEIGHTS")
    assert _checkpoint.weights_digest(path) != digest


def test_a_file_takes_the_preprocessing_all_published_weights_share(tiny_clip_dir):
    path = tiny_clip_dir / "open_clip_model.safetensors"
    config = _checkpoint.preprocess_config(find_checkpoint("ViT-B-16-SigLIP", path))
    assert (config["mean"], config["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")
    # The published weights of this one disagree.
    assert _checkpoint.preprocess_config(find_checkpoint("ViT-L-14", path)) == {}


def test_threads_load_a_model_once(tiny_clip, cold, monkeypatch):
    loads = []
    create = _model._create_module
    monkeypatch.setattr(_model, "_create_module", lambda *args: loads.append(args) or create(*args))
    with ThreadPoolExecutor(8) as pool:
        backbones = list(pool.map(lambda _: load(tiny_clip), range(16)))
    assert len(loads) == 1
    assert len(set(map(id, backbones))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_that_is_forked_while_a_model_is_loading_loads_its_own(
    tiny_clip, cold, monkeypatch
):
    loading, go_on = threading.Event(), threading.Event()
    parent, create = os.getpid(), _model._create_module

    def slowly(*args):
        loading.set()
        assert os.getpid() != parent or go_on.wait(30)
        return create(*args)

    monkeypatch.setattr(_model, "_create_module", slowly)
    thread = threading.Thread(target=load, args=(tiny_clip,))
    thread.start()
    loading.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends the child if it waits
        try:
            torch.set_num_threads(1)  # the threads of the parent are not here
            load(tiny_clip)
            os._exit(0)
        finally:
            os._exit(1)
    go_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_few_models_stay_loaded(tmp_path, cold):
    names = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        names.append(f"local-dir:{save_tiny_clip(folder, seed)}")
    first = load(names[0])
    load(names[1])
    assert load(names[0]) is first
    load(names[2])  # drops the second, which was used least recently
    assert load(names[0]) is first
    assert len(_model._loaded) == _model.MAX_LOADED_MODELS


def test_changed_weights_are_loaded_again(tmp_path, cold):
    name = f"local-dir:{save_tiny_clip(tmp_path, 0)}"
    images = random_images(2)
    old = CLIPFeaturizer(name, precision="fp32").transform(images)
    save_tiny_clip(tmp_path, 1)
    new = CLIPFeaturizer(name, precision="fp32").transform(images)
    assert np.abs(old - new).max() > 0.01
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    np.testing.assert_allclose(new, open_clip_rows(images, model, preprocess), atol=1e-5)


def test_random_weights_are_the_same_in_every_load_and_warn(monkeypatch, cold, tmp_path):
    (tmp_path / "tiny-random.json").write_text(json.dumps(TINY_CONFIG["model_cfg"]))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.add_model_config(tmp_path)
    images = random_images(2)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    rows = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="'tiny-random', pretrained=None has random weights"):
            model = load("tiny-random")
        pixels = [model.preprocess(read_image(image), exact=True) for image in images]
        rows.append(model.encode_images(pixels))
        _model._loaded.clear()
    np.testing.assert_array_equal(*rows)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("precision, tolerance", [("bf16", 0.02), ("fp16", 0.002)])
def test_lower_precision_stays_close(tiny_clip, precision, tolerance):
    images, prompts = random_images(3), ["a cat", "a dog"]
    exact, rounded = (CLIPFeaturizer(tiny_clip, precision=p) for p in ("fp32", precision))
    np.testing.assert_allclose(
        exact.transform(images), rounded.transform(images), atol=tolerance, rtol=0
    )
    np.testing.assert_allclose(
        exact.encode_text(prompts), rounded.encode_text(prompts), atol=tolerance, rtol=0
    )


# From here on: the way that real users take, with an architecture of real size.


@pytest.fixture(scope="module")
def vit_b_32(tmp_path_factory):
    """Folder of a ViT-B-32-quickgelu with random weights, and open_clip's rows of two images."""
    folder = tmp_path_factory.mktemp("vit-b-32")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    model.half()  # half the size on disk
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32-quickgelu"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    images = random_images(2, size=(300, 260))
    yield folder, open_clip_rows(images, model.float(), preprocess)
    _model._loaded.clear()  # a gigabyte


@pytest.mark.slow
@pytest.mark.parametrize("through", ["file", "folder"])
def test_embeddings_are_those_of_open_clip(vit_b_32, through):
    folder, expected = vit_b_32
    if through == "file":
        path = folder / "open_clip_model.safetensors"
        clip = CLIPFeaturizer("ViT-B-32-quickgelu", pretrained=path, precision="fp32")
    else:
        clip = CLIPFeaturizer(f"local-dir:{folder}", precision="fp32")
    images = random_images(2, size=(300, 260))
    np.testing.assert_allclose(clip.transform(images), expected, atol=1e-5)


def fill_hub_cache(cache, repository, folder):
    """The layout of huggingface_hub: a reference to a commit and links of its files."""
    entry = cache / ("models--" + repository.replace("/", "--"))
    snapshot = entry / "snapshots" / ("0123456789" * 4)
    snapshot.mkdir(parents=True)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(snapshot.name)
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(file)


HUB_SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from helpers import random_images
from skcandle import CLIPFeaturizer

images = random_images(2, size=(300, 260))
tag = CLIPFeaturizer("ViT-B-32-quickgelu", "openai", precision="fp32")
hub = CLIPFeaturizer("hf-hub:acme/tiny", precision="fp32")
np.savez(
    sys.argv[1],
    tag=tag.fit_transform(images),
    hub=hub.fit_transform(images),
    text=hub.encode_text(["a cat"]),
    names=hub.get_feature_names_out().astype(str),
)
"""


@pytest.mark.slow
def test_filled_hub_cache_works_offline(vit_b_32, tiny_clip_dir, tmp_path):
    folder, expected = vit_b_32
    repository = open_clip.get_pretrained_cfg("ViT-B-32-quickgelu", "openai")["hf_hub"].strip("/")
    fill_hub_cache(tmp_path / "hub", repository, folder)
    fill_hub_cache(tmp_path / "hub", "acme/tiny", tiny_clip_dir)
    tests = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT, tmp_path / "rows.npz", tests],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        cwd=tests.parent,
        check=True,
    )
    with np.load(tmp_path / "rows.npz") as rows:
        tiny = CLIPFeaturizer(f"local-dir:{tiny_clip_dir}", precision="fp32")
        images = random_images(2, size=(300, 260))
        np.testing.assert_allclose(rows["tag"], expected, atol=1e-5)
        np.testing.assert_allclose(rows["hub"], tiny.transform(images), atol=1e-6)
        np.testing.assert_allclose(rows["text"], tiny.encode_text(["a cat"]), atol=1e-6)
        assert len(rows["names"]) == rows["hub"].shape[1]


def test_loading_logs_nothing_of_open_clip_but_what_others_log_stays(tiny_clip, cold, caplog):
    caplog.set_level(logging.INFO)
    CLIPFeaturizer(tiny_clip).transform(random_images(1))
    assert [record for record in caplog.records if "open_clip" in record.pathname] == []
    logging.info("of the caller")
    assert [record.message for record in caplog.records] == ["of the caller"]
