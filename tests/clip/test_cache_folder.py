"""The folder tier of the cache: what it keeps, and what it does when things go wrong."""

import copy
import hashlib
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from skcandle import EmbeddingCache
from skcandle.clip._cache import sqlite
from skcandle.clip._cache.folder import FolderStore
from skcandle.clip._cache.memory import MemoryCache
from skcandle.clip._cache.sqlite import DATABASE_NAME, PAGE_SIZE, SCHEMA_VERSION, Database
from skcandle.exceptions import CacheWarning

MODEL = bytes(32)
NO_LIMIT = 2**40


def digest(i):
    return hashlib.sha256(b"%d" % i).digest()


def row_of(digest, n_features=64):
    """The one right row of a digest."""
    seed = int.from_bytes(digest[:8], "little")
    return np.random.default_rng(seed).random(n_features, dtype=np.float32)


def put(database, numbers, model=MODEL, max_bytes=NO_LIMIT):
    digests = [digest(i) for i in numbers]
    database.put_many(model, digests, [row_of(key) for key in digests], max_bytes)


def get(database, numbers, model=MODEL):
    """Numbers whose rows are stored; each of them must be right."""
    by_digest = {digest(i): i for i in numbers}
    rows = database.get_many(model, list(by_digest))
    for key, row in rows.items():
        np.testing.assert_array_equal(row, row_of(key))
    return {by_digest[key] for key in rows}


def sql(folder, *statements):
    with closing(sqlite3.connect(Path(folder) / DATABASE_NAME)) as connection, connection:
        return [connection.execute(statement).fetchall() for statement in statements]


