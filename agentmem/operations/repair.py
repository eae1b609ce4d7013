"""Rebuilding what is derived, where it is wrong."""

from __future__ import annotations

from contextlib import suppress

from agentmem.engine.engine import Engine
from agentmem.operations.verify import verify
from agentmem.stores import accounting, chunkupkeep
from agentmem.types.errors import ArchiveError, DiskFullError, StoreLockedError
from agentmem.types.reports import VerifyReport


def repair(engine: Engine) -> VerifyReport:
    """Rebuild whatever is derived from libSQL, then verify again; nothing is rebuilt from a libSQL that is damaged."""
    engine.check_writable()
    if engine.settings.glacier.url:
        from agentmem.glacier import checking

        with suppress(ArchiveError, DiskFullError, StoreLockedError):  # ``verify`` tells what is wrong with archives
            checking.mend(engine)
    chunkupkeep.tidy(engine.commits, engine.repository.db, engine.held, whole=True)
    report = verify(engine)
    if any(problem.startswith(("libsql", "record")) for problem in report.problems):
        return report
    if all(problem.startswith(("archive", "value")) for problem in report.problems):
        return report
    engine.retriever.residents.reset()
    engine.write(lambda repository: accounting.recount(repository.db))
    engine.keywords.reset()
    engine.follower.rebuild()
    engine.follower.flush()
    return verify(engine)
