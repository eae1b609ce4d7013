"""Ids of other frameworks, whatever they are made of, are names here, each another one."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from agentmem import ConflictError, InvalidInputError, Memory, ScopeError
from agentmem.adapters.labels import id_label, label_of, names_of, text_of
from agentmem.adapters.steps import Steps, arun, run

PLAIN = ["", " ", "a", "a ", " a", "%", "%25", "%20", "a/b", "a%2Fb", "$a"]
ODD = [*PLAIN, "\x00", "\ud800", "e\u0301", "\xe9", "\u200b", "a\nb"]
RARE = [
    "  ", "%%", "%#", "..", "\t", "\x7f", "\ud800\udc00", "\U00010000", "\U0001f375", "\ufeff", "\xe9" * 200,
    "$sessions", "'; DROP TABLE x; --", '{"a": 1}',
]  # fmt: skip
LONG = ["a" * 256, "a" * 257, "a" * 3_000 + "b", "a" * 3_000 + "c", "\u0301" * 200, "%~", "\u3164"]


def test_labels_are_names_and_tell_texts_apart() -> None:
    texts = [*ODD, *RARE, *LONG]
    assert len({label_of(text) for text in texts}) == len(texts)
    with Memory(":memory:") as memory:
        for text in texts:
            label = label_of(text)
            assert len(label) <= 256
            memory.put(label, user_id=label, run_id=label, namespace=("a", label), data=True)
        assert memory.count(user_id=label_of(" a"), under=()) == 1
        for text in texts:
            names = memory.namespaces(user_id=label_of(text), under=("a",))
            assert [each.namespace for each in names] == [("a", label_of(text))]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_text_is_read_from_its_label(text: str) -> None:
    assert text_of(label_of(text)) == text


def test_what_is_too_long_to_be_read_says_so() -> None:
    assert text_of(label_of("a" * 256)) == "a" * 256
    assert text_of(label_of("a" * 257)) is None


def test_an_error_of_a_call_is_raised_where_it_was_yielded() -> None:
    def steps() -> Steps[list[str]]:
        seen = list[str]()
        for version in (0, 0, 1):
            try:
                yield "put", {"key": "k", "content": "x", "if_version": version}
                seen.append("put")
            except ConflictError:
                seen.append("conflict")
        yield "put", {"key": "k", "content": "x", "if_version": 7}
        return seen

    def caught() -> Steps[list[str]]:
        try:
            yield from steps()
        except ConflictError:
            return ["caught"]
        return []

    with Memory(":memory:") as memory:
        with pytest.raises(ConflictError):
            run(memory, steps())
        memory.delete(key="k")
        assert run(memory, caught()) == asyncio.run(arun(memory, caught())) == ["caught"]


def test_an_id_may_be_a_number_and_what_is_none_is_refused() -> None:
    id = UUID("6f6e1c7e-5ad3-4f0c-9a35-0d2d9a2ad1b4")
    assert (id_label("a"), id_label(7), id_label(id)) == ("a", "7", str(id))
    for odd in (None, True, 7.5, b"a", ("a",)):
        with pytest.raises(InvalidInputError, match="must be text, an int or a UUID, not"):
            id_label(odd)
        with pytest.raises(InvalidInputError, match="must be text, not"):
            label_of(odd)  # type: ignore[arg-type]


def test_a_text_is_no_namespace() -> None:
    assert names_of(["a", "b"]) == ("a", "b")
    with pytest.raises(ScopeError, match=r"write \('chats',\)"):
        names_of("chats")
