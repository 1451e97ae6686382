"""Encoding and prediction on Dask: same results as one process, resumed, exactly once."""

import io
import json
import os
import shutil
import signal
import sys
import threading
import time
import types
from pathlib import Path
from unittest.mock import Mock, patch

import joblib
import numpy as np
import pytest

pytest.importorskip("dask.dataframe")
pytest.importorskip("distributed")
pytest.importorskip("pyarrow")

import dask.bag
import dask.dataframe
import huggingface_hub.constants
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError
from helpers import random_images, save_tiny_clip
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from skcandle import CandleClassifier, CLIPFeaturizer, make_candle_pipeline
from skcandle.clip import _checkpoint
from skcandle.datasets import load_emoji
from skcandle.exceptions import ModelError
from skcandle.scale_out import _worker, encode_dataset, predict_dataset, read_embeddings
from skcandle.scale_out._shards import MANIFEST_NAME, ShardFolder
from skcandle.scale_out._stored_keys import StoredKeys, key_digests, write_stored_keys

pytestmark = pytest.mark.slow

N_IMAGES = 24


class Watched(CLIPFeaturizer):
    """Notes each image that it encodes in a file beside the images; slow, or dies, when told to."""

    def _embed(self, images):
        folder = Path(images[0]).parent
        if (folder / "slow").exists():
            time.sleep(0.3)
        for path in images:
            if (folder / f"kill-{Path(path).name}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (folder / f"kill-once-{Path(path).name}").exists():
                (folder / f"kill-once-{Path(path).name}").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        with open(folder / "encoded.txt", "a") as file:
            file.write("".join(f"{path}\n" for path in images))
        return super()._embed(images)


class Cropping(CLIPFeaturizer):
    def transform(self, X):
        return super().transform([image.crop((0, 0, 9, 9)) for image in X])


def encoded(paths):
    """Paths in the order in which workers encoded them."""
    log = Path(paths[0]).parent / "encoded.txt"
    return log.read_text().splitlines() if log.exists() else []


def n_stored(folder):
    return {path.name: pq.read_metadata(path).num_rows for path in Path(folder).glob("part-*")}


def open_image(path):
    with Image.open(path) as image:
        return path, image.convert("RGB")


def out_of_memory(path):
    if path.endswith("17.png"):
        raise MemoryError
    return open_image(path)


@pytest.fixture(scope="module")
def cluster():
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(n_workers=2, **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    def forget_embeddings():
        # Unknown by name to workers, so that those just started need not import anything.
        if "skcandle" in sys.modules:
            sys.modules["skcandle"].clear_memory()

    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        client.run(forget_embeddings)
        yield client


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    names = [str(folder / f"{i:02}.png") for i in range(N_IMAGES)]
    for name, image in zip(names, random_images(N_IMAGES), strict=True):
        image.save(name)
    return names


@pytest.fixture
def clip(tiny_clip):
    return Watched(tiny_clip, batch_size=4)


@pytest.fixture
def rows(paths, tiny_clip, cold):
    return CLIPFeaturizer(tiny_clip, batch_size=4).transform(paths)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def test_two_workers_store_the_vectors_of_one_process(client, paths, clip, rows, folder):
    failures = encode_dataset(paths, folder, clip, shard_size=4)
    assert len(failures) == 0
    keys, X = read_embeddings(folder, paths)
    assert keys.tolist() == paths
    np.testing.assert_array_equal(X, rows)  # in the same batches as above
    assert sorted(n_stored(folder).values()) == [4] * (N_IMAGES // 4)


@pytest.mark.parametrize("some", [False, True])
def test_embeddings_are_read_into_a_memory_map(some, paths, clip, folder, tmp_path):
    encode_dataset(paths, folder, clip, shard_size=5)
    asked = paths[::-3] if some else None
    keys, X = read_embeddings(folder, asked, out=tmp_path / "X.npy")
    expected_keys, expected = read_embeddings(folder, asked)
    assert isinstance(X.base, np.memmap) and not X.flags.writeable
    assert keys.tolist() == expected_keys.tolist()
    np.testing.assert_array_equal(X, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), expected)


def test_a_memory_map_is_complete_or_not_there(paths, clip, folder, tmp_path):
    encode_dataset(paths[:4], folder, clip, shard_size=2)
    out = tmp_path / "X.npy"
    with pytest.raises(ValueError, match="1 of 2 keys have no embedding"):
        read_embeddings(folder, [paths[0], "another"], out=out)
    with pytest.raises(ValueError, match=r"out must end in \.npy, got .*X\.dat"):
        read_embeddings(folder, out=tmp_path / "X.dat")
    assert not list(tmp_path.glob("*X.*")) and not list(tmp_path.glob(".skcandle*"))
    _, earlier = read_embeddings(folder, paths[:1], out=out)
    with pytest.raises(FileExistsError, match="already exists; overwrite=True replaces it"):
        read_embeddings(folder, out=out)
    assert len(read_embeddings(folder, out=out, overwrite=True)[1]) == 4 and len(earlier) == 1


def test_a_classifier_learns_from_unlabelled_embeddings_in_a_memory_map(
    paths, tiny_clip, folder, tmp_path
):
    encode_dataset(paths, folder, CLIPFeaturizer(tiny_clip), shard_size=5)
    _, X = read_embeddings(folder, paths)
    clf = CandleClassifier(text_encoder=CLIPFeaturizer(tiny_clip), new_classes=["elk"])
    clf.fit(X[:6], ["ant", "bee"] * 3)
    _, mapped = read_embeddings(folder, paths, out=tmp_path / "X.npy")
    np.testing.assert_array_equal(
        clf.add_unlabeled(mapped).predict_proba(mapped), clf.add_unlabeled(X).predict_proba(X)
    )


def test_other_batches_move_vectors_by_rounding_only(paths, clip, rows, folder):
    encode_dataset(paths, folder, clip.set_params(batch_size=5), shard_size=7)
    np.testing.assert_allclose(read_embeddings(folder, paths)[1], rows, atol=1e-6)


def as_bag(paths):
    return dask.bag.from_sequence(paths, partition_size=9)


def as_loaded_pairs(paths):
    return as_bag(paths).map(open_image)


def as_dask_series(paths):
    return dask.dataframe.from_pandas(pd.Series(paths), npartitions=3)


@pytest.mark.parametrize("collection", [as_bag, as_loaded_pairs, as_dask_series, pd.Series])
def test_collections_of_images(collection, client, paths, tiny_clip, rows, folder):
    encode_dataset(collection(paths), folder, CLIPFeaturizer(tiny_clip), shard_size=5)
    np.testing.assert_allclose(read_embeddings(folder, paths)[1], rows, atol=1e-6)
    assert sum(n_stored(folder).values()) == N_IMAGES


def test_keys_of_a_dask_dataframe(paths, clip, rows, folder):
    names = [f"image {i}" for i in range(N_IMAGES)]
    table = pd.DataFrame({"id": names, "path": paths})
    frame = dask.dataframe.from_pandas(table, npartitions=2)
    encode_dataset(frame["path"], folder, clip, keys=frame["id"])
    np.testing.assert_allclose(read_embeddings(folder, names)[1], rows, atol=1e-6)


def test_images_in_memory_with_keys(folder, tiny_clip):
    images, names = random_images(3), ["a", "b", "c"]
    clip = CLIPFeaturizer(tiny_clip)
    encode_dataset(images, folder, clip, keys=names)
    np.testing.assert_allclose(read_embeddings(folder, names)[1], clip.transform(images), atol=1e-6)


def test_open_files_with_keys(client, folder, paths, tiny_clip):
    streams = [io.BytesIO(Path(path).read_bytes()) for path in paths[:3]]
    images = [*streams[:2], memoryview(streams[2].getvalue())]
    clip = CLIPFeaturizer(tiny_clip)
    encode_dataset(images, folder, clip, keys=paths[:3])
    expected = clip.transform(paths[:3])
    np.testing.assert_allclose(read_embeddings(folder, paths[:3])[1], expected, atol=1e-6)
    streams[1].close()
    with pytest.raises(ValueError, match="image of key 'b' cannot be read: the file is closed"):
        encode_dataset(streams[:2], folder, clip, keys=["a", "b"])
    with pytest.warns(UserWarning, match="'none://b.png' cannot be opened"):
        encode_dataset(["none://b.png"], folder, clip)


def test_relative_paths_do_not_depend_on_the_folder_of_a_worker(
    client, paths, clip, folder, monkeypatch
):
    monkeypatch.chdir(Path(paths[0]).parent)
    assert len(encode_dataset(["00.png", "01.png"], folder, clip)) == 0
    assert sorted(read_embeddings(folder)[0]) == ["00.png", "01.png"]


def test_a_second_call_encodes_nothing(paths, clip, folder):
    encode_dataset(paths, folder, clip, shard_size=5)
    before = n_stored(folder)
    encode_dataset(paths, folder, clip, shard_size=11)
    assert n_stored(folder) == before
    assert sorted(encoded(paths)) == paths


def test_added_images_alone_are_encoded(client, paths, clip, rows, folder):
    encode_dataset(paths[3:15], folder, clip, shard_size=5)
    encode_dataset(paths, folder, clip, shard_size=5)
    assert sorted(encoded(paths)) == paths
    np.testing.assert_allclose(read_embeddings(folder, paths)[1], rows, atol=1e-6)


def test_job_that_stopped_half_way_goes_on(paths, tiny_clip, folder):
    clip = CLIPFeaturizer(tiny_clip)
    with pytest.raises(MemoryError, match="Stored embeddings are kept; call again"):
        encode_dataset(as_bag(paths).map(out_of_memory), folder, clip, shard_size=4)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert before
    encode_dataset(as_loaded_pairs(paths), folder, clip, shard_size=4)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sum(n_stored(folder).values()) == N_IMAGES


@pytest.fixture
def only_here(monkeypatch):
    """A module that worker processes cannot import, with a featurizer."""
    module = types.ModuleType("only_here")
    module.Own = type("Own", (CLIPFeaturizer,), {"__module__": "only_here"})
    monkeypatch.setitem(sys.modules, "only_here", module)
    return module


def test_worker_that_cannot_import_is_explained(client, only_here, tiny_clip, paths, folder):
    with pytest.raises(RuntimeError, match="load this Own: No module named 'only_here'. Install"):
        encode_dataset(paths, folder, only_here.Own(tiny_clip))
    assert not folder.exists()


def test_worker_out_of_memory_is_explained(client, paths, tiny_clip, folder):
    with pytest.raises(MemoryError, match="A worker ran out of memory. Give workers more memory"):
        encode_dataset(as_bag(paths).map(out_of_memory), folder, CLIPFeaturizer(tiny_clip))


def test_repeated_task_reports_the_failures_of_parts_that_are_there(paths, clip, folder):
    # As after the death of a worker that had stored parts, but had not reported yet.
    Path(paths[2]).write_bytes(b"no image")
    shards = ShardFolder(folder)
    facts = shards.open(_worker.model_facts(clip), "")
    write_stored_keys(shards, {})
    task = {
        "featurizer": clip,
        "folder": shards,
        "facts": facts,
        "run": shards.start_run(),
        "shard_size": 5,
    }
    first = _worker.encode_partition(paths, **task)
    n_encoded = len(encoded(paths))
    assert _worker.encode_partition(paths, **task) == first
    assert [key for key, _ in first] == [paths[2]]
    assert len(encoded(paths)) == n_encoded


def test_broken_images_do_not_stop_the_others(client, paths, clip, rows, folder):
    good = Path(paths[5]).read_bytes()
    Path(paths[5]).write_bytes(good[:200])
    Path(paths[6]).unlink()
    with pytest.warns(UserWarning, match="2 images cannot be read .* the first has the key"):
        failures = encode_dataset(paths, folder, clip, shard_size=6)
    assert sorted(failures["key"]) == paths[5:7]
    reasons = dict(zip(failures["key"], failures["reason"], strict=True))
    assert "broken or truncated" in reasons[paths[5]]
    assert "No such file" in reasons[paths[6]]
    rest = paths[:5] + paths[7:]
    np.testing.assert_allclose(
        read_embeddings(folder, rest)[1], np.delete(rows, [5, 6], axis=0), atol=1e-6
    )
    with pytest.raises(ValueError, match="2 of 24 keys have no embedding"):
        read_embeddings(folder, paths)

    Path(paths[5]).write_bytes(good)  # repaired, it is encoded by the next call
    with pytest.warns(UserWarning, match="1 images cannot be read"):
        encode_dataset(paths, folder, clip, shard_size=6)
    np.testing.assert_allclose(read_embeddings(folder, paths[5:6])[1], rows[5:6], atol=1e-6)


@pytest.mark.parametrize("image", [None, float("nan"), 3])
def test_what_is_no_image_is_a_failure_of_its_own(image, paths, tiny_clip, folder):
    clip = CLIPFeaturizer(tiny_clip)
    with pytest.warns(UserWarning, match="'odd': image of key 'odd' is (missing|of type int)"):
        encode_dataset([paths[0], image], folder, clip, keys=["fine", "odd"])
    assert read_embeddings(folder)[0].tolist() == ["fine"]


def test_a_folder_where_no_image_can_be_read_is_empty(tmp_path, clip, folder):
    with pytest.warns(UserWarning, match="2 images cannot be read"):
        encode_dataset([tmp_path / "a.png", tmp_path / "b.png"], folder, clip)
    assert read_embeddings(folder)[1].shape == (0, 64)


def test_folder_of_another_model_is_refused(paths, tiny_clip, folder, tmp_path):
    encode_dataset(paths[:2], folder, CLIPFeaturizer(tiny_clip))
    other = tmp_path / "other"
    other.mkdir()
    save_tiny_clip(other, seed=1)
    with pytest.raises(ValueError, match="has fingerprint .* not .*other.*Use another folder"):
        encode_dataset(paths, folder, CLIPFeaturizer(f"local-dir:{other}"))
    with pytest.raises(ValueError, match="precision='fp32'"):
        encode_dataset(paths, folder, CLIPFeaturizer(tiny_clip, precision="fp32"))
    assert sum(n_stored(folder).values()) == 2


@pytest.mark.parametrize("other", ["weights", "precision"])
def test_worker_with_another_model_stops_the_job(paths, tiny_clip, folder, tmp_path, other):
    shards = ShardFolder(folder)
    clip = CLIPFeaturizer(tiny_clip, precision="fp32")
    facts = shards.open(_worker.model_facts(clip), "")
    write_stored_keys(shards, {})
    if other == "precision":
        clip.set_params(precision="bf16")
        message = (
            "A worker would encode with .*bf16.*, the others with .*fp32.*precision other than"
        )
    else:
        clip.set_params(model_name=f"local-dir:{save_tiny_clip(tmp_path, seed=1)}")
        message = "on a worker differ from those of the caller"
    with pytest.raises(ModelError, match=message):
        _worker.encode_partition(
            paths,
            featurizer=clip,
            folder=shards,
            facts=facts,
            run=shards.start_run(),
            shard_size=5,
        )
    assert n_stored(folder) == {}


def test_workers_decide_what_is_fast(paths, tiny_clip, folder, monkeypatch):
    fast, slow = (
        _worker.model_facts(CLIPFeaturizer(tiny_clip, precision=p)) for p in ("fp16", "bf16")
    )
    found = [fast, fast]
    monkeypatch.setattr(_worker, "on_all_workers", lambda *args: found)
    assert _worker.agreed_facts(CLIPFeaturizer(tiny_clip)) == fast
    found.append(slow)
    with pytest.raises(ValueError, match="'bf16'.* and with .*'fp16'.*precision other than 'auto'"):
        encode_dataset(paths, folder, CLIPFeaturizer(tiny_clip))
    found[:] = [fast | {"weights": "00"}]
    with pytest.raises(ModelError, match="on a worker differ from those of the caller"):
        encode_dataset(paths, folder, CLIPFeaturizer(tiny_clip))


def test_tasks_left_over_from_an_earlier_call_store_nothing(paths, clip, folder):
    shards = ShardFolder(folder)
    facts = shards.open(_worker.model_facts(clip), "")
    write_stored_keys(shards, {})
    task = {"featurizer": clip, "folder": shards, "facts": facts, "shard_size": 5}
    run = shards.start_run()
    encode_dataset(paths[:2], folder, clip)
    with pytest.raises(ValueError, match="A later call writes to"):
        _worker.encode_partition(paths, run=run, **task)
    assert list(n_stored(folder).values()) == [2]
    assert not list(folder.glob("_tmp-*"))


def test_worker_that_does_not_see_the_folder_stops_the_job(paths, clip, folder):
    with pytest.raises(FileNotFoundError, match="file system that all machines share"):
        _worker.encode_partition(
            paths, featurizer=clip, folder=ShardFolder(folder), facts={}, run="r", shard_size=5
        )


def test_repeated_keys_of_a_list_are_found_before_any_work(paths, clip, folder):
    with pytest.raises(ValueError, match="1 of 3 images are repeated; the first is .*00.png"):
        encode_dataset([paths[0], paths[1], paths[0]], folder, clip)
    with pytest.raises(ValueError, match="2 of 3 keys are repeated; the first is 'a'"):
        encode_dataset(paths[:3], folder, clip, keys=["a", "a", "a"])
    assert not folder.exists()


@pytest.mark.parametrize(
    "order, message",
    [
        ([0, 1, 0], "The key '.*00.png' is repeated in a partition"),
        ([0, 1, 2, 3, 0], "1 keys are stored more than once .* the first is '.*00.png', in 'part-"),
    ],
)
def test_repeated_keys_of_a_bag_are_an_error(order, message, paths, clip, folder):
    bag = dask.bag.from_sequence([paths[i] for i in order], partition_size=3)
    with pytest.raises(ValueError, match=message):
        encode_dataset(bag, folder, clip)


def test_files_of_killed_processes_are_removed(paths, clip, folder):
    encode_dataset(paths[:2], folder, clip)
    (folder / "_tmp-0").write_bytes(b"half")
    encode_dataset(paths[:2], folder, clip)
    assert not (folder / "_tmp-0").exists()


def test_a_damaged_part_is_named(paths, clip, folder):
    encode_dataset(paths[:4], folder, clip, shard_size=2)
    part = sorted(folder.glob("part-*"))[0]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{part.name}' cannot be read .* Remove it"):
        encode_dataset(paths[:4], folder, clip)
    part.unlink()
    encode_dataset(paths[:4], folder, clip)
    assert sorted(read_embeddings(folder)[0]) == paths[:4]


@pytest.mark.parametrize(
    "forge, message",
    [
        (lambda rows: rows * np.float32(np.nan), "not finite or not of length 1"),
        (lambda rows: rows * np.float32(2), "not finite or not of length 1"),
        (lambda rows: rows * np.float32(0), "not finite or not of length 1"),
        (lambda rows: rows[:, :1] * 0 + 1, "must have 64 floats per row"),
        (lambda rows: np.repeat(rows, 2, axis=1), "must have 64 floats per row"),
        (lambda rows: rows.astype(float), "must have 64 floats per row"),
    ],
    ids=["nan", "twice", "zeros", "one", "wide", "double"],
)
def test_what_is_no_embedding_is_never_read(fitted, folder, tmp_path, forge, message):
    part = min(Path(folder).glob("part-*.parquet"))
    table = pq.read_table(part, partitioning=None)
    rows = forge(np.stack(table["embedding"].to_pylist()).astype(np.float32))
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    forged = pa.table({"key": table["key"], "embedding": embedding})
    pq.write_table(forged.replace_schema_metadata(table.schema.metadata), part)
    for read in (
        lambda: read_embeddings(folder),
        lambda: read_embeddings(folder, keys=table["key"].to_pylist()),
        lambda: predict_dataset(fitted, folder, tmp_path / "predictions"),
    ):
        with pytest.raises(ValueError, match=f"{part.name}.* {message}.* Remove it"):
            read()


def test_a_flipped_bit_changes_no_row_and_the_error_names_its_file(paths, clip, rows, folder):
    encode_dataset(paths, folder, clip, shard_size=N_IMAGES)
    (part,) = folder.glob("part-*")
    data = part.read_bytes()
    expected = dict(zip(paths, rows, strict=True))
    n_damaged = 0
    for bit in np.random.default_rng(0).choice(8 * len(data), 300, replace=False):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        part.write_bytes(flipped)
        for asked in (None, paths[::2]):
            try:
                keys, X = read_embeddings(folder, asked)
            except ValueError as error:
                assert f"{part.name!s}' " in str(error)
                assert "Remove it and run the job again" in str(error)
                n_damaged += 1
            else:  # of bytes that no row depends on
                assert set(keys) == set(paths if asked is None else asked)
                np.testing.assert_allclose(X, [expected[key] for key in keys], atol=1e-6)
    assert n_damaged > 300


def test_a_damaged_manifest_is_named(paths, clip, folder):
    encode_dataset(paths[:2], folder, clip)
    (folder / MANIFEST_NAME).write_bytes(b'{"model"')
    with pytest.raises(ValueError, match=f"{MANIFEST_NAME}' is damaged .* Restore it"):
        read_embeddings(folder)


@pytest.mark.parametrize("name", ["part-*.parquet", MANIFEST_NAME])
def test_a_pipe_in_the_place_of_a_file_is_named(paths, clip, folder, name):
    """Reading it would wait for ever."""
    encode_dataset(paths[:2], folder, clip)
    (path,) = folder.glob(name)
    path.unlink()
    os.mkfifo(path)
    for use in (read_embeddings, lambda folder: encode_dataset(paths[:2], folder, clip)):
        with pytest.raises(ValueError, match=f"{path.name}' must be a regular file. Remove it"):
            use(folder)


def test_a_folder_with_other_parquet_files_is_refused(paths, clip, folder):
    folder.mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "part-0-1.parquet")
    with pytest.raises(ValueError, match="Parquet files that skcandle did not write"):
        encode_dataset(paths, folder, clip)


def test_fingerprint_is_in_every_file(paths, clip, folder):
    encode_dataset(paths[:4], folder, clip, shard_size=2)
    for path in folder.glob("part-*"):
        metadata = pq.read_schema(path).metadata[b"skcandle"].decode()
        assert clip._encoder().fingerprint.hex() in metadata


def test_embeddings_remember_the_model_that_made_them(paths, clip, folder, tmp_path):
    encode_dataset(paths, folder, clip)
    for options in ({}, {"keys": paths[:3]}, {"out": tmp_path / "X.npy"}):
        assert read_embeddings(folder, **options)[1].model == clip._present_identity()


@pytest.fixture
def encode_as_before(monkeypatch):
    """Encode into a folder like those of earlier versions, which do not know their model."""
    model_facts = _worker.model_facts

    def earlier_facts(featurizer):
        return {name: fact for name, fact in model_facts(featurizer).items() if name != "clip"}

    def encode(*args):
        with monkeypatch.context() as patched:
            patched.setattr(_worker, "model_facts", earlier_facts)
            encode_dataset(*args)

    return encode


def test_a_folder_of_an_earlier_version_is_read_and_continued(
    encode_as_before, paths, clip, folder
):
    encode_as_before(paths[:3], folder, clip)
    assert read_embeddings(folder)[1].model is None
    encode_dataset(paths, folder, clip)
    assert len(read_embeddings(folder)[1]) == len(paths)


@pytest.mark.parametrize("damage", [None, "tiny", {"name": "tiny"}])
def test_a_damaged_name_of_the_model_is_refused_with_the_file(damage, paths, clip, folder):
    encode_dataset(paths[:3], folder, clip)
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"clip": damage}))
    with pytest.raises(ValueError, match=f"{MANIFEST_NAME}' is damaged .* Restore it"):
        read_embeddings(folder)


