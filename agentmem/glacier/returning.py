"""Records come back from archives, the same to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

from agentmem.embedding.batcher import embed_documents
from agentmem.engine.engine import Engine
from agentmem.glacier.bodies import fetch, is_of_model
from agentmem.glacier.contents import Returned
from agentmem.glacier.place import archives_of
from agentmem.stores import archived, bodies, documents
from agentmem.stores.archived import Back, Body
from agentmem.stores.records import public
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository
from agentmem.types.errors import ArchiveError
from agentmem.types.forms import OF_CONTENT
from agentmem.types.records import MemoryRecord

_GROUP = 500
"""Records that come back in one transaction."""


def rehydrate(engine: Engine, stubs: Sequence[Stored]) -> int:
    """Make records whole again; how many were not.

    The time of each in its layer begins anew. Raises ``ArchiveError`` and below for what cannot be read, and
    ``CapacityError`` for a layer that has no room; what came back until then stays.
    """
    engine.check_writable()
    count = 0
    for start in range(0, len(stubs), _GROUP):
        group = stubs[start : start + _GROUP]
        here, model = dict[int, str](), None
        # What was brought back by somebody else, changed and archived again since it was fetched is fetched again.
        while (away := _away(engine, group)) and (away, engine.model.number) != (here, model):
            here, model = away, engine.model.number
            count += _bring_back(engine, list(engine.repository.find_rows(away)), away)
    return count


def _away(engine: Engine, stubs: Sequence[Stored]) -> dict[int, str]:
    engine.check()
    return archived.places(engine.repository.db, [stored.row for stored in stubs])


def _bring_back(engine: Engine, stubs: Sequence[Stored], here: dict[int, str]) -> int:
    generation = engine.model.number
    found = {row: body for row, body in fetch(engine, stubs).items() if row in here}
    made = zip(found.values(), embeddings_of(engine, found.values()), strict=True)
    backs = [Back(body, *vectors, here[body.row]) for body, vectors in made]
    if not backs:
        return 0
    values = Returned(engine)
    try:
        values.fetch([stub for stub in stubs if stub.row in found], here)
        change = partial(_unshelve, engine, backs, generation, values)
        future = engine.begin_write(change, len(backs))
    except BaseException:
        values.drop()
        raise
    future.add_done_callback(values.settle)
    return len(future.result()[0])


def _unshelve(
    engine: Engine, backs: Sequence[Back], generation: int, values: Returned, repository: Repository
) -> tuple[list[int], set[str]]:
    return archived.unshelve(repository, backs, engine.now(), generation, values.pieces)


def embeddings_of(engine: Engine, found: Iterable[Body]) -> list[tuple[int, bytes]]:
    """The embeddings of what was fetched, each with the code that says of what; made again where the store has moved
    to another model since."""
    every, size = list(found), 4 * engine.embedder.dim
    stale = _stale(engine, every)
    texts = {row: _texts(body) for row, body in stale.items()}
    made = iter(embed_documents(engine.embedder, [text for each in texts.values() for text in each]) if texts else ())
    again = {row: b"".join(islice(made, len(each))) for row, each in texts.items()}
    result = list[tuple[int, bytes]]()
    for body in every:
        if body.row not in again:
            result.append((body.vectors, body.embeddings))
            continue
        several = body.vectors > OF_CONTENT and len(again[body.row]) // size == body.vectors - 1
        result.append((body.vectors if several else int(bool(again[body.row])), again[body.row]))
    return result


def _stale(engine: Engine, found: Sequence[Body]) -> dict[int, Body]:
    """Those whose vectors are of another model than the store's; given ones are kept as long as they fit."""
    db, archives = engine.repository.db, archives_of(engine)
    here, same = archived.places(db, [body.row for body in found]), dict[str, bool]()
    stale = dict[int, Body]()
    for body in found:
        name = here.get(body.row)
        if not body.vectors or name is None:
            continue
        if name not in same:
            try:
                same[name] = is_of_model(archives, db, name)
            except ArchiveError:  # it is damaged, and what was fetched is a copy from another one
                same[name] = True
        fits = body.vectors < 0 and len(body.embeddings) == -body.vectors * 4 * engine.embedder.dim
        if not fits and not (same[name] and body.embeddings):
            stale[body.row] = body
    return stale


def _texts(body: Body) -> list[str]:
    """What a record is embedded by."""
    if body.vectors > OF_CONTENT:
        versions = [version for version, part, _ in body.parts if part == bodies.TEXTS]
        if versions:
            [text] = [t for version, part, t in body.parts if part == bodies.TEXTS and version == max(versions)]
            return bodies.texts_in(text)
    return [body.content] if body.content else []


def known(engine: Engine, stored: Stored, body: Body, *, data: bool = True) -> MemoryRecord:
    """The public form of a record whose text lies in an archive and was fetched."""
    text = documents.joined([(p, t) for v, p, t in body.parts if v == stored.body and p >= 0]) if data else None
    whole = engine.as_used(stored._replace(content=body.content))
    return public(whole, engine.repository.owner(stored), text)


def thaw(engine: Engine, rows: Iterable[int]) -> None:
    """Before records are changed: make those whole that are not."""
    db = engine.repository.db
    if archived.is_used(db) and (away := archived.places(db, rows)):
        rehydrate(engine, list(engine.repository.find_rows(away)))
