"""The file of the reference server, taken into a memory's knowledge graph.

It has a JSON object a line: ``{"type": "entity", "name": …, "entityType": …, "observations": […]}`` or
``{"type": "relation", "from": …, "to": …, "relationType": …}``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import anyio

from agentmem import ConflictError, InvalidInputError
from agentmem.mcp.access import Access
from agentmem.mcp.graph import ROOT, Entity, Graph, Relation

_IMPORTS = "imports"


@dataclass
class Imported:
    """What became of a file."""

    entities: int = 0
    relations: int = 0
    before: bool = False
    """Whether this very file was taken in before, so that nothing was done: what was deleted since stays so."""
    left_out: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """Lines that are neither an entity nor a relation, and why."""


async def import_file(access: Access, path: Path) -> Imported:
    """Add what the file has and the graph has not; once for each state of the file.

    Raises ``OSError`` where it cannot be read and ``InvalidInputError`` where none of it is what it should be.
    """
    raw = await anyio.Path(path).read_bytes()
    mark, namespace = sha256(raw).hexdigest(), (*access.namespace, ROOT, _IMPORTS)
    if await access.view.get(key=mark, namespace=namespace, touch=False) is not None:
        return Imported(before=True)
    entities, relations, done = list[Entity](), set[Relation](), Imported()
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        if line.strip():
            try:
                one = _read(line)
            except (ValueError, KeyError, TypeError, RecursionError) as exc:
                done.left_out.append((number, _why(exc)))
                continue
            if isinstance(one, Entity):
                entities.append(one)
            else:
                relations.add(one)
    if done.left_out and not entities and not relations:
        number, why = done.left_out[0]
        raise InvalidInputError(f"{path} is no file of a knowledge graph: line {number}, {why}", field="import")
    graph = Graph(access)
    there = await graph.read()
    names = {one.name for one in there.entities}
    done.entities = len(await graph.create_entities([one for one in entities if one.name not in names]))
    for one in entities:
        if one.name in names and one.observations:
            await graph.add_observations(one.name, one.observations)
    done.relations = len(await graph.create_relations([one for one in relations if one not in set(there.relations)]))
    try:
        await access.view.put(mark, f"{path.name} was imported.", namespace=namespace, embed=False, if_version=0)
    except ConflictError:  # somebody else has imported it at the same time
        pass
    return done


def _read(line: str) -> Entity | Relation:
    item = cast("dict[str, Any]", json.loads(line))
    if item["type"] == "entity":
        observations = [str(one) for one in item.get("observations", ())]
        return Entity(str(item["name"]), str(item["entityType"]), list(dict.fromkeys(observations)))
    if item["type"] == "relation":
        return Relation(str(item["from"]), str(item["to"]), str(item["relationType"]))
    raise ValueError(f"the type {item['type']!r} is neither entity nor relation")


def _why(exc: Exception) -> str:
    if isinstance(exc, json.JSONDecodeError):
        return f"not JSON: {exc.msg}"
    return f"it has no {exc}" if isinstance(exc, KeyError) else str(exc)
