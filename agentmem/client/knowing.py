"""``KnowledgeStore`` on a store, and ``Memory.consolidation``: from its arguments to what ``knowledge`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from agentmem import operations
from agentmem.client.border import Border
from agentmem.client.checks import check_id
from agentmem.client.drafts import draft
from agentmem.client.memory import client_on
from agentmem.client.options import AddOptions, SearchOptions
from agentmem.client.validity import with_sources
from agentmem.knowledge.consolidation import Consolidation
from agentmem.knowledge.endpoint import EndpointModel
from agentmem.knowledge.ledger import Caps, Prices
from agentmem.knowledge.ports import (
    Change,
    Discard,
    Document,
    Fact,
    KnowledgeStore,
    Learn,
    Message,
    Model,
    Noted,
    Proposed,
    Retire,
    Revive,
    Room,
    Span,
    StaleError,
    Write,
)
from agentmem.knowledge.running import Options
from agentmem.operations.apply import Changing, Deleting, Step, Storing, Target, Validating
from agentmem.stores.rows import Patch, Stored
from agentmem.types.changes import Evidence
from agentmem.types.clock import to_datetime, to_micros
from agentmem.types.enums import UNSET, Layer
from agentmem.types.errors import ConflictError, InvalidInputError, NotFoundError, ScopeError, shown
from agentmem.types.inputs import Draft, Scope, Source
from agentmem.types.ownrooms import KNOWLEDGE, LEARNED, PROPOSALS
from agentmem.types.records import MemoryRecord

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.settings import Consolidating

_ALWAYS_SHOWN = ("user", "assistant")
_QUERY = 2_000
_MANY = 10_000


def consolidation(border: Border, user_id: object, namespace: object, model: Model | str | None) -> Consolidation:
    """See ``Memory.consolidation``."""
    scope = border.place(user_id, None, None, namespace)
    if border.bound is not None and (border.bound.agent_id is not None or border.bound.run_id is not None):
        raise ScopeError(
            "consolidation is of a user, whoever the agent is; this view is bound to an agent or a run. Ask a view of "
            "the user"
        )
    chosen = border.handle.settings.consolidation
    options = options_of(chosen)
    user = None if scope.user_id is None else str(scope.user_id)
    desk = KnowledgeDesk(border.handle, user, scope.namespace or (), frozenset(options.roles))
    return Consolidation(desk, model_of(model, chosen), options)


def options_of(chosen: Consolidating) -> Options:
    """What the settings say of how a model is asked."""
    return Options(
        batch_messages=chosen.batch_messages,
        max_input_tokens=chosen.max_input_tokens,
        max_output_tokens=chosen.max_output_tokens,
        timeout=chosen.timeout_s,
        shown_facts=chosen.shown_facts,
        roles=frozenset(chosen.roles),
        max_tries=chosen.max_tries,
        breaker=chosen.breaker_failures,
        caps=Caps(
            chosen.max_run_tokens, chosen.max_user_day_tokens, chosen.max_day_tokens,
            chosen.max_run_money, chosen.max_user_day_money, chosen.max_day_money,
        ),
        prices=Prices(chosen.price_input, chosen.price_output),
    )  # fmt: skip


def model_of(model: object, chosen: Consolidating) -> Model | None:
    """A model, one by its name, or where None is given that of the settings."""
    if model is None:
        model = chosen.model
    if model is None:
        return None
    if isinstance(model, str):
        return EndpointModel(model, url=chosen.url, api_key=os.environ.get(chosen.api_key_env))
    if not callable(getattr(model, "complete", None)) or not isinstance(getattr(model, "name", None), str):
        raise InvalidInputError(
            f"model={shown(model)} is neither a name nor a Model, with name and complete()", field="model"
        )
    return cast("Model", model)


class KnowledgeDesk(KnowledgeStore):
    """One user's, or nobody's, in one namespace. Thread-safe."""

    def __init__(self, handle: Handle, user_id: str | None, namespace: tuple[str, ...], roles: frozenset[str]) -> None:
        self._handle = handle
        self._user = user_id
        self._namespace = namespace
        self._scope = Scope(user_id, namespace=namespace)
        self._proposals = Scope(user_id, namespace=(PROPOSALS, *namespace))
        self._roles = tuple(dict.fromkeys((*_ALWAYS_SHOWN, *sorted(roles))))
        self._border = Border(handle, Scope(user_id), ours=True)
        self._memory = client_on(self._border)

    @override
    def now(self) -> datetime:
        return to_datetime(self._handle.engine().now())

    @override
    def zone(self) -> tzinfo:
        return self._handle.zone()

    @override
    def identity(self) -> str:
        return operations.derived.identity(self._handle.engine())

    @override
    def messages(self, after: int, limit: int) -> list[Message]:
        engine = self._handle.engine()
        return list(map(_message, operations.derived.messages(engine, self._scope, self._roles, after, limit)))

    @override
    def waiting(self, after: int, most: int) -> int:
        return operations.derived.count(self._handle.engine(), self._scope, self._roles, after, most)

    @override
    def find(self, rows: Sequence[int]) -> list[Message]:
        return list(map(_message, operations.derived.find(self._handle.engine(), self._scope, rows)))

    @override
    def related(self, query: str, limit: int) -> list[Fact]:
        if not limit:
            return []
        hits = self._border.search(query[:_QUERY], self._asked(limit))
        return [_fact(hit.record) for hit in hits if hit.record.key is None]

    @override
    def facts(self, limit: int) -> list[Fact]:
        found, cursor = list[Fact](), None
        while len(found) < limit:
            page = self._memory.page(
                namespace=self._namespace, kinds=["fact"], limit=1_000, cursor=cursor, data=False, touch=False
            )
            found += [_fact(one) for one in page.records if one.retired_at is None and one.key is None]
            cursor = page.cursor
            if cursor is None:
                break
        return found[:limit]

    @override
    def alike(self, fact: Fact, limit: int) -> list[tuple[Fact, float]]:
        hits = self._border.search(fact.text[:_QUERY], replace(self._asked(limit + 1), rank="similarity"))
        others = [hit for hit in hits if hit.record.key is None and hit.id != fact.id]
        return [(_fact(hit.record), hit.similarity or 0.0) for hit in others[:limit]]

    def _asked(self, limit: int) -> SearchOptions:
        return SearchOptions(
            user_id=self._user, namespace=self._namespace, kinds=["fact"], limit=limit, data=False, touch=False
        )

    @override
    def unsaid(self) -> list[tuple[Fact, list[Span]]]:
        engine = self._handle.engine()
        found = [(_fact(engine.record(one)), one.id) for one in operations.derived.unsaid(engine, self._scope)]
        sources = operations.derived.origins(engine, self._scope, [id for _, id in found])
        return [
            (fact, [Span(one.id, one.first or 0, one.end or 0) for one in sources.get(id, ()) if one.id is not None])
            for fact, id in found
        ]

    @override
    def evidence(self, id: str) -> list[Evidence] | None:
        found = operations.derived.origins(self._handle.engine(), self._scope, [check_id(id)])
        if not found:
            return None
        return [Evidence(one.id or "", one.first, one.end, one.state) for each in found.values() for one in each]

    @override
    def read(self, key: str, room: Room = "here") -> Document:
        scope = self._room(room)
        engine = self._handle.engine()
        found = operations.keys.get(engine, key, scope, data=True, touch=False)
        return Document({}, 0) if found is None else Document(cast("dict[str, Any]", found.data), found.version)

    @override
    def proposals(self) -> list[Proposed]:
        found, cursor = list[MemoryRecord](), None
        while True:
            page = self._memory.page(
                namespace=self._proposals.namespace, order="oldest", limit=1_000, cursor=cursor, touch=False
            )
            found += page.records
            cursor = page.cursor
            if cursor is None:
                break
        origins = operations.derived.origins(self._handle.engine(), self._proposals, [one.id for one in found])
        return [
            Proposed(
                one.id,
                one.version,
                one.content,
                cast("dict[str, Any]", one.data),
                [
                    (Span(source.id, source.first or 0, source.end or 0), source.words)
                    for source in origins.get(one.id, ())
                    if source.id is not None and source.state != "deleted"
                ],
            )
            for one in found
        ]

    @override
    def noted(self, run: str) -> list[Noted]:
        found = list[Noted]()
        filters = {"$or": [{"learned_by": run}, {"retired_by": run}]}
        for archived in (False, True):
            cursor = None
            while True:
                page = self._memory.page(
                    namespace=self._namespace, filters=filters, limit=1_000, cursor=cursor, data=False, touch=False,
                    archived=archived,
                )  # fmt: skip
                found += [
                    Noted(one.id, one.version, one.metadata, one.retired_at is not None, one.superseded_by)
                    for one in page.records
                ]
                cursor = page.cursor
                if cursor is None:
                    break
        return found

    # -- changes -----------------------------------------------------------------------------------------------------

    @override
    def commit(self, changes: Sequence[Change]) -> None:
        steps, owners = list[Step](), list[int]()
        for position, change in enumerate(changes):
            try:
                made = self._steps(change)
            except InvalidInputError as exc:
                raise StaleError(str(exc), position, unfit=True) from exc
            steps += made
            owners += [position] * len(made)
        engine = self._handle.engine(to_commit=True)
        try:
            operations.apply.apply(engine, steps)
        except (ConflictError, NotFoundError) as exc:
            raise StaleError(str(exc), None if exc.index is None else owners[exc.index]) from exc

    def _steps(self, change: Change) -> list[Step]:
        match change:
            case Write():
                return [Storing(self._document(change), put=True)]
            case Learn():
                return [Storing(self._learned(change))]
            case Retire(id, version, by, valid_to, metadata):
                target = Target(self._scope, id=id)
                values = {} if valid_to is None else {"valid_to": to_micros(valid_to)}
                retiring = Validating(target, values, True, UNSET if by is None else by, version)
                return [retiring, self._marking(target, metadata)]
            case Revive(id, version, metadata):
                target = Target(self._scope, id=id)
                return [Validating(target, {}, False, UNSET, version), self._marking(target, metadata)]
            case Discard(id, version):
                return [Deleting(Target(self._proposals, id=id), version)]

    def _marking(self, target: Target, metadata: Mapping[str, Any]) -> Changing:
        limit = self._handle.settings.max_metadata_bytes
        return Changing(target, Patch({}, metadata_merge=dict(metadata), metadata_limit=limit))

    def _document(self, change: Write) -> Draft:
        scope = self._room(change.room)
        options = AddOptions(
            user_id=cast("Any", scope.user_id), namespace=scope.namespace, kind="bookkeeping", layer=Layer.ASSETS,
            embed=False, data=dict(change.data),
        )  # fmt: skip
        return draft({}, options, self._handle.settings).put_by(change.key, change.version)

    def _room(self, room: Room) -> Scope:
        """Where bookkeeping is."""
        match room:
            case "here":
                return replace(self._scope, namespace=self._own)
            case "user":
                return replace(self._scope, namespace=(KNOWLEDGE, "user"))
            case "store":
                return Scope(None, namespace=(KNOWLEDGE,))

    @property
    def _own(self) -> tuple[str, ...]:
        return (*LEARNED, *self._namespace)

    def _learned(self, change: Learn) -> Draft:
        where = self._scope if change.proposal is None else self._proposals
        options = AddOptions(
            user_id=self._user, namespace=where.namespace, kind="fact" if change.proposal is None else "proposal",
            layer=Layer.ASSETS, metadata=change.metadata or None, occurred_at=change.at, id=change.id,
            embed=None if change.proposal is None else False, data=change.proposal,
            valid_from=change.valid_from, valid_to=change.valid_to, dedupe=False,
        )  # fmt: skip
        made = draft({"content": change.text} if change.text else {}, options, self._handle.settings)
        sources = [
            Source(one.id, one.first, one.end, one.words, expired=True) if one.end else Source(one.id, expired=True)
            for one in change.sources
        ]
        return with_sources(made, tuple(dict.fromkeys(sources)))


def _message(stored: Stored) -> Message:
    at = stored.created_at if stored.occurred_at is None else stored.occurred_at
    return Message(stored.row, stored.id, str(stored.role), stored.content, to_datetime(at))


def _fact(record: MemoryRecord) -> Fact:
    subject = record.metadata.get("subject")
    return Fact(
        record.id,
        record.content,
        subject if isinstance(subject, str) and subject else "user",
        record.version,
        record.valid_from,
        record.valid_to,
        record.occurred_at or record.created_at,
    )