def run_writer(code, *args):
    """Start a process that uses the database."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True
    )


WRITER = """
import hashlib, sys, numpy as np
from skcandle.clip._cache.sqlite import Database
database = Database(sys.argv[1])
start, n_batches = int(sys.argv[2]), int(sys.argv[3])
for batch in range(n_batches):
    digests = [hashlib.sha256(b"%d" % (start + 10 * batch + i)).digest() for i in range(10)]
    seeds = [int.from_bytes(digest[:8], "little") for digest in digests]
    rows = [np.random.default_rng(seed).random(64, dtype=np.float32) for seed in seeds]
    database.put_many(bytes(32), digests, rows, 2**40)
    print(start + 10 * batch + 10, flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture
def database(folder):
    return Database(folder)


@pytest.fixture
def impatient(monkeypatch):
    """Do not wait for other processes."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)


def test_rows_are_found_by_another_process(database, folder):
    put(database, range(1000))
    other = Database(folder)
    assert get(other, range(1500)) == set(range(1000))
    assert other.get_many(MODEL, [digest(0)])[digest(0)].dtype == np.float32


def test_models_do_not_share_rows(database):
    put(database, [1])
    assert get(database, [1], model=bytes(31) + b"\1") == set()


def test_looking_something_up_makes_no_folder(database, folder):
    assert get(database, [1]) == set()
    assert EmbeddingCache(folder).info().n_embeddings == 0
    EmbeddingCache(folder).clear()
    assert not os.path.exists(folder)


@pytest.mark.slow
def test_processes_write_at_once(folder):
    writers = [run_writer(WRITER, folder, 1000 * i, 50) for i in range(4)]
    for writer in writers:
        assert len(writer.communicate(timeout=60)[0].split()) == 50
        assert writer.returncode == 0
    expected = {1000 * i + j for i in range(4) for j in range(500)}
    assert get(Database(folder), range(4000)) == expected


def test_threads_share_a_database(database):
    def work(i):
        put(database, range(20 * i, 20 * i + 30))
        return get(database, range(400))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert get(database, range(400)) == set(range(330))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_opens_its_own_connection(folder):
    store = FolderStore(EmbeddingCache(folder), MemoryCache())
    store.put_many(MODEL, [digest(0)], [row_of(digest(0))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        child = os.fork()
    if child == 0:
        try:
            store.put_many(MODEL, [digest(1)], [row_of(digest(1))])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert get(sqlite.open_database(folder), range(3)) == {0, 1}


@pytest.mark.parametrize(
    "damage", ["row = substr(row, 1, 128)", "row = zeroblob(256)", "row = 7", "row = 'text'"]
)
def test_a_row_that_changed_on_disk_is_missing_and_stored_anew(database, folder, damage):
    put(database, range(3))
    sql(folder, f"UPDATE embeddings SET {damage} WHERE rowid = 2")
    assert get(database, range(3)) == {0, 2}
    put(database, [1])
    assert get(database, range(3)) == {0, 1, 2}


def test_rows_that_changed_places_are_missing(database, folder):
    put(database, range(3))
    sql(
        folder,
        "CREATE TEMP TABLE copy AS SELECT rowid AS id, row, checksum FROM embeddings",
        "UPDATE embeddings SET (row, checksum) = "
        "(SELECT row, checksum FROM copy WHERE id = 3 - embeddings.rowid) WHERE rowid < 3",
    )
    assert get(database, range(3)) == {2}


def flip_bytes(path, fraction, seed):
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    at = np.random.default_rng(seed).random(len(data)) < fraction
    data[at] ^= 0x55
    path.write_bytes(data.tobytes())


@pytest.mark.filterwarnings("ignore::skcandle.exceptions.CacheWarning")
@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_gives_a_wrong_row(database, folder, seed):
    put(database, range(200))
    database._disconnect()
    flip_bytes(Path(folder) / DATABASE_NAME, 10.0 ** -(2 + seed % 4), seed)
    damaged = Database(folder)
    get(damaged, range(300))
    put(damaged, range(200, 300))
    get(damaged, range(300))
    EmbeddingCache(folder).clear()
    put(Database(folder), range(5))
    assert get(Database(folder), range(300)) == set(range(5))


def check_goes_on_uncached(store, message):
    """One warning, however many calls; rows live on in memory."""
    with pytest.warns(CacheWarning, match=message) as caught:
        for i in range(4):
            store.get_many(MODEL, [digest(i)])
            store.put_many(MODEL, [digest(i)], [row_of(digest(i))])
    assert len(caught) == 1
    for i in range(4):
        np.testing.assert_array_equal(
            store.get_many(MODEL, [digest(i)])[digest(i)], row_of(digest(i))
        )


def test_garbage_instead_of_a_database(folder):
    os.makedirs(folder)
    path = Path(folder) / DATABASE_NAME
    path.write_bytes(b"garbage " * 10_000)
    cache = EmbeddingCache(folder)
    check_goes_on_uncached(
        FolderStore(cache, MemoryCache()),
        "cannot be read .*not a database.*results are the same.*clear",
    )
    with pytest.raises(OSError, match=r"cannot be read .*remove it with clear\(\)"):
        cache.info()
    assert path.stat().st_size == 80_000  # whosever file it may be
    cache.clear()
    store = FolderStore(cache, MemoryCache())
    store.put_many(MODEL, [digest(0)], [row_of(digest(0))])
    assert cache.info().n_embeddings == 1


ENDLESS = """
CREATE VIEW embeddings AS WITH RECURSIVE
n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)
SELECT x'00' AS key, x'00' AS row, x'00' AS checksum, i AS used FROM n
"""
TRIGGER = """
CREATE TRIGGER endless AFTER INSERT ON embeddings BEGIN
INSERT INTO embeddings WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)
SELECT randomblob(64), x'00', x'00', i FROM n; END
"""
MODULE = "CREATE VIRTUAL TABLE embeddings USING fts4(key, row, checksum, used)"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE embeddings", ENDLESS],
        [TRIGGER],
        ["DROP TABLE embeddings", MODULE],
        ["DROP TABLE embeddings"],
    ],
    ids=["view", "trigger", "module", "nothing"],
)
def test_what_may_have_rows_without_end_is_never_asked(database, folder, statements):
    put(database, range(3))
    database._disconnect()
    try:
        sql(folder, *statements)
    except sqlite3.OperationalError as error:
        pytest.skip(f"not with this SQLite: {error}")
    cache = EmbeddingCache(folder)
    check_goes_on_uncached(FolderStore(cache, MemoryCache()), "holds something other than embedd")
    with pytest.raises(OSError, match="something other than embeddings"):
        cache.info()
    cache.clear()
    put(Database(folder), range(3))
    assert get(Database(folder), range(3)) == {0, 1, 2}


def test_a_link_in_place_of_the_database_is_not_followed(folder, tmp_path):
    elsewhere = Database(tmp_path / "elsewhere")
    put(elsewhere, range(3))
    foreign = tmp_path / "elsewhere" / DATABASE_NAME
    empty = tmp_path / "empty"
    empty.touch()
    Path(folder).mkdir()
    for target in (foreign, empty):
        link = Path(folder) / DATABASE_NAME
        link.symlink_to(target)
        with pytest.warns(CacheWarning, match="symbolic link"):
            linked = Database(folder)
            assert get(linked, range(3)) == set()
            put(linked, range(3, 6))
        link.unlink()
    assert get(elsewhere, range(6)) == {0, 1, 2}
    assert empty.read_bytes() == b""


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_link_beside_the_database_is_not_written_through(folder, tmp_path, suffix):
    Path(folder).mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"something of somebody")
    (Path(folder) / (DATABASE_NAME + suffix)).symlink_to(victim)
    with pytest.warns(CacheWarning, match=f"'{DATABASE_NAME}{suffix}' is a symbolic link"):
        put(Database(folder), range(3))
    assert victim.read_bytes() == b"something of somebody"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_in_place_of_the_database(folder, make):
    os.mkdir(folder)
    make(Path(folder) / DATABASE_NAME)
    check_goes_on_uncached(
        FolderStore(EmbeddingCache(folder), MemoryCache()), "is not a regular file"
    )


def test_truncated_database(database, folder):
    put(database, range(500))
    database._disconnect()
    os.truncate(Path(folder) / DATABASE_NAME, 3 * PAGE_SIZE + 100)
    with pytest.warns(CacheWarning, match="malformed"):
        damaged = Database(folder)
        get(damaged, range(500))
        put(damaged, range(500, 510))


def test_full_disk(database, folder):
    put(database, range(5))
    size = sql(folder, "PRAGMA page_count")[0][0][0]
    store = FolderStore(EmbeddingCache(folder), MemoryCache())
    # A bound on the size of the file is met with the same error as the end of the disk.
    connection = sqlite.open_database(folder)._connect()
    connection.execute(f"PRAGMA max_page_count = {size}")
    with pytest.warns(CacheWarning, match=r"cannot be written \(database or disk is full\)") as w:
        for start in range(10, 1010, 100):
            digests = [digest(i) for i in range(start, start + 100)]
            store.put_many(MODEL, digests, [row_of(key) for key in digests])
            assert len(store.get_many(MODEL, digests)) == 100  # from memory
    assert len(w) == 1
    assert get(sqlite.open_database(folder), range(5)) == set(range(5))


def test_locked_database(database, folder, impatient):
    put(database, range(3))
    database._disconnect()
    with closing(sqlite3.connect(Path(folder) / DATABASE_NAME)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        check_goes_on_uncached(
            FolderStore(EmbeddingCache(folder), MemoryCache()), "cannot be .*locked"
        )
        with pytest.raises(OSError, match="cannot be cleared .*locked"):
            EmbeddingCache(folder).clear()
    assert get(Database(folder), range(3)) == {0, 1, 2}


def test_a_database_that_failed_is_tried_again_later(database, folder, impatient, monkeypatch):
    put(database, [0])
    with closing(sqlite3.connect(Path(folder) / DATABASE_NAME)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.warns(CacheWarning, match="locked"):
            put(database, [1])
    put(database, [2])
    assert get(database, range(4)) == {0}
    monkeypatch.setattr(sqlite.time, "monotonic", lambda: time.time() + 1e9)
    put(database, [3])
    assert get(database, range(4)) == {0, 3}


@pytest.fixture
def read_only_folder():
    """A folder with three rows that this process may only read."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(folder)
        put(database, range(3))
        database._disconnect()
        os.chmod(folder, 0o555)
        os.chmod(Path(folder) / DATABASE_NAME, 0o444)
        is_root = os.name == "posix" and os.geteuid() == 0
        if is_root:  # who may write everywhere
            os.seteuid(65534)
        yield folder
        if is_root:
            os.seteuid(0)
        os.chmod(folder, 0o755)


