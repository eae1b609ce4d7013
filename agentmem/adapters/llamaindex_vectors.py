# pyright: basic, reportMissingImports=false, reportUntypedBaseClass=false, reportGeneralTypeIssues=false
"""LlamaIndex: a vector store that keeps nodes whole, and the store's own model as LlamaIndex's embedding model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import Field, PrivateAttr
from typing_extensions import override

from agentmem import InvalidInputError, Settings
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import label_of
from agentmem.adapters.llamaindex_filters import narrowed
from agentmem.adapters.steps import Steps, arun, run
from agentmem.adapters.texts import embeddable, is_content

__all__ = ["AgentMemEmbedding", "AgentMemVectorStore"]

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import BaseNode, Document, ImageNode, IndexNode, MetadataMode, Node, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

_BATCH = 10_000
_FETCHED = 100
"""Nodes that maximal marginal relevance chooses among, at least."""
_CLASSES = {each.class_name(): each for each in (Node, TextNode, ImageNode, IndexNode, Document)}
_HYBRID = (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID)
_WORDS = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)


class AgentMemEmbedding(BaseEmbedding):
    """The model of an agentmem store, for LlamaIndex: its vectors are as long as those of the store.

    A text that shows nothing has a vector of zeros.
    """

    _client: Client = PrivateAttr()

    def __init__(self, memory: AnyMemory | Client = None, *, settings: Settings | None = None, **fields: Any) -> None:
        super().__init__(**{"model_name": "agentmem", **fields})
        self._client = memory if isinstance(memory, Client) else Client(memory, settings)

    @classmethod
    @override
    def class_name(cls) -> str:
        return "AgentMemEmbedding"

    @override
    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return run(self._client.memory, _embedded(texts, query=False))

    @override
    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await arun(self._client.memory, _embedded(texts, query=False))

    @override
    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    @override
    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    @override
    def _get_query_embedding(self, query: str) -> list[float]:
        return run(self._client.memory, _embedded([query], query=True))[0]

    @override
    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await arun(self._client.memory, _embedded([query], query=True)))[0]


class AgentMemVectorStore(BasePydanticVectorStore):
    """Nodes, by their ids, in a collection of a store; found by the cosine of their embeddings, and by their words.

    ``memory`` is an open client or a view of one, which stays yours to close, or the path of a store. Nodes belong to
    ``user_id``, a wall, and lie in the namespace ``("llamaindex", "nodes", collection)``, where no search of memories
    sees them: ids are the collection's own, and adding one again replaces the node.

    LlamaIndex embeds, so its model's vectors have to be as long as those of the store's: give it ``embed_model`` of
    this store, or open the agentmem store with the same model.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    collection: str = Field(default="default", description="What the nodes belong to; collections share nothing.")

    _client: Client = PrivateAttr()
    _place: dict[str, Any] = PrivateAttr()

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        user_id: str | None = None,
        collection: str = "default",
        settings: Settings | None = None,
    ) -> None:
        super().__init__(collection=collection)
        self._client = Client(memory, settings)
        self._place = {"user_id": user_id, "namespace": ("llamaindex", "nodes", label_of(collection))}

    @classmethod
    @override
    def class_name(cls) -> str:
        return "AgentMemVectorStore"

    @property
    @override
    def client(self) -> Any:
        """The ``Memory`` that the nodes are in."""
        return self._client.memory

    @property
    def embed_model(self) -> AgentMemEmbedding:
        """The store's own model, for ``VectorStoreIndex(embed_model=...)`` and the like."""
        return AgentMemEmbedding(self._client)

    def close(self) -> None:
        """Close a store that was opened here, until it is used again; a client that was handed in stays open."""
        self._client.close()

    @override
    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes, up to 10,000 in one transaction; one without an embedding is embedded by the store's model."""
        with _advice():
            return run(self._client.memory, _added(nodes, self._place))

    @override
    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        with _advice():
            return await arun(self._client.memory, _added(nodes, self._place))

    @override
    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that fit best, best first, with cosines; by words too, with scores of agentmem, where asked for."""
        with _advice():
            return run(self._client.memory, _found(query, kwargs, self._place))

    @override
    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        with _advice():
            return await arun(self._client.memory, _found(query, kwargs, self._place))

    @override
    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids that pass the filters, in the order of adding; all that pass without ids."""
        return run(self._client.memory, _listed(node_ids, filters, self._place))

    @override
    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        return await arun(self._client.memory, _listed(node_ids, filters, self._place))

    @override
    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        run(self._client.memory, _deleted({"$data.ref_doc_id": ref_doc_id}, self._place))

    @override
    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        await arun(self._client.memory, _deleted({"$data.ref_doc_id": ref_doc_id}, self._place))

    @override
    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes with these ids that pass the filters; all that pass without ids."""
        run(self._client.memory, _deleted(narrowed(filters, node_ids), self._place))

    @override
    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        await arun(self._client.memory, _deleted(narrowed(filters, node_ids), self._place))

    @override
    def clear(self) -> None:
        """Delete all nodes of the collection."""
        run(self._client.memory, _deleted(None, self._place))

    @override
    async def aclear(self) -> None:
        await arun(self._client.memory, _deleted(None, self._place))


@contextmanager
def _advice() -> Generator[None]:
    """Says what to do about vectors of another length than the store's."""
    try:
        yield
    except InvalidInputError as exc:
        if exc.field != "vector":
            raise
        raise InvalidInputError(
            f"{exc}; give LlamaIndex this store's embed_model, or open the agentmem store with LlamaIndex's model",
            field="vector",
            index=exc.index,
        ) from exc


