"""Forks wait for the statements and transactions at hand.

SQLite keeps the locks of a process in its memory. A child that is forked in the middle of a transaction inherits them
as taken, by a thread that it has not got, and could never write to the database.
"""

from __future__ import annotations

import os
import threading
import weakref

from agentmem.types.reentry import AcrossForks, Lock

_PATIENCE = 5.0
_transactions = weakref.WeakSet[Lock]()
_statements = weakref.WeakSet[Lock]()
_held = AcrossForks()


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
    _held.take([*_transactions, *_statements], _PATIENCE)


def _in_child() -> None:
    _held.give_back()
    _transactions.clear()
    _statements.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_held.give_back, after_in_child=_in_child)
