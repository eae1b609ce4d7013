"""LanceDB and the keyword index as copies that follow the records."""

from __future__ import annotations

import numpy as np
from contracts.feed_copy import FeedCopyContract
from contracts.vector_index import VectorIndexContract

from agentmem.engine.engine import Engine
from agentmem.indexes.feed import follow
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

    def test_what_is_forgotten_under_the_loop_is_made_anew(self, engine: Engine) -> None:
        self.add(6)
        self.follow(engine)
        copy = engine.model.vectors
        stray, vector = np.array([9_999], np.int64), np.eye(1, engine.embedder.dim, dtype=np.float32)
        copy.table.apply([], stray, stray, stray, stray, vector)
        self.memory.add("a lighthouse", user_id="ana")
        assert copy.check()
        forgetting = [copy.forget]

        def go_on() -> bool:
            while forgetting:  # a repair, here or in another process, while a drain is on its way
                forgetting.pop()()
            return True

        assert follow(copy, engine.repository, engine.repository.last_seq(), go_on)
        self.check(engine, copy)


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