# -- the calls of ``Memory`` -------------------------------------------------------------------------------------------


def _embedded(texts: Sequence[str], *, query: bool) -> Steps[list[list[float]]]:
    fit = [embeddable(text) for text in texts]
    vectors = yield "embed", {"texts": [text for text in fit if text] or ["-"], "query": query}
    made = iter(vectors)
    return [next(made) if text else [0.0] * len(vectors[0]) for text in fit]


def _added(nodes: Sequence[BaseNode], place: dict[str, Any]) -> Steps[list[str]]:
    items = list({node.node_id: _item(node) for node in nodes}.values())
    for start in range(0, len(items), _BATCH):
        yield "put_many", {"items": items[start : start + _BATCH], "layer": "assets", **place}
    return [node.node_id for node in nodes]


def _item(node: BaseNode) -> dict[str, Any]:
    """A node as an item of ``put_many``. Filters see the beginning of the data, so what they ask for stands there."""
    whole = {key: value for key, value in node.model_dump(mode="json").items() if key not in ("embedding", "metadata")}
    data = {
        "id": node.node_id,
        "ref_doc_id": node.ref_doc_id or "None",
        "type": node.class_name(),
        "metadata": node.model_dump(mode="json", include={"metadata"})["metadata"],
        "node": whole,
    }
    text = node.get_content(MetadataMode.NONE)
    item: dict[str, Any] = {"key": node.node_id, "data": data}
    if is_content(text):
        item["content"] = text
    if node.embedding is not None:
        return item | ({"vector": node.embedding} if any(node.embedding) else {"embed": False})
    fit = embeddable(text)
    return item if "content" in item else item | {"embed": [fit] if fit else False}


def _node(record: Any) -> BaseNode:
    data = record.data
    return _CLASSES.get(data["type"], TextNode).from_dict({**data["node"], "metadata": data["metadata"]})


def _found(query: VectorStoreQuery, more: dict[str, Any], place: dict[str, Any]) -> Steps[VectorStoreQueryResult]:
    # An index of LlamaIndex's asks for no ids in particular by an empty list.
    filters = narrowed(query.filters, query.node_ids or None, query.doc_ids or None)
    limit, vector, words = query.similarity_top_k, query.query_embedding, embeddable(query.query_str or "")
    if vector is not None and not any(vector):
        vector = None
    if query.mode in _HYBRID:
        how = {"query": words or None, "vector": vector}
        limit = query.hybrid_top_k or limit
    elif query.mode in _WORDS:
        how = {"query": words or None, "mode": "keyword"}
        limit = query.sparse_top_k or limit
    elif query.mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        how = {"vector": vector} if vector is not None else {"query": words or None}
        how["rank"] = "similarity"
    else:
        raise ValueError(f"Invalid query mode: {query.mode}")
    if limit <= 0 or not any(how.get(name) is not None for name in ("query", "vector")):
        return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
    if query.mode == VectorStoreQueryMode.MMR:
        return (yield from _diverse(query, more, {**how, "filters": filters, **place}))
    hits = yield "search", {**how, "filters": filters, "limit": min(limit, _BATCH), **place}
    return _result([(hit.record, float(hit.score)) for hit in hits])


def _diverse(query: VectorStoreQuery, more: dict[str, Any], how: dict[str, Any]) -> Steps[VectorStoreQueryResult]:
    """Maximal marginal relevance, as LlamaIndex computes it, among the nearest nodes."""
    limit = min(query.similarity_top_k, _BATCH)
    fetched = more.get("mmr_prefetch_k") or limit * int(more.get("mmr_prefetch_factor") or 4)
    hits = yield "search", {**how, "limit": min(max(limit, fetched, _FETCHED), _BATCH)}
    held = yield "vectors", {"ids": [hit.id for hit in hits]}
    # One that was deleted in between has none.
    known = {
        hit.id: (hit.record, vectors.vectors[0]) for hit, vectors in zip(hits, held, strict=True) if vectors is not None
    }
    if not known:
        return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
    threshold = more.get("mmr_threshold", query.mmr_threshold)
    target = query.query_embedding
    if target is None:
        [target] = yield "embed", {"texts": [how["query"]], "query": True}
    scores, ids = get_top_k_mmr_embeddings(
        target,
        [vector for _, vector in known.values()],
        similarity_top_k=limit,
        embedding_ids=list(known),
        mmr_threshold=threshold,
    )
    return _result([(known[id][0], float(score)) for id, score in zip(ids, scores, strict=True)])


def _result(found: Sequence[tuple[Any, float]]) -> VectorStoreQueryResult:
    nodes = [_node(record) for record, _ in found]
    return VectorStoreQueryResult(
        nodes=nodes, similarities=[score for _, score in found], ids=[node.node_id for node in nodes]
    )


def _listed(ids: list[str] | None, filters: MetadataFilters | None, place: dict[str, Any]) -> Steps[list[BaseNode]]:
    found, at = list[BaseNode](), dict[str, Any]()
    wanted = narrowed(filters, ids)
    while True:
        page = yield "page", {"filters": wanted, "order": "oldest", "limit": _BATCH, "touch": False, **place, **at}
        found += map(_node, page.records)
        if page.cursor is None:
            return found
        at = {"cursor": page.cursor}


def _deleted(filters: dict[str, Any] | None, place: dict[str, Any]) -> Steps[None]:
    yield "delete_all", {"filters": filters, **place}
