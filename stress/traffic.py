"""Readers and writers at work on one store at the same time, each knowing what it must find."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agentmem import AgentMemError, AsyncMemory, SearchResults
from stress.ledger import Checks, Ledger
from stress.loading import user_of
from stress.measure import Figure
from stress.outcome import Outcome
from stress.texts import Maker

LIMIT = 10
_BATCH = 20
_OWN_WRITES = 10
"""One add in so many is searched for right after it returned."""


@dataclass
class UserState:
    """What a reader may rely on: records acknowledged, deletes begun."""

    added: int = 0
    deleting: int = 0
    ids: list[str] = field(default_factory=list)


@dataclass
class Traffic:
    """The state that all readers and writers of a run share. Each user has one writer, and any number of readers."""

    outcome: Outcome
    ledger: Ledger
    text_of: Maker
    ask: Callable[[int], str]
    seed: int
    users: list[UserState]
    most_records: int
    figures: dict[str, Figure] = field(default_factory=dict)
    deleted_at: dict[str, float] = field(default_factory=dict)
    questions: int = 0
    batches: int = 1_000_000
    until: float = 0.0

    @property
    def checks(self) -> Checks:
        return self.outcome.checks

    def figure(self, name: str) -> Figure:
        if name not in self.figures:
            self.figures[name] = self.outcome.figure(name)
        return self.figures[name]

    @property
    def operations(self) -> int:
        return sum(figure.operations for figure in self.figures.values())

    async def run(self, memory: AsyncMemory, readers: int, writers: int, seconds: float) -> None:
        """Let them work for a while."""
        start = time.perf_counter()
        self.until = start + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(readers):
                group.create_task(self._reader(memory, random.Random(self.seed * 1_000 + number)))
            for number in range(writers):
                rng = random.Random(self.seed * 1_000_000 + number)
                group.create_task(self._writer(memory, rng, range(number, len(self.users), writers)))
        for figure in self.figures.values():
            figure.seconds = time.perf_counter() - start

    def _on_time(self) -> bool:
        return time.perf_counter() < self.until

    # -- readers -----------------------------------------------------------------------------------------------------

    async def _reader(self, memory: AsyncMemory, rng: random.Random) -> None:
        modes = ("hybrid", "hybrid", "vector", "keyword")
        while self._on_time():
            user = rng.randrange(len(self.users))
            mode = rng.choice(modes)
            self.questions += 1
            query = self.ask(self.questions)
            start, there = time.perf_counter(), self.users[user].added
            try:
                found = await memory.search(query, user_id=user_of(user), limit=LIMIT, mode=mode)
            except AgentMemError as exc:
                self._failed(exc)
                continue
            self.figure(f"search {mode}").record(time.perf_counter() - start)
            self._look_at(found, user, start)
            if mode != "keyword":
                sure = there - self.users[user].deleting
                self.checks.short += len({hit.id for hit in found}) < min(LIMIT, sure)

    def _look_at(self, found: SearchResults, user: int, start: float) -> None:
        for hit in found:
            self.checks.cross_scope += hit.record.user_id != user_of(user)
            self.checks.ghosts += self.deleted_at.get(hit.id, start) < start

    # -- writers -----------------------------------------------------------------------------------------------------

    async def _writer(self, memory: AsyncMemory, rng: random.Random, users: range) -> None:
        while users and self._on_time():
            user = rng.choice(users)
            draw = rng.random()
            state = self.users[user]
            if state.ids and (draw < 0.15 or len(self.ledger.users) >= self.most_records):
                await self._guarded(self._delete(memory, state, rng))
            elif state.ids and draw < 0.3:
                await self._guarded(self._update(memory, user, state, rng))
            elif draw < 0.4:
                await self._guarded(self._add_many(memory, user, state))
            else:
                await self._guarded(self._add(memory, user, state, rng))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except AgentMemError as exc:
            self._failed(exc)

    def _failed(self, exc: AgentMemError) -> None:
        self.outcome.errors[type(exc).__name__] += 1

    def _new_texts(self, count: int) -> list[str]:
        self.batches += 1
        return [self.text_of(self.batches, item) for item in range(count)]

    def _acknowledge(self, user: int, state: UserState, texts: list[str], ids: list[str]) -> None:
        for text, id in zip(texts, ids, strict=True):
            self.ledger.added(user_of(user), text, id)
        state.ids += ids
        state.added += len(ids)

    async def _add(self, memory: AsyncMemory, user: int, state: UserState, rng: random.Random) -> None:
        texts = self._new_texts(1)
        try:
            with self.figure("add").timed():
                added = await memory.add(texts[0], user_id=user_of(user))
        except AgentMemError:
            self.ledger.failed(user_of(user), texts[0])
            raise
        self._acknowledge(user, state, texts, [added.id])
        if rng.randrange(_OWN_WRITES) == 0:
            with self.figure("search own write").timed():
                found = await memory.search(texts[0], user_id=user_of(user), limit=LIMIT)
            self.checks.stale += added.id not in {hit.id for hit in found}

    async def _add_many(self, memory: AsyncMemory, user: int, state: UserState) -> None:
        texts = self._new_texts(_BATCH)
        try:
            with self.figure(f"add_many ({_BATCH})").timed(_BATCH):
                added = await memory.add_many(texts, user_id=user_of(user))
        except AgentMemError:
            for text in texts:
                self.ledger.failed(user_of(user), text)
            raise
        self._acknowledge(user, state, texts, [one.id for one in added])

    async def _update(self, memory: AsyncMemory, user: int, state: UserState, rng: random.Random) -> None:
        id, text = rng.choice(state.ids), self._new_texts(1)[0]
        with self.figure("update").timed():
            record = await memory.update(id, content=text)
        self.ledger.changed(text, id)
        self.checks.altered += record.content != text

    async def _delete(self, memory: AsyncMemory, state: UserState, rng: random.Random) -> None:
        position = rng.randrange(len(state.ids))
        id, state.ids[position] = state.ids[position], state.ids[-1]
        state.ids.pop()
        state.deleting += 1
        with self.figure("delete").timed():
            there = await memory.delete(id)
        self.checks.lost += not there
        self.deleted_at[id] = time.perf_counter()
        self.ledger.removed(id)
