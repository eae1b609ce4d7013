"""A knowledge graph of entities, their observations, and relations between them, as records of a memory.

Each is a record by key in a namespace of its own below ``knowledge``, so that writers in any number of processes meet
record by record, and nothing that was acknowledged is lost. An observation belongs to the record of its entity, not to
its name: one that is made again under the same name begins without any. Adding an observation is a new version of its
entity in the same transaction, so that a deletion, which goes by the version, takes all observations with it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar
from uuid import uuid4

from agentmem import AsyncMemory, ConflictError, Delete, MemoryRecord, NotFoundError, Put, Update
from agentmem.mcp.access import Access

ROOT = "knowledge"
_ATTEMPTS = 50
_TOGETHER = 400
"""Records of one transaction: what a call brings beyond that comes in several."""
_FEW = 4
"""More than so many are compared with what is there before they are stored."""

T = TypeVar("T")


@dataclass(frozen=True)
class Relation:
    """A directed relation, in active voice."""

    source: str
    target: str
    type: str


@dataclass
class Entity:
    """A thing, and what was observed of it, in the order in which it was."""

    name: str
    type: str
    observations: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Whole:
    """Entities and relations, each in the order in which they were made."""

    entities: list[Entity]
    relations: list[Relation]

    def around(self, names: Iterable[str]) -> Whole:
        """These entities, and the relations that begin or end at one of them."""
        wanted = set(names)
        return Whole(
            [one for one in self.entities if one.name in wanted],
            [one for one in self.relations if one.source in wanted or one.target in wanted],
        )

    def matching(self, query: str) -> Whole:
        """What has the query in a name, a type or an observation, in upper or lower case, and what is related to it."""
        wanted = query.casefold()
        return self.around(
            one.name
            for one in self.entities
            if any(wanted in text.casefold() for text in (one.name, one.type, *one.observations))
        )


class UnknownEntityError(LookupError):
    """There is no entity of this name."""


class Graph:
    """The graph in somebody's memory."""

    def __init__(self, access: Access) -> None:
        self._memory: AsyncMemory = access.view
        self._entities, self._observations, self._relations = (
            (*access.namespace, ROOT, part) for part in ("entities", "observations", "relations")
        )

    async def read(self) -> Whole:
        """All of it."""
        entities = {record.id: record for record in await self._all(self._entities)}
        found = {id: Entity(_text(record, "name"), _text(record, "type")) for id, record in entities.items()}
        for record in await self._all(self._observations):
            owner = found.get(str(record.metadata.get("entity")))
            if owner is not None:
                owner.observations.append(record.content)
        relations = [
            Relation(_text(record, "from"), _text(record, "to"), _text(record, "type"))
            for record in await self._all(self._relations)
        ]
        return Whole(list(found.values()), relations)

    async def create_entities(self, entities: Sequence[Entity]) -> list[Entity]:
        """Make those whose names are not there yet, each with its observations; returns these."""
        first = dict[str, Entity]()
        for entity in entities:
            first.setdefault(entity.name, entity)
        ids = {name: uuid4().hex for name in first}
        made = await self._put({name: self._entity(entity, ids[name]) for name, entity in first.items()})
        for name in made:
            if more := first[name].observations[_TOGETHER:]:
                await self._observe(name, ids[name], more)
        return [first[name] for name in made]

    async def create_relations(self, relations: Sequence[Relation]) -> list[Relation]:
        """Make those that are not there yet; returns these."""
        there = set((await self.read()).relations) if len(relations) > _FEW else set[Relation]()
        return await self._put({one: [self._relation(one)] for one in relations if one not in there})

    async def add_observations(self, name: str, texts: Sequence[str]) -> list[str]:
        """Add what was not observed yet; returns that. Raises ``UnknownEntityError``."""
        record = await self._memory.get(key=_key(name), namespace=self._entities, touch=False)
        if record is None:
            raise UnknownEntityError(name)
        return await self._observe(name, record.id, texts)

    async def delete_entities(self, names: Sequence[str]) -> int:
        """Delete these with their observations and relations; returns how many there were."""
        return sum([await self._again(lambda name=name: self._delete_entity(name)) for name in dict.fromkeys(names)])

    async def delete_observations(self, name: str, texts: Sequence[str]) -> None:
        """Delete what is there of these."""
        record = await self._memory.get(key=_key(name), namespace=self._entities, touch=False)
        if record is not None:
            await self._delete(self._observations, [_key(record.id, text) for text in texts])

    async def delete_relations(self, relations: Sequence[Relation]) -> None:
        """Delete what is there of these."""
        await self._delete(self._relations, [_key(one.source, one.target, one.type) for one in relations])

    # -- records -----------------------------------------------------------------------------------------------------

    async def _all(self, namespace: tuple[str, ...], **metadata: str) -> list[MemoryRecord]:
        filters = metadata or None
        records = self._memory.iterate(namespace=namespace, filters=filters, order="oldest", touch=False)
        return [record async for record in records]

    def _entity(self, entity: Entity, id: str) -> list[Put]:
        put = Put(
            _key(entity.name),
            f"{entity.name} ({entity.type})",
            id=id,
            namespace=self._entities,
            data={"name": entity.name, "type": entity.type},
            kind="entity",
            layer="assets",
            if_version=0,
        )
        texts = dict.fromkeys(entity.observations[:_TOGETHER])
        return [put, *(self._observation(id, text) for text in texts)]

    def _observation(self, id: str, text: str) -> Put:
        return Put(
            _key(id, text),
            text,
            namespace=self._observations,
            metadata={"entity": id},
            kind="observation",
            layer="assets",
            if_version=0,
        )

    def _relation(self, one: Relation) -> Put:
        return Put(
            _key(one.source, one.target, one.type),
            f"{one.source} {one.type} {one.target}",
            namespace=self._relations,
            data={"from": one.source, "to": one.target, "type": one.type},
            metadata={"from": _key(one.source), "to": _key(one.target)},
            kind="relation",
            layer="assets",
            if_version=0,
        )

    async def _observe(self, name: str, id: str, texts: Sequence[str]) -> list[str]:
        there = {one.content for one in await self._all(self._observations, entity=id)} if len(texts) > _FEW else ()
        puts = {text: [self._observation(id, text)] for text in texts if text not in there}
        try:
            return await self._put(puts, Update(id, metadata={"observed": _key(id, *texts, uuid4().hex)}))
        except NotFoundError as exc:  # it was deleted meanwhile
            raise UnknownEntityError(name) from exc

    async def _put(self, groups: dict[T, list[Put]], also: Update | None = None) -> list[T]:
        """Store groups of records, each whole or not at all, in transactions of some hundred records.

        One whose first record is there already is left out; returns the others.
        """
        made, rest = list[T](), list(groups)
        while rest:
            part, changes, owners = list[T](), list[Put | Update](), list[T | None]()
            if also is not None:
                changes, owners = [also], [None]
            for one in rest:
                if part and len(changes) + len(groups[one]) > _TOGETHER:
                    break
                part.append(one)
                changes += groups[one]
                owners += [one] * len(groups[one])
            try:
                await self._memory.apply(changes)
            except ConflictError as exc:
                there = None if exc.index is None else owners[exc.index]
                if there is None:
                    raise
                rest.remove(there)
            else:
                made += part
                rest = rest[len(part) :]
        return made

    async def _delete(self, namespace: tuple[str, ...], keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _TOGETHER):
            part = keys[start : start + _TOGETHER]
            await self._memory.apply([Delete(key=key, namespace=namespace) for key in part])

    async def _delete_entity(self, name: str) -> bool:
        key = _key(name)
        record = await self._memory.get(key=key, namespace=self._entities, touch=False)
        found = await self._all(self._relations, **{"from": key}) + await self._all(self._relations, to=key)
        if record is not None:
            found += await self._all(self._observations, entity=record.id)
        ids = list(dict.fromkeys(one.id for one in found))
        await self._memory.delete_many(ids[_TOGETHER:])
        last: list[Delete] = [Delete(id) for id in ids[:_TOGETHER]]
        if record is not None:
            last.insert(0, Delete(record.id, if_version=record.version))
        await self._memory.apply(last)
        return record is not None

    async def _again(self, run: Callable[[], Awaitable[T]]) -> T:
        """Do it again as long as somebody else was faster."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await run()
            except ConflictError:
                continue
        return await run()


def _key(*parts: str) -> str:
    """A key of any number of texts of any length, which differs where they do."""
    return sha256(json.dumps(parts).encode()).hexdigest()


def _text(record: MemoryRecord, name: str) -> str:
    data: dict[str, str] = record.data
    return data[name]
