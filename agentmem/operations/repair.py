"""Rebuilding what is derived, where it is wrong."""

from __future__ import annotations

from agentmem.engine.engine import Engine
from agentmem.operations.verify import verify
from agentmem.stores import accounting
from agentmem.types.reports import VerifyReport


def repair(engine: Engine) -> VerifyReport:
    """Rebuild whatever is derived from libSQL, then verify again; nothing is rebuilt from a libSQL that is damaged."""
    engine.check_writable()
    report = verify(engine)
    if any(problem.startswith(("libsql", "record")) for problem in report.problems) or report.ok:
        return report
    engine.retriever.residents.reset()
    engine.write(lambda repository: accounting.recount(repository.db))
    engine.keywords.reset()
    engine.follower.rebuild()
    engine.follower.flush()
    return verify(engine)
