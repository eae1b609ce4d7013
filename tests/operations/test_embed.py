"""``embed``: vectors by the store's model, for those who hand them back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import HashEmbedder

from agentmem import InvalidInputError, Memory

Open = Callable[..., Memory]


class Twofold(HashEmbedder):
    """A model that embeds queries in a way of their own, and not to the length one."""

    name = "twofold"

    def embed_query(self, text: str) -> np.ndarray:
        return -3 * super().embed_query(text)

    def embed_documents(self, texts: list[str]) -> np.ndarray:  # type: ignore[override]
        return np.array([2 * HashEmbedder.embed_query(self, text) for text in texts], np.float32)


def test_it_embeds_as_an_add_and_as_a_search_do(open_memory: Open) -> None:
    memory = open_memory(embedder=Twofold())
    texts = ["green tea", "a black cat", "green tea"]
    ids = [memory.add(text, dedupe=False).id for text in texts]

    made = memory.embed(texts)
    assert [len(vector) for vector in made] == [32, 32, 32]
    for vector, held in zip(made, memory.vectors(ids), strict=True):
        assert held is not None
        assert held.vectors[0].tolist() == vector

    asked = memory.embed(["tea"], query=True)[0]
    assert np.allclose(np.linalg.norm(asked), 1)
    by_vector = memory.search(vector=asked, rank="similarity")
    assert [hit.similarity for hit in by_vector] == [hit.similarity for hit in memory.search("tea", rank="similarity")]


@pytest.mark.parametrize("query", [False, True])
def test_no_texts_are_no_vectors(open_memory: Open, query: bool) -> None:
    assert open_memory().embed([], query=query) == []


def test_what_is_no_text_raises_with_its_position(open_memory: Open) -> None:
    memory = open_memory()
    for bad in ("", "  ", None, "a\x00b", 5):
        with pytest.raises(InvalidInputError) as caught:
            memory.embed(["x", bad])  # type: ignore[list-item]
        assert (caught.value.index, caught.value.field) == (1, "texts")
    with pytest.raises(InvalidInputError, match="list of texts"):
        memory.embed("x")
