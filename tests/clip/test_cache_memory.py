from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skcandle.clip._cache.memory import ENTRY_OVERHEAD, MemoryCache


def row(value, n_features=4):
    return np.full(n_features, value, dtype=np.float32)


ROW_BYTES = row(0).nbytes + ENTRY_OVERHEAD


def test_rows_come_back_by_content():
    cache = MemoryCache()
    cache.put_many(b"model", [b"a", b"b"], [row(1), row(2)])
    found = cache.get_many(b"model", [b"b", b"missing"])
    assert list(found) == [b"b"]
    np.testing.assert_array_equal(found[b"b"], row(2))


def test_models_do_not_share_rows():
    cache = MemoryCache()
    cache.put_many(b"model 1", [b"a"], [row(1)])
    assert cache.get_many(b"model 2", [b"a"]) == {}


def test_least_recently_used_rows_are_dropped():
    cache = MemoryCache(max_bytes=2 * ROW_BYTES)
    cache.put_many(b"", [b"a", b"b"], [row(1), row(2)])
    cache.get_many(b"", [b"a"])
    cache.put_many(b"", [b"c"], [row(3)])
    assert set(cache.get_many(b"", [b"a", b"b", b"c"])) == {b"a", b"c"}


def test_size_stays_below_its_bound():
    cache = MemoryCache(max_bytes=10 * ROW_BYTES)
    for i in range(100):
        cache.put_many(b"", [bytes([i])], [row(i)])
        assert cache.n_bytes <= cache.max_bytes
    assert len(cache) == 10


def test_a_row_stored_twice_counts_once():
    cache = MemoryCache()
    for _ in range(2):
        cache.put_many(b"", [b"a"], [row(1)])
    assert cache.n_bytes == ROW_BYTES


def test_stored_rows_are_copies_and_read_only():
    cache = MemoryCache()
    rows = np.stack([row(1), row(2)])
    cache.put_many(b"", [b"a", b"b"], rows)
    rows[:] = 0
    stored = cache.get_many(b"", [b"a"])[b"a"]
    np.testing.assert_array_equal(stored, row(1))
    assert stored.base is None
    with pytest.raises(ValueError, match="read-only"):
        stored[0] = 5


def test_clear_forgets_everything():
    cache = MemoryCache()
    cache.put_many(b"", [b"a"], [row(1)])
    cache.clear()
    assert len(cache) == cache.n_bytes == 0


def test_threads_keep_the_books_right():
    cache = MemoryCache(max_bytes=20 * ROW_BYTES)

    def work(seed):
        for key in np.random.default_rng(seed).integers(0, 50, 300):
            cache.put_many(b"", [bytes([key])], [row(key)])
            for digest, found in cache.get_many(b"", [bytes([key])]).items():
                assert found[0] == digest[0]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert cache.n_bytes == len(cache) * ROW_BYTES <= cache.max_bytes
