"""Names that look the same: which spellings are one name, and which characters nobody sees."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.types.spelling import composed, described, is_blank, spellings, trimmed

ALL_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\t\r\n", "\u00a0\u2003", "\u3000", "\u200d", "\ufe0f", "\u2060\u2061", "\ufeff", "\u00ad",
        "\u202a\u202c", "\u061c", "\u034f", "\u2800", "\u3164", "\x01\x7f\x85", "\U000e0041", "\U0001d173", "\u180e",
    ],
)  # fmt: skip
def test_nothing_to_be_seen(text: str) -> None:
    assert is_blank(text)
    assert is_blank(text * 3 + " ")
    assert not is_blank(text + "n")


@pytest.mark.parametrize("text", ["0", "n", ".", "\u0301", "\U0001f642", "\u0627", "\ufffd", "\ufffe", "\u0600"])
def test_something_to_be_seen(text: str) -> None:
    assert not is_blank(text)
    assert trimmed(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (" Zoë", "Zoë"), ("Zoë\r\n", "Zoë"), ("\ufeffZoë", "Zoë"), ("Zoë\u200b \u200e", "Zoë"),
        ("\u202eZoë\x00", "Zoë"),
        ("Zo ë", "Zo ë"), ("Zo\u200bë", "Zo\u200bë"), ("\u2764\ufe0f", "\u2764\ufe0f"),
        ("\u0645\u06cc\u200c", "\u0645\u06cc\u200c"),
        ("\U0001f3f4\U000e0067\U000e007f", "\U0001f3f4\U000e0067\U000e007f"), (" \u200b ", ""),
    ],
)  # fmt: skip
def test_ends_that_nobody_sees(text: str, left: str) -> None:
    assert trimmed(text) == left


def test_every_blank_and_every_format_character_was_thought_of() -> None:
    visible_formats = {"Arabic", "Syriac", "Kaithi"}  # signs that stand around numbers
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if character.isspace() or unicodedata.category(character) == "Cc":
            assert is_blank(character)
            assert trimmed(f"a{character}") == "a"
        elif unicodedata.category(character) == "Cf":
            shown = unicodedata.name(character, "").title().split(" ")[0] in visible_formats
            ink = shown or "EGYPTIAN" in unicodedata.name(character, "")
            assert is_blank(character) or ink or character == "\u061c", f"{code:x}"


def test_what_a_message_calls_them() -> None:
    assert described(" ") == "a blank"
    assert described("\ufeff") == "ZERO WIDTH NO-BREAK SPACE (U+FEFF)"
    assert described("\t") == "a control character (U+0009)"


@given(ALL_TEXT)
def test_a_name_is_looked_for_as_given_then_composed_then_decomposed(text: str) -> None:
    found = spellings(text)
    assert found[0] == text
    assert set(found) == {text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)}
    assert len(found) == len(set(found))
    assert composed(text) in found
    assert composed(composed(text)) == composed(text)
    assert {composed(each) for each in found} == {composed(text)}
