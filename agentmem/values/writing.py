"""Putting values: chunks first, then the records that consist of them, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from operator import itemgetter
from typing import Any

from agentmem.engine.engine import Engine
from agentmem.operations.glacier import once_here, thaw_drafts
from agentmem.stores import chunks, chunkupkeep, keys, placements
from agentmem.stores.chunkfiles import ChunkFiles, settle
from agentmem.stores.rows import AwayError, Created
from agentmem.stores.writes import Repository
from agentmem.types.data import dumped
from agentmem.types.enums import ValueTierName
from agentmem.types.errors import StoreError
from agentmem.types.inputs import Draft, Scope
from agentmem.types.toembed import embeddings_of
from agentmem.values.codecs import Packer
from agentmem.values.cutting import Cut, Cutter
from agentmem.values.kinds import Encoded

_SOME = 64
"""Loose chunks that a put removes on the way."""


def put(
    engine: Engine, scope: Scope, items: Sequence[tuple[Draft, Callable[[], Encoded]]], held: ValueTierName | None
) -> list[Created]:
    """Store values of one place in one transaction: all of them or, if one cannot be, none.

    Each draft says everything but the data; what encodes its value is called when its turn comes. They are placed in
    the tier ``held``, if there is one. Raises what that
    raises, ``ConflictError`` with the ``index`` of the draft, ``StoreError`` and below.
    """
    engine.check_writable()
    engine.check()
    key = engine.key(scope)
    place = None if key is None or key.user is None or key.space is None else (key.user, key.space)
    wanted = engine.settings.values
    files = ChunkFiles(engine.held)
    packer = Packer(wanted.compression, wanted.compression_level)
    cutter = Cutter(engine.repository.db, files, packer, place, inline=round(wanted.inline_kb * 1024))
    try:
        drafts, cuts = list[Draft](), list[Cut]()
        for draft, encode in items:
            encoded = encode()
            try:
                cut = cutter.cut(encoded.blocks)
            finally:
                encoded.close()
            about = {"kind": encoded.kind, "size": cut.size, "digest": cut.digest, **encoded.about}
            if any(piece.instead_of is not None for piece in cut.pieces):
                about["mended"] = engine.now()  # a body of its own, so that the next increment of a backup has it
            drafts.append(draft.holding(dumped({chunks.MARK: about}, "value")))
            cuts.append(cut)
        cutter.seal()
    except BaseException as exc:
        cutter.drop()
        if isinstance(exc, StoreError):
            engine.commits.check_files()  # which says so where the store itself is gone
            engine.commits.last_error = str(exc)
        raise
    staging, waits = cutter.staging, True

    def write(repository: Repository) -> tuple[list[Created], set[str]]:
        return _put(repository, drafts, cuts, engine.now(), held)

    def finish(done: Future[Any]) -> None:
        # Whatever became of the caller: it may have gone while this was queued, and the files are needed then, too.
        if not waits or done.cancelled() or not isinstance(done.exception(), AwayError):
            settle(staging, done, itemgetter(1))

    def begin() -> Future[tuple[list[Created], set[str]]]:
        try:
            thaw_drafts(engine, drafts)
            return engine.begin_write(write, sum(1 + len(cut.pieces) for cut in cuts))
        except BaseException:
            cutter.drop()
            raise

    def commit() -> list[Created]:
        nonlocal waits
        future = begun.pop()
        future.add_done_callback(finish)
        try:
            return future.result()[0]
        except AwayError:
            raise  # nothing names the files, which go with it when it is put again
        except Exception:
            if staging is not None:
                files.settle(lambda folder: chunks.files_of(engine.repository.db, folder))
            raise
        except BaseException:
            waits = False
            raise

    begun = list[Future[tuple[list[Created], set[str]]]]()
    try:
        created = once_here(lambda: begun.append(begin()), commit)
    except AwayError:
        cutter.drop()
        raise
    if chunks.loose_files(engine.repository.db, 1):
        chunkupkeep.remove_files(engine.commits, engine.repository.db, engine.held)
    return created


def _put(
    repository: Repository, drafts: Sequence[Draft], cuts: Sequence[Cut], now: int, held: ValueTierName | None
) -> tuple[list[Created], set[str]]:
    created = keys.put(repository, drafts, embeddings_of(drafts, []), now)
    # Of a value that is what it was, too: its chunks may have been damaged.
    used = chunks.refer(
        repository.db,
        [
            chunks.Brought(one.stored.user, one.stored.space, one.stored.row, int(one.stored.body or 0), cut.pieces)
            for one, cut in zip(created, cuts, strict=True)
        ],
    )
    if held is not None and held != "glacier":
        placements.place(repository.db, [one.stored.row for one in created], held)
    chunks.collect(repository.db, _SOME)
    return created, used
