"""What every vector index must do, beside following the records: the nearest under a mask, compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.feed_copy import FeedCopyContract

from agentmem.engine.engine import Engine
from agentmem.indexes.nearest import nearest_records
from agentmem.types.ports import Mask, Nearest, VectorIndex

WORDS = "harbour lantern copper meadow winter engine paper violin garden river market silver".split()
TOLERANCE = 1e-5


class VectorIndexContract(FeedCopyContract):
    """Inherit it as ``FeedCopyContract``. ``RECALL`` is what an approximate index promises of the first ten."""

    RECALL = 1.0

    def copy_of(self, engine: Engine) -> VectorIndex:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, engine: Engine) -> Engine:
        for user, agent, run in (
            ("ana", None, None),
            ("ana", "cook", None),
            ("ben", "cook", "chat"),
            (None, None, "chat"),
        ):
            texts = [f"{WORDS[n % 12]} {WORDS[(n * 5 + 1) % 12]} {n % 7}" for n in range(40)]
            self.memory.add_many(texts, user_id=user, agent_id=agent, run_id=run, dedupe=False)
        self.follow(engine)
        return engine

    def truth(self, engine: Engine, query: np.ndarray, mask: Mask) -> list[tuple[float, int, int]]:
        """Similarity, row and part of everything that the mask allows, best first."""
        found = engine.repository.owned_vectors(self.live(engine))
        return sorted(
            (-float(np.frombuffer(vector, np.float32) @ query), row, part)
            for row, (scope, held) in found.items()
            for part, vector in enumerate(held[at : at + 4 * len(query)] for at in range(0, len(held), 4 * len(query)))
            if all(want in (None, have) for want, have in zip(mask[:3], scope, strict=True))
            if mask.rows is None or row in mask.rows
        )

    def agree(self, engine: Engine, text: str, k: int, mask: Mask) -> Nearest:
        query = engine.embedder.embed_query(text)
        query = (query / np.linalg.norm(query)).astype(np.float32)
        found, truth = self.copy_of(engine).search(query, k, mask), self.truth(engine, query, mask)
        assert found.applied == engine.repository.last_seq()
        assert len(found.rows) == min(k, len(truth))
        assert (found.rows.dtype, found.parts.dtype, found.similarities.dtype) == (np.int64, np.int64, np.float32)
        keys = list(zip(found.rows.tolist(), found.parts.tolist(), strict=True))
        assert len(set(keys)) == len(keys)
        by_key = {(row, part): -negative for negative, row, part in truth}
        for key, similarity in zip(keys, found.similarities.tolist(), strict=True):
            assert similarity == pytest.approx(by_key[key], abs=TOLERANCE)
        assert (np.diff(found.similarities) <= TOLERANCE).all()
        if truth[:10]:
            worst = -truth[: min(10, k)][-1][0]
            hits = sum(similarity >= worst - TOLERANCE for similarity in found.similarities[:10].tolist())
            assert hits >= self.RECALL * min(10, k, len(truth))
        return found

    @pytest.mark.parametrize("k", [1, 10, 1_000])
    def test_the_nearest_of_a_scope(self, filled: Engine, k: int) -> None:
        number = filled.repository.names.find
        ana, cook, chat = (number(filled.repository.db, name) for name in ("ana", "cook", "chat"))
        for mask in (Mask(), Mask(user=ana), Mask(user=ana, agent=cook), Mask(run=chat), Mask(user=0, run=chat)):
            self.agree(filled, "lantern harbour 3", k, mask)

    def test_rows_limit_before_the_cut(self, filled: Engine) -> None:
        far = [row for _, row, _ in self.truth(filled, filled.embedder.embed_query("violin 2"), Mask())[-30:]]
        rows = np.array(sorted(far), np.int64)
        assert set(self.agree(filled, "violin 2", 10, Mask(rows=rows)).rows.tolist()) <= set(far)
        some = Mask(user=filled.repository.names.find(filled.repository.db, "ana"), rows=rows)
        self.agree(filled, "violin 2", 10, some)
        assert not len(self.agree(filled, "violin 2", 10, Mask(rows=np.empty(0, np.int64))).rows)

    def test_what_is_gone_is_not_found_and_what_changed_is(self, filled: Engine) -> None:
        record = self.memory.search("copper", user_id="ana", limit=1)[0].record
        self.memory.delete(record.id)
        changed = self.memory.page(user_id="ben", limit=1).records[0]
        self.memory.update(changed.id, content="copper copper copper")
        self.follow(filled)
        self.agree(filled, "copper", 200, Mask())

    def several(self) -> list[str]:
        """Records with some texts each, one with as many as there may be, and some without a vector."""
        texts = [[f"{WORDS[n]} {WORDS[n - part]} {part}" for part in range(n % 4 + 1)] for n in range(12)]
        texts.append([f"{WORDS[n % 12]} {n}" for n in range(256)])
        items = [{"content": f"letter {n}", "embed": each} for n, each in enumerate(texts)]
        items += [{"content": f"note {n}", "embed": False} for n in range(5)]
        return [one.id for one in self.memory.add_many(items, user_id="ana")]

    def test_records_with_several_vectors_or_none(self, filled: Engine) -> None:
        ids = self.several()
        self.follow(filled)
        ana = filled.repository.names.find(filled.repository.db, "ana")
        for text in ("copper 7", "lantern engine 1", "violin"):
            for k in (1, 10, 200, 1_000):
                self.agree(filled, text, k, Mask(user=ana))
        rows = np.array([row for row in self.live(filled) if row > 150], np.int64)
        assert self.agree(filled, "river 3", 1_000, Mask(rows=rows)).parts.any()
        copy = self.copy_of(filled)
        assert copy.check() == []
        # Fewer, more, none, one again: what was there goes with all of its parts.
        self.memory.update(ids[-6], embed=["only this one", "and that"])
        self.memory.update(ids[3], embed=[f"silver {n}" for n in range(9)])
        self.memory.update(ids[7], embed=False)
        self.memory.update(ids[11], embed=True)
        self.memory.update(ids[-1], vector=np.eye(1, filled.embedder.dim)[0])
        self.memory.delete(ids[2])
        self.memory.erase(ids[6])
        self.follow(filled)
        assert copy.check() == []
        self.agree(filled, "silver 3", 1_000, Mask())
        self.memory.restore(ids[2])
        self.memory.delete(ids[-6])
        self.follow(filled)
        assert copy.check() == []
        self.agree(filled, "market", 1_000, Mask(user=ana))
        copy.reset()
        self.follow(filled)
        assert copy.check() == []
        self.agree(filled, "market", 1_000, Mask(user=ana))

    def test_one_record_crowds_out_no_others(self, filled: Engine) -> None:
        self.memory.add("a book about copper", user_id="ana", embed=[f"copper {n}" for n in range(256)])
        self.follow(filled)
        query = filled.embedder.embed_query("copper")
        for k in (1, 5, 40, 80):
            near, _ = nearest_records(self.copy_of(filled), query, k, Mask())
            assert len(set(near.rows.tolist())) >= k

    def test_nothing_is_found_where_nothing_is(self, engine: Engine) -> None:
        query = np.zeros(engine.embedder.dim, np.float32)
        query[0] = 1
        found = self.copy_of(engine).search(query, 5, Mask())
        assert (len(found.rows), len(found.parts), len(found.similarities), found.applied) == (0, 0, 0, 0)

    def test_it_says_how_far_it_has_come(self, filled: Engine) -> None:
        before = filled.repository.last_seq()
        self.memory.add("a lighthouse", user_id="ana")
        query = filled.embedder.embed_query("lighthouse")
        found = self.copy_of(filled).search((query / np.linalg.norm(query)).astype(np.float32), 5, Mask())
        assert found.applied == before