@pytest.mark.skipif(os.name != "posix", reason="rights differ")
def test_read_only_folder_serves_what_it_has(read_only_folder):
    store = FolderStore(EmbeddingCache(read_only_folder), MemoryCache())
    digests = [digest(i) for i in range(4)]
    assert set(store.get_many(MODEL, digests)) == set(digests[:3])
    with pytest.warns(CacheWarning, match="cannot be written .*readonly"):
        store.put_many(MODEL, digests[3:], [row_of(digests[3])])
    assert set(store.get_many(MODEL, digests)) == set(digests)


@pytest.mark.skipif(os.name != "posix", reason="rights differ")
def test_folder_that_cannot_be_made(read_only_folder):
    store = FolderStore(EmbeddingCache(f"{read_only_folder}/new"), MemoryCache())
    check_goes_on_uncached(store, "cannot be written .*Permission denied")


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    store = FolderStore(EmbeddingCache(tmp_path / "file"), MemoryCache())
    check_goes_on_uncached(store, "cannot be written .*exists")


def test_folder_that_goes_away_costs_no_row(folder):
    store = FolderStore(EmbeddingCache(folder), MemoryCache())
    store.put_many(MODEL, [digest(0)], [row_of(digest(0))])
    for path in Path(folder).iterdir():
        path.unlink()
    os.rmdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        store.put_many(MODEL, [digest(1)], [row_of(digest(1))])
        assert len(store.get_many(MODEL, [digest(0), digest(1)])) == 2


