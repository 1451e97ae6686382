"""Images behind URLs: the same rows as from files, read anew in each call."""

import io
import json
import threading
import zipfile
from base64 import b64encode
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from fsspec.registry import known_implementations
from helpers import random_images
from PIL import UnidentifiedImageError

from skcandle import CLIPFeaturizer
from skcandle._images import reading
from skcandle._images.failures import describe_failure
from skcandle.datasets import load_image_table
from skcandle.exceptions import ImageReadError


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


CONTENTS = [png(image) for image in random_images(6)]


@pytest.fixture
def urls(memory):
    urls = [f"memory://bucket/{i}.png" for i in range(len(CONTENTS))]
    for url, content in zip(urls, CONTENTS, strict=True):
        memory.pipe(url, content)
    return urls


@pytest.fixture
def clip(tiny_clip):
    return CLIPFeaturizer(tiny_clip)


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for i, content in enumerate(contents):
            archive.writestr(f"photos/{i}.png", content)


def in_zip(path):
    return [f"zip://photos/{i}.png::{path}" for i in range(len(CONTENTS))]


def test_a_url_gives_the_row_of_its_content(clip, urls, cold):
    rows = clip.transform(urls)
    np.testing.assert_array_equal(rows, clip.transform(CONTENTS))
    np.testing.assert_array_equal(rows, clip.transform(np.array(urls)))


def test_the_cache_knows_a_url_by_its_content(clip, urls, memory, encoded):
    clip.transform(urls[:2])
    memory.pipe(urls[0], CONTENTS[1])
    memory.pipe(urls[1], CONTENTS[2])
    rows = clip.transform(urls[:2])
    np.testing.assert_array_equal(rows, clip.transform(CONTENTS[1:3]))
    assert sum(encoded) == 3


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_images_in_an_archive(clip, tmp_path, memory, cold, n_jobs):
    write_zip(tmp_path / "photos.zip", CONTENTS)
    memory.pipe("memory://photos.zip", (tmp_path / "photos.zip").read_bytes())
    clip.set_params(n_jobs=n_jobs)
    expected = clip.transform(CONTENTS)
    np.testing.assert_array_equal(clip.transform(in_zip(tmp_path / "photos.zip")), expected)
    np.testing.assert_array_equal(clip.transform(in_zip("memory://photos.zip")), expected)


def test_an_archive_is_opened_once_in_each_call(clip, tmp_path, monkeypatch):
    opened, init = [], zipfile.ZipFile.__init__

    def noting(self, *args, **kwargs):
        opened.append(args)
        init(self, *args, **kwargs)

    path = tmp_path / "photos.zip"
    write_zip(path, CONTENTS)
    monkeypatch.setattr(zipfile.ZipFile, "__init__", noting)
    first = clip.transform(in_zip(path))
    assert len(opened) == 1
    monkeypatch.undo()
    write_zip(path, CONTENTS[::-1])
    np.testing.assert_array_equal(clip.transform(in_zip(path)), first[::-1])


def test_threads_read_urls(clip, urls, memory, monkeypatch):
    names, cat_file = set(), type(memory).cat_file
    at_once = threading.Barrier(2, timeout=60)  # broken unless two threads read at the same time

    def noting(self, path, **kwargs):
        name = threading.current_thread().name
        if name not in names:
            names.add(name)
            at_once.wait()
        return cat_file(self, path, **kwargs)

    monkeypatch.setattr(type(memory), "cat_file", noting)
    clip.set_params(n_jobs=2).transform(urls)
    assert len(names) == 2 and threading.current_thread().name not in names


@pytest.mark.parametrize("form", ["file://{}", "local://{}", "file:{}"])
def test_a_url_of_a_local_file_is_read_like_its_path(clip, tmp_path, form):
    path = tmp_path / "a b%20c.png"
    path.write_bytes(CONTENTS[0])
    np.testing.assert_array_equal(clip.transform([form.format(path)]), clip.transform([str(path)]))
    with pytest.raises(ImageReadError, match="/dev/zero' is not a regular file"):
        clip.transform([form.format("/dev/zero")])


