"""CrewAI's memory in an agentmem store: a ``StorageBackend``, and a factory of them for everything CrewAI opens.

A memory of CrewAI's is a record whose key is its id, in a namespace of its own. Its vector is the one that CrewAI
gives; its data is all that CrewAI says of it, verbatim; scope, categories and source are metadata, for filters; the
content is there once more as text, as far as a record can hold it, so that ``Memory.search`` finds it by words, too.
"""

# The framework is not installed where types are checked.
# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import anyio.to_thread

from agentmem import Delete, InvalidInputError, Settings, Touch
from agentmem import MemoryRecord as Stored
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of, names_of
from agentmem.adapters.texts import fitting
from agentmem.adapters.versions import require

require("crewai", at_least="1.14.7", below="2", extra="crewai")

from crewai.memory.storage.backend import StorageBackend  # noqa: E402
from crewai.memory.types import MemoryRecord, ScopeInfo  # noqa: E402

__all__ = ["AgentMemStorage", "storage_factory"]

NAMESPACE = ("crewai",)
"""Where memories are kept unless another namespace is given."""
_ATOMIC = 1_000
"""Deletes of one transaction."""
_BATCH = 10_000
"""Records that are saved in one."""
_FIELDS = ("metadata", "scope", "categories", "importance", "source", "private", "content")
"""What the data says, metadata first, since filters see its beginning; times besides."""


