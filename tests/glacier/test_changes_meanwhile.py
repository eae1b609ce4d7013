"""Records that go to archives, come back or change while another call has read them, and not written yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from glacier.test_archiving import settings_of

from agentmem import AsyncMemory, ConflictError, Memory, NotFoundError, Put, Touch, Update
from agentmem.glacier import bodies, returning
from agentmem.operations import add, apply, change, lifecycle, touch
from agentmem.stores import documents
from agentmem.values import writing


def once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, run: Callable[[], object], *, after: bool) -> None:
    """Have something happen before or after the first call of a function, or at the end of it."""
    real, done = getattr(where, name), list[bool]()

    def called(*args: Any, **kwargs: Any) -> Any:
        first = not done
        done.append(True)
        if first and not after:
            run()
        result = real(*args, **kwargs)
        if first and after:
            run()
        return result

    monkeypatch.setattr(where, name, called)


def test_a_change_is_not_undone_by_who_fetched_the_text_before_it(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("first", user_id="ana", data={"n": 1}).id
    memory.tiers.archive(id)

    def change() -> None:
        memory.update(id, content="second", data={"n": 2})
        memory.tiers.archive(id)

    once(monkeypatch, returning, "fetch", change, after=True)
    assert memory.tiers.rehydrate(id) == 1
    record = memory.get(id)
    assert record is not None
    assert (record.content, record.data, record.archived) == ("second", {"n": 2}, False)
    assert memory.verify().problems == []


@pytest.mark.parametrize("after", [False, True])
def test_what_comes_back_meanwhile_is_read_here(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("text", user_id="ana", data={"n": 1}).id
    for read in (
        lambda: memory.get(id),
        lambda: memory.page(user_id="ana", archived=True).records[0],
        lambda: memory.search("text", user_id="ana", include_glacier=True)[0].record,
    ):
        memory.tiers.archive(id)
        with monkeypatch.context() as patch:
            once(patch, bodies, "fetch", lambda: memory.tiers.rehydrate(id), after=after)
            record = read()
        assert record is not None
        assert (record.content, record.data) == ("text", {"n": 1})


@pytest.mark.parametrize(
    ("where", "call", "deleted", "expected"),
    [
        (change, lambda memory, id: memory.update(id, content="second"), False, "second"),
        (change, lambda memory, id: memory.update(id, metadata={"n": 2}), False, "first"),
        (change, lambda memory, id: memory.restore(id, version=1), False, "zeroth"),
        (change, lambda memory, id: memory.restore(id, version=1), True, "zeroth"),
        (change, lambda memory, id: memory.restore(id), True, "first"),
        (change, lambda memory, id: memory.feedback(id, rating=3), False, "first"),
        (touch, lambda memory, id: memory.touch([id], ttl=60), False, "first"),
        (lifecycle, lambda memory, id: memory.lifecycle.pin(id), False, "first"),
        (apply, lambda memory, id: memory.apply([Touch(id=id, ttl=60)]), False, "first"),
        (apply, lambda memory, id: memory.apply([Update(id=id, content="second")]), False, "second"),
    ],
)
def test_what_is_archived_just_before_it_changes_comes_back_first(
    open_memory: Callable[..., Memory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    call: Callable[[Memory, str], Any],
    deleted: bool,
    expected: str,
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("zeroth", user_id="ana").id
    memory.update(id, content="first")

    def away() -> None:
        memory.tiers.archive(id)
        if deleted:
            memory.delete(id)

    once(monkeypatch, where, "_thaw" if where is apply else "thaw", away, after=True)
    call(memory, id)
    record = memory.get(id)
    assert record is not None
    assert (record.content, record.archived) == (expected, False)
    assert memory.verify().problems == []


@pytest.mark.parametrize(
    ("data", "embed"),
    [
        ({"n": 1}, None),
        ({"n": [float("inf"), 1]}, None),
        ({"n": "long " * 20_000}, None),
        ({"n": 1}, ["what it is found by"]),
        ({"n": "long " * 20_000}, ["what it is found by"]),
    ],
)
@pytest.mark.parametrize("name", ["read", "_read_large"])
def test_data_that_is_archived_while_it_is_read_comes_whole(
    open_memory: Callable[..., Memory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, Any],
    embed: list[str] | None,
    name: str,
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.put("k", "text", user_id="ana", data=data, embed=embed).id
    for read in (
        lambda: memory.get(id),
        lambda: memory.get(key="k", user_id="ana"),
        lambda: next(iter(memory.iterate(user_id="ana"))),
        lambda: memory.page(user_id="ana").records[0],
        lambda: memory.update(id, metadata={"n": memory.stats().records}),
        lambda: memory.lifecycle.pin(id),
    ):
        memory.tiers.rehydrate(id)
        with monkeypatch.context() as patch:
            once(patch, documents, name, lambda: memory.tiers.archive(id), after=False)
            record = read()
        assert record is not None
        assert (record.content, record.data) == ("text", data)
    memory.tiers.rehydrate(id)
    with monkeypatch.context() as patch:
        once(patch, documents, name, lambda: memory.tiers.archive(id), after=False)
        hits = memory.search("text", user_id="ana")
    assert [hit.record.data for hit in hits] in ([], [data])


def aio(call: Callable[[AsyncMemory], Any]) -> Callable[[Memory], None]:
    async def wait(memory: Memory) -> None:
        await call(memory.aio)

    return lambda memory: asyncio.run(wait(memory))


SECOND = [{"key": "other", "content": "x"}, {"key": "k", "content": "second"}]
PUTS: list[tuple[Any, Callable[[Memory], Any]]] = [
    (add, lambda memory: memory.put("k", "second", user_id="ana")),
    (add, lambda memory: memory.put("k", "second", user_id="ana", if_version=1)),
    (add, lambda memory: memory.put_many(SECOND, user_id="ana")),
    (apply, lambda memory: memory.apply([Put("k", "second", user_id="ana")])),
    (apply, lambda memory: memory.apply([Update(key="k", content="second", user_id="ana")])),
    (add, aio(lambda memory: memory.put("k", "second", user_id="ana"))),
    (add, aio(lambda memory: memory.put_many(SECOND, user_id="ana"))),
    (apply, aio(lambda memory: memory.apply([Put("k", "second", user_id="ana")]))),
]


@pytest.mark.parametrize("number", range(len(PUTS)))
def test_what_is_archived_just_before_it_is_put_comes_back_first(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.put("k", "first", user_id="ana").id
    memory.tiers.archive(id)
    where, call = PUTS[number]
    once(monkeypatch, where, "_thaw" if where is apply else "thaw_drafts", lambda: memory.tiers.archive(id), after=True)
    call(memory)
    record = memory.get(key="k", user_id="ana")
    assert record is not None
    assert (record.id, record.content, record.version, record.archived) == (id, "second", 2, False)
    assert memory.restore(id, version=1).content == "first"
    assert memory.verify().problems == []


def test_a_value_that_is_archived_just_before_it_is_put_comes_back_first(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = (memory := open_memory(settings=settings_of(tmp_path))).values
    large = bytes(range(256)) * 4_096 * 2
    for key, put in {
        "a": lambda: values.put("a", large[1:], user_id="ana"),
        "b": lambda: values.put("b", iter([large[1:]]), user_id="ana", if_version=1),
        "c": lambda: values.put_many({"other": 1, "c": large[1:]}, user_id="ana"),
        "d": lambda: values.put("d", large[1:], user_id="ana", tier="warm"),
    }.items():
        values.put(key, large, user_id="ana", tier="glacier")
        with monkeypatch.context() as patch:
            once(patch, writing, "thaw_drafts", partial(values.move, key, "glacier", user_id="ana"), after=True)
            put()
        with values.open(key, user_id="ana") as file:
            assert file.read() == large[1:]
        assert values.restore(key, 1, user_id="ana").size == len(large)
        assert values.get(key, user_id="ana") == large
        assert memory.verify().problems == []
    with pytest.raises(ConflictError, match="at version 1, not 7"):
        values.put("other", 2, user_id="ana", if_version=7)


def test_one_that_is_archived_all_the_time_says_so(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = (memory := open_memory(settings=settings_of(tmp_path))).values
    values.put("k", b"x" * 100_000, tier="glacier")
    with monkeypatch.context() as patch:
        patch.setattr(writing, "thaw_drafts", lambda *_: None)
        with pytest.raises(ConflictError, match="archived just now"):
            values.put("k", b"y" * 100_000)
    assert values.get("k") == b"x" * 100_000
    memory.compact()
    assert memory.verify().problems == []


def test_going_back_beside_a_change(
    open_memory: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(settings=settings_of(tmp_path))
    id = memory.add("first", user_id="ana").id
    memory.update(id, content="second")
    once(monkeypatch, change, "_values_at", lambda: memory.update(id, content="third"), after=True)
    assert memory.restore(id, version=1).content == "first"
    assert [event.event for event in memory.history(id)] == ["ADD", "UPDATE", "UPDATE", "RESTORE"]
    memory.values.put("k", b"1")
    memory.values.put("k", b"2")

    def anew() -> None:
        memory.values.delete("k")
        memory.values.put("k", b"3")

    once(monkeypatch, change, "restore", anew, after=False)
    with pytest.raises(NotFoundError, match="no version 1"):
        memory.values.restore("k", 1)
    assert memory.values.get("k") == b"3"
