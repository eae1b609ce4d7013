"""What becomes of a text of somebody else's: whatever it is, the store takes what is made of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmem import Memory
from agentmem.adapters.texts import LONGEST, embeddable, is_content

BLANK = ["", " ", "\n\t", "\x00", "\u200b", "\ufeff ", "\u3164", "\uffa0\u115f", "\u2800", "\ufe0f", "\u0301", "\ud800"]
SHOWN = ["a", " a ", "!", "🙂", "é", "e\u0301", "\u200bx", "a\x00b", "x\ud800", "한", "x" * 300_000, "👨\u200d👩"]


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    with Memory(":memory:") as opened:
        yield opened


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_nothing_is_made_of_what_nobody_sees(text: str) -> None:
    assert embeddable(text) == ""
    assert not is_content(text)


@pytest.mark.parametrize("text", SHOWN, ids=lambda text: ascii(text[:20]))
def test_what_is_made_of_others_is_stored_and_found(memory: Memory, text: str) -> None:
    made = embeddable(text)
    assert 0 < len(made) <= LONGEST
    memory.put("k", data={}, embed=[made], namespace=("embed",))
    assert len(memory.search(made, namespace=("embed",), rank="similarity")) == 1
    if is_content(text):
        memory.put("k", text)
        record = memory.get(key="k")
        assert record is not None
        assert record.content == text
