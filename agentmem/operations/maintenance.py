"""Erasing, checking and mending a store, and what it says about itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial

from agentmem.embedding.cache import CachedEmbedder
from agentmem.engine.engine import DATABASE, Engine
from agentmem.engine.follower import PURGE
from agentmem.indexes import keywords
from agentmem.lifecycle.pressure import pressure
from agentmem.lifecycle.table import recount, sizes, unqueued
from agentmem.stores.commit import Task
from agentmem.stores.connection import Connection
from agentmem.stores.log import truncate_wal
from agentmem.stores.repository import WINDOW, Repository
from agentmem.stores.rows import Stored, fingerprint
from agentmem.stores.schema import DELETED, ERASED, EXPIRED, LIVE
from agentmem.stores.upkeep import give_space_back
from agentmem.types.clock import Micros
from agentmem.types.enums import Layer, Pressure
from agentmem.types.errors import StoreCorruptError, StoreError
from agentmem.types.reports import EraseReport, Health, LayerStats, Stats, VerifyReport

_PATIENCE = 2.0
"""Seconds that a maintenance call waits for readers to let go of the write-ahead log."""
_SHOWN = 20
_ATTEMPTS = 5
STATE_AFTER = {
    "ADD": LIVE, "UPDATE": LIVE, "RESTORE": LIVE,
    "DELETE": DELETED, "EXPIRE": EXPIRED, "EVICT": EXPIRED, "ERASE": ERASED,
}  # fmt: skip
_STATES = ", ".join(f"'{event}'" for event in STATE_AFTER)
"""Events that decide whether a record is live."""


def erase(engine: Engine, groups: Iterable[list[Stored]]) -> EraseReport:
    """Remove records with every trace of their text from libSQL now, and from LanceDB in the background."""
    count = 0
    for found in groups:
        count += engine.write(partial(_erase_current, found, engine.now))
    pending = list[str]()
    if count:
        if keywords.applied_seq(engine.repository):
            engine.follower.index_keywords()
            engine.commits.submit(Task(keywords.purge)).result()
        engine.retriever.forget_all()
        _drop_cached_embeddings(engine)
        if not _empty_wal(engine):
            pending.append("write-ahead log")
        pending.append("lancedb")
        engine.follower.poke()
    return EraseReport(count, tuple(pending))


def _erase_current(found: list[Stored], now: Callable[[], Micros], repository: Repository) -> int:
    current = [item for item in repository.find_rows(item.row for item in found) if item.state != ERASED]
    repository.erase_rows(current, now())
    if current:
        repository.set_meta(PURGE, repository.last_seq())
    return len(current)


def compact(engine: Engine) -> None:
    """Merge what can be merged and give space back: LanceDB fragments and versions, keyword index, write-ahead log."""
    engine.write(lambda repository: repository.set_meta(PURGE, repository.last_seq() or 1))
    engine.follower.poke()
    engine.follower.flush()
    if keywords.applied_seq(engine.repository):
        engine.commits.submit(Task(keywords.purge)).result()
    give_space_back(engine.commits)
    _empty_wal(engine)


def _empty_wal(engine: Engine) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while not engine.commits.submit(Task(truncate_wal)).result():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _drop_cached_embeddings(engine: Engine) -> None:
    if isinstance(engine.embedder, CachedEmbedder):
        engine.embedder.clear()


def stats(engine: Engine) -> Stats:
    """Counts and sizes. Reads an index entry per record, so it is not for every request."""
    engine.check_process()
    engine.check_model()
    db = engine.repository.db
    by_layer = dict.fromkeys((layer.value for layer in Layer), 0)
    deleted = expired = 0
    for low, high in engine.repository.windows("1", ()):
        sql = "SELECT layer, state, count(*) FROM records WHERE row > ? AND row <= ? GROUP BY layer, state"
        for layer, state, count in db.execute(sql, (low, high)):
            if state == LIVE:
                by_layer[layer] += count
            elif state == DELETED:
                deleted += count
            elif state == EXPIRED:
                expired += count
    cached = engine.embedder if isinstance(engine.embedder, CachedEmbedder) else None
    layers = layer_stats(engine)
    return Stats(
        records=sum(by_layer.values()),
        deleted=deleted,
        expired=expired,
        events=engine.repository.last_seq(),
        by_layer=by_layer,
        layers=layers,
        pressure=max((layer.pressure for layer in layers.values()), key=list(Pressure).index),
        bytes=_sizes(engine),
        model=engine.embedder.name,
        dim=engine.embedder.dim,
        arenas=engine.retriever.usage(),
        query_cache=engine.cache.usage(),
        embedding_cache={"hits": cached.hits, "misses": cached.misses} if cached else {},
    )


def layer_stats(engine: Engine) -> dict[str, LayerStats]:
    """How full each layer is; the pressure is as of now, with the slack that it has since the last sweep."""
    found = dict[str, LayerStats]()
    for layer, (records, used, before) in sizes(engine.repository).items():
        total, limit = used + records * engine.lifecycle.vector_bytes, engine.lifecycle.rules.limit[layer]
        found[layer] = LayerStats(records, total, limit, pressure(total / limit, Pressure(before)))
    return {layer.value: found[layer] for layer in Layer}


def _sizes(engine: Engine) -> dict[str, int]:
    sizes = {"libsql": 0, "wal": 0, "lancedb": 0}
    for name, part in ((DATABASE, "libsql"), (f"{DATABASE}-wal", "wal")):
        with suppress(FileNotFoundError):
            sizes[part] = (engine.path / name).stat().st_size
    for folder, _, names in os.walk(engine.path / "lance"):
        for name in names:
            with suppress(FileNotFoundError):  # LanceDB may just have cleaned it up
                sizes["lancedb"] += os.stat(os.path.join(folder, name)).st_size
    return sizes


def health(engine: Engine) -> Health:
    """Whether the derived stores keep up. A store that is behind or rebuilding still answers everything."""
    engine.check_process()
    follower, lifecycle = engine.follower, engine.lifecycle
    return Health(
        ok=follower.last_error is None and lifecycle.last_error is None,
        vectors_behind=follower.behind(),
        vector_errors=follower.errors,
        vector_rebuilds=follower.rebuilds,
        last_vector_error=follower.last_error,
        sweep_errors=lifecycle.errors,
        last_sweep_error=lifecycle.last_error,
    )


def verify(engine: Engine) -> VerifyReport:
    """Compare every store with every other: see ``Memory.verify``."""
    engine.check_process()
    while True:
        engine.check_model()
        model = engine.model
        try:
            report = _verify(engine)
        except StoreError:
            if engine.model is model:
                raise
        else:
            if engine.model is model:
                return report
        # The store moved to another model meanwhile: half of what was compared was of the old one.


def _verify(engine: Engine) -> VerifyReport:
    # A connection that read the keyword index before its last change would check it against what it remembers of it.
    with closing(Connection(engine.path / DATABASE)) as fresh:
        problems = [f"libsql: {row[0]}" for row in fresh.execute("PRAGMA quick_check(20)") if row[0] != "ok"]
    counts = {"records": 0, "embeddings": 0, "history": 0, "lancedb": 0}
    try:
        problems += _check_truth(engine, counts)
    except StoreCorruptError as exc:
        return VerifyReport(False, counts, [*problems, f"libsql: {exc}"])
    problems += _check_layers(engine)
    problems += _check_vectors(engine, counts)
    problems += _check_keywords(engine)
    problems += engine.retriever.differences()
    return VerifyReport(not problems, counts, problems)


def repair(engine: Engine) -> VerifyReport:
    """Rebuild whatever is derived from libSQL, then verify again; nothing is rebuilt from a libSQL that is damaged."""
    report = verify(engine)
    if any(problem.startswith(("libsql", "record")) for problem in report.problems) or report.ok:
        return report
    engine.retriever.forget_all()
    engine.write(recount)
    engine.write(keywords.rebuild)
    engine.follower.rebuild()
    engine.follower.flush()
    return verify(engine)


def _check_truth(engine: Engine, counts: dict[str, int]) -> list[str]:
    """Every record has an embedding of the right size, and a history that begins with ADD and ends at its version."""
    problems = list[str]()
    db = engine.repository.db
    size, table = engine.embedder.dim * 4, engine.repository.embeddings
    for low, high in engine.repository.windows("1", ()):
        records = db.execute(
            "SELECT r.id, r.state, r.version, length(e.vector), "
            "(SELECT event FROM history h WHERE h.row = r.row ORDER BY seq LIMIT 1), "
            "(SELECT max(version) FROM history h WHERE h.row = r.row), "
            "(SELECT count(*) FROM history h WHERE h.row = r.row), "
            f"(SELECT event FROM history h WHERE h.row = r.row AND event IN ({_STATES}) ORDER BY seq DESC LIMIT 1), "
            "(SELECT i.row FROM records i WHERE i.id = r.id) = r.row "
            f"FROM records r LEFT JOIN {table} e ON e.row = r.row WHERE r.row > ? AND r.row <= ?",
            (low, high),
        )
        for id, state, version, length, first, last, events, decisive, indexed in records:
            counts["records"] += state == LIVE
            counts["embeddings"] += length is not None
            counts["history"] += events
            if length != (None if state == ERASED else size):
                problems.append(f"record {id!r}: its embedding has {length} bytes instead of {size}")
            if first != "ADD" or last != version:
                problems.append(f"record {id!r}: at version {version}, but its history runs from {first} to {last}")
            if state != STATE_AFTER.get(decisive, LIVE):
                problems.append(f"record {id!r}: its state is {state} after {decisive}")
            if not indexed:
                problems.append(f"record {id!r} is not found by its id")
        problems += _check_prints(engine, low, high)
    orphans = db.execute(f"SELECT count(*) FROM {table} WHERE row NOT IN (SELECT row FROM records)")[0][0]
    if orphans:
        problems.append(f"libsql: {orphans} embeddings belong to no record")
    return problems


def _check_prints(engine: Engine, low: int, high: int) -> list[str]:
    """Plain facts have the content that their fingerprint was made of."""
    sql = (
        "SELECT id, user, agent, run, role, kind, content, fingerprint FROM records "
        "WHERE row > ? AND row <= ? AND state = 0 AND fingerprint IS NOT NULL"
    )
    return [
        f"record {id!r}: its content or scope is not what was stored"
        for id, user, agent, run, role, kind, content, print in engine.repository.db.execute(sql, (low, high))
        if fingerprint((user, agent, run), role, kind, content) != print
    ]


def _check_layers(engine: Engine) -> list[str]:
    """The layers' running totals are what counting anew gives, and use is known of records that exist only."""
    repository, differences = engine.repository, list[str]()
    for _ in range(_ATTEMPTS):
        seq = repository.last_seq()
        noted = {layer: found[:2] for layer, found in sizes(repository).items()}
        counted, lost = dict.fromkeys(noted, (0, 0)), list[str]()
        for low, high in repository.windows("r.state = 0", ()):
            sql = (
                "SELECT layer, count(*), sum(octet_length(content) + coalesce(octet_length(metadata), 0)) "
                "FROM records WHERE row > ? AND row <= ? AND state = 0 GROUP BY layer"
            )
            for layer, records, used in repository.db.execute(sql, (low, high)):
                before = counted.get(layer, (0, 0))
                counted[layer] = (before[0] + records, before[1] + used)
            lost += unqueued(repository, low, high)
        differences = [
            f"lifecycle: the layer {layer} is taken for {noted.get(layer)} (records, bytes) and has {found}"
            for layer, found in counted.items()
            if noted.get(layer) != found
        ] + [f"lifecycle: record {id!r} is in no queue" for id in lost[:_SHOWN]]
        if not differences or repository.last_seq() == seq:
            break  # else somebody was writing meanwhile
    orphans = repository.db.execute("SELECT count(*) FROM accesses WHERE row NOT IN (SELECT row FROM records)")[0][0]
    if orphans:
        differences.append(f"lifecycle: accesses of {orphans} records that do not exist")
    return differences


