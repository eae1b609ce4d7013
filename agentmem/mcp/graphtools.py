"""The set of tools ``graph``: the nine of the protocol's reference server for memory, by their names and arguments.

So who has used that one replaces it by a line of configuration, and takes its file along (``importing.py``).
"""

from __future__ import annotations

import json

from pydantic import Field

from agentmem import StoreEvent
from agentmem.mcp.access import Access
from agentmem.mcp.graph import ROOT, Entity, Graph, Relation, UnknownEntityError, Whole
from agentmem.mcp.resources import Resource
from agentmem.mcp.tools import Answer, Arguments, JSONObject, Tool, ToolError

KNOWLEDGE = "memory://knowledge-graph"


class GivenEntity(Arguments):
    name: str
    entityType: str
    observations: list[str]


class GivenRelation(Arguments):
    from_: str = Field(alias="from")
    to: str
    relationType: str


class GivenObservations(Arguments):
    entityName: str
    contents: list[str]


class GivenDeletions(Arguments):
    entityName: str
    observations: list[str]


class CreateEntities(Arguments):
    entities: list[GivenEntity]


class Relations(Arguments):
    relations: list[GivenRelation]


class AddObservations(Arguments):
    observations: list[GivenObservations]


class DeleteEntities(Arguments):
    entityNames: list[str]


class DeleteObservations(Arguments):
    deletions: list[GivenDeletions]


class Nothing(Arguments):
    pass


class SearchNodes(Arguments):
    query: str


class OpenNodes(Arguments):
    names: list[str]


def entity_data(one: Entity) -> JSONObject:
    """An entity as clients of the reference server know it."""
    return {"name": one.name, "entityType": one.type, "observations": one.observations}


def relation_data(one: Relation) -> JSONObject:
    """A relation as clients of the reference server know it."""
    return {"from": one.source, "to": one.target, "relationType": one.type}


def graph_data(whole: Whole) -> JSONObject:
    """Entities and relations as clients of the reference server know them."""
    return {
        "entities": [entity_data(one) for one in whole.entities],
        "relations": [relation_data(one) for one in whole.relations],
    }


def _answer(data: JSONObject) -> Answer:
    return Answer(_json(data), data)


def _json(data: JSONObject) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


async def _create_entities(access: Access, given: CreateEntities) -> Answer:
    entities = [Entity(one.name, one.entityType, list(dict.fromkeys(one.observations))) for one in given.entities]
    made = await Graph(access).create_entities(entities)
    return _answer({"entities": [entity_data(one) for one in made]})


def _relations(given: Relations) -> list[Relation]:
    return [Relation(one.from_, one.to, one.relationType) for one in given.relations]


async def _create_relations(access: Access, given: Relations) -> Answer:
    made = await Graph(access).create_relations(_relations(given))
    return _answer({"relations": [relation_data(one) for one in made]})


async def _add_observations(access: Access, given: AddObservations) -> Answer:
    graph, results = Graph(access), list[JSONObject]()
    for one in given.observations:
        try:
            added = await graph.add_observations(one.entityName, one.contents)
        except UnknownEntityError as exc:
            done = f" What comes before it was added: {_json({'results': results})}" if results else ""
            raise ToolError(f"There is no entity {one.entityName!r}; create_entities makes one.{done}") from exc
        results.append({"entityName": one.entityName, "addedObservations": added})
    return _answer({"results": results})


def _done(what: str) -> Answer:
    return Answer(f"{what} deleted.", {"success": True, "message": f"{what} deleted."})


async def _delete_entities(access: Access, given: DeleteEntities) -> Answer:
    await Graph(access).delete_entities(given.entityNames)
    return _done("Entities")


async def _delete_observations(access: Access, given: DeleteObservations) -> Answer:
    for one in given.deletions:
        await Graph(access).delete_observations(one.entityName, one.observations)
    return _done("Observations")


async def _delete_relations(access: Access, given: Relations) -> Answer:
    await Graph(access).delete_relations(_relations(given))
    return _done("Relations")


async def _read_graph(access: Access, given: Nothing) -> Answer:
    return _answer(graph_data(await Graph(access).read()))


async def _search_nodes(access: Access, given: SearchNodes) -> Answer:
    return _answer(graph_data((await Graph(access).read()).matching(given.query)))


async def _open_nodes(access: Access, given: OpenNodes) -> Answer:
    return _answer(graph_data((await Graph(access).read()).around(given.names)))


GRAPH = (
    Tool("create_entities", "Add entities to the knowledge graph; those whose name is there are left as they are.",
         CreateEntities, _create_entities, writes=True),
    Tool("create_relations", "Add relations between entities, in active voice.",
         Relations, _create_relations, writes=True),
    Tool("add_observations", "Add observations to entities that are there.",
         AddObservations, _add_observations, writes=True),
    Tool("delete_entities", "Delete entities with their observations and relations.",
         DeleteEntities, _delete_entities, writes=True, destroys=True),
    Tool("delete_observations", "Delete observations of entities.",
         DeleteObservations, _delete_observations, writes=True, destroys=True),
    Tool("delete_relations", "Delete relations.", Relations, _delete_relations, writes=True, destroys=True),
    Tool("read_graph", "The whole knowledge graph.", Nothing, _read_graph),
    Tool("search_nodes", "Entities with this text in name, type or observations, and their relations.",
         SearchNodes, _search_nodes),
    Tool("open_nodes", "Entities by their names, and their relations.", OpenNodes, _open_nodes),
)  # fmt: skip
"""In the order of the reference server."""


async def _whole(access: Access) -> str:
    return _json(graph_data(await Graph(access).read()))


def _is_graphs(access: Access, event: StoreEvent) -> bool:
    return event.namespace[: len(access.namespace) + 1] == (*access.namespace, ROOT)


GRAPH_RESOURCE = Resource(
    KNOWLEDGE, "knowledge-graph", "All entities and relations.", "application/json", _whole, _is_graphs
)
