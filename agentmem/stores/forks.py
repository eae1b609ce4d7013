"""Forks wait for the statements and transactions at hand.

SQLite keeps the locks of a process in its memory. A child that is forked in the middle of a transaction inherits them
as taken, by a thread that it has not got, and could never write to the database.
"""

from __future__ import annotations

import os
import threading
import weakref
from operator import methodcaller

from agentmem.types.reentry import Lock

_PATIENCE = 5.0
_transactions = weakref.WeakSet[Lock]()
_statements = weakref.WeakSet[Lock]()
_held = list[Lock]()


def transaction_lock() -> Lock:
    """A lock to hold for the whole of a transaction."""
    lock = threading.RLock()
    _transactions.add(lock)
    return lock


def statement_lock() -> Lock:
    """A lock to hold for a statement, inside a transaction or not."""
    lock = threading.RLock()
    _statements.add(lock)
    return lock


def _before() -> None:
    # In one step, as the interpreter sees it: whatever a signal handler raises, what was taken is in the list.
    _held.extend(filter(methodcaller("acquire", timeout=_PATIENCE), [*_transactions, *_statements]))


def _in_parent() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    _in_parent()
    _transactions.clear()
    _statements.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