def _check_vectors(engine: Engine, counts: dict[str, int]) -> list[str]:
    """LanceDB has exactly the live records, each once, in the right scope and with the same vector, byte for byte."""
    suspects, seen = set[int](), dict[int, int]()
    for left in reversed(range(_ATTEMPTS)):
        try:
            engine.follower.flush()
            suspects, seen = _scan_vectors(engine)
            break
        except StoreError as exc:
            # Fragments that have been merged may be removed while they are being read.
            if not left or isinstance(exc, StoreCorruptError):
                return [f"lancedb: {exc}"]
    counts["lancedb"] = sum(seen.values())
    suspects |= {row for row, times in seen.items() if times > 1}
    for low, high in engine.repository.windows("r.state = 0", ()):
        suspects |= set(engine.repository.rows_between("r.state = 0", (), low, high)) - seen.keys()
    # Records that changed during the scan are not at fault.
    changed = {event[1] for event in engine.repository.events_after(engine.follower.applied_seq(), WINDOW)}
    wrong = sorted(suspects - changed)
    more = [f"lancedb: and {len(wrong) - _SHOWN} more rows"] if len(wrong) > _SHOWN else []
    return [f"lancedb: row {row} is missing, left over, repeated or different" for row in wrong[:_SHOWN]] + more


