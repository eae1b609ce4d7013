"""LanceDB and the keyword index as copies that follow the records."""

from __future__ import annotations

import numpy as np
from contracts.feed_copy import FeedCopyContract
from contracts.vector_index import VectorIndexContract

from agentmem.engine.engine import Engine
from agentmem.indexes.keywords import KeywordIndex
from agentmem.indexes.vectors import LanceCopy

NOTHING = np.empty(0, np.int64)


class TestLance(VectorIndexContract):
    def copy_of(self, engine: Engine) -> LanceCopy:
        return engine.model.vectors

    def rows_of(self, engine: Engine) -> set[int]:
        return {row for rows, *_ in engine.model.vectors.table.scan() for row in rows.tolist()}

    def spoil(self, engine: Engine, row: int) -> None:
        vectors = np.empty((0, engine.embedder.dim), np.float32)
        engine.model.vectors.table.apply([row], NOTHING, NOTHING, NOTHING, NOTHING, vectors)


class TestKeywords(FeedCopyContract):
    def copy_of(self, engine: Engine) -> KeywordIndex:
        return engine.keywords

    def rows_of(self, engine: Engine) -> set[int]:
        key = engine.repository.names.find(engine.repository.db, "ana") or 0
        found = engine.repository.db.execute(
            "SELECT rowid FROM keywords WHERE keywords MATCH ?", (f'scope : "u{key}"',)
        )
        return {row[0] for row in found}

    def spoil(self, engine: Engine, row: int) -> None:
        engine.write(lambda repository: repository.db.execute("DELETE FROM keyword_lengths WHERE row = ?", (row,)))
