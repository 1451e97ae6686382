"""What holds for any list of images, whatever they are given as."""

import io

import numpy as np
import pytest
from helpers import random_images
from hypothesis import given
from hypothesis import strategies as st

import skcandle
from skcandle import CLIPFeaturizer
from skcandle.clip._cache.memory import memory_cache
from skcandle.exceptions import ImageReadError

N_IMAGES = 6
IMAGES = random_images(N_IMAGES)


def png(i):
    buffer = io.BytesIO()
    IMAGES[i].save(buffer, "PNG")
    return buffer.getvalue()


ENCODED = [png(i) for i in range(N_IMAGES)]
KINDS = {
    "image": IMAGES.__getitem__,
    "array": lambda i: np.asarray(IMAGES[i]),
    "Fortran": lambda i: np.asfortranarray(IMAGES[i]),
    "bytes": ENCODED.__getitem__,
    "bytearray": lambda i: bytearray(ENCODED[i]),
    "memoryview": lambda i: memoryview(ENCODED[i]),
    "stream": lambda i: io.BytesIO(ENCODED[i]),
}
BROKEN = {
    "empty": b"",
    "text": b"no image",
    "truncated": ENCODED[0][:200],
    "missing": "/no/such/file.png",
    "closed": None,
}
mixes = st.lists(
    st.tuples(st.integers(0, N_IMAGES - 1), st.sampled_from(["path", *KINDS])),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, data in enumerate(ENCODED):
        (folder / f"{i}.png").write_bytes(data)
    return [folder / f"{i}.png" for i in range(N_IMAGES)]


@pytest.fixture(scope="module")
def exact(tiny_clip):
    skcandle.clear_memory()
    return CLIPFeaturizer(tiny_clip, precision="fp32", device="cpu", n_jobs=1)


@pytest.fixture(scope="module")
def rows(exact):
    return exact.transform(IMAGES)


@given(
    mix=mixes,
    batch_size=st.integers(1, 8),
    n_jobs=st.sampled_from([1, 3]),
    folder=st.sampled_from([None, "first", "second"]),
    forget=st.booleans(),
)
def test_rows_are_those_of_the_images(
    exact, rows, paths, tmp_path_factory, mix, batch_size, n_jobs, folder, forget
):
    cache = None if folder is None else tmp_path_factory.getbasetemp() / folder
    clip = CLIPFeaturizer(exact.model_name, precision="fp32", device="cpu")
    clip.set_params(batch_size=batch_size, n_jobs=n_jobs, cache=cache)
    if forget:
        memory_cache.clear()
    X = [paths[i] if kind == "path" else KINDS[kind](i) for i, kind in mix]
    expected = rows[[i for i, _ in mix]]
    np.testing.assert_allclose(clip.transform(X), expected, atol=1e-6, rtol=0)


@given(mix=mixes, broken=st.dictionaries(st.integers(0, 19), st.sampled_from(sorted(BROKEN))))
def test_unreadable_images_are_all_named_and_cost_no_other(exact, rows, paths, mix, broken):
    X = [paths[i] if kind == "path" else KINDS[kind](i) for i, kind in mix]
    broken = {position: case for position, case in broken.items() if position < len(X)}
    for position, case in broken.items():
        X[position] = BROKEN[case]
        if case == "closed":
            X[position] = io.BytesIO(ENCODED[0])
            X[position].close()
    if broken:
        with pytest.raises(ImageReadError) as caught:
            exact.transform(X)
        assert caught.value.positions == sorted(broken)
        assert sorted(caught.value.reasons) == sorted(broken)
    whole = [i for i in range(len(X)) if i not in broken]
    if whole:
        expected = rows[[mix[i][0] for i in whole]]
        again = exact.transform([X[i] for i in whole])
        np.testing.assert_allclose(again, expected, atol=1e-6, rtol=0)
