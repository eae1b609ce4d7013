"""Names of somebody else's: whatever they are, the store takes what stands for them, and no two are the same."""

from __future__ import annotations

from agentmem import Memory
from agentmem.adapters.names import LONGEST, name

TEXTS = [
    "", " ", "  ", "a", " a", "a ", "A", "%", "%%", "%20", "%25", "%#", "~", "$sessions", "a/b", "..", "\t", "\n",
    "\x00", "\x7f",
    "\u00e9", "e\u0301", "\u3164", "\u200b", "\ud800", "\ud800\udc00", "\U00010000", "\U0001f375", "\ufeff",
    "x" * LONGEST, "x" * (LONGEST + 1), "x" * (LONGEST + 2), "\u00e9" * 200, "\u00e9" * 201, "'; DROP TABLE x; --",
]  # fmt: skip


def test_every_text_has_a_name_of_its_own_that_the_store_takes() -> None:
    names = [name(text) for text in TEXTS]
    assert len(set(names)) == len(set(TEXTS)) == len(TEXTS)
    with Memory(":memory:") as memory:
        for each in names:
            memory.put(each, data=1, namespace=("x", each), run_id=each)
        assert len(memory.namespaces(under=("x",), limit=1_000)) == len(names)
        assert {group.name for group in memory.runs(under=("x",))} == set(names)


def test_plain_texts_stand_for_themselves() -> None:
    for text in ("trip-7", "user 1", "a/b:c", '{"a": 1}', "x" * LONGEST):
        assert name(text) == text
