"""What well-known models want before a query and before a document, by the words of their model cards."""

from __future__ import annotations

from typing import NamedTuple


class Prefixes(NamedTuple):
    query: str = ""
    document: str = ""


_E5 = Prefixes("query: ", "passage: ")
_NOMIC = Prefixes("search_query: ", "search_document: ")
_REPRESENT = Prefixes("Represent this sentence for searching relevant passages: ")
_WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query"

# Beginnings of names, lower case.
_KNOWN: dict[str, Prefixes] = {
    "intfloat/e5-": _E5,
    "intfloat/multilingual-e5-": _E5,
    "nomic-ai/nomic-embed-text-": _NOMIC,
    "mixedbread-ai/mxbai-embed-large-v1": _REPRESENT,
    "snowflake/snowflake-arctic-embed-xs": _REPRESENT,
    "snowflake/snowflake-arctic-embed-s": _REPRESENT,
    "snowflake/snowflake-arctic-embed-m": _REPRESENT,
    "snowflake/snowflake-arctic-embed-l": _REPRESENT,
    "google/embeddinggemma-": Prefixes("task: search result | query: ", "title: none | text: "),
    "qwen/qwen3-embedding-": Prefixes(f"{_WEB_SEARCH}\nQuery:"),
    "qdrant/stella-en-": Prefixes(f"{_WEB_SEARCH}.\nQuery: "),
}
# The second generation of bge works without; the first wants the instruction.
_EXACT: dict[str, Prefixes] = {"baai/bge-base-en": _REPRESENT, "baai/bge-small-en": _REPRESENT}


def known_prefixes(name: str) -> Prefixes:
    """The prefixes of the model called `name`; none where the model wants none or is not known."""
    name = name.lower()
    if name in _EXACT:
        return _EXACT[name]
    return next((prefixes for start, prefixes in _KNOWN.items() if name.startswith(start)), Prefixes())
