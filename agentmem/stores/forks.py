"""Forks wait for the statements and transactions at hand.

SQLite keeps the locks of a process in its memory. A child that is forked in the middle of a transaction inherits them
as taken, by a thread that it has not got, and could never write to the database.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

_PATIENCE = 5.0
_transactions = weakref.WeakSet[threading.Lock]()
_statements = weakref.WeakSet[threading.Lock]()
_held = list[threading.Lock]()


def transaction_lock() -> threading.Lock:
    """A lock to hold for the whole of a transaction."""
    lock = threading.Lock()
    _transactions.add(lock)
    return lock


def statement_lock() -> threading.Lock:
    """A lock to hold for a statement, inside a transaction or not."""
    lock = threading.Lock()
    _statements.add(lock)
    return lock


def _before() -> None:
    deadline = time.monotonic() + _PATIENCE
    for lock in [*_transactions, *_statements]:
        if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _held.append(lock)


def _in_parent() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    _in_parent()
    _transactions.clear()
    _statements.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
