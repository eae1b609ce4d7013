"""Comparing every store with every other."""

from __future__ import annotations

from contextlib import closing

from agentmem.engine.engine import Engine
from agentmem.stores import archived, chunks, chunkupkeep
from agentmem.stores.integrity import check_accounts, check_records
from agentmem.stores.lookalikes import lookalikes
from agentmem.stores.records import Records
from agentmem.types.errors import ModelMismatchError, StoreCorruptError, StoreError
from agentmem.types.problems import Problems
from agentmem.types.reports import VerifyReport

_ATTEMPTS = 5


def verify(engine: Engine) -> VerifyReport:
    """Compare every store with every other: see ``Memory.verify``."""
    engine.check_process()
    while True:
        engine.check_model()
        model = engine.model
        try:
            report = _verify(engine)
        except (ModelMismatchError, StoreError):
            if model.records.is_current():
                raise
        else:
            if engine.model is model:
                return report
        # The store moved to another model meanwhile: half of what was compared was of the old one.


def _verify(engine: Engine) -> VerifyReport:
    counts = {"records": 0, "archived": 0, "embeddings": 0, "history": 0, "lancedb": 0}
    problems = Problems()
    # A connection that read the keyword index before its last change would check it against what it remembers of it.
    with closing(engine.repository.db.another()) as fresh:
        problems.extend(f"libsql: {row[0]}" for row in fresh.execute("PRAGMA quick_check(20)") if row[0] != "ok")
        records = Records(fresh, engine.repository.names, engine.repository.generation)
        try:
            problems.extend(check_records(records, engine.embedder.dim * 4, counts))
        except StoreCorruptError as exc:
            problems.add(f"libsql: {exc}")
            return VerifyReport(False, counts, problems.listed())
        problems.extend(check_accounts(records))
    problems.extend(_check_vectors(engine, counts))
    if engine.keywords.applied_seq() and not engine.read_only:
        engine.follower.index_keywords()
    if not engine.read_only or engine.keywords.applied_seq() == engine.repository.last_seq():
        problems.extend(engine.keywords.check())
    problems.extend(engine.retriever.residents.check())
    if archived.is_used(engine.repository.db):
        from agentmem.glacier import checking

        problems.extend(checking.problems(engine))
    if chunks.is_used(engine.repository.db):
        problems.extend(chunkupkeep.problems(engine.repository.db, engine.held))
    return VerifyReport(not problems, counts, problems.listed(), Problems(lookalikes(engine.repository)).listed())


def _check_vectors(engine: Engine, counts: dict[str, int]) -> list[str]:
    if engine.read_only and engine.follower.behind():
        return []  # and stays so
    for left in reversed(range(_ATTEMPTS)):
        try:
            engine.follower.flush()
            problems = engine.model.vectors.check()
            counts["lancedb"] = engine.model.vectors.count()
            return problems
        except StoreError as exc:
            # Fragments that have been merged may be removed while they are being read.
            if not left or isinstance(exc, StoreCorruptError):
                return [f"lancedb: {exc}"]
    raise AssertionError("the last attempt returns")