def test_a_folder_knows_the_weights_of_the_hub_that_its_job_downloads(
    paths, clip, folder, tmp_path, monkeypatch
):
    """Another commit may have the same weights, so the commit alone does not identify them."""
    source = Path(clip.model_name.removeprefix("local-dir:"))
    snapshot = tmp_path / "hub" / "models--acme--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    shutil.copy(source / "open_clip_config.json", snapshot)

    def download(repository, name, revision):
        return shutil.copy(source / name, snapshot)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(_checkpoint, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(_checkpoint, "hf_hub_download", download)
    encode_dataset(paths[:3], folder, CLIPFeaturizer("hf-hub:acme/tiny"))
    assert read_embeddings(folder)[1].model.is_same(clip._present_identity())


@pytest.mark.filterwarnings("ignore:Zero-shot predictions are correct")  # random weights
@pytest.mark.parametrize("rows_can_tell", [True, False])
def test_predictions_for_embeddings_of_another_model_are_refused(
    rows_can_tell, encode_as_before, paths, clip, folder, tmp_path
):
    """Whether the classifier knows its model by its rows or by its text encoder."""
    (tmp_path / "model").mkdir()
    other = CLIPFeaturizer(f"local-dir:{save_tiny_clip(tmp_path / 'model', seed=1)}")
    encode_dataset(paths, folder, clip)
    encode_dataset(paths, tmp_path / "others", other)
    y = np.arange(N_IMAGES) % 2
    X = read_embeddings(folder)[1] if rows_can_tell else clip.transform(paths)
    text_encoder = None if rows_can_tell else clip
    classifier = CandleClassifier(text_encoder=text_encoder, class_names=["ant", "bee"])
    classifier.fit(X, y)
    match = f"fitted with the CLIP '{clip.model_name}'.* from the CLIP '{other.model_name}'"
    with pytest.raises(ModelError, match=match):
        predict_dataset(classifier, tmp_path / "others", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    predict_dataset(classifier, folder, tmp_path / "out")
    encode_as_before(paths, tmp_path / "unknown", other)
    predict_dataset(classifier, tmp_path / "unknown", tmp_path / "answers")


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # Dask's own
def test_dask_reads_the_folder(paths, clip, folder):
    encode_dataset(paths[:4], folder, clip, shard_size=2)
    frame = dask.dataframe.read_parquet(folder)
    assert sorted(frame["key"].compute(scheduler="synchronous")) == paths[:4]


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"featurizer": LinearSVC()}, TypeError, "must be a CLIPFeaturizer.* got a LinearSVC"),
        ({"featurizer": Cropping()}, TypeError, "not override transform; got a Cropping"),
        ({"shard_size": 0}, ValueError, "shard_size must be a positive integer, got 0"),
        ({"images": []}, ValueError, "images must not be empty"),
        ({"images": "a.png"}, TypeError, "must be a list of images, got a single str"),
        ({"images": random_images(1)}, TypeError, r"images\[0\] must be a string, got Image"),
        ({"keys": ["a"]}, ValueError, "got 1 keys for 2 images"),
        ({"keys": [1, 2]}, TypeError, r"keys\[0\] must be a string, got int"),
        ({"images": as_bag(["a"]), "keys": ["a"]}, ValueError, "keys must be None for a bag"),
        (
            {"images": as_dask_series(["a"] * 3), "keys": ["a"]},
            TypeError,
            "must be a dask Series .* got list",
        ),
        (
            {"images": as_dask_series(["a"] * 3).to_frame()},
            TypeError,
            "got a dask DataFrame. Select",
        ),
    ],
)
def test_wrong_arguments(change, error, message, tiny_clip, folder):
    arguments = {"images": ["a.png", "b.png"], "featurizer": CLIPFeaturizer(tiny_clip)}
    with pytest.raises(error, match=message):
        encode_dataset(folder=folder, **(arguments | change))
    assert not folder.exists()


