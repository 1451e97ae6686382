"""What reading a model file may take, whatever is in it."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import skops.io
from hostile_files import nodes_of, rewritten
from numpy.testing import assert_array_equal
from scipy import sparse

from skcandle.hub import _limits, load_pipeline

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def data(pipe):
    return skops.io.dumps(pipe)


@pytest.fixture
def refusal(tmp_path):
    """A function that tries to load a file, and returns the error and the memory it took."""

    def load(content):
        path = tmp_path / "model.skops"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"model.skops'") as caught:
                load_pipeline(path)
            return str(caught.value), tracemalloc.get_traced_memory()[1] - len(content)
        finally:
            tracemalloc.stop()

    return load


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, dtype="<f4"):
    """The header of an array without its content."""
    file = io.BytesIO()
    description = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_may_be_compressed(pipe, images, tmp_path, data, compression):
    (tmp_path / "model.skops").write_bytes(rewritten(data, compression=compression))
    again = load_pipeline(tmp_path)
    assert_array_equal(again.predict_proba(images), pipe.predict_proba(images))


def test_a_compressed_array_is_refused_before_it_is_made(data, refusal):
    """Twenty arrays of 10 MB from a file of less than one."""
    zeros = npy(np.zeros(10 * MEGABYTE, np.uint8))
    bomb = rewritten(data, members=lambda *_: zeros, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < MEGABYTE
    message, peak = refusal(bomb)
    assert "its parts take more than 16,777,216 bytes" in message and message.endswith("file.")
    assert peak < 5 * MEGABYTE


def test_one_part_that_is_used_often_counts_each_time(data, refusal):
    big = npy(np.zeros(MEGABYTE, np.uint8))

    def refer(schema):
        for node in nodes_of(schema):
            node.pop("__id__", None)
        arrays = [node for node in nodes_of(schema) if "file" in node]
        for node in arrays:
            node["file"] = arrays[0]["file"]

    message, peak = refusal(
        rewritten(data, schema=refer, members=lambda *_: big, compression=zipfile.ZIP_DEFLATED)
    )
    assert "its parts take more than" in message and peak < 5 * MEGABYTE


@pytest.mark.parametrize(
    "array",
    [
        header((10**12,)),
        header((10**6, 10**6)),
        header((10**12, 0)),
        header((10**12,), "<U0"),
        header((-1,)),
        header((2,)) + bytes(4),
        header((2,)) + bytes(12),
    ],
    ids=["long", "wide", "empty", "no items", "negative", "short", "with a tail"],
)
def test_arrays_have_the_bytes_that_their_shapes_need(data, refusal, array):
    message, peak = refusal(rewritten(data, members=lambda *_: array))
    assert "was not loaded, because its array" in message and "bytes; fit the pipe" in message
    assert peak < 5 * MEGABYTE


def test_a_description_is_not_longer_than_its_file(data, refusal):
    text = "[" + "0," * MEGABYTE + "0]"
    message, peak = refusal(rewritten(data, schema=text, compression=zipfile.ZIP_DEFLATED))
    assert "its description takes 2,000,003 bytes; at most 1,048,576 are allowed" in message
    assert peak < 5 * MEGABYTE


def nested(depth):
    node = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "1"}
    for _ in range(depth):
        node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"} | {
            "content": [node]
        }
    return json.dumps(node | {"protocol": 2, "_skops_version": "0"})


@pytest.mark.parametrize("depth", [40, 300])
def test_nesting_has_a_limit(data, refusal, depth):
    message, _ = refusal(rewritten(data, schema=nested(depth)))
    assert "its objects are nested more than 64 deep" in message


def test_a_nesting_that_python_cannot_read(data, refusal):
    message, _ = refusal(rewritten(data, schema="[" * 100_000 + "]" * 100_000))
    assert "RecursionError" in message or "nested more than 64 deep" in message


@pytest.mark.parametrize("reference", [{}, {"__loader__": "CachedNode"}])
def test_references_do_not_multiply_objects(data, refusal, reference):
    """Fifteen lists that each contain the one before twice: 32,768 strings."""
    node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    last = {"__loader__": "JsonNode", "__class__": "str", "__module__": "builtins"} | {
        "content": "1",
        "__id__": 0,
    }
    for i in range(1, 16):
        last = node | {
            "__id__": i,
            "content": [last, reference | {"__id__": i - 1}],
        }
    text = json.dumps(last | {"protocol": 2, "_skops_version": "0"})
    message, _ = refusal(rewritten(data, schema=text))
    assert "it describes the object" in message and "in two ways" in message


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(data, refusal, compression):
    message, _ = refusal(rewritten(data, compression=compression))
    assert "has an unusual compression" in message


def test_files_within_the_file_are_refused(pipe, refusal):
    """The arrays of a sparse matrix are in an archive of their own."""
    candle = pipe["candle"].restrict(["ant", "bee"])
    candle.class_prior = sparse.eye_array(10**6)
    other = type(pipe)([("clip", pipe["clip"]), ("candle", candle)])
    message, _ = refusal(skops.io.dumps(other))
    assert "a fitted pipeline has no part" in message and "SparseMatrixNode" in message


def test_files_of_skops_are_within_the_limits():
    """Also those with large objects in many places."""
    shared = {"bytes": b"content", "text": "x" * 10**5, "array": np.arange(10**5)}
    names = {"file": "a", "__id__": "b", "__loader__": "c", "__class__": "d"}
    state = np.random.RandomState(0)
    _limits.check_limits(skops.io.dumps([shared, (shared, [shared]), names, {"x": names}, state]))
