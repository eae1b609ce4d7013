"""Ids as programs have them: numbers and UUIDs, letters in two encodings, and characters that nobody sees."""

from __future__ import annotations

import asyncio
import decimal
import enum
import math
import unicodedata
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmem import (
    ALL,
    UNSET,
    AsyncMemory,
    ConflictError,
    InvalidInputError,
    Memory,
    MemoryRecord,
    NewMemory,
    ScopeError,
    Settings,
)
from agentmem.stores.connection import Connection
from agentmem.stores.folder import DATABASE

Open = Callable[..., Memory]
KEY = uuid.UUID("0192f0c1-2b7a-7c3e-9d54-6a1f00c0ffee")


class Text(str):
    __slots__ = ()


class Team(enum.Enum):
    RED = "red team"
    NINE = 9


class Size(enum.IntEnum):
    LARGE = 3


TAKEN = [
    (7, "7"),
    (0, "0"),
    (-12, "-12"),
    (2**70, str(2**70)),
    (KEY, "0192f0c1-2b7a-7c3e-9d54-6a1f00c0ffee"),
    (np.int16(31), "31"),
    (np.uint64(2**64 - 1), str(2**64 - 1)),
    (np.str_("nadia"), "nadia"),
    (Text("omar"), "omar"),
    (Team.RED, "red team"),
    (Team.NINE, "9"),
    (Size.LARGE, "3"),
    ("007", "007"),
]


@pytest.mark.parametrize(("given", "text"), TAKEN, ids=str)
def test_an_id_means_the_same_everywhere(open_memory: Open, given: Any, text: str) -> None:
    memory = open_memory(settings=Settings(lifecycle={"sweep_interval_s": 0}))
    record = memory.add("prefers the night train", user_id=given, agent_id=given, run_id=given, id=given).record
    assert (record.user_id, record.agent_id, record.run_id, record.id) == (text,) * 4
    memory.add("of somebody else", user_id="somebody else")
    for value in (given, text):
        scope = {"user_id": value, "agent_id": value, "run_id": value}
        assert [hit.id for hit in memory.search("train", **scope)] == [text]
        assert [each.id for each in memory.page(**scope).records] == [text]
        assert [each.id for each in memory.iterate(**scope)] == [text]
        assert [each.id for each in memory.recent(run_id=value, user_id=value)] == [text]
        assert "night train" in memory.context("train", max_tokens=100, **scope)
        assert memory.delete_all(**scope, dry_run=True) == 1
        view = memory.scoped(user_id=value)
        assert [each.id for each in (view.get(value), memory.get(value)) if each] == [text, text]
        assert [hit.id for hit in view.search("train", user_id=given, run_id=text)] == [text]
        assert view.add("prefers the night train", run_id=text, agent_id=text, id=value).status == "duplicate"
        assert view.history(value)[0].event == "ADD"
        assert memory.lifecycle.explain(value).id == text
        view.feedback(value, rating=4)
        assert memory.add({"content": "prefers the night train", **scope, "id": value}).status == "duplicate"
        assert memory.add(NewMemory(content="prefers the night train", **scope, id=value)).status == "duplicate"
        assert memory.add_many(["prefers the night train"], **scope)[0].status == "added"
        assert memory.delete_all(user_id=value, run_id=value) == 2
        assert memory.restore(value).user_id == text
    assert memory.delete(given)
    assert memory.erase(text).erased == 1
    assert memory.erase_all(user_id=given).erased == 2
    assert not list(memory.iterate(user_id=text))
    assert memory.verify().ok


