# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false
"""LangGraph's store, ``BaseStore``: what a graph remembers beyond one thread, as records by key in namespaces."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast

import anyio.to_thread
from typing_extensions import override

from agentmem import AsyncMemory, Delete, InvalidInputError, Memory, Put, Settings
from agentmem.adapters.embeddings import embedder_of
from agentmem.adapters.labels import escaped, names_of, unescaped
from agentmem.adapters.steps import Steps, arun, run
from agentmem.adapters.texts import embeddable
from agentmem.adapters.versions import require

require("langgraph-checkpoint", at_least="4.3.0", below="5", extra="langgraph")

from langgraph.store.base import (  # noqa: E402
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
    validate_op_namespace,
)

__all__ = ["AgentMemStore"]

_ATOMIC = 1_000
"""Changes of one transaction."""
_PAGE = 10_000
_NO_KEY = re.compile(r"[\x00-\x1f'\"\\]")

Listing: TypeAlias = Steps[list[Any]]


class AgentMemStore(BaseStore):
    """A store for ``graph.compile(store=...)``, durable and shared between processes, on an agentmem store.

    ``memory`` is an open ``Memory`` or ``AsyncMemory``, which stays yours to close, or the path of a store that is
    opened here, and closed by ``close``, ``aclose`` or ``with``. Items belong to ``user_id``, a wall that no namespace
    of LangGraph's crosses, and lie below ``namespace`` in the store, where no search of memories sees them.

    ``index`` switches on search by meaning, as LangGraph's ``IndexConfig``: ``fields`` are the paths whose texts are
    embedded, each as a vector of its own (default: the whole value), and ``embed`` the model, left out the store's own.
    Where ``memory`` is a client, that has its model, and ``embed`` is refused. ``ttl`` is LangGraph's ``TTLConfig``.

    Values are JSON of up to 16 MiB. Everything a call of ``batch`` changes, up to 1,000 items, is one transaction.
    Works from any thread and any event loop, from several at once.
    """

    supports_ttl = True

    def __init__(
        self,
        memory: Memory | AsyncMemory | str | os.PathLike[str] | None = None,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] = ("langgraph",),
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._root = names_of(namespace)
        if not self._root:
            raise InvalidInputError("namespace needs a name; items would lie among the memories", field="namespace")
        self.ttl_config = ttl
        self.index_config: Any = None if index is None else {**index}
        embed = None if index is None else index.get("embed")
        self.embeddings = None if embed is None else ensure_embeddings(embed)
        self._fields = [_tokens(path) for path in (self.index_config or {}).get("fields") or ["$"]]
        self._own: Memory | None = None
        if isinstance(memory, (Memory, AsyncMemory)):
            if embed is not None:
                raise InvalidInputError(
                    "index['embed'] is for a store that is opened here; the client has its model: leave embed out, or "
                    "give the path of a store of its own",
                    field="index",
                )
            if settings is not None:
                raise InvalidInputError("settings are for a store that is opened here; the client has its own")
            client = memory.blocking if isinstance(memory, AsyncMemory) else memory
        else:
            model = None if self.embeddings is None else embedder_of(self.embeddings, (index or {}).get("dims"))
            client = self._own = Memory(memory, embedder=model, settings=settings)
        self._memory = client.scoped(user_id=user_id, under=self._root)

    def close(self) -> None:
        """Close the store that was opened here; a client that was given stays open."""
        if self._own is not None:
            self._own.close()

    async def aclose(self) -> None:
        """The same, for event loops."""
        if self._own is not None:
            await anyio.to_thread.run_sync(self._own.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @override
    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Read what is asked for as it was before, then make all changes."""
        return run(self._memory, self._steps(list(ops)))

    @override
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same, for event loops."""
        return await arun(self._memory, self._steps(list(ops)))

    def _steps(self, ops: list[Op]) -> Steps[list[Result]]:
        """The calls of ``Memory`` that make up the operations; what each returns is sent back in."""
        for op in ops:
            validate_op_namespace(op)
        results: list[Result] = [None] * len(ops)
        puts: dict[tuple[tuple[str, ...], str], PutOp] = {}
        for at, op in enumerate(ops):
            if isinstance(op, GetOp):
                place = self._place(op.namespace)
                record = yield "get", {"key": str(op.key), "namespace": place, "touch": op.refresh_ttl}
                results[at] = None if record is None else Item(**self._fields_of(record))
            elif isinstance(op, SearchOp):
                results[at] = yield from self._search(op)
            elif isinstance(op, ListNamespacesOp):
                results[at] = yield from self._namespaces(op)
            elif isinstance(op, PutOp):
                puts[tuple(op.namespace), str(op.key)] = op
            else:
                raise ValueError(f"Unknown operation type: {type(op)}")
        changes = [self._change(namespace, key, op) for (namespace, key), op in puts.items()]
        for start in range(0, len(changes), _ATOMIC):
            yield "apply", {"changes": changes[start : start + _ATOMIC]}
        return results

    def _change(self, namespace: tuple[str, ...], key: str, op: PutOp) -> Put | Delete:
        place = self._place(namespace)
        if op.value is None:
            return Delete(key=key, namespace=place)
        if op.ttl is not None and not op.ttl > 0:
            raise InvalidInputError(f"ttl must be more than 0 minutes, or None, not {op.ttl}", field="ttl")
        ttl = None if op.ttl is None else 60 * op.ttl
        sliding = None if ttl is None else True
        value = dict(op.value)
        texts = self._texts(value, op.index)
        return Put(key, namespace=place, data=value, embed=texts, layer="assets", ttl=ttl, sliding=sliding)

    def _texts(self, value: dict[str, Any], index: Literal[False] | list[str] | None) -> list[str] | Literal[False]:
        """What the item is to be found by."""
        if self.index_config is None or index is False:
            return False
        texts: dict[str, None] = {}
        for path in self._fields if index is None else map(_tokens, index):
            try:
                found = get_text_at_path(value, path)
            except TypeError:  # no JSON, which the store says better
                return False
            for text in found:
                if fit := embeddable(text):
                    texts[fit] = None
        return list(texts) or False

    def _search(self, op: SearchOp) -> Listing:
        common = {
            "under": self._place(op.namespace_prefix),
            "filters": _filters(op.filter),
            "touch": op.refresh_ttl,
        }
        if op.limit <= 0:
            return []
        query = embeddable(op.query or "")
        if not query or self.index_config is None:
            records = yield from _listed(op.limit, op.offset, common)
            return [SearchItem(**self._fields_of(record)) for record in records]
        hits = yield "search", {**common, "query": query, "rank": "similarity", "limit": op.limit, "offset": op.offset}
        found = [SearchItem(**self._fields_of(hit.record), score=float(hit.score)) for hit in hits]
        if len(found) < op.limit:
            # As in LangGraph's own store, items that nothing was embedded of come after all others, without a score.
            of_all = common["filters"] or {}
            scored = op.offset + len(hits)
            if op.offset and not hits:
                filters = {**of_all, "$embedding": {"$ne": "none"}}
                scored = yield "count", {"under": common["under"], "filters": filters}
            rest = {**common, "filters": {**of_all, "$embedding": "none"}}
            records = yield from _listed(op.limit - len(found), max(0, op.offset - scored), rest)
            found += [SearchItem(**self._fields_of(record)) for record in records]
        return found

    def _namespaces(self, op: ListNamespacesOp) -> Listing:
        conditions = op.match_conditions or ()
        known = max((_literal(each) for each in conditions if each.match_type == "prefix"), key=len, default=())
        depth = None if op.max_depth is None else op.max_depth + len(self._root)
        under = self._place(known)
        if all(each.match_type == "prefix" and tuple(each.path) == known[: len(each.path)] for each in conditions):
            listed = yield from _all_namespaces(under, depth, op.limit, op.offset)
            return [self._named(each.namespace) for each in listed]
        listed = yield from _all_namespaces(under, None, None, 0)
        names = [self._named(each.namespace) for each in listed]
        found = sorted({name[: op.max_depth] for name in names if all(_matches(each, name) for each in conditions)})
        return found[op.offset : op.offset + op.limit]

    def _place(self, namespace: Sequence[str]) -> tuple[str, ...]:
        return (*self._root, *map(escaped, namespace))

    def _named(self, namespace: Sequence[str]) -> tuple[str, ...]:
        return tuple(map(unescaped, namespace[len(self._root) :]))

    def _fields_of(self, record: Any) -> dict[str, Any]:
        return {
            "namespace": self._named(record.namespace),
            "key": record.key,
            "value": record.data,
            "created_at": record.created_at,
            "updated_at": record.updated_at,
        }


def _listed(limit: int, offset: int, common: dict[str, Any]) -> Listing:
    """Records without a query, the last changed first."""
    found: list[Any] = []
    where: dict[str, Any] = {"offset": offset}
    while len(found) < limit:
        page = yield "page", {**common, **where, "by": "updated", "limit": min(limit - len(found), _PAGE)}
        found += page.records
        if page.cursor is None:
            break
        where = {"cursor": page.cursor}
    return found


def _all_namespaces(under: tuple[str, ...], depth: int | None, limit: int | None, offset: int) -> Listing:
    found: list[Any] = []
    while limit is None or len(found) < limit:
        most = _PAGE if limit is None else min(limit - len(found), _PAGE)
        place = {"under": under, "depth": depth, "limit": most, "offset": offset + len(found)}
        some = yield "namespaces", place
        found += some
        if len(some) < most:
            break
    return found


def _filters(wanted: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A filter on values as one on data: its operators are among those of agentmem's filters."""
    for key in wanted or ():
        if not isinstance(key, str) or _NO_KEY.search(key):
            raise InvalidInputError(
                f"Invalid filter key: {key!r}. A key is text without quotes, backslashes and control characters",
                field="filter",
            )
    return {f"$data.{key}": value for key, value in wanted.items()} if wanted else None


def _literal(condition: MatchCondition) -> tuple[str, ...]:
    path = cast("tuple[str, ...]", tuple(condition.path))
    return path[: path.index("*")] if "*" in path else path


def _matches(condition: MatchCondition, name: tuple[str, ...]) -> bool:
    path = tuple(condition.path)
    part = name[: len(path)] if condition.match_type == "prefix" else name[max(0, len(name) - len(path)) :]
    return len(part) == len(path) and all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True))


def _tokens(path: str) -> Any:
    return path if path == "$" else tokenize_path(path)