class AgentMemStorage(StorageBackend):
    """What ``crewai.Memory(storage=...)`` stores its memories in.

    ``memory`` is an open client or a view of one, which stays yours to close, or the path of a store. ``user_id`` is a
    wall, and ``namespace`` says where the memories are kept: two storages that differ in either share nothing. Scopes
    are paths: ``/team`` holds ``/team/a`` and not ``/teams``. Scores are cosines, from 0 to 1.

    CrewAI embeds, so its vectors have to be as long as those of the store's model: give it ``embed`` of this storage
    as its ``embedder``, or open the store with CrewAI's model.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] = NAMESPACE,
        settings: Settings | None = None,
    ) -> None:
        self._client = Client(memory, settings)
        self._place: dict[str, Any] = {"user_id": user_id, "namespace": names_of(namespace)}

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of texts by the store's model: the ``embedder`` for ``crewai.Memory``; ``[]`` of a blank one."""
        fit = [fitting(text) for text in texts]
        made = iter(self._client.memory.embed([text for text in fit if text is not None]))
        return [[] if text is None else next(made) for text in fit]

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    # -- changing ----------------------------------------------------------------------------------------------------

    def save(self, records: list[MemoryRecord]) -> None:
        """Store memories, up to 10,000 in a transaction; one whose id is there already is replaced."""
        items = list({record.id: _item(record) for record in records}.values())
        with _advice():
            for some in _in_parts(items, _BATCH):
                self._client.memory.put_many(some, layer="assets", **self._place)

    def update(self, record: MemoryRecord) -> None:
        """Store a memory in the place of the one with its id."""
        self.save([record])

    def touch_records(self, record_ids: list[str]) -> None:
        """Say that memories were used now."""
        for some in _in_parts(record_ids):
            self._client.memory.apply([Touch(key=id, **self._place) for id in some])

    def delete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Delete the memories that meet every criterion that is given, all of them if none is; returns how many."""
        filters = _filters(scope_prefix, categories, older_than, metadata_filter)
        ids = record_ids
        if ids is None or filters is not None or metadata_filter:
            found = [str(stored.key) for stored in self._matching(filters, metadata_filter)]
            ids = found if ids is None else list(set(found).intersection(ids))
        deleted = 0
        for some in _in_parts(ids):
            deleted += sum(map(bool, self._client.memory.apply([Delete(key=id, **self._place) for id in some])))
        return deleted

    def reset(self, scope_prefix: str | None = None) -> None:
        """Delete the memories of a scope and below, or all."""
        self._client.memory.delete_all(filters=_filters(scope_prefix), **self._place)

    # -- reading -----------------------------------------------------------------------------------------------------

    def search(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[tuple[MemoryRecord, float]]:
        """The ``limit`` nearest memories that meet the criteria, with their cosines."""
        if limit <= 0 or not any(query_embedding):
            return []
        found, offset, more = list[tuple[Stored, float]](), 0, True
        while more and len(found) < limit and offset < _BATCH:
            size = min(max(limit, offset), _BATCH - offset)
            with _advice():
                hits = self._client.memory.search(
                    vector=query_embedding, rank="similarity", min_similarity=min_score if min_score > 0 else None,
                    filters=_filters(scope_prefix, categories, None, metadata_filter), limit=size, offset=offset,
                    touch=False, **self._place,
                )  # fmt: skip
            found += [(hit.record, max(0.0, hit.score)) for hit in hits if _has(hit.record, metadata_filter)]
            offset, more = offset + size, len(hits) == size
        records = self._records(stored for stored, _ in found[:limit])
        return [(record, score) for record, (_, score) in zip(records, found, strict=False)]

    def get_record(self, record_id: str) -> MemoryRecord | None:
        """The memory with this id."""
        stored = self._client.memory.get(key=record_id, touch=False, **self._place)
        return None if stored is None else self._records([stored])[0]

    def list_records(self, scope_prefix: str | None = None, limit: int = 200, offset: int = 0) -> list[MemoryRecord]:
        """The memories of a scope and below, the last that was created first."""
        if limit <= 0 or offset < 0:
            return []
        memory, found = self._client.memory, list[Stored]()
        while len(found) < limit:
            page = memory.page(
                filters=_filters(scope_prefix), by="event", limit=min(limit - len(found), _BATCH),
                offset=offset + len(found), touch=False, **self._place,
            )  # fmt: skip
            found += page.records
            if page.cursor is None:
                break
        return self._records(found)

    def get_scope_info(self, scope: str) -> ScopeInfo:
        """How many memories a scope and those below have, from when to when, and of which categories."""
        path = _path(scope)
        found = list(self._matching(_filters(path), data=False))
        times = sorted((str(stored.metadata["created_at"]) for stored in found), key=lambda text: _aware(_time(text)))
        return ScopeInfo(
            path=path,
            record_count=len(found),
            categories=sorted({name for stored in found for name in stored.metadata["categories"]}),
            oldest_record=_time(times[0]) if times else None,
            newest_record=_time(times[-1]) if times else None,
            child_scopes=_children(path, (str(stored.metadata["scope"]) for stored in found)),
        )

    def list_scopes(self, parent: str = "/") -> list[str]:
        """The scopes right below one."""
        path = _path(parent)
        return _children(path, self._client.memory.distinct("scope", filters=_filters(path), **self._place))

    def list_categories(self, scope_prefix: str | None = None) -> dict[str, int]:
        """The categories of a scope and below, each with the number of memories that have it."""
        found = self._matching(_filters(scope_prefix), data=False)
        return dict(Counter(name for stored in found for name in stored.metadata["categories"]))

    def count(self, scope_prefix: str | None = None) -> int:
        """How many memories a scope and those below have."""
        return self._client.memory.count(filters=_filters(scope_prefix), **self._place)

    # -- for event loops ---------------------------------------------------------------------------------------------

    async def asave(self, records: list[MemoryRecord]) -> None:
        """``save``, on a thread."""
        await anyio.to_thread.run_sync(self.save, records)

    async def asearch(self, *args: Any, **criteria: Any) -> list[tuple[MemoryRecord, float]]:
        """``search``, on a thread."""
        return await anyio.to_thread.run_sync(partial(self.search, *args, **criteria))

    async def adelete(self, *args: Any, **criteria: Any) -> int:
        """``delete``, on a thread."""
        return await anyio.to_thread.run_sync(partial(self.delete, *args, **criteria))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _matching(
        self, filters: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None = None, *, data: bool = True
    ) -> Iterator[Stored]:
        for stored in self._client.memory.iterate(filters=filters, data=data, touch=False, **self._place):
            if _has(stored, metadata):
                yield stored

    def _records(self, found: Iterable[Stored]) -> list[MemoryRecord]:
        """What is stored as CrewAI has it, with the vectors."""
        stored = list(found)
        held = [
            each for some in _in_parts(stored, _BATCH) for each in self._client.memory.vectors([one.id for one in some])
        ]
        return [_record(one, vectors) for one, vectors in zip(stored, held, strict=True)]


def storage_factory(
    memory: AnyMemory = None,
    *,
    user_id: str | None = None,
    namespace: Sequence[str] = NAMESPACE,
    settings: Settings | None = None,
) -> Callable[[str], AgentMemStorage]:
    """For CrewAI's ``set_memory_storage_factory``: every ``Memory`` made from then on is kept in one agentmem store.

    What CrewAI takes for its storage's name or path (``storage="lancedb"`` if nothing is said) becomes the last part of
    the namespace, so that different ones are apart as before.
    """
    client, root = Client(memory, settings), names_of(namespace)

    def storage(spec: str) -> AgentMemStorage:
        return AgentMemStorage(client.memory, user_id=user_id, namespace=(*root, label_of(spec)))

    return storage


@contextmanager
def _advice() -> Generator[None]:
    """Says what to do about vectors of another length than the store's."""
    try:
        yield
    except InvalidInputError as exc:
        if exc.field != "vector":
            raise
        raise InvalidInputError(
            f"{exc}; give crewai.Memory this storage's embed as its embedder, or open the store with CrewAI's model",
            field="vector",
            index=exc.index,
        ) from exc