def test_what_cannot_be_read_is_explained_and_does_not_stop_the_others(
    clip, urls, memory, monkeypatch
):
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 2**20)
    monkeypatch.setitem(
        known_implementations,
        "elsewhere",
        {"class": "no_such_package.FileSystem", "err": "Install no_such_package"},
    )
    memory.pipe("memory://empty.png", b"")
    memory.pipe("memory://large.png", bytes(2**20 + 1))
    memory.pipe("memory://text.png", b"hello")
    expected = {
        "elsewhere://a/1.png": "'elsewhere://a/1.png' needs a package that is not installed "
        "(Install no_such_package): pip install 'skcandle[fsspec]' adds those for s3:// and "
        "https://",
        "nowhere://a/1.png": "'nowhere://a/1.png' cannot be opened (ValueError: Protocol not "
        "known: nowhere)",
        "memory://none.png": "'memory://none.png' cannot be opened (FileNotFoundError: /none.png)",
        "zip://1.png::memory://none.zip": "'zip://1.png::memory://none.zip' cannot be opened "
        "(FileNotFoundError: /none.zip)",
        "memory://empty.png": "'memory://empty.png' is empty (0 bytes)",
        "memory://large.png": "'memory://large.png' has more than 0.0 GB, which is the limit",
        "memory://text.png": "the file 'memory://text.png' is not of a known image format",
        **dict.fromkeys(
            [Path("s3://bucket/1.png"), "s3:/bucket/1.png"],
            "the file 's3:/bucket/1.png' cannot be opened; a URL needs two slashes, and Path drops "
            "one",
        ),
    }
    images = [*expected, urls[0]]
    with pytest.warns(UserWarning, match="9 of 10 images cannot be read") as caught:
        rows = clip.set_params(on_error="nan").transform(images)
    np.testing.assert_array_equal(rows[-1:], clip.transform(CONTENTS[:1]))
    assert caught[0].message.reasons == dict(enumerate(expected.values()))


def test_the_format_of_a_url_is_named(memory, tmp_path):
    heic = b"\0\0\0\x18ftypheic" + bytes(20)
    memory.pipe("memory://1", heic)
    (tmp_path / "1").write_bytes(heic)
    for url in ["memory://1", "memory://2", f"file://{tmp_path}/1", f"file://{tmp_path}/2"]:
        assert ("HEIC needs" in describe_failure(url, UnidentifiedImageError())) == (url[-1] == "1")


@pytest.mark.parametrize("first", ["reference://1.png", "simplecache", "zip://1.png::filecache"])
def test_only_archives_may_contain_files(clip, tmp_path, first):
    references = tmp_path / "references.json"
    references.write_text(json.dumps({"1.png": "base64:" + b64encode(CONTENTS[0]).decode()}))
    with pytest.raises(ImageReadError, match="only zip, tar, libarchive may precede '::'"):
        clip.transform([f"{first}::file://{references}"])


def test_an_archive_must_be_a_regular_file(clip, tmp_path):
    for path in ["/dev/zero", str(tmp_path)]:
        with pytest.raises(ImageReadError, match=f"'{path}' is not a regular file"):
            clip.transform([f"zip://1.png::{path}"])


def test_an_archive_in_an_archive(clip, tmp_path):
    write_zip(tmp_path / "inner.zip", CONTENTS)
    write_zip(tmp_path / "outer.zip", [(tmp_path / "inner.zip").read_bytes()])
    inner = f"zip://photos/0.png::{tmp_path}/outer.zip"
    rows = clip.transform([f"zip://photos/1.png::{inner}"])
    np.testing.assert_array_equal(rows, clip.transform(CONTENTS[1:2]))


def test_urls_in_a_table_are_not_opened(memory):
    table = {"image": ["memory://none/1.png", "s3://bucket/2.png"], "label": ["a", "b"]}
    pd = pytest.importorskip("pandas")
    assert load_image_table(pd.DataFrame(table)).images == table["image"]


def test_http(clip, tmp_path):
    pytest.importorskip("aiohttp")
    pytest.importorskip("requests")
    (tmp_path / "1.png").write_bytes(CONTENTS[0])
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            rows = clip.transform([f"{address}/1.png"])
            with pytest.raises(ImageReadError, match=r"/2.png' cannot be opened \(FileNotFound"):
                clip.transform([f"{address}/2.png"])
        finally:
            server.shutdown()
    np.testing.assert_array_equal(rows, clip.transform(CONTENTS[:1]))
