"""Digests of files, so that an unchanged file is not read again."""

import os
import time

from .._locks import ForkSafeLock

# About as many as the embeddings of 512 features in the memory cache; about 50 MB.
MAX_ENTRIES = 2**17
# A file that changes twice within one tick of its file system's clock shows one change. The
# coarsest clock, that of FAT, ticks every two seconds.
SETTLED_NS = 3 * 10**9
# Files are remembered when their times are older than `SETTLED_NS`, so that a clock which is set
# back by less than this cannot repeat them.
SET_BACK_NS = 10**9


class FileDigests:
    """Digests by the identity of a file: device, inode, size, and both times of change.

    Only the system can set the second time, of the last change of status, so that new content under
    an old date is noticed. Where there is no such time (on Windows), nothing is remembered. A
    change through a memory map that sets no times, as on tmpfs, is not noticed; the documentation
    of :class:`skcandle.CLIPFeaturizer` says what to do.
    """

    def __init__(self, max_entries=MAX_ENTRIES):
        self.max_entries = max_entries
        self._digests = {}
        self._ahead_ns = _ahead_ns()
        self._lock = ForkSafeLock()

    def get(self, status):
        """The digest of an open file with this result of ``os.fstat``, or None."""
        self._watch_clock()
        return self._digests.get(_identity(status))

    def put(self, status, digest):
        """Remember a digest, unless the file changed so recently that it may change unnoticed."""
        self._watch_clock()
        youngest = max(status.st_mtime_ns, status.st_ctime_ns)
        if os.name != "posix" or time.time_ns() - youngest < SETTLED_NS:
            return
        with self._lock:
            if len(self._digests) >= self.max_entries:
                del self._digests[next(iter(self._digests))]
            self._digests[_identity(status)] = digest

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._digests.clear()

    def _watch_clock(self):
        # After a clock was set back, a file can change at a time at which it changed before. On
        # file systems that keep whole seconds, a camera that overwrites one file with frames of
        # one size does so within minutes. Nothing else notices it, so everything is forgotten.
        ahead = _ahead_ns()
        if ahead < self._ahead_ns - SET_BACK_NS:
            self.clear()
            self._ahead_ns = ahead
        elif ahead > self._ahead_ns:
            self._ahead_ns = ahead


def _ahead_ns():
    """How far the clock is ahead of the monotonic clock, which cannot be set."""
    return time.time_ns() - time.monotonic_ns()


def _identity(status):
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


file_digests = FileDigests()
