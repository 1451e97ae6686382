"""Kill processes that write to a cache or a data set, and check what they leave behind.

    python tools/kill_writers.py --kills 100 --seed 0

Each writer stores batches, reports each stored batch, and is killed with SIGKILL at a random
moment. After each kill, every reported row must be there, batches must be complete, and no row may
be wrong. The next writer continues in the same folder.
"""

import argparse
import hashlib
import os
import random
import signal
import sqlite3
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet  # before processes are forked

from skcandle.clip._cache.sqlite import DATABASE_NAME, Database
from skcandle.scale_out._shards import ShardFolder

BATCH, N_FEATURES = 10, 64
MODEL, NO_LIMIT, FACTS = bytes(32), 2**40, {"n_features": N_FEATURES}


def digest(i):
    return hashlib.sha256(b"%d" % i).digest()


def row_of(i):
    """The expected row of a number."""
    return np.random.default_rng(i).random(N_FEATURES, dtype=np.float32)


class Cache:
    """A folder of embeddings."""

    def __init__(self, folder):
        self.folder = folder

    def writer(self):
        database = Database(self.folder)

        def write(numbers):
            rows = [row_of(i) for i in numbers]
            database.put_many(MODEL, [digest(i) for i in numbers], rows, NO_LIMIT)

        return write

    def stored(self, numbers):
        """The numbers that are stored; an error if a stored row is wrong."""
        numbers = {digest(i): i for i in numbers}
        found = Database(self.folder).get_many(MODEL, list(numbers))
        for key, row in found.items():
            np.testing.assert_array_equal(row, row_of(numbers[key]))
        return {numbers[key] for key in found}

    def check(self):
        """Raise an error if the database is damaged."""
        with closing(sqlite3.connect(Path(self.folder) / DATABASE_NAME)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Shards:
    """A folder of Parquet files."""

    def __init__(self, folder):
        self.folder = ShardFolder(folder)

    def writer(self):
        self.folder.open(FACTS, "")
        run = self.folder.start_run()

        def write(numbers):
            embedding = pyarrow.FixedSizeListArray.from_arrays(
                pyarrow.array(np.concatenate([row_of(i) for i in numbers])), N_FEATURES
            )
            columns = {
                "key": pyarrow.array(map(str, numbers), pyarrow.string()),
                "embedding": embedding,
            }
            self.folder.write_part(f"part-{run}-{numbers[0]}.parquet", run, FACTS, columns)

        return write

    def stored(self, numbers):
        found = set()
        for part in self.folder.part_names():
            if int(part.split("-")[-1].removesuffix(".parquet")) not in numbers:
                continue
            table, facts, _ = self.folder.read_part(part, ["key", "embedding"])
            assert facts == FACTS
            keys, rows = (table[name].to_pylist() for name in ("key", "embedding"))
            for key, row in zip(keys, rows, strict=True):
                np.testing.assert_array_equal(np.float32(row), row_of(int(key)))
            found.update(map(int, keys))
        return found

    def check(self):
        """Raise an error if the next run keeps a file that no writer will finish."""
        self.folder.start_run()
        assert not list(self.folder.path.glob("_tmp-*"))


def write_until_killed(place, start, said):
    """Store batch after batch, and report the number reached."""
    write = place.writer()
    for first in range(start, start + 10**9, BATCH):
        write(range(first, first + BATCH))
        os.write(said, b"%d\n" % (first + BATCH))


def kill_one(place, start, rng):
    """The number that a writer had reported when it was killed."""
    read, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            write_until_killed(place, start, said)
        finally:
            os._exit(1)
    os.close(said)
    with open(read) as lines:
        for _ in range(rng.randint(1, 9)):
            reached = int(lines.readline())
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        reached = int((lines.read().split() or [reached])[-1])
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    return reached


def kill_writers(place, n_kills, seed):
    """Kill writers, check the folder after each, and return the number of reported rows."""
    rng, confirmed = random.Random(seed), 0
    for kill in range(n_kills):
        start = 10**6 * kill
        reached = kill_one(place, start, rng)
        numbers = range(start, reached + 2 * BATCH)
        stored = place.stored(numbers)
        assert stored >= set(range(start, reached)), f"kill {kill}: reported rows are missing"
        assert len(stored) % BATCH == 0, f"kill {kill}: a batch is incomplete"
        confirmed += reached - start
    place.check()
    return confirmed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking while idle threads exist
    for make in (Cache, Shards):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            n_rows = kill_writers(make(str(Path(folder) / "data")), args.kills, args.seed)
        print(
            f"{make.__name__.lower()}: {args.kills} kills, {n_rows:,} rows reported as stored, "
            f"none lost, incomplete or wrong, in {time.perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