def test_an_id_means_the_same_to_the_waiting_client(store: Path, embedder: Any) -> None:
    async def main() -> None:
        async with AsyncMemory(store, embedder=embedder) as memory:
            await memory.add("likes ferries", user_id=41, run_id=KEY)
            assert len(await memory.search("ferries", user_id="41", run_id=str(KEY))) == 1
            assert len(await memory.scoped(user_id=np.int64(41)).search("ferries", run_id=KEY)) == 1
            assert await memory.delete_all(user_id=41) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (True, ["bool", "str("]),
        (np.bool_(True), ["bool", "str("]),
        (42.0, ["float", "42.0", "str(int("]),
        (np.float64(3), ["float", "str(int("]),
        (math.nan, ["nan", "missing value", "leave it out"]),
        (b"nadia", ["bytes", ".decode()"]),
        (bytearray(b"nadia"), ["bytearray", ".decode()"]),
        (decimal.Decimal("1.5"), ["decimal.Decimal", "str("]),
        (date(2025, 4, 5), ["date", "str("]),
        (Path("a/b"), ["PosixPath", "str("]),
        (("nadia", 1), ["tuple", "str("]),
        (np.array([1, 2]), ["ndarray", "str("]),
        (UNSET, ["UNSET", "str("]),
        (Ellipsis, ["ellipsis", "str("]),
        (10**600, ["digits"]),
        (10**6_000, ["digits"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_several_meanings_or_none_is_refused(memory: Memory, given: Any, words: list[str]) -> None:
    def refused(error: type[Exception], name: str, call: Callable[[], object]) -> None:
        with pytest.raises(error) as caught:
            call()
        assert all(word in str(caught.value) for word in [name, *words]), str(caught.value)

    for name in ("user_id", "agent_id", "run_id"):
        refused(ScopeError, name, lambda name=name: memory.add("x", **{name: given}))
        refused(ScopeError, name, lambda name=name: memory.search("x", **{name: given}))
        refused(ScopeError, name, lambda name=name: memory.add_many(["x", {"content": "y", name: given}]))
        refused(InvalidInputError, name, lambda name=name: NewMemory(content="x", **{name: given}))
    refused(InvalidInputError, "id", lambda: memory.add("x", id=given))
    refused(InvalidInputError, "id", lambda: memory.get(given))
    assert memory.stats().events == 0


# -- spellings ------------------------------------------------------------------------------------------------------


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


NAMES = ["Zoë", "Nguyễn", "Ångström", "किताब क़लम", "한글", "ﬁ Žižek"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first", ["composed", "decomposed"])
def test_one_name_however_it_is_typed(memory: Memory, name: str, first: str) -> None:
    whole, parts = unicodedata.normalize("NFC", name), decomposed(name)
    given, other = (whole, parts) if first == "composed" else (parts, whole)
    record = memory.add(
        "plays the oboe", user_id=given, agent_id=given, run_id=given, id=given, kind=given, role=given
    ).record
    assert (record.user_id, record.agent_id, record.run_id, record.id, record.kind, record.role) == (whole,) * 6
    assert [hit.id for hit in memory.search("oboe", user_id=other, run_id=other, kinds=[other])] == [whole]
    assert memory.page(user_id=other, kinds=[other]).records == [record]
    assert memory.get(other) == record
    again = memory.add("plays the oboe", user_id=other, agent_id=other, run_id=other, id=other, kind=other, role=other)
    assert again.status == "duplicate"
    with pytest.raises(ConflictError):
        memory.add("plays the tuba", user_id=other, id=other)
    memory.add("sings", user_id=other, run_id=other)
    assert memory.delete_all(user_id=given) == 2
    assert memory.verify().notes == []


def test_one_name_within_a_batch(memory: Memory) -> None:
    found = memory.add_many(
        [
            {"content": "rows", "user_id": decomposed("Zoë")},
            {"content": "rows", "user_id": "Zoë"},
            {"content": "rides", "user_id": decomposed("Zoë"), "id": decomposed("é1")},
            {"content": "rides", "user_id": "Zoë", "id": "é1"},
        ]
    )
    assert [result.status for result in found] == ["added", "duplicate", "added", "duplicate"]
    assert {record.user_id for record in memory.iterate(user_id=ALL)} == {"Zoë"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.sampled_from("ae\u0301\u0308\u0323o\u1e69s\u00e9\u00e4\u212b\uac00\u1100\u1161x "), min_size=1))
def test_no_name_is_two(memory: Memory, name: str) -> None:
    try:
        memory.add(f"of {name}", user_id=name)
    except ScopeError:
        assert name != name.strip()
        return
    for form in ("NFC", "NFD"):
        spelled = unicodedata.normalize(form, name)
        assert {record.user_id for record in memory.iterate(user_id=spelled)} == {unicodedata.normalize("NFC", name)}


def test_a_view_stays_behind_its_wall_however_it_is_called(memory: Memory) -> None:
    view = memory.scoped(user_id=decomposed("José"), run_id="r")
    view.add("collects stamps")
    assert [hit.record.user_id for hit in view.search("stamps", user_id="José")] == ["José"]
    assert view.add({"content": "collects coins", "user_id": "José"}).record.user_id == "José"
    with pytest.raises(ScopeError, match="bound"):
        view.search("stamps", user_id="Jose")
    with pytest.raises(ScopeError, match="bound"):
        view.add({"content": "x", "user_id": "Jose\u0301s"})


@pytest.fixture
def twins(open_memory: Open, store: Path) -> Memory:
    """A store from before names were composed: two users, two runs and two records that differ in nothing else."""
    memory = open_memory()
    for n, name in enumerate(("Zoë", "other"), 1):
        memory.add(f"number {n}", user_id=name, run_id=name, id=f"é{name}")
    memory.add("of a third", user_id="third", id="padded")
    memory.close()
    database = Connection(store / DATABASE)
    database.execute("UPDATE names SET value = ? WHERE value = ?", (decomposed("Zoë"), "other"))
    database.execute("UPDATE records SET checksum = NULL, fingerprint = NULL")
    database.execute("UPDATE records SET id = ? WHERE id = ?", (decomposed("éZoë"), "éother"))
    database.execute("UPDATE names SET value = ? WHERE value = ?", (" third", "third"))
    database.close()
    return open_memory()


def test_twins_of_an_old_store_stay_apart_and_are_reported(twins: Memory) -> None:
    whole, parts = "Zoë", decomposed("Zoë")
    for name, content in ((whole, "number 1"), (parts, "number 2")):
        assert [hit.content for hit in twins.search("number", user_id=name)] == [content]
        assert [record.content for record in twins.recent(run_id=name, user_id=name)] == [content]
        found = twins.get("é" + name if name == whole else decomposed("é" + name))
        assert found is not None
        assert (found.content, found.user_id) == (content, name)
        view = twins.scoped(user_id=name)
        other = parts if name == whole else whole
        assert [hit.content for hit in view.search("number", user_id=other)] == [content]
        assert view.add({"content": f"more of {content}", "user_id": other}).record.user_id == name
        assert view.add_many([{"content": f"yet more of {content}", "user_id": other}])[0].record.user_id == name
        assert {record.user_id for record in view.iterate()} == {name}
        assert twins.add("new", user_id=name).record.user_id == name
    report = twins.verify()
    assert report.ok
    assert report.problems == []
    assert sorted(note.split()[0] for note in report.notes) == ["id", "name", "name"]
    assert "'Zoe\\u0308' and 'Zo\\xeb' look the same" in "\n".join(report.notes)
    assert "' third' has something at an end" in "\n".join(report.notes)
    assert report.to_dict()["notes"] == report.notes


def test_an_old_name_that_has_no_twin_goes_on_in_its_spelling(open_memory: Open, store: Path) -> None:
    memory = open_memory()
    memory.add("knits", user_id="old", id="old")
    memory.close()
    database = Connection(store / DATABASE)
    database.execute("UPDATE names SET value = ?", (decomposed("Zoë"),))
    database.execute("UPDATE records SET id = ?", (decomposed("Zoë"),))
    database.close()
    memory = open_memory()
    assert memory.add("weaves", user_id="Zoë").record.user_id == decomposed("Zoë")
    assert {record.content for record in memory.iterate(user_id="Zoë")} == {"knits", "weaves"}
    assert memory.add("knits", user_id="Zoë", id="Zoë").status == "duplicate"
    assert memory.verify().notes == []


# -- what nobody sees -----------------------------------------------------------------------------------------------

UNSEEN = ["\u200b", "\ufeff", "\u200d\u200c", "\u00ad \u2060", "\u3164", "\u2800", "\x7f", "\t\u00a0", "\ufe0f"]


@pytest.mark.parametrize("text", UNSEEN, ids=ascii)
def test_what_nobody_sees_is_empty(memory: Memory, text: str) -> None:
    calls: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (InvalidInputError, "content", lambda: memory.add(text)),
        (InvalidInputError, "content", lambda: memory.add_many([{"content": text}])),
        (InvalidInputError, "query", lambda: memory.search(text)),
        (InvalidInputError, "id", lambda: memory.add("x", id=text)),
        (InvalidInputError, "id", lambda: memory.delete(text)),
        (InvalidInputError, "role", lambda: memory.add("x", role=text)),
        (InvalidInputError, "kind", lambda: memory.add("x", kind=text)),
        (InvalidInputError, "kinds", lambda: memory.page(kinds=[text])),
        (ScopeError, "user_id", lambda: memory.add("x", user_id=text)),
        (ScopeError, "run_id", lambda: memory.recent(run_id=text)),
    ]
    for error, name, call in calls:
        with pytest.raises(error, match=f"{name} is empty"):
            call()
    id = memory.add("something", user_id="u").id
    with pytest.raises(InvalidInputError, match="content is empty"):
        memory.update(id, content=text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" nadia", ["begins with a blank", "write 'nadia'"]),
        ("nadia ", ["ends with a blank", "write 'nadia'"]),
        ("nadia\r\n", ["ends with", "U+000A", "write 'nadia'"]),
        ("\ufeffnadia", ["begins with ZERO WIDTH NO-BREAK SPACE (U+FEFF)", "write 'nadia'"]),
        ("nadia\u200b", ["ends with ZERO WIDTH SPACE (U+200B)", "write 'nadia'"]),
        ("\u202enadia", ["begins with RIGHT-TO-LEFT OVERRIDE", "write 'nadia'"]),
        (" \u00a0nadia\t", ["a blank", "write 'nadia'"]),
    ],
)
def test_nobody_has_a_name_that_looks_like_anothers(memory: Memory, text: str, words: list[str]) -> None:
    memory.add("hers", user_id="nadia", id="nadia", kind="nadia", role="nadia")
    calls: list[tuple[str, Callable[[], object]]] = [
        ("user_id", lambda: memory.add("x", user_id=text)),
        ("user_id", lambda: memory.search("x", user_id=text)),
        ("user_id", lambda: memory.scoped(user_id=text)),
        ("run_id", lambda: memory.add({"content": "x", "run_id": text})),
        ("id", lambda: memory.add("x", id=text)),
        ("id", lambda: memory.get(text)),
        ("role", lambda: memory.add({"role": text, "content": "x"})),
        ("kind", lambda: memory.add("x", kind=text)),
        ("kinds", lambda: memory.search("x", kinds=[text])),
    ]
    for name, call in calls:
        with pytest.raises((InvalidInputError, ScopeError)) as caught:
            call()
        assert all(word in str(caught.value) for word in [name, *words]), str(caught.value)
    assert memory.stats().events == 1