def test_other_versions_of_the_table_lie_beside_this_one(database, folder, monkeypatch):
    put(database, range(3))
    assert sql(folder, "PRAGMA user_version") == [[(SCHEMA_VERSION,)]]
    name = f"embeddings-{SCHEMA_VERSION + 1}.sqlite"
    assert name != DATABASE_NAME
    monkeypatch.setattr(sqlite, "DATABASE_NAME", name)
    newer = Database(folder)
    assert get(newer, range(3)) == set()
    put(newer, [3])
    monkeypatch.undo()
    assert get(Database(folder), range(4)) == {0, 1, 2}


def size_on_disk(folder):
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def test_size_stays_below_its_bound_and_the_newest_stay(database, folder):
    max_bytes = 40 * PAGE_SIZE
    for start in range(0, 10_000, 50):
        put(database, range(start, start + 50), max_bytes=max_bytes)
        assert EmbeddingCache(folder).info().n_bytes <= max_bytes
    stored = get(database, range(10_000))
    assert len(stored) > 500
    assert stored == set(range(10_000 - len(stored), 10_000))


def test_rows_used_lately_outlive_newer_ones(database, monkeypatch):
    monkeypatch.setattr(sqlite, "_today", lambda: 1000)
    put(database, range(1000))
    monkeypatch.setattr(sqlite, "_today", lambda: 1001)
    get(database, range(100))
    bytes_now = database.counts()[2]
    put(database, range(1000, 1200), max_bytes=bytes_now - PAGE_SIZE)
    stored = get(database, range(1200))
    assert stored >= set(range(100)) | set(range(1000, 1200))
    assert len(stored) < 1100


def test_info_and_clear(database, folder):
    cache = EmbeddingCache(folder, max_bytes=10**9)
    put(database, range(500))
    put(database, range(3), model=bytes(31) + b"\1")
    info = cache.info()
    assert (info.n_embeddings, info.n_models, info.max_bytes) == (503, 2, 10**9)
    assert 503 * 4 * 64 < info.n_bytes <= size_on_disk(folder)
    before = size_on_disk(folder)
    cache.clear()
    assert cache.info()[:2] == (0, 0)
    assert size_on_disk(folder) < before / 2
    assert get(database, range(3)) == set()  # this process has an open connection
    put(database, range(3))
    assert cache.info().n_embeddings == 3


def test_what_memory_has_is_stored_when_a_folder_is_named(folder):
    memory = MemoryCache()
    memory.put_many(MODEL, [digest(0)], [row_of(digest(0))])
    store = FolderStore(EmbeddingCache(folder), memory)
    for _ in range(2):
        assert set(store.get_many(MODEL, [digest(0), digest(1)])) == {digest(0)}
    assert get(Database(folder), range(2)) == {0}


def test_rows_found_in_the_folder_stay_in_memory(database, folder):
    put(database, range(3))
    memory = MemoryCache()
    FolderStore(EmbeddingCache(folder), memory).get_many(MODEL, map(digest, range(3)))
    assert len(memory) == 3


def test_a_cache_is_a_plain_value(folder, monkeypatch):
    cache = EmbeddingCache(folder, max_bytes=5)
    assert eval(repr(cache)) == copy.deepcopy(cache) == pickle.loads(pickle.dumps(cache)) == cache
    assert cache != EmbeddingCache(folder)
    assert hash(cache) == hash(copy.copy(cache))
    monkeypatch.chdir(Path(folder).parent)
    assert EmbeddingCache("cache").folder == folder
    monkeypatch.setenv("HOME", str(Path(folder).parent))
    assert EmbeddingCache("~/cache").folder == folder


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((None,), TypeError, "folder must be the path of a folder, got None"),
        (("",), TypeError, "folder must be the path of a folder, got ''"),
        (("cache", 10), TypeError, "positional"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        EmbeddingCache(*arguments)
    for max_bytes in (0, -1, 1.5, "1 GB"):
        with pytest.raises(ValueError, match="max_bytes must be a positive integer, got"):
            EmbeddingCache("cache", max_bytes=max_bytes)


def test_what_is_known_to_be_stored_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "MAX_SEEN", 3)
    database = Database(str(tmp_path))
    put(database, range(5))
    assert database.not_seen(MODEL, [digest(0)]) == [digest(0)]  # forgotten, not lost
    put(database, range(5))
    assert get(database, range(5)) == set(range(5))


def test_a_use_that_cannot_be_noted_costs_no_row(tmp_path, monkeypatch):
    database = Database(str(tmp_path))
    put(database, range(3))
    sql(tmp_path, "UPDATE embeddings SET used = 0")

    def fail(self):
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(Database, "_transaction", fail)
    for _ in range(2):  # the second time it is not even tried
        assert get(database, range(3)) == {0, 1, 2}
    assert sql(tmp_path, "SELECT DISTINCT used FROM embeddings") == [[(0,)]]
