"""Text longer than what the model reads at once: embedded in windows and averaged, or refused, and explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import ROOT, HashEmbedder

from agentmem import InvalidInputError, Memory, Settings
from agentmem.embedding import open_embedder, windows_of

MINILM = ROOT.parent / "shared" / "models" / "minilm-int8"
needs_minilm = pytest.mark.skipif(not MINILM.is_dir(), reason="needs ../shared/models/minilm-int8")
REFUSE = Settings(long_text="refuse")
LONG = "one two three four five six seven eight nine ten eleven"


class FiveWords(HashEmbedder):
    """Reads five words at once."""

    name = "five-words"
    window = 5

    def windows(self, texts: Sequence[str]) -> list[int]:
        return [max(1, -(-len(re.findall(r"\w+", text)) // self.window)) for text in texts]


def test_refused(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(embedder=FiveWords(), settings=REFUSE)
    with pytest.raises(InvalidInputError, match=r"content needs 3 windows of the 5 tokens that 'five-words'") as caught:
        memory.add(LONG, user_id="u")
    assert (caught.value.field, caught.value.index) == ("content", None)
    with pytest.raises(InvalidInputError) as caught:
        memory.add_many(["short", "also short", LONG, "short again"], user_id="u")
    assert caught.value.index == 2
    assert memory.stats().records == 0
    with pytest.raises(InvalidInputError) as caught:
        list(memory.add_stream(["a", "b", "c", "d", LONG], chunk=2, user_id="u"))
    assert caught.value.index == 4
    id = memory.add("five words and no more", user_id="u").id
    with pytest.raises(InvalidInputError) as caught:
        memory.update(id, content=LONG)
    assert caught.value.index is None
    # A question is never refused.
    assert len(memory.search(LONG, user_id="u", mode="vector")) == 5


def test_what_is_stored_already_is_never_refused(open_memory: Callable[..., Memory], store: Path) -> None:
    with Memory(store, embedder=HashEmbedder()) as memory:
        id = memory.add(LONG, user_id="u").id
        memory.update(id, content="short")
    with Memory(store, embedder=HashEmbedder(), settings=REFUSE) as memory:
        memory.add(LONG, user_id="u")  # this model does not tell
        memory.reembed(FiveWords())
        assert memory.restore(id, version=1).content == LONG
        assert memory.verify().ok


def test_explained(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory(embedder=FiveWords())
    memory.add(LONG, user_id="u")
    memory.add("eleven words", user_id="u")
    hits = memory.search("eleven", user_id="u", explain=True)
    assert {hit.content: hit.details and hit.details.windows for hit in hits} == {LONG: 3, "eleven words": 1}
    assert hits[0].to_dict()["details"]["windows"] in (1, 3)
    hits = memory.search("eleven", user_id="u", mode="keyword", explain=True)
    assert [hit.details and hit.details.windows for hit in hits] == [None, None]


def test_a_model_that_does_not_tell(memory: Memory) -> None:
    memory.add("something", user_id="u")
    [hit] = memory.search("something", user_id="u", explain=True)
    assert hit.details is not None
    assert hit.details.windows is None


def test_the_bundled_model_has_no_window() -> None:
    assert windows_of(open_embedder(), ["word " * 10_000, "", "short"]) == [1, 1, 1]


@needs_minilm
def test_a_transformer(tmp_path: Path) -> None:
    texts = ["short", "word " * 500, "word " * 520, "word " * 5_000]
    counts = windows_of(open_embedder(MINILM), texts)
    assert counts is not None
    assert counts[0] == 1
    assert counts == sorted(counts)
    with Memory(tmp_path, embedder=MINILM, settings=REFUSE) as memory:
        memory.add("short", user_id="u")
        with pytest.raises(InvalidInputError, match=rf"needs {counts[-1]} windows of the \d+ tokens .*'minilm-int8@"):
            memory.add(texts[-1], user_id="u")
    with Memory(tmp_path, embedder=MINILM) as memory:
        memory.add(texts[-1], user_id="u")
        hits = memory.search("word", user_id="u", mode="vector", explain=True)
        assert {hit.details and hit.details.windows for hit in hits} == {1, counts[-1]}
