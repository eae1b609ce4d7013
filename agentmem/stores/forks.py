"""Forks wait for the statements and transactions at hand, and for stores that are being opened.

SQLite keeps the locks of a process in its memory. A child that is forked in the middle of a transaction inherits them
as taken, by a thread that it has not got, and could never write to the database. Likewise the locks of modules that a
thread imports, as opening a store does: whoever needs them in the child would wait for ever.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

from agentmem.types.reentry import AcrossForks, Lock

_PATIENCE = 10.0
_transactions = weakref.WeakSet[Lock]()
_statements = weakref.WeakSet[Lock]()
_making = threading.RLock()
_held = AcrossForks()


def transaction_lock() -> Lock:
    """A lock to hold for the whole of a transaction, or of what consists of some, as opening a store does."""
    return _kept(_transactions)


def statement_lock() -> Lock:
    """A lock to hold for a statement, inside a transaction or not."""
    return _kept(_statements)


def _kept(locks: weakref.WeakSet[Lock]) -> Lock:
    with _making:
        lock = threading.RLock()
        locks.add(lock)
    return lock


def _before() -> None:
    until = time.monotonic() + _PATIENCE
    waited = set[int]()
    while True:
        with _making:
            more = [lock for lock in _transactions if id(lock) not in waited]
            if not more or time.monotonic() > until:
                _held.take([_making])  # from here on none begins
                break
        _held.take(more, max(0.0, until - time.monotonic()))
        waited.update(map(id, more))
    _held.take([*_statements], _PATIENCE)  # last, since transactions go on with statements


def _in_child() -> None:
    _held.give_back()
    _transactions.clear()
    _statements.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_held.give_back, after_in_child=_in_child)