def _scan_vectors(engine: Engine) -> tuple[set[int], dict[int, int]]:
    """Rows of LanceDB that differ from libSQL's, and how often each row is there."""
    suspects, seen = set[int](), dict[int, int]()
    for rows, users, agents, runs, vectors in engine.lance.scan():
        truth = _vectors_with_scope(engine, rows.tolist())
        for at, row in enumerate(rows.tolist()):
            seen[row] = seen.get(row, 0) + 1
            scope = (int(users[at]), int(agents[at]), int(runs[at]))
            if truth.get(row) != (scope, vectors[at].tobytes()):
                suspects.add(row)
    return suspects, seen


def _vectors_with_scope(engine: Engine, rows: list[int]) -> dict[int, tuple[tuple[int, int, int], bytes]]:
    sql = (
        f"SELECT r.row, r.user, r.agent, r.run, e.vector FROM records r JOIN {engine.repository.embeddings} e "
        "ON e.row = r.row WHERE r.row IN ({}) AND r.state = 0"
    )
    return {row[0]: (row[1:4], row[4]) for row in engine.repository.db.select_in(sql, rows)}


def _check_keywords(engine: Engine) -> list[str]:
    if not keywords.applied_seq(engine.repository):
        return []
    engine.follower.index_keywords()
    db = engine.repository.db
    missing = db.execute(
        "SELECT count(*) FROM records WHERE state = 0 AND row NOT IN (SELECT row FROM keyword_lengths)"
    )[0][0]
    extra = db.execute(
        "SELECT count(*) FROM keyword_lengths WHERE row NOT IN (SELECT row FROM records WHERE state = 0)"
    )[0][0]
    return [f"keywords: {missing} records are missing and {extra} are left over"] if missing or extra else []
