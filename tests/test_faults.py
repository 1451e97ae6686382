"""Ctrl-C at any moment, full disks, removed folders, and clocks that jump."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import clip_like, random_images
from numpy.testing import assert_array_equal
from sklearn.decomposition import PCA
from typer.testing import CliRunner

import skcandle
from skcandle import (
    CandleClassifier,
    CandlePipeline,
    CLIPFeaturizer,
    EmbeddingCache,
    PublishedCandleClassifier,
    RejectingClassifier,
    clear_memory,
)
from skcandle._files import write_file
from skcandle._images import file_digests
from skcandle._images.file_digests import FileDigests
from skcandle._locks import ForkSafeLock
from skcandle.classifier import _held_out
from skcandle.cli._app import app
from skcandle.clip import _model
from skcandle.clip._cache import sqlite
from skcandle.clip._cache.sqlite import DATABASE_NAME
from skcandle.exceptions import CacheWarning, ImageReadError

PACKAGE = str(Path(skcandle.__file__).parent)


# --- Ctrl-C ----------------------------------------------------------------------------------


@contextmanager
def interrupted_at(moment):
    """Raise a KeyboardInterrupt at one of the moments at which Python handles Ctrl-C.

    These moments are the start of a function of this package and the return from C to such a
    function, where Python handles signals that arrived in the meantime. Yields a list with one
    item, the number of moments that have passed.
    """
    passed = [0]

    def watch(frame, event, arg):
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            passed[0] += 1
            if passed[0] == moment:
                raise KeyboardInterrupt

    sys.setprofile(watch)
    try:
        yield passed
    finally:
        sys.setprofile(None)


def moments(work, n):
    """About n moments, spread evenly over all moments of `work`."""
    with interrupted_at(None) as passed:
        work()
    return np.unique(np.linspace(1, passed[0], n, dtype=int)).tolist()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals")
def test_a_lock_is_free_after_ctrl_c():
    lock, rng = ForkSafeLock(), np.random.default_rng(0)
    for seconds in rng.uniform(1e-5, 1e-3, 200):
        former = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            while True:
                with lock:
                    pass
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGALRM, former)
        assert lock._lock.acquire(blocking=False)
        lock._lock.release()


X, Y, TEXTS = clip_like([6, 4, 2, 1, 0], 16)
NAMES = np.array(["ant", "bee", "cat", "dog", "elk"])
TEXT = dict(zip(NAMES.tolist(), TEXTS, strict=True))
OPTIONS = {"new_classes": ["elk"], "text_encoder": TEXT, "max_iter": 2}


def with_pca():
    return CandlePipeline([("pca", PCA(4)), ("candle", CandleClassifier(text_encoder=None))])


ESTIMATORS = {
    "candle": lambda: CandleClassifier(**OPTIONS),
    "published": lambda: PublishedCandleClassifier(**OPTIONS, random_state=0),
    "rejecting": lambda: RejectingClassifier(CandleClassifier(**OPTIONS), rejection_rate=0.3),
    "pipeline": with_pca,
    "rejecting in a pipeline": lambda: CandlePipeline(
        [("all", RejectingClassifier(CandleClassifier(**OPTIONS), rejection_rate=0.3))]
    ),
}
each_estimator = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)


@pytest.mark.slow
@each_estimator
def test_an_interrupted_fit_keeps_the_earlier_fit(make):
    labels = NAMES[Y]
    clf = make().fit(X, labels)
    expected, n_interrupted = clf.predict_proba(X), 0
    other = X[::-1] ** 3, labels[np.r_[0, : len(labels) - 1]]
    for moment in moments(lambda: make().fit(*other), 25):
        with suppress(KeyboardInterrupt), interrupted_at(moment):
            clf.fit(*other)
            continue
        n_interrupted += 1
        assert_array_equal(clf.predict_proba(X), expected)
    assert n_interrupted >= 20
    assert_array_equal(clf.fit(*other).predict_proba(X), make().fit(*other).predict_proba(X))


def test_interrupted_thresholds_keep_the_earlier_fit(monkeypatch):
    clf = ESTIMATORS["rejecting"]().fit(X, NAMES[Y])
    expected = clf.predict_proba(X), clf.predict(X)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_held_out.HeldOutScores, "novelty_thresholds", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X**3, NAMES[Y])
    assert_array_equal(clf.predict_proba(X), expected[0])
    assert_array_equal(clf.predict(X), expected[1])


@pytest.mark.filterwarnings("ignore:The class 'elk' in new_classes has images")
@each_estimator
def test_a_failed_fit_keeps_the_earlier_fit(make):
    clf = make().fit(X, NAMES[Y])
    expected = clf.predict_proba(X)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        clf.fit(np.where(X > 0.3, np.inf, X), NAMES[Y])
    with pytest.raises(ValueError, match="one class"):
        clf.fit(X[:6], ["elk"] * 6)
    assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_transform_does_not_block_the_cache(tiny_clip, tmp_path, monkeypatch, cold):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    images = random_images(7)
    clip = CLIPFeaturizer(tiny_clip, batch_size=3, n_jobs=1)
    expected = clip.transform(images)
    others = random_images(2, seed=1)
    expected_of_others = clip.transform(others)
    clip.set_params(cache=tmp_path / "cache")

    def encode():
        clear_memory()
        _model.load_model(clip._encoder().checkpoint, "fp32", clip._encoder().device)
        return clip.transform(images)

    encode()
    EmbeddingCache(tmp_path / "cache").clear()
    found = moments(encode, 50)
    EmbeddingCache(tmp_path / "cache").clear()
    n_interrupted = 0
    for moment in found:
        with suppress(KeyboardInterrupt), interrupted_at(moment):
            encode()
            continue
        n_interrupted += 1
        # as another process, which must not wait for a transaction of this one
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            database = sqlite.Database(str(tmp_path / "cache"))
            key = bytes([moment % 256]) * 32
            database.put_many(bytes(32), [key], expected[:1], 2**30)
            assert key in database.get_many(bytes(32), [key])
            database._disconnect()
            np.testing.assert_allclose(clip.transform(images), expected, atol=1e-6)
            np.testing.assert_allclose(clip.transform(others), expected_of_others, atol=1e-6)
        EmbeddingCache(tmp_path / "cache").clear()
    assert n_interrupted >= 40


def test_a_model_can_be_loaded_after_ctrl_c_while_loading(tiny_clip, monkeypatch, cold):
    clip = CLIPFeaturizer(tiny_clip)
    create = _model._create_module

    def interrupted(*args):
        create(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_model, "_create_module", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clip.transform(random_images(1))
    assert clip.transform(random_images(1)).shape == (1, 64)


# --- full disks ------------------------------------------------------------------------------


class SmallDisk:
    """A file system of 3 MB that a file can fill up."""

    def __init__(self, folder):
        self.folder = folder

    def fill(self):
        with suppress(OSError), open(self.folder / "filler", "wb", buffering=0) as file:
            for size in (2**16, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def free(self):
        (self.folder / "filler").unlink(missing_ok=True)


class SmallFiles:
    """A limit on file sizes, which gives errors like those of a quota."""

    def __init__(self, folder):
        import resource

        self.folder, self.resource = folder, resource
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self):
        self.resource.setrlimit(self.resource.RLIMIT_FSIZE, (64, self.limits[1]))

    def free(self):
        self.resource.setrlimit(self.resource.RLIMIT_FSIZE, self.limits)


@pytest.fixture(params=["small disk", "limit on files"])
def disk(request, tmp_path):
    if request.param == "limit on files":
        pytest.importorskip("resource")
        disk = SmallFiles(tmp_path)
        yield disk
        disk.free()
        return
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield SmallDisk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_only_stops_the_cache_from_growing(disk, tiny_clip, cold, monkeypatch):
    clip = CLIPFeaturizer(tiny_clip, batch_size=4)
    images = random_images(60)
    expected = clip.transform(images)
    clear_memory()
    cache = EmbeddingCache(disk.folder / "cache")
    clip.set_params(cache=cache).transform(images[:4])
    disk.fill()
    with pytest.warns(CacheWarning, match="cannot be written .*results are the same") as caught:
        rows = clip.transform(images)
    disk.free()
    assert len(caught) == 1
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    clock = time.monotonic() + sqlite.RETRY_SECONDS
    monkeypatch.setattr(sqlite.time, "monotonic", lambda: clock)
    clip.transform(images)
    assert cache.info().n_embeddings == 60
    sqlite.open_database(cache.folder)._disconnect()


def test_a_job_stopped_by_a_full_disk_can_continue(disk, tiny_clip, tmp_path):
    pytest.importorskip("dask.dataframe")
    pytest.importorskip("distributed")
    pytest.importorskip("pyarrow")
    from skcandle.scale_out import encode_dataset, read_embeddings

    images, keys = random_images(12), [f"{i:02}" for i in range(12)]
    clip = CLIPFeaturizer(tiny_clip)
    folder = disk.folder / "data"
    encode_dataset(images[:6], folder, clip, keys=keys[:6], shard_size=3)
    disk.fill()
    with pytest.raises(OSError, match="No space left on device|File too large"):
        encode_dataset(images, folder, clip, keys=keys, shard_size=3)
    disk.free()
    assert sorted(read_embeddings(folder)[0]) == keys[:6]
    assert not list(folder.glob("_tmp-*"))
    encode_dataset(images, folder, clip, keys=keys, shard_size=3)
    np.testing.assert_allclose(read_embeddings(folder, keys)[1], clip.transform(images), atol=1e-6)


@pytest.mark.slow
def test_a_full_disk_does_not_change_the_files_of_a_command(disk, tmp_path):
    for i, image in enumerate(random_images(4)):
        path = tmp_path / "photos" / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    model, answers = disk.folder / "model.skops", disk.folder / "answers.csv"
    options = ["--model", "emoji-clip", "--no-cache", "--force"]
    commands = [
        ["fit", tmp_path / "photos", "-o", model, *options],
        ["predict", tmp_path / "photos", "--classes", "a, b", "-o", answers, *options],
    ]
    for path in (model, answers):
        path.write_text("former")
    disk.fill()
    results = [CliRunner().invoke(app, list(map(str, command))) for command in commands]
    disk.free()
    for result in results:
        assert result.exit_code == 1
        [*_, line] = result.stderr.splitlines()
        assert line.startswith("Error: ") and ("No space" in line or "too large" in line)
    assert model.read_text() == answers.read_text() == "former"
    assert {path.name for path in disk.folder.iterdir()} <= {model.name, answers.name, "photos"}
    for command in commands:
        assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0


def test_a_full_disk_does_not_change_a_report(disk):
    path = disk.folder / "report.html"
    path.write_text("former")
    disk.fill()
    with pytest.raises(OSError, match="report.html' cannot be written"):
        write_file(path, "text " * 10**6, overwrite=True)
    disk.free()
    assert path.read_text() == "former"
    assert [p.name for p in disk.folder.iterdir()] == ["report.html"]


# --- removed folders -------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
def test_a_cache_that_is_removed_during_a_call_is_created_again(
    tiny_clip, tmp_path, before_encoding, beside
):
    images = random_images(12)
    clip = CLIPFeaturizer(tiny_clip, batch_size=4)
    expected = clip.transform(images)
    clear_memory()
    cache = EmbeddingCache(tmp_path / "cache")
    clip.set_params(cache=cache)
    batches = itertools.count(1)

    def remove(pixels):
        if next(batches) == 2:
            shutil.rmtree(cache.folder)
            if beside:  # another process has created it again
                sqlite.Database(cache.folder).put_many(bytes(32), [bytes(32)], expected[:1], 2**30)

    before_encoding.append(remove)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(clip.transform(images), expected, atol=1e-6)
        assert EmbeddingCache(tmp_path / "cache").info().n_embeddings == 8 + beside
        clip.transform(images)  # the first four are in memory and are stored again
    assert cache.info().n_embeddings == 12 + beside


def test_images_that_are_removed_during_a_call_are_named(tiny_clip, tmp_path, before_encoding):
    paths = [tmp_path / "photos" / f"{i}.png" for i in range(70)]
    paths[0].parent.mkdir()
    for path, image in zip(paths, random_images(70), strict=True):
        image.save(path)
    clip = CLIPFeaturizer(tiny_clip, batch_size=4, n_jobs=1)
    expected = clip.transform(paths)
    clear_memory()
    before_encoding.append(lambda pixels: shutil.rmtree(tmp_path / "photos", ignore_errors=True))
    with pytest.raises(ImageReadError, match="No such file") as caught:
        clip.transform(paths)
    lost = caught.value.positions
    assert 0 < len(lost) < 70 and lost[-1] == 69
    kept = [i for i in range(70) if i not in lost]
    clip.set_params(on_error="nan")
    assert len(kept) >= 4
    np.testing.assert_allclose(clip.transform(random_images(70)), expected, atol=1e-6)


def test_the_error_for_a_data_set_removed_during_a_job_names_it(
    tiny_clip, tmp_path, before_encoding
):
    pytest.importorskip("dask.dataframe")
    pytest.importorskip("distributed")
    pytest.importorskip("pyarrow")
    from skcandle.scale_out import encode_dataset, read_embeddings

    folder, clip = tmp_path / "data", CLIPFeaturizer(tiny_clip)
    images, keys = random_images(4), list("abcd")
    before_encoding.append(lambda pixels: shutil.rmtree(folder, ignore_errors=True))
    with pytest.raises(FileNotFoundError, match=str(folder)):
        encode_dataset(images, folder, clip, keys=keys)
    before_encoding.clear()
    encode_dataset(images, folder, clip, keys=keys)
    assert sorted(read_embeddings(folder)[0]) == keys


# --- clocks ----------------------------------------------------------------------------------

SECOND = 10**9


class Clock:
    """A clock that can be set, and a monotonic one."""

    def __init__(self):
        self.set_to, self.going_on = 10**18, 5 * SECOND

    def time(self):
        return self.set_to / SECOND

    def time_ns(self):
        return self.set_to

    def monotonic(self):
        return self.going_on / SECOND

    def monotonic_ns(self):
        return self.going_on

    def wait(self, seconds):
        self.set_to += int(seconds * SECOND)
        self.going_on += int(seconds * SECOND)


def file_of(time_ns):
    return SimpleNamespace(st_dev=1, st_ino=1, st_size=9, st_mtime_ns=time_ns, st_ctime_ns=time_ns)


def test_a_file_changed_twice_at_the_same_clock_time_is_read_again(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(file_digests, "time", clock)
    digests, written_at = FileDigests(), clock.set_to
    clock.wait(10)
    digests.put(file_of(written_at), b"former")
    assert digests.get(file_of(written_at)) == b"former"
    clock.wait(3600)
    assert digests.get(file_of(written_at)) == b"former"
    clock.set_to = written_at  # and the file is written again
    clock.wait(0.01)
    assert digests.get(file_of(written_at)) is None
    digests.put(file_of(written_at), b"new")
    assert digests.get(file_of(written_at)) is None  # the file is too new
    clock.wait(10)
    digests.put(file_of(written_at), b"new")
    assert digests.get(file_of(written_at)) == b"new"


@pytest.mark.parametrize("jump", [-(10**9), -86400, 86400, 10**9])
@pytest.mark.timeout(60)
def test_a_clock_that_jumps_affects_neither_rows_nor_locks(
    jump, tiny_clip, tmp_path, monkeypatch, cold
):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, random_images(4), strict=True):
        image.save(path)
    clip = CLIPFeaturizer(tiny_clip)
    expected = clip.transform(random_images(4)), clip.transform(random_images(4, seed=1))
    clip.set_params(cache=tmp_path / "cache")
    now, offset = time.time, 0
    monkeypatch.setattr(time, "time", lambda: now() + offset)
    monkeypatch.setattr(time, "time_ns", lambda: int((now() + offset) * SECOND))
    for i in range(4):
        offset += jump * (-1) ** i
        clear_memory()
        for path, image in zip(paths, random_images(4, seed=i % 2), strict=True):
            image.save(path)
            os.utime(path, (now() - 10**6, now() - 10**6 + jump // 10**4))
        np.testing.assert_allclose(clip.transform(paths), expected[i % 2], atol=1e-6)
    assert EmbeddingCache(tmp_path / "cache").info().n_embeddings == 8


@pytest.mark.timeout(60)
def test_a_writer_waits_for_another_for_a_limited_time_whatever_the_clock_says(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    folder = str(tmp_path)
    row = np.eye(1, 64, dtype=np.float32)
    database = sqlite.Database(folder)
    database.put_many(bytes(32), [bytes(32)], row, 2**30)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that stands still
    held, release = threading.Event(), threading.Event()

    def hold():
        with sqlite.Database(folder)._transaction():
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    with pytest.warns(CacheWarning, match="locked"):
        sqlite.Database(folder).put_many(bytes(32), [b"1" * 32], row, 2**30)
    release.set()
    thread.join()
    assert (tmp_path / DATABASE_NAME).exists()
