"""The way from images to rows: stages beside each other, interruptions, memory, files."""

import io
import mmap
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing

import numpy as np
import pytest
import torch
from helpers import random_images
from joblib import Parallel, delayed

from skcandle import CLIPFeaturizer, EmbeddingCache, clear_memory
from skcandle._images.file_digests import FileDigests, file_digests
from skcandle._images.reading import read_image
from skcandle.clip import _checkpoint, _image_pipeline, _model, _preprocessing
from skcandle.clip._cache.memory import memory_cache
from skcandle.clip._cache.sqlite import DATABASE_NAME, _checksum
from skcandle.clip._encoder import Encoder
from skcandle.clip._featurizer import embed_images
from skcandle.exceptions import BatchSizeWarning, CacheWarning, ImageReadError


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save(images, folder):
    paths = [str(folder / f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


@pytest.fixture
def age(monkeypatch):
    """Wait until files are old enough for their times to be trusted, here 50 ms."""
    monkeypatch.setattr("skcandle._images.file_digests.SETTLED_NS", 50 * 10**6)
    return lambda: time.sleep(0.06)


@pytest.fixture
def clip(tiny_clip):
    return CLIPFeaturizer(tiny_clip, pretrained=None, batch_size=4)


@pytest.fixture
def folder_clip(clip, tmp_path):
    return clip.set_params(cache=tmp_path / "cache")


@pytest.fixture
def files(tmp_path):
    return save(random_images(10), tmp_path)


@pytest.mark.parametrize(
    "n_jobs, batch_size", [pytest.param(1, 1, marks=pytest.mark.slow), (2, 4), (5, 100)]
)
def test_rows_depend_neither_on_threads_nor_on_cache(clip, files, tmp_path, n_jobs, batch_size):
    memory_cache.clear()
    X = [*files, *random_images(70, seed=1), *files[::-1]]
    clip.set_params(batch_size=batch_size)
    expected = clip.transform(X)
    memory_cache.clear()
    clip.set_params(n_jobs=n_jobs, cache=tmp_path / "cache")
    np.testing.assert_array_equal(clip.transform(X), expected)
    memory_cache.clear()
    np.testing.assert_array_equal(clip.transform(X), expected)  # from the folder


def test_a_cpu_decodes_nothing_while_the_model_works(clip, files, monkeypatch, cold):
    decode, encode = _preprocessing.decode_image, _model.LoadedModel.encode_images
    n_decoding, seen = 0, []

    def counting(content):
        nonlocal n_decoding
        n_decoding += 1
        time.sleep(0.01)
        image = decode(content)
        n_decoding -= 1
        return image

    def noting(self, pixels):
        seen.append(n_decoding)
        return encode(self, pixels)

    monkeypatch.setattr(_preprocessing, "decode_image", counting)
    monkeypatch.setattr(_model.LoadedModel, "encode_images", noting)
    clip.set_params(device="cpu", n_jobs=1, batch_size=3).transform(files)
    assert seen == [0, 0, 0, 0]


def test_images_are_decoded_while_a_gpu_works(clip, monkeypatch, cold):
    decoded = threading.Semaphore(0)
    decode, encode = _preprocessing.decode_image, _model.LoadedModel.encode_images
    batches = []

    def counting(content):
        image = decode(content)
        decoded.release()
        return image

    def waiting(self, pixels):
        # Three batches of four: all but the last find the next one decoded beside them.
        batches.append(len(pixels))
        if len(batches) < 3:
            for _ in range(4):
                assert decoded.acquire(timeout=10)
        return encode(self, pixels)

    monkeypatch.setattr(_preprocessing, "decode_image", counting)
    monkeypatch.setattr(_image_pipeline, "decodes_ahead", lambda device: True)
    monkeypatch.setattr(_model.LoadedModel, "encode_images", waiting)
    clip.transform(random_images(12))
    assert batches == [4, 4, 4]


class OnGpu:
    """Rows that a GPU still computes, with a list of what happens to them."""

    def __init__(self, rows, number, events):
        self.rows, self.number, self.events = rows, number, events

    def cpu(self):
        self.events.append(f"wait for {self.number}")
        return self.rows


def test_a_gpu_has_the_next_batch_before_the_rows_of_the_last_one_are_awaited(
    clip, files, monkeypatch, cold
):
    expected = clip.transform(files)
    memory_cache.clear()
    encode, events = _model.LoadedModel.encode_images, []

    def starting(self, pixels):
        number = len([event for event in events if event.startswith("start")])
        events.append(f"start {number}")
        return OnGpu(encode(self, pixels), number, events)

    monkeypatch.setattr(_image_pipeline, "decodes_ahead", lambda device: True)
    monkeypatch.setattr(_model.LoadedModel, "encode_images", starting)
    np.testing.assert_array_equal(clip.transform(files), expected)
    assert events == ["start 0", "start 1", "wait for 0", "start 2", "wait for 1", "wait for 2"]


def test_the_thread_of_a_gpu_reads_no_files(clip, files, monkeypatch, cold):
    readers = []

    def reading(image):
        readers.append(threading.current_thread().name.startswith("skcandle"))
        return read_image(image)

    monkeypatch.setattr(_image_pipeline, "decodes_ahead", lambda device: True)
    monkeypatch.setattr(_image_pipeline, "read_image", reading)
    clip.transform(files)
    assert readers == [True] * len(files)


@pytest.mark.slow
def test_only_few_batches_are_held(clip, monkeypatch, cold):
    """Images are made when they are read; those not yet encoded are counted."""
    alive, most = 0, 0

    def reading(image):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return read_image(random_images(1, seed=image)[0])

    encode = _model.LoadedModel.encode_images

    def encoding(self, pixels):
        nonlocal alive
        alive -= len(pixels)
        return encode(self, pixels)

    monkeypatch.setattr(_image_pipeline, "read_image", reading)
    monkeypatch.setattr(_model.LoadedModel, "encode_images", encoding)
    embed_images(clip, range(1000))
    assert alive == 0
    assert most <= 3 * 4 + 2 * _image_pipeline.READ_TOGETHER


@pytest.mark.parametrize("worth_a_thread, in_threads", [(0.0, True), (np.inf, False)])
def test_threads_read_what_is_slow_to_read(
    clip, files, monkeypatch, cold, worth_a_thread, in_threads
):
    readers = []

    def reading(image):
        readers.append(threading.current_thread().name.startswith("skcandle"))
        return read_image(image)

    monkeypatch.setattr(_image_pipeline, "WORTH_A_THREAD", worth_a_thread)
    monkeypatch.setattr(_image_pipeline, "read_image", reading)
    rows = clip.set_params(n_jobs=2).transform(files)
    # the first shows how slow they are
    assert readers == [False] + [in_threads] * (len(files) - 1)
    monkeypatch.undo()
    memory_cache.clear()
    np.testing.assert_array_equal(clip.set_params(n_jobs=1).transform(files), rows)


@pytest.mark.parametrize(("n_images", "in_threads"), [(1, False), (2, True)])
def test_one_image_is_decoded_without_a_thread(
    clip, files, monkeypatch, cold, n_images, in_threads
):
    decoders = []
    decode = _image_pipeline.ImagePipeline._pixels

    def decoding(self, *args):
        decoders.append(threading.current_thread().name.startswith("skcandle"))
        return decode(self, *args)

    monkeypatch.setattr(_image_pipeline.ImagePipeline, "_pixels", decoding)
    rows = clip.transform(files[:n_images])
    assert decoders == [in_threads] * n_images
    monkeypatch.undo()
    np.testing.assert_allclose(clip.transform(files)[:n_images], rows, atol=1e-6)


def test_large_files_wait_on_disk(clip, files, monkeypatch, cold):
    """Reading stops while more encoded bytes than allowed wait for a thread."""
    monkeypatch.setattr(_image_pipeline, "MAX_WAITING_BYTES", 1)
    clip.set_params(batch_size=64)
    rows = clip.transform(files)
    monkeypatch.undo()
    memory_cache.clear()
    np.testing.assert_array_equal(clip.transform(files), rows)


def test_batches_are_full_beside_broken_images(clip, encoded):
    images = random_images(12)
    images[2:2] = [b"broken"] * 3
    with pytest.raises(ImageReadError, match="3 of 15 images"):
        clip.transform(images)
    assert encoded == [4, 4, 4]


def test_thousands_of_duplicates_are_encoded_once(clip, files, encoded):
    rows = clip.transform(files[:3] * 2000)
    assert encoded == [3]
    np.testing.assert_array_equal(rows, np.tile(rows[:3], (2000, 1)))


def test_new_process_needs_no_model(folder_clip, files, encoded, no_loading):
    rows = folder_clip.transform(files)
    text = folder_clip.encode_text(["a cat"])
    memory_cache.clear()
    no_loading()
    np.testing.assert_array_equal(folder_clip.transform(files[::-1]), rows[::-1])
    np.testing.assert_array_equal(folder_clip.encode_text(["a cat"]), text)


def rows_and_loaded_models(clip, files):
    return clip.transform(files), len(_model._loaded)


@pytest.mark.slow
def test_worker_processes_with_a_warm_folder_load_no_model(folder_clip, files):
    rows = folder_clip.transform(files)
    jobs = [delayed(rows_and_loaded_models)(folder_clip, files) for _ in range(2)]
    for rows_there, n_loaded in Parallel(n_jobs=2, backend="loky")(jobs):
        np.testing.assert_array_equal(rows_there, rows)
        assert n_loaded == 0


def test_folder_and_cache_object_mean_the_same(clip, files, tmp_path, encoded):
    for cache in (tmp_path / "c", str(tmp_path / "c"), EmbeddingCache(tmp_path / "c")):
        memory_cache.clear()
        clip.set_params(cache=cache).fit_transform(files)
    assert sum(encoded) == len(files)
    assert cache.info()[:2] == (len(files), 1)


def test_unusable_folder_costs_a_warning_and_no_row(clip, files, encoded):
    rows = clip.transform(files)
    memory_cache.clear()
    clip.set_params(cache=files[0])
    with pytest.warns(CacheWarning, match="cannot be written"):
        np.testing.assert_array_equal(clip.transform(files), rows)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_call_resumes(folder_clip, files, encoded, monkeypatch, error):
    decode = _preprocessing.decode_image
    n_decoded = 0

    def failing(content):
        nonlocal n_decoded
        n_decoded += 1
        if n_decoded == 10:
            raise error
        return decode(content)

    images = random_images(12)
    monkeypatch.setattr(_preprocessing, "decode_image", failing)
    with pytest.raises(error):
        folder_clip.transform(images)
    assert encoded == [4, 4]
    memory_cache.clear()
    folder_clip.transform(images)
    assert encoded == [4, 4, 4]


KILLED = """
import os, signal, sys
from skcandle import CLIPFeaturizer
from skcandle.clip import _model
encode = _model.LoadedModel.encode_images
n_batches = 0

def counting(self, pixels):
    global n_batches
    n_batches += 1
    if n_batches == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(self, pixels)

_model.LoadedModel.encode_images = counting
name, cache, *paths = sys.argv[1:]
CLIPFeaturizer(name, pretrained=None, batch_size=4, cache=cache).transform(paths)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_job_resumes_in_another_process(folder_clip, files, encoded):
    arguments = [folder_clip.model_name, str(folder_clip.cache), *files]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], stderr=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    rows = folder_clip.transform(files)
    assert encoded == [2]
    memory_cache.clear()
    expected = folder_clip.set_params(cache=None).transform(files)
    np.testing.assert_allclose(rows, expected, atol=1e-6, rtol=0)


def test_another_preprocessing_misses(folder_clip, files, encoded, monkeypatch):
    folder_clip.transform(files)
    memory_cache.clear()
    config = _checkpoint._folder_config

    def changed(source):
        return config(source) | {"preprocess_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}

    monkeypatch.setattr(_checkpoint, "_folder_config", changed)
    folder_clip.transform(files)
    assert sum(encoded) == 2 * len(files)


def test_another_version_of_the_library_misses_and_both_keep_theirs(
    folder_clip, files, encoded, monkeypatch
):
    for version in (1, 2, 1, 2):
        memory_cache.clear()
        monkeypatch.setattr(_checkpoint, "PIPELINE_VERSION", version)
        folder_clip.transform(files)
    assert sum(encoded) == 2 * len(files)
    assert EmbeddingCache(folder_clip.cache).info()[:2] == (2 * len(files), 2)


def forge(folder, blob):
    """Put a blob, with the checksum that fits, in the place of each row of a cache."""
    with closing(sqlite3.connect(f"{folder}/{DATABASE_NAME}")) as connection, connection:
        for (key,) in connection.execute("SELECT key FROM embeddings").fetchall():
            forged = blob, _checksum(key, blob), key
            connection.execute("UPDATE embeddings SET row = ?, checksum = ? WHERE key = ?", forged)


@pytest.mark.parametrize(
    "blob",
    [
        np.float32(1).tobytes(),
        np.eye(1, 63, dtype=np.float32).tobytes(),
        np.eye(1, 65, dtype=np.float32).tobytes(),
        np.full(64, np.nan, dtype=np.float32).tobytes(),
        np.full(64, 3e38, dtype=np.float32).tobytes(),
        np.zeros(64, dtype=np.float32).tobytes(),
        (2 * np.eye(1, 64, dtype=np.float32)).tobytes(),
        b"",
        b"123",
    ],
    ids=["one", "narrow", "wide", "nan", "overflow", "zeros", "twice", "empty", "no floats"],
)
def test_what_is_no_embedding_is_never_taken_from_a_folder(folder_clip, files, blob, encoded):
    rows, text = folder_clip.transform(files), folder_clip.encode_text(["a cat"])
    forge(folder_clip.cache, blob)
    for _ in range(2):  # the second time it has been replaced
        memory_cache.clear()
        np.testing.assert_array_equal(folder_clip.transform(files), rows)
        np.testing.assert_array_equal(folder_clip.encode_text(["a cat"]), text)
    assert sum(encoded) == 2 * len(files)


@pytest.mark.parametrize("keep_times", [False, True])
def test_new_content_under_an_old_name_misses(folder_clip, files, encoded, age, keep_times):
    path = files[0]
    age()
    old = folder_clip.transform([path])
    assert read_image(path).data is None  # known, and not read again
    status = os.stat(path)
    data = bytearray(open(path, "rb").read())
    other = png(random_images(1, seed=1)[0])
    n_bytes = max(len(data), len(other))
    with open(path, "wb") as file:
        file.write(other.ljust(n_bytes, b"\0"))
    if keep_times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    new = folder_clip.transform([path])
    assert np.abs(new - old).max() > 1e-3
    assert sum(encoded) == 2


def test_a_change_through_a_memory_map_is_seen_in_bytes_and_after_clear_memory(
    clip, tmp_path, age, cold
):
    path = tmp_path / "image.bmp"
    random_images(1)[0].save(path)
    age()
    old = clip.transform([path])
    assert read_image(path).data is None  # known, and not read again
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pixels:
        pixels[-3000:] = pixels[-3000:][::-1]
    new = clip.transform([path.read_bytes()])
    assert np.abs(new - old).max() > 1e-3
    clear_memory()
    np.testing.assert_array_equal(clip.transform([path]), new)


def test_unchanged_files_are_not_read_again_even_if_their_rows_are_gone(clip, files, cold, age):
    age()
    rows = clip.transform(files)
    assert all(read_image(path).data is None for path in files)
    memory_cache.clear()
    np.testing.assert_array_equal(clip.transform(files), rows)


def test_young_files_are_not_trusted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    digests = FileDigests()
    digests.put(os.stat(path), b"digest")
    assert digests.get(os.stat(path)) is None


def test_remembered_files_are_bounded_in_number(files, age):
    age()
    digests = FileDigests(max_entries=4)
    for path in files:
        digests.put(os.stat(path), path)
    assert [digests.get(os.stat(path)) for path in files] == [None] * 6 + files[6:]
    digests.clear()
    assert digests.get(os.stat(files[-1])) is None


def test_links_share_their_file(clip, files, tmp_path, encoded):
    (tmp_path / "soft").symlink_to(files[0])
    (tmp_path / "hard").hardlink_to(files[0])
    clip.transform([files[0], tmp_path / "soft", tmp_path / "hard"])
    assert encoded == [1]


def test_symlink_loop_is_named(clip, files, tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ImageReadError, match="image 1: the file '.*a' .*symbolic links"):
        clip.transform([files[0], tmp_path / "a"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8")
def test_file_names_that_are_not_utf8(folder_clip, files, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    os.link(files[1], odd)
    rows = folder_clip.transform([*files, odd])
    np.testing.assert_array_equal(rows[-1], rows[1])
    with open(odd, "wb") as file:
        file.write(b"broken")
    with pytest.raises(ImageReadError, match="image 0: the file '.*udcff.* image format") as info:
        folder_clip.transform([odd])
    str(info.value).encode()  # can be printed


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),  # of pinned memory
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
]


@pytest.fixture
def out_of_memory_beyond(monkeypatch, cold):
    """A function after which forward passes of more inputs fail as they do on a GPU."""

    def limit(most, error=OUT_OF_MEMORY[0], kind="images"):
        name = {"images": "encode_images", "prompts": "encode_tokens"}[kind]
        encode, sizes = getattr(_model.LoadedModel, name), []

        def limited(self, inputs):
            if len(inputs) > most:
                raise error
            sizes.append(len(inputs))
            return encode(self, inputs)

        monkeypatch.setattr(_model.LoadedModel, name, limited)
        return sizes

    yield limit
    clear_memory()


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:30])
def test_out_of_gpu_memory_halves_the_batch_and_goes_on(clip, out_of_memory_beyond, error):
    images = random_images(40)
    expected = clip.transform(images)
    memory_cache.clear()
    sizes = out_of_memory_beyond(5, error)
    with pytest.warns(BatchSizeWarning, match="too little memory for .* batch_size=") as caught:
        rows = clip.set_params(batch_size=16).transform(images)
    assert len(caught) == 2  # 16, 8
    assert sizes == [4] * 10
    np.testing.assert_allclose(rows, expected, atol=1e-6, rtol=0)


def test_a_later_call_begins_with_the_batch_that_fitted(clip, out_of_memory_beyond):
    sizes = out_of_memory_beyond(5)
    with pytest.warns(BatchSizeWarning):
        clip.set_params(batch_size=16).transform(random_images(16))
    sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", BatchSizeWarning)
        clip.transform(random_images(16, seed=1))
        clip.set_params(batch_size=3).transform(random_images(6, seed=2))
    assert sizes == [4] * 4 + [3] * 2
    clear_memory()
    with pytest.warns(BatchSizeWarning) as caught:
        clip.set_params(batch_size=16).transform(random_images(16))
    assert "for 16 images at once; continuing with 8" in str(caught[0].message)


@pytest.mark.parametrize(
    "device, name, n_images",
    [
        ("cuda:0", "emoji-clip", 1024),  # 16 patches
        ("cuda:0", "ViT-B-32", 640),  # 49
        ("cuda:0", "RN50", 128),  # counts as 196
        ("cuda:0", "ViT-L-14", 128),  # 256
        ("cuda:0", "ViT-H-14-378-quickgelu", 64),  # 729
        ("cpu", "emoji-clip", 64),
        ("cpu", "ViT-L-14", 64),
        ("mps", "ViT-B-32", 64),
    ],
)
def test_auto_batches_follow_the_device_and_the_patches_of_the_model(device, name, n_images):
    options = {"precision": "fp32", "device": torch.device(device)}
    assert Encoder(name, None, batch_size="auto", **options).batch_size == n_images
    assert Encoder(name, None, batch_size=7, **options).batch_size == 7


def test_auto_batches_that_do_not_fit_are_halved_without_a_warning(clip, out_of_memory_beyond):
    images = random_images(64)
    expected = clip.transform(images)
    memory_cache.clear()
    sizes = out_of_memory_beyond(17)
    clip.set_params(batch_size="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error", BatchSizeWarning)
        rows = clip.transform(images)
        clip.transform(random_images(16, seed=1))
    assert sizes == [16] * 5
    np.testing.assert_allclose(rows, expected, atol=1e-6, rtol=0)


def test_jpegs_for_a_gpu_are_decoded_for_many_threads(tiny_clip, monkeypatch):
    options = {"precision": "bf16", "batch_size": 4}
    on_cpu, on_gpu = (
        Encoder(tiny_clip, None, device=torch.device(device), **options)
        for device in ("cpu", "cuda:0")
    )
    monkeypatch.setattr(Encoder, "model", on_cpu.model)  # this machine has no GPU to load it on
    assert not on_cpu.preprocess.keywords["in_many_threads"]
    assert on_gpu.preprocess.keywords["in_many_threads"]


def test_out_of_gpu_memory_halves_a_batch_of_prompts(clip, out_of_memory_beyond):
    prompts = [f"a photo of {i} cats" for i in range(11)]
    expected = clip.encode_text(prompts)
    memory_cache.clear()
    sizes = out_of_memory_beyond(5, kind="prompts")
    with pytest.warns(BatchSizeWarning, match="for 11 prompts at once; continuing with 5"):
        rows = clip.set_params(batch_size=16).encode_text(prompts)
    assert sizes == [5, 5, 1]
    np.testing.assert_allclose(rows, expected, atol=1e-6, rtol=0)


def test_out_of_gpu_memory_with_one_image_is_an_error(clip, out_of_memory_beyond):
    out_of_memory_beyond(0)
    with pytest.warns(BatchSizeWarning), pytest.raises(torch.cuda.OutOfMemoryError):
        clip.transform(random_images(3))


def test_other_errors_of_a_gpu_are_not_taken_for_a_lack_of_memory(clip, out_of_memory_beyond):
    out_of_memory_beyond(0, RuntimeError("CUDA error: an illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        clip.transform(random_images(3))


def test_no_progress_of_work_that_is_soon_done(clip, files, capsys):
    clip.set_params(verbose=1).transform(files[:2])
    assert capsys.readouterr() == ("", "")


def test_progress_counts_every_image(clip, files, capsys, cold, monkeypatch):
    monkeypatch.setattr(_image_pipeline, "PROGRESS_DELAY", 0)
    clip.set_params(verbose=1)
    clip.transform(files[:3])
    clip.transform([*files, *files])
    shown = capsys.readouterr().err
    assert "3/3" in shown and "20/20" in shown and "image/s" in shown


@pytest.fixture(autouse=True)
def forget_files():
    file_digests.clear()


def test_clear_memory_releases_models_embeddings_and_digests(tiny_clip, tmp_path, encoded):
    path = tmp_path / "image.png"
    random_images(1)[0].save(path)
    clip = CLIPFeaturizer(tiny_clip)
    rows = clip.transform([path])
    assert len(_model._loaded) and len(memory_cache)
    clear_memory()
    assert not len(_model._loaded) and not len(memory_cache)
    np.testing.assert_array_equal(clip.transform([path]), rows)
    assert encoded == [1, 1]
