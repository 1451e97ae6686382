"""Data sets behind URLs: the same contents as in local folders, resumed, exactly once."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import random_images

pytest.importorskip("dask.dataframe")
pytest.importorskip("distributed")
pytest.importorskip("pyarrow")
pytest.importorskip("upath")

import pandas as pd

from skcandle import CandleClassifier, CLIPFeaturizer
from skcandle.scale_out import encode_dataset, predict_dataset, read_embeddings
from skcandle.scale_out._shards import ShardFolder

pytestmark = pytest.mark.slow

IMAGES = random_images(10)
KEYS = [f"image {i}" for i in range(10)]


@pytest.fixture
def clip(tiny_clip):
    return CLIPFeaturizer(tiny_clip)


def parts(memory, folder):
    return [path for path in memory.store if path.startswith(f"/bucket/{folder}/part-")]


def test_embeddings_and_predictions_behind_a_url(memory, clip, tmp_path):
    places = {"url": "memory://bucket", "path": str(tmp_path)}
    found = {}
    for kind, place in places.items():
        encode_dataset(IMAGES, f"{place}/embeddings", clip, keys=KEYS, shard_size=4)
        keys, X = read_embeddings(f"{place}/embeddings", KEYS)
        clf = CandleClassifier(text_encoder=None).fit(X[:6], ["ant", "bee"] * 3)
        predict_dataset(clf, f"{place}/embeddings", f"{place}/predictions", proba=True)
        options = {"engine": "pyarrow", "filesystem": memory} if kind == "url" else {}
        tables = [
            pd.read_parquet(path, **options)
            for path in (
                parts(memory, "predictions")
                if kind == "url"
                else sorted((tmp_path / "predictions").glob("part-*"))
            )
        ]
        assert len(tables) == 3
        found[kind] = keys, X, pd.concat(tables).set_index("key").loc[KEYS, "probability"]
    for one, other in zip(found["url"], found["path"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_second_call_encodes_only_new_images(memory, clip, encoded):
    folder = "memory://bucket/embeddings"
    encode_dataset(IMAGES[:6], folder, clip, keys=KEYS[:6])
    encode_dataset(IMAGES[:6], folder, clip, keys=KEYS[:6])
    encode_dataset(IMAGES, folder, clip, keys=KEYS)
    assert sum(encoded) == 10 and len(parts(memory, "embeddings")) == 2
    assert sorted(read_embeddings(folder)[0]) == KEYS


def test_a_file_url_is_a_local_folder(clip, tmp_path):
    encode_dataset(IMAGES[:2], f"file://{tmp_path}/embeddings", clip, keys=KEYS[:2])
    assert read_embeddings(tmp_path / "embeddings")[0].tolist() == KEYS[:2]


def test_a_url_that_lost_a_slash_is_not_a_folder(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="'s3:/bucket/embeddings' is not a URL.* Use a string"):
        encode_dataset(IMAGES, Path("s3://bucket/embeddings"), clip, keys=KEYS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_later_call_stops_the_earlier_one(memory, clip, monkeypatch, moment):
    import pyarrow as pa

    folder = ShardFolder("memory://bucket/embeddings")
    facts = folder.open({"fingerprint": "1"}, "")
    run = folder.start_run()
    pipe_file = type(memory).pipe_file

    def starting_another(self, path, value, **kwargs):
        if "/part-" in path:
            folder.start_run()
        pipe_file(self, path, value, **kwargs)

    if moment == "before":
        folder.start_run()
    else:
        monkeypatch.setattr(type(memory), "pipe_file", starting_another)
    with pytest.raises(ValueError, match="later call writes to 'memory://bucket/embeddings'"):
        folder.write_part(f"part-{run}-a-b.parquet", run, facts, {"key": pa.array(["a"])})
    assert parts(memory, "embeddings") == []


def test_a_damaged_file_is_named(memory, clip):
    folder = "memory://bucket/embeddings"
    encode_dataset(IMAGES[:2], folder, clip, keys=KEYS[:2])
    (part,) = parts(memory, "embeddings")
    content = memory.cat_file(part)
    memory.pipe_file(part, content[:200] + bytes([content[200] ^ 1]) + content[201:])
    with pytest.raises(ValueError, match=f"'memory:/{part}' cannot be read .* run the job again"):
        read_embeddings(folder)


def test_what_is_missing_is_named(monkeypatch, clip):
    with pytest.raises(FileNotFoundError, match="'memory://bucket/none' .* is not a data set"):
        read_embeddings("memory://bucket/none")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(ImportError, match=r"pip install 'skcandle\[fsspec\]'"):
        encode_dataset(IMAGES[:2], "s3://bucket/embeddings", clip, keys=KEYS[:2])
