"""Locks that are free in a forked child."""

import os
import threading
from weakref import WeakSet

_locks: WeakSet = WeakSet()


class ForkSafeLock:
    """A lock for module state that is free in a forked child, even if the parent held it.

    A thread of the parent that held the lock does not exist in the child, which would wait for it
    forever.

    ``with`` uses the methods of the lock itself. Ctrl-C could interrupt a method in Python after it
    has acquired the lock, or before it has released it.
    """

    def __init__(self):
        self._renew()
        _locks.add(self)

    @property
    def __enter__(self):
        return self._lock.__enter__

    @property
    def __exit__(self):
        return self._lock.__exit__

    def _renew(self):
        self._lock = threading.Lock()


def _renew_all():  # pragma: no cover - in forked children
    for lock in _locks:
        lock._renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_renew_all)
