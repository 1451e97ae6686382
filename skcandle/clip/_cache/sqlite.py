"""Embeddings in one SQLite database, shared by threads and processes.

Each batch is one transaction in SQLite's write-ahead log, so that a process which ends at any
moment leaves only whole batches. Each row has a checksum of its key and its numbers; a row that
does not match it counts as missing. A failure costs time, but never changes a result.
"""

import hashlib
import os
import sqlite3
import stat
import threading
import time
from contextlib import contextmanager, suppress
from urllib.parse import quote

import numpy as np

from ..._locks import ForkSafeLock
from ..._warnings import warn_user
from ...exceptions import CacheWarning

# It is part of the file name, so that versions of the library with different tables can share a
# folder. A change of the rows changes the fingerprint of the model, not this number.
SCHEMA_VERSION = 1
DATABASE_NAME = f"embeddings-{SCHEMA_VERSION}.sqlite"
TABLE = """
CREATE TABLE embeddings (
    key BLOB PRIMARY KEY,     -- fingerprint of the model, digest of the content
    row BLOB NOT NULL,        -- float32, little-endian
    checksum BLOB NOT NULL,   -- of key and row
    used INTEGER NOT NULL     -- day of the last use
)"""
INDEX = "CREATE INDEX embeddings_by_use ON embeddings (used)"
PAGE_SIZE = 16384  # for several rows; in SQLite's default of 4096, a row of 512 wastes half
FINGERPRINT_BYTES = 32
ROW_DTYPE = "<f4"
MAX_KEYS = 500  # per statement; SQLite allows 999 variables or more

MAX_SEEN = 2**18  # about 40 MB

BUSY_SECONDS = 10.0  # how long to wait for another process that locks the database
RETRY_SECONDS = 60.0  # how long not to use a database that failed

_databases: dict[str, "Database"] = {}  # by folder
_opening = ForkSafeLock()
_of_parent_processes: list[dict] = []


def open_database(folder):
    """Return the one :class:`Database` of this process for a folder."""
    with _opening:
        if folder not in _databases:
            _databases[folder] = Database(folder)
        return _databases[folder]