def _item(record: MemoryRecord) -> dict[str, Any]:
    """A memory as an item of ``put_many``."""
    times = {"created_at": record.created_at.isoformat(), "last_accessed": record.last_accessed.isoformat()}
    given = record.embedding if record.embedding is not None and any(record.embedding) else None
    return {
        "key": record.id,
        "content": fitting(record.content),
        "data": {name: getattr(record, name) for name in _FIELDS} | times,
        "metadata": {
            "scope": _path(record.scope), "categories": record.categories, "source": record.source,
            "created_at": times["created_at"],
        },
        "importance": record.importance,
        "occurred_at": _aware(record.created_at),
        **({"embed": False} if given is None else {"vector": given}),
    }  # fmt: skip


def _record(stored: Stored, vectors: Any) -> MemoryRecord:
    data: dict[str, Any] = stored.data
    used = _time(data["last_accessed"])
    if stored.last_accessed is not None and stored.last_accessed > _aware(used):
        used = stored.last_accessed if used.tzinfo else stored.last_accessed.replace(tzinfo=None)
    return MemoryRecord(
        id=str(stored.key),
        **{name: data[name] for name in _FIELDS},
        created_at=_time(data["created_at"]),
        last_accessed=used,
        embedding=vectors.vectors[0].tolist() if vectors is not None and len(vectors.vectors) else None,
    )


def _filters(
    scope: str | None = None,
    categories: Sequence[str] | None = None,
    older_than: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Criteria as a filter; that on metadata lets through more than is meant, see ``_has``."""
    conditions = list[dict[str, Any]]()
    if scope is not None and (path := _path(scope)) != "/":
        conditions.append({"$or": [{"scope": path}, {"scope": {"$prefix": f"{path}/"}}]})
    if categories:
        conditions.append({"categories": {"$in": list(categories)}})
    if older_than is not None:
        conditions.append({"$occurred_at": {"$lt": _aware(older_than)}})
    for name, value in (metadata or {}).items():
        if isinstance(value, str) and name and "\\" not in name:
            conditions.append({"$data.metadata." + name.replace(".", "\\."): value})
    return {"$and": conditions} if conditions else None


def _has(stored: Stored, metadata: Mapping[str, Any] | None) -> bool:
    """Whether a memory's own metadata has these values, as Python compares them."""
    held = stored.data["metadata"] if metadata else {}
    return all(held.get(name) == value for name, value in (metadata or {}).items())


def _path(scope: str) -> str:
    """A scope with a slash at its beginning and none at its end."""
    return "/" + scope.strip("/")


def _children(path: str, scopes: Iterable[Any]) -> list[str]:
    above = path.rstrip("/") + "/"
    below = {str(scope)[len(above) :].split("/")[0] for scope in scopes if str(scope).startswith(above)}
    return sorted(above + name for name in below if name)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _aware(time: datetime) -> datetime:
    """CrewAI's times are UTC and do not say so."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _in_parts(things: Iterable[Any], size: int = _ATOMIC) -> Iterator[list[Any]]:
    rest = iter(things)
    while some := list(islice(rest, size)):
        yield some
