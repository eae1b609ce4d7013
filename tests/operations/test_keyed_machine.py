"""Records by key: random puts, applies, reads, touches, deletes, restores, erases and expiries, by this process and by
another one, against a dict, after every step."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from companion import Companion
from conftest import FakeClock, HashEmbedder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from length import examples

from agentmem import (
    ALL,
    UNSET,
    AddResult,
    ConflictError,
    Delete,
    Memory,
    NotFoundError,
    Put,
    Settings,
    Touch,
)

KEYS = ["draft", "Draft", "a/b", "ü" * 3, "' OR 1=1 --", "n" * 2048]
PATHS = [(), ("letters",), ("letters", "2026"), ("letters", "20%26"), ("letters/2026",), ("notes", "日")]
USERS = [None, "mia", "noor"]
WORDS = ["harbour", "harbour lights", "ferry to the harbour", "lighthouse", "a quiet evening"]

Place = tuple[str | None, tuple[str, ...], str]
places = st.tuples(st.sampled_from(USERS), st.sampled_from(PATHS), st.sampled_from(KEYS[:4]))
few = st.sampled_from([("mia", (), "draft"), ("mia", ("letters",), "draft"), (None, (), "a/b")])
lives = st.sampled_from([None, None, None, 60.0])
others = st.sampled_from([False, False, True])
"""Whether the other process does it."""


@dataclass
class Row:
    """What the store should have of a record, whatever its state."""

    place: Place
    content: str
    metadata: dict[str, Any]
    version: int
    end: datetime | None
    slide: float | None = None
    state: str = "live"
    events: list[str] = field(default_factory=lambda: ["ADD"])


COMPANIONS = list[Companion]()
"""The second process of the run; one for all its examples."""


class Keyed(RuleBasedStateMachine):
    """A store and what it should hold: rows by id, and of every place the highest version that anything had there.

    A second process has the store open for the whole run.
    """

    @property
    def companion(self) -> Companion:
        [found] = COMPANIONS
        return found

    @initialize()
    def open(self) -> None:
        self.stack = ExitStack()
        self.renewed = False
        # A close waits a while only for LanceDB, which may be merging: then it still writes while the folder goes.
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.path = Path(self.stack.enter_context(folder)) / "store"
        self.clock = FakeClock()
        self.rows: dict[str, Row] = {}
        self.top: dict[Place, int] = {}
        self.memory = self.reopened()
        self.companion.open(self.path, self.clock)

    def by(self, other: bool) -> Any:
        """Who does the next thing. What reads put off is written down first: until then only their process knows."""
        if other and self.renewed:
            self.memory.lifecycle.sweep()
            self.renewed = False
        return self.companion if other else self.memory

    def reopened(self) -> Memory:
        quiet = Settings(lifecycle={"sweep_interval_s": 0})
        return Memory(self.path, clock=self.clock, embedder=HashEmbedder(), settings=quiet)

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.memory.close()
            self.companion.close()
            self.stack.close()

    # -- the dict ----------------------------------------------------------------------------------------------------

    def lapse(self) -> None:
        """What has lapsed counts as absent; that it expired may be noted at any time."""
        for row in self.rows.values():
            if row.state == "live" and row.end is not None and row.end <= self.clock.now:
                row.state, row.version = "expired", row.version + 1
                row.events.append("EXPIRE")
                self.top[row.place] = max(self.top[row.place], row.version)

    def holder(self, place: Place) -> str | None:
        return next((id for id, row in self.rows.items() if row.place == place and row.state == "live"), None)

    def stored(
        self, place: Place, content: str, metadata: dict[str, Any], ttl: float | None, slide: bool = False
    ) -> str | None:
        end = None if ttl is None else self.clock.now + timedelta(seconds=ttl)
        id = self.holder(place)
        if id is not None:
            row = self.rows[id]
            self.rows[id] = replace(
                row, content=content, metadata=metadata, version=row.version + 1, end=end, slide=ttl if slide else None
            )
            row.events.append("UPDATE")
        self.top[place] = self.top.get(place, 0) + 1
        return id

    def created(
        self, id: str, place: Place, content: str, metadata: dict[str, Any], ttl: float | None, slide: bool = False
    ) -> None:
        assert id not in self.rows
        end = None if ttl is None else self.clock.now + timedelta(seconds=ttl)
        self.rows[id] = Row(place, content, metadata, self.top[place], end, ttl if slide else None)

    # -- what is done ------------------------------------------------------------------------------------------------

    @rule(
        place=places,
        content=st.sampled_from(WORDS),
        ttl=lives,
        tag=st.integers(0, 2),
        guess=st.sampled_from([None, None, None, "none", "right", "old"]),
        other=others,
    )
    def put(self, place: Place, content: str, ttl: float | None, tag: int, guess: str | None, other: bool) -> None:
        self.lapse()
        memory = self.by(other)
        user, path, key = place
        id = self.holder(place)
        version = 0 if id is None else self.rows[id].version
        wanted = {"none": 0, "right": version, "old": max(version - 1, 0)}.get(guess or "")
        call = {"namespace": path, "user_id": user, "metadata": {"tag": tag}, "ttl": ttl, "if_version": wanted}
        if wanted not in (None, version):
            with pytest.raises(ConflictError):
                memory.put(key, content, **call)
            return
        done = memory.put(key, content, **call)
        same = self.stored(place, content, {"tag": tag}, ttl)
        assert done.status == ("added" if same is None else "replaced")
        if same is None:
            self.created(done.id, place, content, {"tag": tag}, ttl)
        assert (done.record.version, done.record.key) == (self.rows[done.id].version, key)

    @rule(several=st.lists(places, min_size=1, max_size=6, unique=True), content=st.sampled_from(WORDS), other=others)
    def put_many(self, several: list[Place], content: str, other: bool) -> None:
        self.lapse()
        items = [
            {"key": key, "namespace": path, "user_id": user, "content": f"{content} {n}"}
            for n, (user, path, key) in enumerate(several)
        ]
        done = self.by(other).put_many(items)
        for n, (place, one) in enumerate(zip(several, done, strict=True)):
            if self.stored(place, f"{content} {n}", {}, None) is None:
                self.created(one.id, place, f"{content} {n}", {}, None)

    @rule(place=places)
    def read(self, place: Place) -> None:
        """Puts the end of what slides off, if a tenth of its span has passed."""
        self.lapse()
        user, path, key = place
        id = self.holder(place)
        found = self.memory.get(key=key, namespace=path, user_id=user)
        assert (None if found is None else found.id) == id
        row = None if id is None else self.rows[id]
        if row is not None and row.slide is not None and row.end is not None:
            end = self.clock.now + timedelta(seconds=row.slide)
            if end - row.end >= timedelta(seconds=row.slide / 10):
                row.end = end
                self.renewed = True

    @rule(place=places)
    def read_by_the_other(self, place: Place) -> None:
        self.lapse()
        user, path, key = place
        id = self.holder(place)
        found = self.by(True).get(key=key, namespace=path, user_id=user, touch=False)
        assert (found and (found.id, found.content, found.version)) == (
            None if id is None else (id, self.rows[id].content, self.rows[id].version)
        )

    @rule(place=places, ttl=st.sampled_from([None, 45.0]))
    def touch(self, place: Place, ttl: float | None) -> None:
        self.lapse()
        id = self.holder(place)
        assert self.memory.touch([id or "nobody"], ttl=UNSET if ttl is None else ttl) == [id is not None]
        if id is not None:
            self.used(self.rows[id], ttl)

    def used(self, row: Row, ttl: float | None) -> None:
        self.renewed = True
        if ttl is not None:
            row.end, row.slide = self.clock.now + timedelta(seconds=ttl), ttl if row.slide is not None else None
        elif row.slide is not None and row.end is not None:
            row.end = max(row.end, self.clock.now + timedelta(seconds=row.slide))

    @rule(
        several=st.lists(
            st.tuples(few | places, st.sampled_from(["put", "put", "slide", "delete", "touch"])), max_size=6
        ),
        stale=st.sampled_from([False, False, True]),
    )
    def apply(self, several: list[tuple[Place, str]], stale: bool) -> None:
        """The same keys may come several times: one change after the other, or none of them."""
        self.lapse()
        before = deepcopy((self.rows, self.top))
        changes, expected = list[Any](), list[Any]()
        for n, (place, what) in enumerate(several):
            user, path, key = place
            where = {"namespace": path, "user_id": user}
            id = self.holder(place)
            if what == "delete":
                changes.append(Delete(key=key, **where))
                expected.append(id is not None)
                if id is not None:
                    self.hide(id, "deleted", "DELETE")
            elif what == "touch":
                changes.append(Touch(key=key, **where, ttl=45))
                expected.append(id is not None)
                if id is not None:
                    self.used(self.rows[id], 45)
            else:
                slide, content = what == "slide", f"harbour {n}"
                ttl = 60.0 if slide else None
                version = 0 if id is None else self.rows[id].version
                changes.append(Put(key, content, **where, ttl=ttl, sliding=slide or None, if_version=version))
                if self.stored(place, content, {}, ttl, slide) is None:
                    id = f"new {n}"
                    self.created(id, place, content, {}, ttl, slide)
                expected.append(id)
        if stale:
            self.rows, self.top = before
            with pytest.raises(ConflictError) as caught:
                self.memory.apply([*changes, Put(KEYS[0], "x", if_version=10**6)])
            assert caught.value.index == len(changes)
            return
        names = dict[str, str]()
        for one, expects in zip(self.memory.apply(changes), expected, strict=True):
            if isinstance(one, AddResult):
                if expects.startswith("new ") and expects not in names:
                    names[expects] = one.id
                    self.rows[one.id] = self.rows.pop(expects)
                assert one.id == names.get(expects, expects)
            else:
                assert one == expects

    @rule(place=places, guess=st.sampled_from([None, None, "right", "wrong"]), other=others)
    def delete(self, place: Place, guess: str | None, other: bool) -> None:
        self.lapse()
        memory = self.by(other)
        user, path, key = place
        id = self.holder(place)
        version = 0 if id is None else self.rows[id].version
        wanted = {"right": version, "wrong": version + 1}.get(guess or "")
        if guess == "wrong":
            with pytest.raises(ConflictError):
                memory.delete(key=key, namespace=path, user_id=user, if_version=wanted)
            return
        assert memory.delete(key=key, namespace=path, user_id=user, if_version=wanted) == (id is not None)
        if id is not None:
            self.hide(id, "deleted", "DELETE")

    @rule(user=st.sampled_from(USERS[1:]), path=st.sampled_from(PATHS), below=st.booleans(), other=others)
    def delete_all(self, user: str, path: tuple[str, ...], below: bool, other: bool) -> None:
        self.lapse()
        doomed = [
            id
            for id, row in self.rows.items()
            if row.state == "live"
            and row.place[0] == user
            and (row.place[1][: len(path)] if below else row.place[1]) == path
        ]
        where = {"under": path} if below else {"namespace": path}
        assert self.by(other).delete_all(user_id=user, **where) == len(doomed)
        for id in doomed:
            self.hide(id, "deleted", "DELETE")

    def hide(self, id: str, state: str, event: str) -> None:
        row = self.rows[id]
        row.state, row.version = state, row.version + 1
        row.events.append(event)
        self.top[row.place] = max(self.top[row.place], row.version)

    @rule(pick=st.integers(0, 40))
    def restore(self, pick: int) -> None:
        self.lapse()
        gone = [id for id, row in self.rows.items() if row.state == "deleted"]
        if not gone:
            return
        id = gone[pick % len(gone)]
        row = self.rows[id]
        if row.end is not None and row.end <= self.clock.now:
            with pytest.raises(NotFoundError):
                self.memory.restore(id)
        elif self.holder(row.place) is not None:
            with pytest.raises(ConflictError):
                self.memory.restore(id)
        else:
            self.memory.restore(id)
            if row.slide is not None:
                row.end = self.clock.now + timedelta(seconds=row.slide)
            row.state, row.version = "live", self.top[row.place] + 1
            row.events.append("RESTORE")
            self.top[row.place] = row.version

    @rule(pick=st.integers(0, 40), other=others)
    def erase(self, pick: int, other: bool) -> None:
        self.lapse()
        memory = self.by(other)
        kept = [id for id, row in self.rows.items() if row.state != "erased"]
        if kept:
            id = kept[pick % len(kept)]
            row = self.rows[id]
            lapsed = memory.get(id, touch=False) is None and row.events[-1] == "EXPIRE"
            memory.erase(id)
            if lapsed and [event.event for event in memory.history(id)][-2] != "EXPIRE":
                row.version -= 1  # nobody had met it since it lapsed
                row.events.pop()
            self.hide(id, "erased", "ERASE")

    @rule(seconds=st.sampled_from([1, 30, 90]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.lapse()

    @rule(other=others)
    def sweep(self, other: bool) -> None:
        self.by(other).lifecycle.sweep()

    @rule()
    def reopen(self) -> None:
        self.memory.close()
        self.memory = self.reopened()
        self.memory.flush()
        assert self.memory.verify().problems == []

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def every_key_is_there_once(self) -> None:
        if not hasattr(self, "memory"):
            return
        self.lapse()
        live = {id: row for id, row in self.rows.items() if row.state == "live"}
        there = {record.id: record for record in self.memory.iterate(user_id=ALL, under=(), touch=False)}
        assert there.keys() == live.keys()
        for id, row in live.items():
            user, path, key = row.place
            record = self.memory.get(key=key, namespace=path, user_id=user, touch=False)
            assert record == there[id]
            assert (record.user_id, record.namespace, record.key) == row.place
            assert (record.content, record.metadata, record.version) == (row.content, row.metadata, row.version)
            assert [event.event.value for event in self.memory.history(id)] == row.events
        assert len({row.place for row in live.values()}) == len(live)

    @invariant()
    def the_other_process_sees_the_same(self) -> None:
        if not hasattr(self, "memory"):
            return
        self.lapse()
        there = self.by(True).iterate(user_id=ALL, under=(), touch=False)
        assert there == list(self.memory.iterate(user_id=ALL, under=(), touch=False))

    @invariant()
    def namespaces_are_walls(self) -> None:
        if not hasattr(self, "memory"):
            return
        live = [row for row in self.rows.values() if row.state == "live"]
        for user in USERS:
            of_user = [row for row in live if row.place[0] == user]
            counts = {one.namespace: one.records for one in self.memory.namespaces(user_id=user)}
            paths = {path for path in PATHS if path and any(row.place[1] == path for row in of_user)}
            assert counts == {path: sum(row.place[1] == path for row in of_user) for path in paths}
            for path in PATHS:
                here = sorted(row.content for row in of_user if row.place[1] == path)
                below = sorted(row.content for row in of_user if row.place[1][: len(path)] == path)
                for where, expected in (({"namespace": path}, here), ({"under": path}, below)):
                    found = self.memory.search("harbour", user_id=user, mode="vector", limit=100, touch=False, **where)
                    assert sorted(hit.content for hit in found) == expected
                    for by in ("added", "event"):
                        page = self.memory.page(user_id=user, by=by, touch=False, **where)
                        assert sorted(record.content for record in page.records) == expected
                    assert self.memory.count(user_id=user, **where) == len(expected)


@pytest.mark.slow
@pytest.mark.long
def test_keys_agree_with_a_dict() -> None:
    steps = examples(25, 50)
    COMPANIONS.append(Companion())
    try:
        run_state_machine_as_test(Keyed, settings=settings(max_examples=examples(6, 100), stateful_step_count=steps))
    finally:
        COMPANIONS.pop().end()
