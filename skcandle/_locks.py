"""Locks that a forked child finds open."""

import os
import threading
from weakref import WeakSet

_locks: WeakSet = WeakSet()


class ForkSafeLock:
    """A lock for module state, open in a forked child whoever held it in the parent.

    A thread of the parent that held the lock does not exist in the child, which would wait for
    it for ever.

    ``with`` finds the methods of the lock itself, since Ctrl-C may end a method written in Python
    when it has taken the lock, or before it has released it.
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
