"""Records that go to archives, come back or change while another call has read them, and not written yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from glacier.test_archiving import settings_of

from agentmem import ConflictError, Memory, Touch, Update
from agentmem.glacier import bodies, returning
from agentmem.operations import apply, change, lifecycle, touch
from agentmem.stores import documents


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
    if where is apply:  # it has been told to change what may be no longer as it was
        with pytest.raises(ConflictError, match="repeat the change"):
            call(memory, id)
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