@pytest.mark.parametrize(
    "text",
    [
        "\u2764\ufe0f",
        "\U0001f469\u200d\U0001f680",
        "a b",
        "a\u200bb",
        "\u0645\u06cc\u200c\u0631\u0648\u0645",
        "\u05e9\u05c1",
    ],
    ids=ascii,
)
def test_what_belongs_to_a_word_stays(memory: Memory, text: str) -> None:
    spelled = unicodedata.normalize("NFC", text)
    assert memory.add("hers", user_id=text, id=text).record.user_id == spelled
    assert [hit.id for hit in memory.search("hers", user_id=text)] == [spelled]


def test_a_text_keeps_the_blanks_around_it(memory: Memory) -> None:
    for text in (" indented", "a line\n", "\ufeffwith a mark"):
        assert memory.add(text, metadata={"raw": text}, id=f"number {len(text)}").record.content == text
        assert memory.get(f"number {len(text)}").metadata == {"raw": text}


HOLDERS: list[tuple[Callable[[MemoryRecord], object], str]] = [
    (lambda record: record, r"not an agentmem\.MemoryRecord, .*; write \.id of it"),
    (lambda record: [record.id], "not a list, .*; give one at a time"),
    (lambda record: (record.id,), "not a tuple, .*; give one at a time"),
    (lambda record: {record.id}, "not a set, .*; give one at a time"),
    (lambda record: {"id": record.id, "name": "Ana"}, r"not a dict, .*; write \['id'\] of it"),
    (lambda record: {"name": record.content}, "not a dict, .*; write str"),
]


@pytest.mark.parametrize(("given", "advice"), HOLDERS, ids=["record", "list", "tuple", "set", "dict", "other dict"])
def test_what_holds_an_id_is_none(memory: Memory, given: Callable[[MemoryRecord], object], advice: str) -> None:
    record = memory.add("Ana likes tea", user_id="ana").record
    calls: list[Callable[[Any], object]] = [memory.get, memory.delete, memory.erase, memory.history]
    for call in calls:
        with pytest.raises(InvalidInputError, match=advice):
            call(given(record))
        for hit in memory.search("tea", user_id="ana"):
            with pytest.raises(InvalidInputError, match=r"not an agentmem\.SearchHit, .*; write \.id of it"):
                call(hit)
    assert memory.get(record.id) is not None
