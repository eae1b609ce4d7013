# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false
"""LangChain: a ``VectorStore`` for documents, and a ``Retriever`` of a user's memories."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from typing_extensions import override

from agentmem import AsyncMemory, Delete, InvalidInputError, Memory, Settings
from agentmem.adapters.embeddings import embedder_of
from agentmem.adapters.steps import Steps, arun, run
from agentmem.adapters.texts import embeddable, is_content
from agentmem.adapters.versions import require

require("langchain-core", at_least="1.0.0", below="2", extra="langchain")

from langchain_core.callbacks import (  # noqa: E402
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402
from langchain_core.vectorstores import VectorStore  # noqa: E402

__all__ = ["AgentMemRetriever", "AgentMemVectorStore"]

_ATOMIC = 1_000
"""Documents of one transaction."""


class AgentMemVectorStore(VectorStore):
    """Documents, by their ids, in a collection of a store; found by the cosine of their embeddings.

    ``memory`` is an open ``Memory`` or ``AsyncMemory``, which stays yours to close, or the path of a store that is
    opened here, and closed by ``close`` or ``with``. ``embedding`` is the model of a store that is opened here; left
    out, the one that agentmem brings. A client has its model, and ``embedding`` is refused. Documents belong to
    ``user_id`` and lie in the namespace ``("langchain", collection)``, where no search of memories sees them: ids are
    the collection's own.

    Adding an id again replaces the document. 1,000 documents at a time are added in one transaction. ``filter`` in
    searches is a filter of agentmem's on the document's metadata.
    """

    def __init__(
        self,
        memory: Memory | AsyncMemory | str | os.PathLike[str] | None = None,
        *,
        embedding: Embeddings | None = None,
        collection: str = "documents",
        user_id: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if isinstance(memory, Embeddings):
            raise InvalidInputError(
                "the first argument is the store, a client or a path; write embedding=... for the model", field="memory"
            )
        self._embedding = embedding
        self._own: Memory | None = None
        if isinstance(memory, (Memory, AsyncMemory)):
            if embedding is not None or settings is not None:
                raise InvalidInputError(
                    "embedding and settings are for a store that is opened here; the client has its own: leave them "
                    "out, or give the path of a store of its own",
                    field="embedding",
                )
            client = memory.blocking if isinstance(memory, AsyncMemory) else memory
        else:
            model = None if embedding is None else embedder_of(embedding)
            client = self._own = Memory(memory, embedder=model, settings=settings)
        self._memory = client.scoped(user_id=user_id, namespace=("langchain", collection))

    def close(self) -> None:
        """Close the store that was opened here; a client that was given stays open."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    @override
    def embeddings(self) -> Embeddings | None:
        return self._embedding

    @classmethod
    @override
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts; further arguments are those of the class."""
        store = cls(embedding=embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @override
    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return run(self._memory, _added(list(texts), metadatas, ids))

    @override
    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return await arun(self._memory, _added(list(texts), metadatas, ids))

    @override
    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents, all of the collection without ids. What is not there is no error."""
        return run(self._memory, _deleted(ids))

    @override
    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        return await arun(self._memory, _deleted(ids))

    @override
    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return run(self._memory, _by_ids(ids))

    @override
    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return await arun(self._memory, _by_ids(ids))

    @override
    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Documents with their cosine, in [-1, 1], the nearest first."""
        return run(self._memory, _scored(k, filter, query=query))

    @override
    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await arun(self._memory, _scored(k, filter, query=query))

    @override
    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    @override
    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    @override
    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[Document]:
        return [document for document, _ in run(self._memory, _scored(k, filter, vector=embedding))]

    @override
    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[Document]:
        return [document for document, _ in await arun(self._memory, _scored(k, filter, vector=embedding))]

    @override
    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return run(self._memory, _diverse(k, fetch_k, lambda_mult, kwargs.get("filter"), query=query))

    @override
    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return await arun(self._memory, _diverse(k, fetch_k, lambda_mult, kwargs.get("filter"), query=query))

    @override
    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return run(self._memory, _diverse(k, fetch_k, lambda_mult, kwargs.get("filter"), vector=embedding))

    @override
    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return await arun(self._memory, _diverse(k, fetch_k, lambda_mult, kwargs.get("filter"), vector=embedding))

    @override
    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: max(0.0, cosine)


class AgentMemRetriever(BaseRetriever):
    """A user's memories that answer a question best, by meaning and words, as documents.

    ``memory`` is an open ``Memory`` or ``AsyncMemory``; ``search_kwargs`` are further arguments of its ``search``, such
    as ``filters`` or ``run_id``. ``k`` is how many there are at most, also in ``invoke(question, k=...)``. A document
    has the memory's metadata, and under ``"agentmem"`` what else is known of it.
    """

    memory: Any
    user_id: str | None = None
    k: int = 4
    search_kwargs: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return run(self._client(), self._found(query, k))

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await arun(self._client(), self._found(query, k))

    def _client(self) -> Memory:
        if isinstance(self.memory, AsyncMemory):
            return self.memory.blocking
        if not isinstance(self.memory, Memory):
            raise InvalidInputError(
                f"memory must be a Memory or an AsyncMemory, not {type(self.memory).__name__}", field="memory"
            )
        return self.memory

    def _found(self, query: str, k: int | None) -> Steps[list[Document]]:
        asked = embeddable(query) if isinstance(query, str) else query  # what is no text is refused by the search
        if asked == "":
            return []
        arguments = {"query": asked, "user_id": self.user_id, "limit": self.k if k is None else k, **self.search_kwargs}
        hits = yield "search", arguments
        return [_of_memory(hit) for hit in hits]


def _of_memory(hit: Any) -> Document:
    record = hit.record
    about = {
        "score": hit.score,
        "similarity": hit.similarity,
        "kind": record.kind,
        "role": record.role,
        "created_at": record.created_at.isoformat(),
        "occurred_at": None if record.occurred_at is None else record.occurred_at.isoformat(),
    }
    return Document(page_content=hit.content, id=hit.id, metadata={**record.metadata, "agentmem": about})


def _added(
    texts: list[str], metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str | None] | None
) -> Steps[list[str]]:
    for name, given in (("metadatas", metadatas), ("ids", ids)):
        if given is not None and len(given) != len(texts):
            raise InvalidInputError(f"there are {len(texts):,} texts and {len(given):,} {name}", field=name)
    keys = [given or str(uuid4()) for given in ids or [None] * len(texts)]
    items = dict(zip(keys, map(_item, keys, texts, metadatas or [{}] * len(texts)), strict=True))
    batch = list(items.values())
    for start in range(0, len(batch), _ATOMIC):
        yield "put_many", {"items": batch[start : start + _ATOMIC]}
    return keys


def _item(key: str, text: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    item: dict[str, Any] = {"key": key, "layer": "assets", "data": {"metadata": dict(metadata or {})}}
    if is_content(text):
        return {**item, "content": text}
    fit = embeddable(text)
    return {**item, "data": {**item["data"], "page_content": text}, "embed": [fit] if fit else False}


def _document(record: Any) -> Document:
    text = record.data.get("page_content", record.content)
    return Document(page_content=text, metadata=record.data["metadata"], id=record.key)


def _deleted(ids: Sequence[str] | None) -> Steps[bool]:
    if ids is None:
        yield "delete_all", {}
        return True
    for start in range(0, len(ids), _ATOMIC):
        yield "apply", {"changes": [Delete(key=id) for id in ids[start : start + _ATOMIC]]}
    return True


def _by_ids(ids: Sequence[str]) -> Steps[list[Document]]:
    found: list[Document] = []
    for id in ids:
        record = yield "get", {"key": id, "touch": False}
        if record is not None:
            found.append(_document(record))
    return found


def _hits(k: int, filter: Mapping[str, Any] | None, query: str | None, vector: Any) -> Steps[list[Any]]:
    wanted = None if query is None else embeddable(query)
    if k < 1 or wanted == "":
        return []
    filters = _filters(filter) if filter else None
    return (yield "search", {"query": wanted, "vector": vector, "limit": k, "filters": filters, "rank": "similarity"})


def _scored(
    k: int, filter: Mapping[str, Any] | None, *, query: str | None = None, vector: Any = None
) -> Steps[list[tuple[Document, float]]]:
    hits = yield from _hits(k, filter, query, vector)
    return [(_document(hit.record), hit.score) for hit in hits]


def _diverse(
    k: int,
    fetch_k: int,
    share: float,
    filter: Mapping[str, Any] | None,
    *,
    query: str | None = None,
    vector: Any = None,
) -> Steps[list[Document]]:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998) among the nearest ``fetch_k``."""
    hits = yield from _hits(max(k, fetch_k) if k > 0 else 0, filter, query, vector)
    if not hits:
        return []
    held = yield "vectors", {"ids": [hit.id for hit in hits]}
    # One that was deleted in between has none.
    known = [(hit, vectors.vectors[0]) for hit, vectors in zip(hits, held, strict=True) if vectors is not None]
    chosen: list[int] = []
    while len(chosen) < min(k, len(known)):
        near = [max((float(of @ known[at][1]) for at in chosen), default=0.0) for _, of in known]
        marginal = [share * hit.score - (1 - share) * near[at] for at, (hit, _) in enumerate(known)]
        chosen.append(max((at for at in range(len(known)) if at not in chosen), key=marginal.__getitem__))
    return [_document(known[at][0].record) for at in chosen]


def _filters(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A filter on metadata as one on the data that it lies in."""
    if not isinstance(wanted, Mapping):
        raise InvalidInputError(
            f"filter must be a mapping, such as {{'year': 2026}}, not {type(wanted).__name__}", field="filter"
        )
    made: dict[str, Any] = {}
    for key, operand in wanted.items():
        if key in ("$and", "$or"):
            made[key] = [_filters(part) for part in operand]
        elif key == "$not":
            made[key] = _filters(operand)
        else:
            made[key if key.startswith("$") else f"$data.metadata.{key}"] = operand
    return made
