"""Counting tokens, by whatever counts them: a function, an encoding of tiktoken, a tokenizer of tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from agentmem.types.errors import InvalidInputError, shown

Tokenizer: TypeAlias = "Callable[[str], int] | Any"
"""What counts the tokens of a text: a function from text to int, or an object with ``encode``, such as
``tiktoken.get_encoding(...)`` or ``tokenizers.Tokenizer``. None: an estimate, a token for three bytes of UTF-8, which
is more than tokenizers of today need."""
Count: TypeAlias = Callable[[str], int]
PER_MESSAGE = 8
"""Tokens that a message costs beside its text: role, separators, and what the chat template puts around it."""


def estimate_tokens(text: str) -> int:
    """An upper guess at the tokens of a text: one per three bytes of UTF-8, where English averages four to five."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)


def counter_of(tokenizer: Tokenizer | None) -> Count:
    """A function that counts, of what a caller gave. What it returns is checked."""
    if tokenizer is None:
        return estimate_tokens
    encode = None if isinstance(tokenizer, str) else getattr(tokenizer, "encode", None)
    if callable(encode) and not isinstance(tokenizer, type):
        return _encoding(tokenizer)
    if not callable(tokenizer):
        raise InvalidInputError(
            f"tokenizer must be a function from text to int or have encode(), not {type(tokenizer).__name__}",
            field="tokenizer",
        )

    def counted(text: str) -> int:
        found = tokenizer(text)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise InvalidInputError(
                f"tokenizer returned {shown(found)} instead of a number of tokens", field="tokenizer"
            )
        return found

    return counted


def _encoding(tokenizer: Any) -> Count:
    # tiktoken refuses texts with the names of special tokens, unless it is told to take them for text.
    ordinary = getattr(tokenizer, "encode_ordinary", None)
    encode = cast("Callable[[str], Any]", ordinary if callable(ordinary) else tokenizer.encode)

    def counted(text: str) -> int:
        found = encode(text)
        ids = getattr(found, "ids", found)
        try:
            return len(ids)
        except TypeError as exc:
            raise InvalidInputError(
                f"{type(tokenizer).__name__}.encode() returned {shown(found)} instead of tokens", field="tokenizer"
            ) from exc

    return counted


def message_tokens(message: Mapping[str, Any], count: Count) -> int:
    """What a message costs in a prompt: its text, whatever else it has as JSON, and ``PER_MESSAGE``."""
    content = message.get("content")
    rest = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    text = content if isinstance(content, str) else "" if content is None else _json(content)
    return count(text) + (count(_json(rest)) if rest else 0) + PER_MESSAGE


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
