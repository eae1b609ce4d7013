"""``AgentStore`` on a store: what sessions, blocks and prompts of one user, in one namespace, read and write."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from typing_extensions import override

from agentmem import operations
from agentmem.agent.ports import AgentStore, Pending, SessionPlace, Writer
from agentmem.agent.turns import Turn
from agentmem.client.applying import steps
from agentmem.client.border import Border
from agentmem.client.drafts import draft
from agentmem.client.memory import Memory, client_on
from agentmem.client.messages import as_message, of_object
from agentmem.client.options import AddOptions, SearchOptions
from agentmem.client.tail import Tail
from agentmem.retrieval.choosing import by_worth
from agentmem.types.changes import Applied, Delete, Operation
from agentmem.types.clock import to_datetime
from agentmem.types.enums import Layer
from agentmem.types.errors import InvalidInputError
from agentmem.types.inputs import Draft, Item, Scope
from agentmem.types.records import HistoryEvent, MemoryRecord, SearchHit
from agentmem.types.sessionkeys import SESSIONS

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.engine.engine import Engine
    from agentmem.operations.turns import Turn as Row

_UNFIT = re.compile(r"[\x00\ud800-\udfff]")
_LONGEST = 65_536
"""Characters of a message that are searched, where it is too long for a content."""
_KEPT = 16 * 1_048_576
"""Bytes of turns of a store that are kept in memory, those of the sessions that were read last."""


class Desk(AgentStore):
    """One user's, or nobody's, in one namespace. Thread-safe; holds nothing but the turns that were read last."""

    def __init__(
        self, handle: Handle, user_id: str | None, namespace: tuple[str, ...], bound: Scope | None = None
    ) -> None:
        """``bound`` is what the view is bound to that this is made of: nothing beyond it is recalled."""
        self._handle = handle
        self._user = user_id
        self._namespace = namespace
        self._wall = Scope(user_id) if bound is None else replace(bound, user_id=user_id, run_id=None)
        self._memory: Memory = client_on(Border(handle, Scope(user_id), ours=True))
        self._made: tuple[SessionPlace, Draft] | None = None

    @override
    def now(self) -> datetime:
        return to_datetime(self._handle.engine().now())

    @override
    def zone(self) -> tzinfo:
        return self._handle.zone()

    @override
    def place(self, room: str) -> Mapping[str, Any]:
        return {"namespace": (room, *self._namespace)}

    @override
    def get(self, room: str, key: str) -> MemoryRecord | None:
        return self._memory.get(key=key, touch=False, **self.place(room))

    @override
    def list(
        self, room: str, *, agent_id: str | None, run_id: str | None, limit: int, offset: int
    ) -> list[MemoryRecord]:
        return self._memory.page(
            agent_id=agent_id, run_id=run_id, limit=limit, offset=offset, touch=False, **self.place(room)
        ).records

    @override
    def apply(self, changes: Sequence[Operation], room: str | None = None) -> list[Applied]:
        if room is None:
            return self._memory.apply(changes)
        bound = Scope(self._user, namespace=(room, *self._namespace))
        return client_on(Border(self._handle, bound, ours=True)).apply(changes)

    @override
    def history(self, id: str) -> list[HistoryEvent]:
        return self._memory.history(id)

    @override
    def restore(self, id: str, version: int) -> MemoryRecord:
        return self._memory.restore(id, version=version)

    # -- turns -------------------------------------------------------------------------------------------------------

    @override
    def append(
        self, session: SessionPlace, messages: Sequence[Item], *, only_new: bool, here: bool = True
    ) -> Pending[list[Turn]]:
        engine = self._handle.engine(to_commit=True)
        drafts = self._drafts(session, messages)
        opening = self._opening(session)
        future = operations.turns.append(engine, opening, drafts, only_new=only_new, here=here)
        return Pending(future, partial(self._appended, drafts))

    def _appended(self, drafts: Sequence[Draft], done: operations.turns.Appended) -> list[Turn]:
        return [
            Turn(
                stored.id,
                str(stored.role),
                stored.content,
                to_datetime(stored.created_at if stored.occurred_at is None else stored.occurred_at),
                draft.scope.agent_id,
                one.data if one.data is not None or stored.body is None else draft.data,
                stored.row,
            )
            for draft, one in zip(drafts, done.created, strict=True)
            for stored in (one.stored,)
        ]

    @override
    def turns(self, session: SessionPlace, limit: int, before: str | None) -> list[Turn]:
        engine = self._handle.engine()
        scope, key = self._scope(session), (session.key, self._room())
        if operations.turns.is_over(engine, key):
            return []
        if before is not None:
            row = operations.turns.row_of(engine, scope, before)
            return [] if row is None else self._public(operations.turns.newest(engine, scope, limit, before=row))
        return _TAILS.setdefault(engine, Tails()).of(scope).read(engine, scope, limit, self._public)

    @override
    def find(self, session: SessionPlace, ids: Sequence[str]) -> list[Turn]:
        engine = self._handle.engine()
        return self._public(operations.turns.find(engine, self._scope(session), ids))

    @override
    def count(self, session: SessionPlace) -> int:
        engine = self._handle.engine()
        if operations.turns.is_over(engine, (session.key, self._room())):
            return 0
        return operations.turns.count(engine, self._scope(session))

    @override
    def last_at(self, session: SessionPlace) -> datetime | None:
        at = operations.turns.last_at(self._handle.engine(), self._scope(session))
        return None if at is None else to_datetime(at)

    @override
    def take(self, session: SessionPlace, n: int, *, exchange: bool) -> Pending[list[Turn]]:
        taking, record = operations.turns.Taking(n, exchange), (session.key, self._room())
        return Pending(operations.turns.take(self._handle.engine(), record, self._scope(session), taking), self._taken)

    @override
    def clear(self, session: SessionPlace, ending: Sequence[Delete] | None = None) -> int:
        engine, record = self._handle.engine(), (session.key, self._room())
        made = None if ending is None else steps(Border(self._handle, Scope(self._user), ours=True), engine, ending)
        return operations.turns.clear(engine, record, self._scope(session), made)

    @override
    def writer(self, model: object) -> Writer:
        from agentmem.client.summarizing import writer  # only where a model is asked

        return writer(self._handle, self._user, self._namespace, model)

    @override
    def recall(
        self, query: str, choose: Callable[[Sequence[SearchHit]], list[int]], limit: int, options: Mapping[str, Any]
    ) -> None:
        where: dict[str, Any] = {"user_id": self._user, "limit": limit, "data": False}
        if self._namespace:
            where["namespace"] = self._namespace
        asked, weighed = SearchOptions(**{**where, **options}), self._handle.settings.retrieval.weigh_questions

        def chosen(hits: Sequence[SearchHit], _: object) -> list[int]:
            order = by_worth(query, hits, mode=asked.mode, rank=asked.rank, weigh_questions=weighed)
            return [order[at] for at in choose([hits[at] for at in order])]

        Border(self._handle, self._wall).search(query, asked, choose=chosen)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _room(self) -> Scope:
        return Scope(self._user, namespace=(SESSIONS, *self._namespace))

    def _scope(self, session: SessionPlace) -> Scope:
        return Scope(self._user, session.agent_id, session.run_id, self._namespace)

    def _opening(self, session: SessionPlace) -> Draft:
        """The record of a session that an append begins; the one that was made last is kept."""
        if self._made is not None and self._made[0] is session:
            return self._made[1]
        options = AddOptions(
            user_id=self._user, agent_id=session.agent_id, run_id=session.run_id, kind="session", layer=Layer.ASSETS,
            metadata=dict(session.said), embed=False, data={"run_id": session.run_id},
            namespace=(SESSIONS, *self._namespace),
        )  # fmt: skip
        made = draft({}, options, self._handle.settings)
        span = None if session.ttl is None else operations.turns.span_of(session.ttl)
        opening = replace(made, key=session.key, dedupe=False, ttl=span, sliding=span)
        self._made = (session, opening)
        return opening

    def _drafts(self, session: SessionPlace, messages: Sequence[Item]) -> list[Draft]:
        scope = self._scope(session)
        border = Border(self._handle, scope)
        defaults = AddOptions(
            user_id=self._user, agent_id=scope.agent_id, run_id=scope.run_id, namespace=scope.namespace,
            embed=None if session.embed else False, dedupe=False,
        )  # fmt: skip
        made = list[Draft]()
        for index, message in enumerate(messages):
            try:
                made.append(self._draft(border, message, defaults))
            except InvalidInputError as exc:
                reason = str(exc) if len(messages) == 1 else f"message {index}: {exc}"
                raise InvalidInputError(reason, field=exc.field, index=index) from exc
        return made

    def _draft(self, border: Border, message: Item, defaults: AddOptions) -> Draft:
        try:
            [made] = border.draft(message, defaults)
        except InvalidInputError as exc:
            fit = None if exc.field != "content" else self._fitted(border, message, defaults)
            if fit is None:
                raise
            made = fit
        if made.role is None:
            raise InvalidInputError(
                "a turn needs a role, that of who speaks: {'role': 'user', 'content': ...}; add() takes plain facts",
                field="role",
            )
        return made

    def _fitted(self, border: Border, message: Item, defaults: AddOptions) -> Draft | None:
        """A message whose text is none that a content can be, too long or with a NUL: kept as it is in its data, and
        found by what of the text can be searched. None for what is no message."""
        said = as_message(message, frozenset()) if isinstance(message, Mapping) else of_object(message)
        if said is None or said.role is None:
            return None
        whole = said.data
        if whole is None:
            whole = operations.turns.as_data(cast("Mapping[str, Any]", message))
        text = _UNFIT.sub("\ufffd", said.text[:_LONGEST])
        item = {"role": said.role, "content": text} if text.strip("\ufffd \n\t") else {"role": said.role, "content": ""}
        [made] = border.draft(item, defaults)
        return replace(made, data=whole)

    def _taken(self, taken: operations.turns.Taken) -> list[Turn]:
        return _named(taken.turns, taken.agents)

    def _public(self, rows: Sequence[Row]) -> list[Turn]:
        return _named(rows, operations.turns.agents(self._handle.engine().repository, rows))


def _named(rows: Sequence[Row], agents: Mapping[int, str | None]) -> list[Turn]:
    return [
        Turn(row.id, row.role, row.content, to_datetime(row.at), agents[row.agent], row.data, row.row) for row in rows
    ]


class Tails:
    """The turns that are at hand, by session, least recently used out first."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._tails = OrderedDict[Scope, Tail]()

    def of(self, scope: Scope) -> Tail:
        """That of a session; what is too much goes."""
        with self._lock:
            tail = self._tails.setdefault(scope, Tail())
            self._tails.move_to_end(scope)
            held = sum(each.nbytes for each in self._tails.values())
            while held > _KEPT and len(self._tails) > 1:
                held -= self._tails.popitem(last=False)[1].nbytes
            return tail


_TAILS = WeakKeyDictionary["Engine", Tails]()
"""Those of each engine, which has one feed: a store that was restored in its place, or salvaged, begins another."""