@pytest.mark.parametrize("function", [encode_dataset, predict_dataset, read_embeddings])
def test_missing_dask_is_explained(function, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    arguments = [None] * (1 if function is read_embeddings else 3)
    with pytest.raises(ImportError, match=r'pip install "skcandle\[dask\]"'):
        function(*arguments)


# Stored keys


def test_stored_keys_are_found_and_no_others(tmp_path):
    keys = [f"key {i}" for i in range(1000)]
    shards = ShardFolder(tmp_path)
    write_stored_keys(shards, {"a": key_digests(keys[:400]), "b": key_digests(keys[400:])})
    stored = StoredKeys(shards, "run")
    assert all(key in stored for key in keys)
    assert not any(f"other {i}" in stored for i in range(1000))


def test_no_stored_keys(tmp_path):
    write_stored_keys(ShardFolder(tmp_path), {})
    assert "a" not in StoredKeys(ShardFolder(tmp_path), "run")


# Workers


def test_large_images_are_held_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(_worker, "MAX_HELD_BYTES", 2500)
    pairs = [(str(i), np.zeros((20, 20, 3), np.uint8)) for i in range(5)]  # 1200 bytes each
    assert [len(block) for block in _worker._blocks(iter(pairs))] == [3, 2]
    paths = [("a" * 999, "b" * 999)] * 9
    assert [len(block) for block in _worker._blocks(paths)] == [9]


@pytest.mark.parametrize(
    "name, index",
    [(3, 3), ("host-7", 7), ("0-12", 12), ("tcp://10.0.0.1:34567", None), ("a", None)],
)
def test_index_of_a_worker_is_at_the_end_of_its_name(name, index):
    assert _worker._worker_index(name) == index


def test_workers_share_the_gpus_of_a_machine(client, tiny_clip):
    def device(featurizer):
        with patch("torch.cuda.device_count", return_value=4):
            return _worker._on_device_of_worker(featurizer).device

    names = {name: info["id"] for name, info in client.scheduler_info()["workers"].items()}
    for address, name in names.items():
        at = {"workers": address, "pure": False}
        chosen = client.submit(device, CLIPFeaturizer(tiny_clip), **at)
        assert chosen.result() == f"cuda:{name % 4}"
        fixed = client.submit(device, CLIPFeaturizer(tiny_clip, device="cpu"), **at)
        assert fixed.result() == "cpu"
    assert device(CLIPFeaturizer(tiny_clip)) == "auto"  # not on a worker


def test_a_worker_without_a_number_says_that_it_uses_the_first_gpu(tiny_clip):
    with (
        patch("torch.cuda.device_count", return_value=4),
        patch("distributed.get_worker", return_value=Mock()) as worker,
        pytest.warns(UserWarning, match="worker 'tcp://host' sees 4 GPUs and uses the first"),
    ):
        worker.return_value.name = "tcp://host"
        chosen = _worker._on_device_of_worker(CLIPFeaturizer(tiny_clip))
    assert chosen.device == "cuda:0"


def test_the_workers_of_a_machine_share_its_cores(client, tiny_clip, monkeypatch):
    n_workers = _worker.workers_of_machines()
    assert n_workers == {_worker._cores(): 2}
    monkeypatch.setattr(_worker, "cpu_count", lambda: 24)
    share = _worker._with_share_of_cores
    assert share(CLIPFeaturizer(tiny_clip), n_workers).n_jobs == 12
    assert share(CLIPFeaturizer(tiny_clip), {("another", ()): 3}).n_jobs == 8
    assert share(CLIPFeaturizer(tiny_clip), {_worker._cores(): 99}).n_jobs == 1
    assert share(CLIPFeaturizer(tiny_clip, n_jobs=5), n_workers).n_jobs == 5
    assert share(CLIPFeaturizer(tiny_clip), {}).n_jobs is None  # without a cluster


def test_workers_decode_in_their_share_of_the_cores(client, paths, tiny_clip, folder, monkeypatch):
    asked = []
    embed = _worker.embed_images
    monkeypatch.setattr(
        _worker,
        "embed_images",
        lambda clip, images: asked.append(clip.n_jobs) or embed(clip, images),
    )
    with dask.config.set(scheduler="synchronous"):  # tasks run here
        encode_dataset(paths, folder, CLIPFeaturizer(tiny_clip), shard_size=N_IMAGES)
    assert asked == [max(joblib.cpu_count() // 2, 1)]


# Fitting and prediction


@pytest.fixture
def fitted(paths, tiny_clip, folder):
    """A folder of embeddings, and a classifier fitted on those that have a label."""
    clip = CLIPFeaturizer(tiny_clip)
    encode_dataset(paths, folder, clip, shard_size=5)
    labels = pd.Series(["cat", "dog"] * 6, index=paths[:12])
    keys, X = read_embeddings(folder, labels.index)
    assert keys.tolist() == labels.index.tolist()
    texts = dict(zip(["cat", "dog", "eel"], np.eye(3, 64), strict=True))
    return CandleClassifier(new_classes=["eel"], text_encoder=texts, random_state=0).fit(X, labels)


def read_predictions(out):
    return pd.concat([pd.read_parquet(path) for path in sorted(Path(out).glob("part-*"))])


@pytest.mark.parametrize("proba", [False, True])
def test_two_workers_store_the_predictions_of_one_process(proba, client, fitted, folder, tmp_path):
    keys, X = read_embeddings(folder)
    predict_dataset(fitted, folder, tmp_path / "out", proba=proba)
    table = read_predictions(tmp_path / "out")
    assert table["key"].tolist() == keys.tolist()
    assert table["label"].tolist() == fitted.predict(X).tolist()
    expected = fitted.predict_proba(X)
    np.testing.assert_allclose(table["probability"], expected.max(axis=1), rtol=1e-5)
    assert ("probabilities" in table) == proba
    if proba:
        np.testing.assert_allclose(np.stack(table["probabilities"]), expected, atol=1e-6)


def test_integer_labels_stay_integers(paths, tiny_clip, folder, tmp_path):
    encode_dataset(paths, folder, CLIPFeaturizer(tiny_clip))
    _, X = read_embeddings(folder)
    other = LogisticRegression().fit(X, np.arange(N_IMAGES) % 3)
    predict_dataset(other, folder, tmp_path / "out")
    assert read_predictions(tmp_path / "out")["label"].tolist() == other.predict(X).tolist()


def test_predictions_of_added_embeddings_alone_are_made(fitted, paths, tiny_clip, folder, tmp_path):
    predict_dataset(fitted, folder, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    encode_dataset(random_images(2, seed=1), folder, CLIPFeaturizer(tiny_clip), keys=["a", "b"])
    joblib.dump(fitted, tmp_path / "candle.joblib")  # the same classifier, read from a file
    predict_dataset(joblib.load(tmp_path / "candle.joblib"), folder, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(read_predictions(tmp_path / "out")["key"]) == {*paths, "a", "b"}


@pytest.mark.parametrize("shard_size", [5, N_IMAGES])
def test_predictions_of_removed_embeddings_are_removed(
    shard_size, fitted, paths, tiny_clip, tmp_path
):
    folder, out = tmp_path / "more", tmp_path / "out"
    clip = CLIPFeaturizer(tiny_clip)
    encode_dataset(paths, folder, clip, shard_size=shard_size)
    predict_dataset(fitted, folder, out)
    min(folder.glob("part-*")).unlink()
    encode_dataset(paths, folder, clip, shard_size=2)
    folder.rename(tmp_path / "moved")
    predict_dataset(fitted, tmp_path / "moved", out)
    assert sorted(read_predictions(out)["key"]) == paths


def test_predictions_of_another_data_set_are_kept(fitted, paths, tiny_clip, folder, tmp_path):
    predict_dataset(fitted, folder, tmp_path / "out")
    before = read_predictions(tmp_path / "out")
    encode_dataset(paths[:2], tmp_path / "other", CLIPFeaturizer(tiny_clip))
    with pytest.raises(ValueError, match="has embeddings .* Use another folder for"):
        predict_dataset(fitted, tmp_path / "other", tmp_path / "out")
    pd.testing.assert_frame_equal(read_predictions(tmp_path / "out"), before)


def test_predictions_of_another_classifier_are_refused(fitted, folder, tmp_path):
    predict_dataset(fitted, folder, tmp_path / "out")
    with pytest.raises(ValueError, match="has (classes|classifier) .* Use another folder for"):
        predict_dataset(fitted.restrict(["cat", "dog"]), folder, tmp_path / "out")
    with pytest.raises(ValueError, match="has proba False, not proba True"):
        predict_dataset(fitted, folder, tmp_path / "out", proba=True)
    with pytest.raises(ValueError, match="Use another folder for"):
        predict_dataset(fitted, folder, folder)


def test_wrong_classifiers_and_folders(fitted, folder, tmp_path):
    X = np.random.default_rng(0).normal(size=(9, 3))
    narrow = LogisticRegression().fit(X, np.arange(9) % 2)
    with pytest.raises(ValueError, match="fitted on 3 features, but the embeddings .* have 64"):
        predict_dataset(narrow, folder, tmp_path / "out")
    with pytest.raises(TypeError, match="predict_proba, which LinearSVC does not have"):
        predict_dataset(LinearSVC().fit(X, np.arange(9) % 2), folder, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="is not a data set of skcandle"):
        predict_dataset(fitted, tmp_path / "none", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="is not a data set of skcandle"):
        read_embeddings(tmp_path / "none")
    predict_dataset(fitted, folder, tmp_path / "out")
    with pytest.raises(ValueError, match="contains no embeddings"):
        read_embeddings(tmp_path / "out")
    with pytest.raises(ValueError, match="contains no embeddings"):
        predict_dataset(fitted, tmp_path / "out", tmp_path / "again")


# scikit-learn through joblib


def test_grid_search_on_dask_scores_as_without(client, tmp_path):
    emoji = load_emoji()
    chosen = np.flatnonzero(np.isin(emoji.target, ["bear", "cat", "dog", "fish"]))
    images, labels = [emoji.images[i] for i in chosen], emoji.target[chosen]
    pipe = make_candle_pipeline("emoji-clip", cache=tmp_path, random_state=0)
    search = GridSearchCV(pipe, {"candle__margin": [0, 2], "candle__shrinkage": [0, 5]}, cv=2)
    expected = search.fit(images, labels).cv_results_
    with joblib.parallel_config("dask"):
        found = search.fit(images, labels).cv_results_
    for name in ("mean_test_score", "split0_test_score", "split1_test_score", "rank_test_score"):
        np.testing.assert_allclose(found[name], expected[name])


# Ctrl-C


def test_ctrl_c_leaves_whole_parts_and_the_next_call_goes_on(client, paths, clip, rows, folder):
    slow = Path(paths[0]).parent / "slow"
    slow.touch()

    def interrupt():
        while not list(folder.glob("part-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    bag = dask.bag.from_sequence(paths, partition_size=12)
    with pytest.raises(KeyboardInterrupt):
        encode_dataset(bag, folder, clip, shard_size=2)
    thread.join()
    n_before = sum(n_stored(folder).values())
    assert 0 < n_before < N_IMAGES
    slow.unlink()
    assert len(encode_dataset(paths, folder, clip, shard_size=4)) == 0
    assert sum(n_stored(folder).values()) == N_IMAGES
    np.testing.assert_allclose(read_embeddings(folder, paths)[1], rows, atol=1e-6)
    assert not list(folder.glob("_tmp-*"))


# Workers that die; at the end, since those that replace them start anew


def test_a_killed_worker_loses_nothing_and_repeats_nothing_stored(
    client, paths, clip, rows, folder
):
    # Each worker has a partition of twelve images, or three parts; one dies at its third part.
    (Path(paths[0]).parent / "kill-once-21.png").touch()
    workers = set(client.run(os.getpid).values())
    bag = dask.bag.from_sequence(paths, partition_size=12)
    assert len(encode_dataset(bag, folder, clip, shard_size=4)) == 0
    assert set(client.run(os.getpid).values()) != workers
    assert sorted(encoded(paths)) == paths  # the log is written after the kill
    assert sum(n_stored(folder).values()) == N_IMAGES
    np.testing.assert_array_equal(read_embeddings(folder, paths)[1], rows)


def test_workers_that_die_again_and_again_are_explained(client, cluster, paths, clip, folder):
    allowed = cluster.scheduler.allowed_failures
    cluster.scheduler.allowed_failures = 0
    deadly = Path(paths[0]).parent / "kill-14.png"
    deadly.touch()
    try:
        with pytest.raises(RuntimeError, match="Workers died 1 times on the same images"):
            encode_dataset(paths, folder, clip, shard_size=8)
    finally:
        cluster.scheduler.allowed_failures = allowed
    deadly.unlink()
    encode_dataset(paths, folder, clip, shard_size=8)
    assert sorted(read_embeddings(folder)[0]) == paths


@pytest.mark.parametrize("place", [(dask, "compute"), (Client, "run")], ids=["tasks", "checks"])
def test_a_lost_connection_is_explained_and_the_next_call_goes_on(
    place, client, paths, clip, folder, monkeypatch
):
    encode_dataset(paths[:4], folder, clip, shard_size=2)

    def lost(*args, **options):
        raise CommClosedError("in <TCP>: ConnectionResetError")

    with monkeypatch.context() as patched:
        patched.setattr(*place, lost)
        with pytest.raises(RuntimeError, match="was lost .*ConnectionReset.* call again to resume"):
            encode_dataset(paths, folder, clip, shard_size=2)
    encode_dataset(paths, folder, clip, shard_size=2)
    assert sorted(read_embeddings(folder)[0]) == paths


def test_bytes_that_are_held_are_those_of_the_images():
    data = b"12345"
    images = [Image.new("RGB", (4, 2)), np.zeros((3, 2)), memoryview(data), io.BytesIO(data), data]
    assert [_worker._n_bytes(image) for image in [*images, "a.png"]] == [24, 48, 5, 5, 5, 0]
