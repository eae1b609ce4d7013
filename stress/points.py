"""Named instants at which ``crash`` kills its child: the real code runs, and dies there of SIGKILL.

A point is a function of the package and a side of it. Nothing in the package knows of them: the child wraps the
function before it opens the store.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple


class Point(NamedTuple):
    """Kill ``before`` or after a call of ``target``; with ``sql`` only one whose statement begins so.

    ``most``: which of the first so many calls kills is random. ``needs``: a ``fresh`` store, one with ``damaged``
    vectors, one with ``keywords``; or a child that also calls ``compact``, ``reembed`` or ``sweep``, one whose users
    ``leave``, one that keeps large scopes as ``codes``, with a ``graph`` in front of them, or ``on disk``, one that
    makes, prunes and restores a ``backup`` all the time, one that moves records to the ``glacier``, erases them there
    and brings them back, one that draws facts from ``talk``, one that is ``alone`` and restores its store in place, or
    one that leaves nothing but ``marks`` of deleted rows for LanceDB to clean up.
    """

    target: str
    before: bool = False
    sql: str | None = None
    most: int = 40
    needs: str = ""


_COMMIT = "agentmem.stores.commit:"
_EXECUTE = "agentmem.stores.connection:Connection.execute"
_MANY = "agentmem.stores.connection:Connection.executemany"
_INSERT = "agentmem.stores.connection:Connection.insert"
_LOG = "agentmem.stores.log:"
_ACCOUNTS = "agentmem.stores.accounting:"
_ERASURE = "agentmem.stores.erasure:"
_MOVES = "agentmem.stores.transitions:"
_LANCE = "agentmem.indexes.lance:"
_DRIVER = "agentmem.indexes.driver:"
_RETRIEVAL = "agentmem.retrieval."
_WRITING = "agentmem.archive.writing:ArchiveWriter."
_FOLDER = "agentmem.archive.folder:"
_PRUNING = "agentmem.backup.pruning:"
_RESTORE = "agentmem.backup.restore:"
_IN_PLACE = "agentmem.backup.inplace:"
_GLACIER = "agentmem.glacier."
_ARCHIVED = "agentmem.stores.archived:"
_DESK = "agentmem.client.knowing:KnowledgeDesk.commit"
_MERGE = "INSERT INTO keywords (keywords, rank) VALUES ('merge', "

POINTS: dict[str, Point] = {
    # adding
    "add: embedded": Point("agentmem.engine.adding:Adding._store", before=True),
    "add: records in, no embeddings": Point(_INSERT, sql="INSERT INTO records"),
    "add: embeddings in, no history": Point(_INSERT, sql="INSERT INTO embeddings_"),
    "add: before commit": Point(_COMMIT + "GroupCommit._patiently", before=True, sql="COMMIT"),
    "add: committed, not synced": Point(_COMMIT + "GroupCommit._patiently", sql="COMMIT"),
    "add: synced, not acknowledged": Point("agentmem.stores.log:WriteAheadLog.sync"),
    # data
    "data: record in, body not": Point("agentmem.stores.bodies:write", before=True),
    "data: body half in": Point(_INSERT, sql="INSERT OR REPLACE INTO bodies"),
    "data: new body in, old ones not gone": Point(_MANY, sql="DELETE FROM bodies WHERE row = ? AND version <", most=10),
    # changing
    "update: vector in, record not": Point(_EXECUTE, sql="UPDATE embeddings_"),
    "update: record in, history not": Point(_EXECUTE, sql="UPDATE records SET"),
    "repetition: in its transaction": Point("agentmem.stores.writes:Repository._refresh", most=3),
    "delete: hidden, history not": Point(_MANY, sql="UPDATE records SET state = 1", most=8),
    "erase: in its transaction": Point(_ERASURE + "erase", most=8),
    "erase: before the log is emptied": Point(_LOG + "truncate_wal", before=True, most=8),
    "erase_all: erased, line not written": Point(_ERASURE + "note_person", before=True, most=4, needs="leave"),
    "erase_all: all erased, no event after it": Point(_ERASURE + "mark", before=True, most=4, needs="leave"),
    "purge: events gone, rows not": Point(_MANY, sql="DELETE FROM history WHERE row", most=3, needs="leave"),
    "purge: rows gone, names not": Point(_MANY, sql="DELETE FROM records", most=3, needs="leave"),
    "purge: names gone, not committed": Point(_MANY, sql="DELETE FROM names", most=3, needs="leave"),
    "purge: committed, log not emptied": Point("agentmem.stores.upkeep:purge", most=3, needs="leave"),
    # by key, and several at once
    "put: replaced, history not": Point(_MANY, sql="UPDATE records SET role", most=20),
    "apply: nothing made": Point(_EXECUTE, sql="SAVEPOINT apply", most=20),
    "apply: made, not released": Point(_EXECUTE, before=True, sql="RELEASE apply", most=20),
    "apply: released, not committed": Point(_EXECUTE, sql="RELEASE apply", most=20),
    "touch: end set, event not": Point(_MANY, sql="UPDATE records SET expires_at = ?, sliding", most=20),
    "touch: last event gone, this one not in": Point(_MANY, sql="DELETE FROM history WHERE seq = ? AND event", most=20),
    # LanceDB
    "lancedb: deleted, not appended": Point(_DRIVER + "delete", most=8),
    "lancedb: applied, before watermark": Point(_LANCE + "LanceIndex.apply", most=15),
    "lancedb: after watermark": Point("agentmem.indexes.vectors:LanceCopy._note", most=15),
    "lancedb: compact, before": Point(_DRIVER + "compact", before=True, most=6, needs="compact"),
    "lancedb: compacted, not noted": Point(_LANCE + "LanceIndex.optimize", most=6, needs="compact"),
    "lancedb: rewritten, before compact": Point(_DRIVER + "rewrite", most=3, needs="marks"),
    "lancedb: before a reset": Point(_LANCE + "LanceIndex.reset", before=True, most=1, needs="damaged"),
    "lancedb: moved aside in a reset": Point(_LANCE + "LanceIndex._sweep", before=True, most=1, needs="damaged"),
    "lancedb: rebuilding": Point(_LANCE + "LanceIndex.apply", most=3, needs="damaged"),
    # libSQL
    "checkpoint: before": Point(_LOG + "truncate_wal", before=True, most=6, needs="compact"),
    "checkpoint: after": Point(_LOG + "truncate_wal", most=6, needs="compact"),
    "keywords: removed, not inserted": Point(_MANY, sql="INSERT INTO keywords", before=True, needs="keywords"),
    "keywords: in, watermark not": Point(_EXECUTE, sql=_MERGE + "200)", needs="keywords"),
    "keywords: merging in compact": Point(_EXECUTE, sql=_MERGE + "?)", most=4, needs="compact"),
    # scopes held as codes
    "codes: taken in part": Point(_RETRIEVAL + "building:put", most=6, needs="codes"),
    "codes: made, not taken up": Point("agentmem.indexes.delta:Delta._take", before=True, most=6, needs="codes"),
    "codes: built, not kept": Point(_RETRIEVAL + "snapshots:Snapshots.save", before=True, most=4, needs="codes"),
    "codes: written in part": Point("agentmem.stores.arrayfile:_bytes", most=60, needs="codes"),
    "codes: kept, erasures not looked for": Point("agentmem.stores.arrayfile:write", most=4, needs="codes"),
    "codes: read back, changes not": Point(_RETRIEVAL + "snapshots:Snapshots.load", most=3, needs="codes"),
    "codes: put in the place of others": Point(_RETRIEVAL + "residents:Residents._take_built", most=20, needs="codes"),
    "codes: erased, still on the disk": Point(
        _RETRIEVAL + "snapshots:Snapshots.remove", before=True, most=2, needs="codes"
    ),
    "codes: erased elsewhere, not overwritten": Point(
        _RETRIEVAL + "largearena:LargeArena.scrub", before=True, most=4, needs="codes"
    ),
    # tiers
    "tiers: placed, not committed": Point("agentmem.stores.placements:place", most=3, needs="codes"),
    "tiers: committed, not held": Point("agentmem.operations.tiers:_place", most=3, needs="codes"),
    "tiers: moved in part": Point(_RETRIEVAL + "residents:Residents.hold", most=6, needs="codes"),
    "tiers: placed on the disk, not held": Point("agentmem.operations.tiers:_place", most=3, needs="on disk"),
    "tiers: moved on the disk, in part": Point(_RETRIEVAL + "residents:Residents.hold", most=6, needs="on disk"),
    "tiers: index made, table not merged": Point(_DRIVER + "index_vectors", most=3, needs="on disk"),
    "tiers: merged, index not made": Point(_DRIVER + "index_vectors", before=True, most=3, needs="on disk"),
    "graph: filled, not in front": Point(_RETRIEVAL + "fronting:Fronts._fill", most=3, needs="graph"),
    "graph: in front": Point("agentmem.indexes.fronts:Fronted.offer", most=3, needs="graph"),
    "graph: erased, still in front": Point("agentmem.indexes.fronts:Fronted.blank", before=True, needs="graph", most=4),
    "graph: moved in part": Point(_RETRIEVAL + "residents:Residents.hold", most=6, needs="graph"),
    "graph: codes read back": Point(_RETRIEVAL + "snapshots:Snapshots.load", most=3, needs="graph"),
    # lifecycle
    "sweep: judged, nothing moved": Point(_MOVES + "apply", before=True, most=8, needs="sweep"),
    "sweep: promoted, no events": Point(_MANY, sql="UPDATE records SET layer", most=8, needs="sweep"),
    "sweep: hidden, no events": Point(_MANY, sql="UPDATE records SET state = 3", most=8, needs="sweep"),
    "sweep: events in, sizes not": Point(_MOVES + "apply", most=8, needs="sweep"),
    "sweep: moved, still queued": Point(_ACCOUNTS + "unqueue", before=True, most=8, needs="sweep"),
    "sweep: moved, not committed": Point(_ACCOUNTS + "unqueue", most=8, needs="sweep"),
    "settle: queued, not counted": Point(_EXECUTE, sql="INSERT OR IGNORE INTO due", most=5),
    "settle: counted, not committed": Point(_ACCOUNTS + "settle", most=5),
    "accesses: noted, not committed": Point(_ACCOUNTS + "note_accesses", most=5),
    # opening
    "migration: between tables": Point(_EXECUTE, sql="CREATE TABLE", most=8, needs="fresh"),
    "migration: made, not recorded": Point(_EXECUTE, sql="INSERT INTO migrations", before=True, most=1, needs="fresh"),
    "migration: recorded, not committed": Point(_EXECUTE, sql="INSERT INTO migrations", most=1, needs="fresh"),
    "opening: model not noted": Point("agentmem.engine.opening:note_model", before=True, most=1, needs="fresh"),
    "opening: model noted in part": Point(_EXECUTE, sql="INSERT OR REPLACE INTO meta", most=4, needs="fresh"),
    # from talk to facts
    "knowledge: read, nothing reserved": Point("agentmem.knowledge.running:Run._reserve", True, most=6, needs="talk"),
    "knowledge: reserved, not asked": Point("agentmem.knowledge.running:Run._call", True, most=6, needs="talk"),
    "knowledge: paid, not booked": Point("agentmem.knowledge.running:Run._call", most=6, needs="talk"),
    "knowledge: judged, nothing stored": Point("agentmem.knowledge.guards:judge", most=6, needs="talk"),
    "knowledge: in a step": Point(_DESK, before=True, most=30, needs="talk"),
    "knowledge: stored, not told": Point(_DESK, most=30, needs="talk"),
    "knowledge: facts half in": Point("agentmem.stores.evidence:begin", most=20, needs="talk"),
    "knowledge: to be approved": Point("agentmem.knowledge.making:approved", most=6, needs="talk"),
    "knowledge: to be reverted": Point("agentmem.knowledge.consolidation:_check_last", most=2, needs="talk"),
    # another model
    "reembed: vectors in, progress not": Point("agentmem.stores.embeddings:put", most=4, needs="reembed"),
    "reembed: before the flip": Point("agentmem.operations.reembed:_record_flip", before=True, most=1, needs="reembed"),
    "reembed: in the flip": Point("agentmem.operations.reembed:_record_flip", most=1, needs="reembed"),
    "reembed: flipped, not adopted": Point("agentmem.engine.engine:Engine.adopt", before=True, most=1, needs="reembed"),
    "reembed: adopted": Point("agentmem.engine.engine:Engine.adopt", most=1, needs="reembed"),
    "reembed: old vectors half removed": Point(_MANY, sql="DELETE FROM embeddings_", most=2, needs="reembed"),
    # backups
    "backup: an object aside, not in place": Point(_FOLDER + "_sync", most=60, needs="backup"),
    "backup: an object in place, folder not synced": Point(_FOLDER + "_sync_folder", True, most=60, needs="backup"),
    "backup: packs in, catalogues in part": Point(_WRITING + "_send_catalogue", most=10, needs="backup"),
    "backup: all in but the manifest": Point("agentmem.archive.manifest:Manifest.to_bytes", most=2, needs="backup"),
    "backup: whole, store not told": Point(_WRITING + "finish", most=2, needs="backup"),
    "backup: announced, no entry": Point("agentmem.backup.lineage:add", before=True, most=2, needs="backup"),
    "backup: entry in, store not told": Point("agentmem.backup.lineage:add", most=2, needs="backup"),
    "prune: one entry gone": Point(_FOLDER + "FolderObjects.delete", most=4, needs="backup"),
    "prune: entries gone, archives not": Point(_PRUNING + "_remove_archive", before=True, most=1, needs="backup"),
    "prune: backups gone, leftovers not": Point(_PRUNING + "remove", most=1, needs="backup"),
    # archives
    "archive: noted, nothing written": Point(_GLACIER + "uploading:begin", most=8, needs="glacier"),
    "archive: packs in, catalogue not": Point(_WRITING + "_send_catalogue", before=True, most=8, needs="glacier"),
    "archive: all in but the manifest": Point("agentmem.archive.manifest:Manifest.to_bytes", most=8, needs="glacier"),
    "archive: written, not read back": Point(_WRITING + "finish", most=8, needs="glacier"),
    "archive: read back, nothing let go of": Point(_GLACIER + "writing:commit", before=True, most=8, needs="glacier"),
    "archive: let go of, not committed": Point(_ARCHIVED + "shelve", most=8, needs="glacier"),
    "archive: let go of, not told": Point(_GLACIER + "writing:commit", most=8, needs="glacier"),
    "archive: erased, archive as it was": Point(_GLACIER + "burying:bury_now", before=True, most=4, needs="glacier"),
    "archive: written anew, not noted": Point(_GLACIER + "burying:_note", before=True, most=3, needs="glacier"),
    "archive: noted, old one there": Point(_GLACIER + "burying:_remove", before=True, most=3, needs="glacier"),
    "archive: old one gone, not told": Point(_GLACIER + "burying:_done", before=True, most=3, needs="glacier"),
    "archive: fetched, not back": Point(_ARCHIVED + "unshelve", before=True, most=4, needs="glacier"),
    "archive: back, not committed": Point(_ARCHIVED + "unshelve", most=4, needs="glacier"),
    "restore: filled in part": Point("agentmem.stores.copying:Target.insert", most=6, needs="backup"),
    "restore: filled, not checked": Point(_RESTORE + "check_whole", before=True, most=1, needs="backup"),
    "restore: checked, no store": Point(_RESTORE + "put_in_place", before=True, most=1, needs="backup"),
    "restore: a store, not told": Point(_RESTORE + "put_in_place", most=1, needs="backup"),
    "restore in place: backed up, nothing made": Point(_IN_PLACE + "check_unchanged", most=2, needs="alone"),
    "restore in place: made, log not empty": Point(_IN_PLACE + "_close_the_log", before=True, most=2, needs="alone"),
    "restore in place: log gone, database not": Point(
        _IN_PLACE + "_take_its_place", before=True, most=2, needs="alone"
    ),
    "restore in place: replaced, copies not": Point(_IN_PLACE + "_take_its_place", most=2, needs="alone"),
}


def arm(name: str | None, nth: int) -> None:
    """Make this process die at the ``nth`` passage of a point."""
    if name is not None:
        arm_at(POINTS[name], nth)


def arm_at(point: Point, nth: int) -> None:
    """The same for a point that has no name here."""
    left = [nth]

    def passed() -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _wrap(point, passed)


def watch() -> Counter[str]:
    """How often this process passes each point from now on; a live count."""
    seen = Counter[str](dict.fromkeys(POINTS, 0))
    for name, point in POINTS.items():
        _wrap(point, partial(seen.update, [name]))
    return seen


def _wrap(point: Point, passed: Callable[[], None]) -> None:
    """Have ``passed`` called at a point, in every module that has its function."""
    module, _, path = point.target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, attribute = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, attribute)
    wrapped = _passing(original, point, passed)
    setattr(owner, attribute, wrapped)
    if outer:
        return
    # Those that imported the function by name; what is imported later finds the wrapped one.
    for name, other in list(sys.modules.items()):
        if name.startswith("agentmem."):
            for alias in [alias for alias, value in vars(other).items() if value is original]:
                setattr(other, alias, wrapped)


def _passing(original: Callable[..., Any], point: Point, passed: Callable[[], None]) -> Callable[..., Any]:
    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        here = point.sql is None or str(args[1]).startswith(point.sql)
        if here and point.before:
            passed()
        result = original(*args, **kwargs)
        if here and not point.before:
            passed()
        return result

    return wrapped