def _after_fork():  # pragma: no cover - in forked children
    # SQLite's connections must not be used or closed in a forked child.
    global _databases
    _of_parent_processes.append(_databases)
    _databases = {}


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class Database:
    """One connection, used by one thread at a time; a failure warns once and is not an error.

    Parameters
    ----------
    folder : str
    """

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, DATABASE_NAME)
        self._lock = threading.Lock()
        self._connection = None
        self._identity = None  # of the file that is open
        self._resting_until = {}  # "read" and "written": the time of the next attempt
        self._has_warned = False
        self._seen = set()  # keys

    def get_many(self, fingerprint, digests):
        """Stored rows by digest; see :class:`EmbeddingStore`."""
        keys = [fingerprint + digest for digest in digests]
        rows = self._attempt("read", self._read, keys) or {}
        self._seen.update(rows)
        return {key[len(fingerprint) :]: row for key, row in rows.items()}

    def put_many(self, fingerprint, digests, rows, max_bytes):
        """Store rows, then drop the least recently used until the size is within the limit."""
        keys = [fingerprint + digest for digest in digests]
        blobs = [np.asarray(row, dtype=ROW_DTYPE).tobytes() for row in rows]
        checksums = map(_checksum, keys, blobs)
        entries = list(zip(keys, blobs, checksums, [_today()] * len(keys), strict=True))
        if entries and self._attempt("written", self._write, entries, max_bytes):
            self._seen.update(keys)

    def not_seen(self, fingerprint, digests):
        """Digests not known to be stored."""
        self._attempt("read", self._exists)
        if len(self._seen) > MAX_SEEN:
            self._seen.clear()
        return [digest for digest in digests if fingerprint + digest not in self._seen]

    def counts(self):
        """Number of rows, number of models, and bytes in use."""
        query = f"SELECT count(*), count(DISTINCT substr(key, 1, {FINGERPRINT_BYTES}))"
        with self._lock:
            if not self._exists():
                return 0, 0, 0
            try:
                connection = self._connect()
                return (
                    *connection.execute(f"{query} FROM embeddings").fetchone(),
                    _bytes_in_use(connection),
                )
            except (sqlite3.Error, OSError) as error:
                raise OSError(
                    f"The embedding cache in {self.folder!r} cannot be read ({error}). If it is "
                    "damaged, remove it with clear()."
                ) from error

    def clear(self):
        """Remove all rows, or the files if the database is damaged."""
        with self._lock:
            if self._exists():
                try:
                    self._remove()
                except (sqlite3.Error, OSError) as error:
                    raise OSError(
                        f"The embedding cache in {self.folder!r} cannot be cleared ({error})."
                    ) from error
            self._seen.clear()
            self._resting_until.clear()
            self._has_warned = False

    def _attempt(self, action, function, *args):
        """The result of the function, or None if the database fails or has just failed."""
        with self._lock:
            if time.monotonic() < self._resting_until.get(action, 0):
                return None
            try:
                return function(*args)
            except (sqlite3.Error, OSError) as error:
                self._resting_until[action] = time.monotonic() + RETRY_SECONDS
                failure = error
        self._warn(action, failure)
        return None

    def _warn(self, action, error):
        if self._has_warned:
            return
        self._has_warned = True
        warn_user(
            f"The embedding cache in {self.folder!r} cannot be {action} ({error}). Work continues "
            "without it: results are the same, but images may be encoded again. Free disk space, "
            "check the permissions of the folder, or wait for the process that locks it; if it is "
            f"damaged, remove it with EmbeddingCache({self.folder!r}).clear().",
            CacheWarning,
        )

    def _exists(self):
        """Whether the database exists; disconnects if it was removed or replaced."""
        identity = _identity(self.path)
        if identity != self._identity:  # other processes do not see writes to the old file
            self._disconnect()
            self._seen.clear()
        return identity is not None

    def _read(self, keys):
        rows: dict[bytes, np.ndarray] = {}
        if not self._exists():
            return rows  # the file is created with the first row
        connection = self._connect()
        today = _today()
        old = []
        for start in range(0, len(keys), MAX_KEYS):
            part = keys[start : start + MAX_KEYS]
            marks = ",".join("?" * len(part))
            columns = "key, row, checksum, used < ?"
            query = f"SELECT {columns} FROM embeddings WHERE key IN ({marks})"
            for key, blob, checksum, is_old in connection.execute(query, [today, *part]):
                if _is_sound(key, blob, checksum):
                    rows[key] = np.frombuffer(blob, dtype=ROW_DTYPE)
                    if is_old:
                        old.append((today, key))
        if old:
            self._note_use(old)
        return rows

    def _note_use(self, entries):
        # A failure only changes the order in which rows are dropped, which needs no warning.
        if time.monotonic() >= self._resting_until.get("written", 0):
            try:
                with self._transaction() as connection:
                    connection.executemany("UPDATE embeddings SET used = ? WHERE key = ?", entries)
            except sqlite3.Error:
                self._resting_until["written"] = time.monotonic() + RETRY_SECONDS

    def _write(self, entries, max_bytes):
        os.makedirs(self.folder, exist_ok=True)
        with self._transaction() as connection:
            connection.executemany("REPLACE INTO embeddings VALUES (?, ?, ?, ?)", entries)
            # Each batch drops twice its number of rows, so that no batch takes long.
            oldest = "SELECT rowid FROM embeddings ORDER BY used, rowid LIMIT ?"
            delete = f"DELETE FROM embeddings WHERE rowid IN ({oldest})"
            while _bytes_in_use(connection) > max_bytes:
                if connection.execute(delete, [2 * len(entries)]).rowcount == 0:
                    break
        return True

    def _remove(self):
        try:
            with self._transaction() as connection:
                connection.execute("DELETE FROM embeddings")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:  # locked or read-only, but sound
            raise
        except sqlite3.DatabaseError:
            self._disconnect()
            for path in self._files():
                with suppress(FileNotFoundError):
                    os.unlink(path)

    @contextmanager
    def _transaction(self):
        connection = self._connect()
        try:  # Ctrl-C may interrupt an open transaction
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # on some errors SQLite has already rolled back
                connection.execute("ROLLBACK")
            raise

    def _connect(self):
        self._exists()
        if self._connection is None:
            self._check_files()
            try:
                self._connection = _open(self.path)
            except sqlite3.OperationalError:
                if not os.path.exists(self.path) or _is_writable(self.folder):
                    raise
                self._connection = _open_read_only(self.path)
            self._identity = _identity(self.path)
        return self._connection

    def _check_files(self):
        """Raise if a file would make SQLite write outside the folder or wait forever."""
        for path in self._files():
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
                raise sqlite3.DatabaseError(f"{os.path.basename(path)!r} is {kind}")

    def _files(self):
        """The database and the files that SQLite creates next to it."""
        return [self.path + suffix for suffix in ("", "-wal", "-shm", "-journal")]

    def _disconnect(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = self._identity = None


def _identity(path):
    """Device and inode of a file, or None if it does not exist."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path):
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    with _closing_on_error(connection):
        _prepare(connection)
        _check_is_table(connection)
    return connection


@contextmanager
def _closing_on_error(connection):
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _check_is_table(connection):
    """Raise if there are views, triggers or modules, which can return rows without end."""
    query = "SELECT type, name, rootpage > 0 FROM sqlite_master WHERE name NOT LIKE 'sqlite^_%'"
    found = set(connection.execute(f"{query} ESCAPE '^' LIMIT 9"))
    if found != {("table", "embeddings", 1), ("index", "embeddings_by_use", 1)}:
        raise sqlite3.DatabaseError("it holds something other than embeddings")


def _prepare(connection):
    if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        _use_write_ahead_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have created the table in the meantime.
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            connection.execute(TABLE)
            connection.execute(INDEX)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    # If the machine (not the process) stops, the last batches may be lost, but none is partial.
    connection.execute("PRAGMA synchronous = NORMAL")


def _use_write_ahead_log(connection):
    # Here, SQLite does not wait for other processes that do the same, as it does elsewhere.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _open_read_only(path):
    """A connection that needs no files next to the database and sees no changes to it.

    A process with write access may still change the file. Rows may then seem to be missing, or the
    file may seem damaged, but a wrong row would not match its checksum.
    """
    connection = sqlite3.connect(
        f"file:{quote(path)}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    with _closing_on_error(connection):
        _check_is_table(connection)
    return connection


def _is_writable(folder):
    effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK, effective_ids=effective)


def _bytes_in_use(connection):
    size, n_pages, n_free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (n_pages - n_free)


def _is_sound(key, blob, checksum):
    """Whether a blob matches its checksum and consists of whole floats."""
    return (
        isinstance(blob, bytes)
        and len(blob) % np.dtype(ROW_DTYPE).itemsize == 0
        and _checksum(key, blob) == checksum
    )


def _checksum(key, blob):
    return hashlib.blake2b(blob, digest_size=8, key=key).digest()


def _today():
    return int(time.time() // 86400)
