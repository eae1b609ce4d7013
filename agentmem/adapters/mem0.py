"""``Memory`` and ``AsyncMemory`` as mem0 has them, on an agentmem store; mem0 itself need not be installed.

A memory's content is its text and its data what mem0 calls the payload: metadata, ids, role, hash, times, one beside
the other, as mem0's filters see them. They lie in a namespace of their own: nothing else in the store finds them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import anyio.to_thread

from agentmem import ALL, ConflictError, InvalidInputError, MemoryRecord, NotFoundError, ScopeError, Settings
from agentmem.adapters.clients import AnyMemory, Client
from agentmem.adapters.labels import names_of
from agentmem.adapters.mem0_facts import SAID, draw, follow_back
from agentmem.adapters.mem0_values import (
    IDS,
    Payload,
    check,
    day,
    expiry_of,
    history_of,
    messages_of,
    missing,
    own,
    payload_of,
    scope_id,
    shown,
    where,
)
from agentmem.adapters.texts import embeddable, fitting

__all__ = ["AsyncMemory", "Memory"]

NAMESPACE = ("mem0",)
"""Where memories are kept unless another namespace is given."""
_ATTEMPTS = 20
_UNSET: Any = object()


class Memory:
    """mem0's ``Memory``: the same calls, arguments and results.

    ``memory`` is an open client of agentmem or a view of one, which stays yours to close, or the path of a store. Where
    it is a view of a user, everything here is that user's. As with mem0, an id alone (``get``, ``update``, ``delete``)
    reaches every memory of the client, and ``filters`` without a ``user_id`` mean everybody's.

    Results are ordered by the plain cosine, mem0's score, or with ``rank="score"`` by meaning and words, as agentmem's
    own searches are. ``infer=True`` draws facts from messages, by ``model`` (one of agentmem's consolidation, or its
    name) or that of the settings; where there is none, and for no user, it stores them as they are, with one warning.
    """

    def __init__(
        self,
        memory: AnyMemory = None,
        *,
        namespace: Sequence[str] = NAMESPACE,
        settings: Settings | None = None,
        rank: str = "similarity",
        model: Any = None,
    ) -> None:
        if rank not in ("similarity", "score"):
            raise InvalidInputError(f"rank={rank!r} is not one of similarity, score", field="rank")
        self._client = Client(memory, settings)
        self._namespace = names_of(namespace)
        self._rank: Any = rank
        self._model = model
        self._warned = False

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> Any:
        """One with ``path``, ``namespace``, ``settings``, ``rank``, ``model`` from a dict; the rest is refused."""
        known = {"path", "namespace", "settings", "rank", "model"}
        if unknown := sorted(set(config_dict) - known):
            raise InvalidInputError(
                f"config has {', '.join(unknown)}; agentmem has storage, model and history of its own, and takes "
                f"{', '.join(sorted(known))}",
                field="config_dict",
            )
        rest = dict(config_dict)
        return cls(rest.pop("path", None), **rest)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close a store that was opened here; a client that was handed in stays open."""
        self._client.close()

    def add(
        self,
        messages: Any,
        *,
        user_id: Any = None,
        agent_id: Any = None,
        run_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        expiration_date: Any = None,
        infer: bool = True,
        memory_type: str | None = None,
        prompt: str | None = None,
    ) -> dict[str, Any]:
        """Store a text, a message or a list of them, each as a memory, all of them or none; or what they say."""
        if timestamp is not None or memory_type is not None or prompt is not None:
            raise InvalidInputError(
                "timestamp, memory_type and prompt need what this Memory does not have; leave them out"
            )
        ids = {name: scope_id(value, name) for name, value in zip(IDS, (user_id, agent_id, run_id), strict=True)}
        ids: dict[str, Any] = {name: value for name, value in ids.items() if value is not None}
        if not ids:
            raise InvalidInputError("At least one of 'user_id', 'agent_id', or 'run_id' must be provided.")
        common = own(metadata) | ids
        if expiration_date is not None:
            common["expiration_date"] = day(expiration_date)
        user, said = ids.get("user_id"), messages_of(messages)
        if infer and user and self._client.memory.consolidation(user_id=user, model=self._model).model:
            return {"results": draw(self._client.memory, self._model, self._namespace, user, common, said)}
        payloads = [payload_of(common | about, text) for about, text in said]
        if infer and not self._warned:
            self._warned = True
            warnings.warn(
                "infer=True stores the messages as they are where no user or no model of a consolidation is named; say "
                "infer=False, or see docs/adapters/mem0.md",
                UserWarning,
                stacklevel=2,
            )
        items = [
            {
                "content": fitting(payload["data"]),
                "role": payload["role"],
                "data": payload,
                "metadata": expiry_of(payload),
            }
            for payload in payloads
        ]
        made = self._client.memory.add_many(items, layer="assets", dedupe=False, namespace=self._namespace, **ids)
        results = [
            {"id": one.id, "memory": payload["data"], "event": "ADD", "actor_id": payload.get("actor_id"),
             "role": payload["role"]}
            for one, payload in zip(made, payloads, strict=True)
        ]  # fmt: skip
        return {"results": results}

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """The memory with this id, or None."""
        record = self._find(memory_id)
        return None if record is None else shown(record) | {"score": None}

    def get_all(
        self, *, filters: Mapping[str, Any] | None = None, top_k: int = 20, show_expired: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """``top_k`` memories of the ids in ``filters``, the first that was added first."""
        check(kwargs, "get_all", top_k)
        place = where(filters, show_expired)
        if not top_k:
            return {"results": []}
        page = self._anywhere(self._client.memory.page, place, order="oldest", limit=top_k, touch=False)
        return {"results": [shown(record) for record in page.records]}

    def search(
        self,
        query: str,
        *,
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = 0.1,
        rerank: bool = False,
        explain: bool = False,
        reference_date: Any = None,
        show_expired: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The ``top_k`` memories nearest to a text, among those of the ids in ``filters``, with scores of 0 to 1."""
        if reference_date is not None:
            raise InvalidInputError("reference_date is not supported; say the day in the query, which is understood")
        check(kwargs, "search", top_k, threshold)
        if not isinstance(query, str) or not query.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError("Invalid query: cannot be empty or whitespace-only.", field="query")
        place, asked = where(filters, show_expired), embeddable(query)
        if not top_k or not asked:
            return {"results": []}
        least = 0.1 if threshold is None else threshold
        hits = self._anywhere(
            partial(self._client.memory.search, asked),
            place,
            rank=self._rank,
            min_similarity=least,
            limit=top_k,
        )
        results = [shown(hit.record) | {"score": hit.score} for hit in hits]
        if explain:
            for result, hit in zip(results, hits, strict=True):
                result["score_details"] = {
                    "semantic_score": hit.similarity, "bm25_score": 0.0, "entity_boost": 0.0, "raw_score": hit.score,
                    "max_possible_score": 1.0, "final_score": hit.score, "threshold": least,
                }  # fmt: skip
        return {"results": results}

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: Any = _UNSET,
        data: str | None = None,
    ) -> dict[str, str]:
        """Change the text of a memory, values of its metadata, or when it expires (None: never)."""
        text = data if text is None else text
        if text is None and metadata is None and expiration_date is _UNSET:
            raise InvalidInputError("At least one of text, metadata, or expiration_date must be provided.")
        changed = own(metadata)
        if expiration_date is not _UNSET:
            changed["expiration_date"] = None if expiration_date is None else day(expiration_date)
        for _ in range(_ATTEMPTS):
            record = self._must_find(memory_id)
            held: Payload = record.data
            payload = payload_of(
                {**held, **changed, "created_at": held["created_at"]}, held["data"] if text is None else text
            )
            try:
                self._client.memory.update(
                    record.id, content=fitting(payload["data"]), data=payload, metadata=expiry_of(payload), merge=False,
                    if_version=record.version,
                )  # fmt: skip
                if text is not None:
                    follow_back(self._client.memory, self._namespace, record, fitting(text) or "")
            except ConflictError:  # somebody else changed it meanwhile: once more, of what it is now
                continue
            return {"message": "Memory updated successfully!"}
        raise ConflictError(f"others keep changing the memory {memory_id} at the same time; try again later")

    def delete(self, memory_id: str) -> dict[str, str]:
        """Delete a memory; ``ValueError`` if there is none with this id."""
        record = self._must_find(memory_id)
        if not self._client.memory.delete(record.id):
            raise missing(memory_id)
        follow_back(self._client.memory, self._namespace, record, None)
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, user_id: Any = None, agent_id: Any = None, run_id: Any = None) -> dict[str, str]:
        """Delete all memories that have these ids."""
        given = {name: value for name, value in zip(IDS, (user_id, agent_id, run_id), strict=True) if value is not None}
        if not given:
            raise InvalidInputError(
                "At least one filter is required to delete all memories. If you want to delete all memories, use the "
                "`reset()` method."
            )
        scope, _ = where({name: scope_id(value, name) for name, value in given.items()}, show_expired=True)
        self._delete_all(scope)
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """What happened to a memory, the first first; none where there is no such memory."""
        record = self._find(memory_id, deleted=True)
        try:
            events = [] if record is None else self._client.memory.history(record.id)
        except NotFoundError:
            return []
        return [] if record is None else history_of(record, events)

    def reset(self) -> None:
        """Delete everybody's memories, in this namespace."""
        self._delete_all({"user_id": ALL})

    def _delete_all(self, scope: Payload) -> None:
        """Memories, and what they were drawn from."""
        for namespace in (self._namespace, (*self._namespace, SAID)):
            self._anywhere(self._client.memory.delete_all, (scope, None), namespace=namespace)

    def _find(self, id: str, *, deleted: bool = False) -> MemoryRecord | None:
        try:
            record = self._client.memory.get(id, deleted=deleted, touch=False)
        except InvalidInputError:  # no id of any record
            return None
        return record if record is not None and record.namespace == self._namespace else None

    def _must_find(self, id: str) -> Any:
        record = self._find(id)
        if record is None:
            raise missing(id)
        return record

    def _anywhere(self, call: Callable[..., Any], place: tuple[Payload, Payload | None], **arguments: Any) -> Any:
        """A call on the memories that filters mean; everybody's are a user's own where the client is a view of one."""
        scope, filters = place
        arguments = {"namespace": self._namespace, "filters": filters, **arguments}
        try:
            return call(**scope, **arguments)
        except ScopeError:
            if scope.get("user_id") is not ALL:
                raise
            return call(**scope | {"user_id": None}, **arguments)


def _awaited(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def awaited(self: AsyncMemory, *args: Any, **arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(partial(call, self.blocking, *args, **arguments))

    return awaited


class AsyncMemory:
    """mem0's ``AsyncMemory``: ``Memory`` for event loops, each call on a thread; one serves any loops."""

    def __init__(self, memory: AnyMemory = None, **options: Any) -> None:
        self.blocking = Memory(memory, **options)

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> Any:
        """See ``Memory.from_config``."""
        made = cls.__new__(cls)
        made.blocking = Memory.from_config(config_dict)
        return made

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See ``Memory.close``."""
        self.blocking.close()

    add = _awaited(Memory.add)
    get = _awaited(Memory.get)
    get_all = _awaited(Memory.get_all)
    search = _awaited(Memory.search)
    update = _awaited(Memory.update)
    delete = _awaited(Memory.delete)
    delete_all = _awaited(Memory.delete_all)
    history = _awaited(Memory.history)
    reset = _awaited(Memory.reset)
