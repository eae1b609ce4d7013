"""The store's own bookkeeping: every key of the table ``meta``, and what it holds."""

from __future__ import annotations

from typing import Any

from agentmem.stores.connection import Connection, Value

MODEL = "model"
"""The name of the embedding model whose vectors the store uses."""
DIM = "dim"
MODEL_FINGERPRINT = "fingerprint"
"""What tells two versions of that model apart; NULL where it cannot be told."""
MODEL_SPEC = "model_spec"
"""How to open the model again: empty for the bundled one, a name, a folder; NULL for an object of the caller's."""
MODEL_KEYS = (MODEL, DIM, MODEL_FINGERPRINT, MODEL_SPEC)
GENERATION = "generation"
"""The number of the model's vectors, absent for 1: each model that the store ever had has a table of its own."""
NEXT_GENERATION = "next_generation"
"""The plan of a generation in the making, as JSON; its number is ``generation``."""
FIRST_KEYS = "first_keys_row"
"""Up to this row, keys of facts may have been made by the first rule, of the text as it was; 0: none was."""
SETTLED = "settled_row"
"""Up to this row, records are counted in ``layers`` and queued in ``due``; the rest is yet to be."""
LIFECYCLE_RULES = "lifecycle_rules"
"""The promotion rules of the last sweep; after a change everything used is looked at once more."""
SCORER = "scorer"
"""The last models of the learned scorer, and how many examples there ever were, as JSON (``lifecycle.learning``)."""
SCORER_EXAMPLES = "scorer_examples"
"""What models are made of: rows of float16, without ids or texts."""
LANCE_APPLIED = "lance_applied_seq"
"""The last event of the feed that LanceDB has received."""
LANCE_STATE = "lance_state"
"""The table's version and row count after the last write, ``version,count``."""
LANCE_FILES = "lance_files"
"""Checksums of the table's files after the last write, as JSON."""
LANCE_PURGE = "lance_purge"
"""Set in the transaction of an erase: LanceDB's old versions must leave the disk."""
ERASURE_KEY = "erasure_key"
"""The key of the hashes that stand for what was erased (``stores.keyed``)."""
PURGED = "purged_seq"
"""The last event that was removed from the history: up to here, some may be missing."""
FORMER_KEYS = "former_keys"
"""The highest version of any record with a key that is gone without a trace; absent for 0."""
NAMES_EPOCH = "names_epoch"
"""How often names were removed: numbers that were read before the last time may be nobody's."""
KEYWORDS_APPLIED = "keywords_applied_seq"
"""The last event of the feed that the keyword index has seen."""
KEYWORDS_TERMS = "keywords_terms"
"""The version of the terms that the keyword index holds, absent for 1; with another one it is made anew."""
BACKUPS = "backups"
"""The lineage of the store's backups, and the last of each place, as JSON (``backup.lineage``)."""
FORGOTTEN = "forgotten"
"""Users who were erased and whose keys, which sealed backups, are yet to be deleted, as JSON."""
PROVED = "proved"
"""When a backup of each place was last restored to prove that it can be, as JSON (``backup.proof``)."""
RESTORED = "restored_from"
"""The lineage of the backup that the store was made of, and the last row that it had from there, ``lineage row``."""


def get(db: Connection, key: str) -> Any:
    """The value, or None."""
    rows = db.execute("SELECT value FROM meta WHERE key = ?", (key,))
    return rows[0][0] if rows else None


def put(db: Connection, key: str, value: Value) -> None:
    """Set the value. Only inside a transaction, or with the store to oneself."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
