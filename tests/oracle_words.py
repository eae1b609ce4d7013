"""Which terms a text has, worked out character by character. Imports nothing from the package.

What is documented of words, written down a second time: scripts are told by the names of characters, emoji by a few
ranges, and what letters become without their accents by the tables below.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import NamedTuple

from py_rust_stemmers import SnowballStemmer

_STEM = SnowballStemmer("english").stem_word
_ALONE = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "IDEOGRAPHIC")
_NO_ACCENT = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ə": "e",
    "ё": "е", "ى": "ي", "ی": "ي", "ة": "ه", "ک": "ك", "ہ": "ه", "ـ": "", "ँ": "ं", "ʻ": "", "ʼ": "", "ʿ": "", "ʾ": "",
    "ൻ": "ന്", "ർ": "ര്", "ൽ": "ല്", "ൾ": "ള്", "ൺ": "ണ്",
}  # fmt: skip
_TWO_LETTERS = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "đ": "dj"}
_DROPPED = ("COMBINING", "HEBREW POINT", "HEBREW ACCENT", "HEBREW MARK", "ARABIC", "DEVANAGARI SIGN NUKTA")
_PARTICLES = """
은 는 이 가 을 를 에 의 와 과 도 만 로 께 나 랑 야 에서 에게 에게서 한테 한테서 께서 으로 까지 부터
보다 처럼 마다 조차 마저 밖에 에만 이나 이랑 하고 만큼 대로 에는 에도 이란 이라 라고 라는 이야 이요 이에요
예요 입니다 입니까 인데 이고 이며 이다
""".split()
_FLAG, _TONE, _JOINER, _TAG = (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), "\u200d", (0xE0020, 0xE007F)
_PICTURES = ((0x1F300, 0x1F3FA), (0x1F400, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1FAFF), (0x2600, 0x27BF))
"""Of all pictographs the ones that tests use."""


@dataclass
class Form:
    """One term of a word, and what else it is found by."""

    term: str
    spelled: str = ""
    others: dict[str, float] = field(default_factory=dict)
    folded: str = ""
    light: bool = False
    beside: bool = False


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def terms(text: str) -> list[str]:
    """Every term of a text, as often as it occurs."""
    return [term for form in forms(text) for term in (form.term, form.spelled, *form.others) if term]


def length(text: str) -> int:
    """The number of words that a text counts for."""
    return sum(not form.beside for form in forms(text))


def forms(text: str) -> list[Form]:
    """The forms of every word of a text."""
    found = list[Form]()
    for chunk in text.split():
        chunk = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", chunk.casefold()).casefold())
        chunk = chunk.replace("♯", "#")
        groups = list[list[Token]]()
        for token in _tokens(chunk):
            between = chunk[groups[-1][-1].end : token.start] if groups else ""
            if between == "&" or (between == "." and token.text[0].isalpha()):
                groups[-1].append(token)
            else:
                groups.append([token])
        found += [form for group in groups for token in group for form in _forms_of(token)]
        found += [form for group in groups if len(group) > 1 for form in _as_one(group)]
    return found


def stemmed(folded: str) -> str:
    return _STEM(folded[:64]) if folded.isascii() else folded[:64]


def fold(word: str) -> str:
    """A word without accents, points, unseen characters; digits of any script as 0 to 9."""
    result = ""
    for char in spell(word):
        if char in _NO_ACCENT:
            result += _NO_ACCENT[char]
        elif unicodedata.category(char) == "Nd":
            result += str(unicodedata.decimal(char))
        elif unicodedata.name(char, "").startswith("CYRILLIC"):
            result += "" if unicodedata.combining(char) else char
        else:
            parts = [part for part in unicodedata.normalize("NFD", char) if not _is_dropped(part)]
            result += "".join(_NO_ACCENT.get(part, part) for part in parts)
    return unicodedata.normalize("NFC", result)


def spell(word: str) -> str:
    """A word as it was written, without characters that are not seen."""
    seen = [char for char in word if not _is_unseen(char)]
    return unicodedata.normalize("NFKC", "".join(seen)).replace("i\u0307", "i")


def _is_unseen(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or "VARIATION SELECTOR" in unicodedata.name(char, "") or char == "\u034f"


def _is_dropped(char: str) -> bool:
    name = unicodedata.name(char, "")
    return unicodedata.category(char)[0] == "M" and name.startswith(_DROPPED) and "KANA" not in name


def _within(char: str, span: tuple[int, int]) -> bool:
    return span[0] <= ord(char) <= span[1]


def _kind(char: str) -> str:
    """What a character does in a text; empty for what only separates words."""
    category, name = unicodedata.category(char), unicodedata.name(char, "")
    if category in ("Mn", "Mc", "Me", "Cf"):
        return "inside"
    if char.isalnum():
        if name.startswith(_ALONE) or char in "ー々":
            return "other" if category == "Nd" else "alone"
        for script in ("HANGUL SYLLABLE", "HEBREW LETTER", "ARABIC LETTER", "ARABIC TATWEEL"):
            if name.startswith(script):
                return script.split()[0]
        return "other"
    if _within(char, _FLAG):
        return "flag"
    if category == "Sc" or any(_within(char, span) for span in _PICTURES):
        return "picture"
    return ""


def _tokens(text: str) -> list[Token]:
    found, at = list[Token](), 0
    while at < len(text):
        kind, start = _kind(text[at]), at
        at += 1
        if kind in ("", "inside"):
            continue
        if kind == "flag":
            at += at < len(text) and _kind(text[at]) == "flag"
        elif kind == "picture":
            at = _end_of_picture(text, at)
        else:
            while at < len(text) and _kind(text[at]) in ((kind, "inside") if kind != "alone" else ("inside",)):
                at += 1
        if kind == "other":
            start, at = _signs(text, start, at)
        found.append(Token(kind, text[start:at], start, at))
    return found


def _end_of_picture(text: str, at: int) -> int:
    if unicodedata.category(text[at - 1]) == "Sc":
        return at
    while at < len(text):
        joins = text[at] == _JOINER and at + 1 < len(text) and _kind(text[at + 1]) == "picture"
        if joins and unicodedata.category(text[at + 1]) != "Sc":
            at += 2
        elif text[at] in "\ufe0e\ufe0f" or _within(text[at], _TONE):
            at += 1
        else:
            break
    while at < len(text) and _within(text[at], _TAG):
        at += 1
    return at


def _signs(text: str, start: int, end: int) -> tuple[int, int]:
    """Where a word begins and ends with the signs that belong to it."""
    before, after = text[:start], text[end:]
    letter = end == start + 1 and text[start] in "abcdefghijklmnopqrstuvwxyz"
    if letter and not (before and _is_inside(before[-1])) and after.startswith(("++", "#")):
        return start, end + (1 if after[0] == "#" else 2)
    if before.endswith(".") and text[start] in "abcdefghijklmnopqrstuvwxyz":
        earlier = before[-2:-1]
        if not (earlier == "." or (earlier and _is_inside(earlier))):
            start -= 1
    if after.startswith("++"):
        return start, end + 2
    if after.startswith("+") and not (after[1:] and _is_inside(after[1])):
        return start, end + 1
    if after.startswith("-") and not (after[1:] and (after[1] in "-_" or _is_inside(after[1]))):
        return start, end + 1
    return start, end


def _is_inside(char: str) -> bool:
    return _kind(char) in ("other", "inside")


def _forms_of(token: Token) -> list[Form]:
    word = token.text
    if token.kind == "HANGUL":
        return _korean("".join(char for char in word if _kind(char) == "HANGUL"))
    if token.kind in ("flag", "picture"):
        spelled = word.replace("\ufe0f", "").replace("\ufe0e", "")
        plain = "".join(char for char in spelled if not _within(char, _TONE))
        return [Form(plain, spelled if spelled != plain else "")]
    if len(word) > 1 and word[0].isalpha() and word[1:] in ("++", "#"):
        return [Form(word)]
    before = "." if word[0] == "." else ""
    bare = word.removeprefix(".").rstrip("+-")
    after = word[len(before) + len(bare) :]
    if after == "-" and len(bare) > 1 and bare != "ab":
        after = ""
    spelled, folded = spell(bare), fold(bare)
    if not folded:
        return []
    others = dict[str, float]()
    if any(char in spelled for char in _TWO_LETTERS):
        others[stemmed(fold("".join(_TWO_LETTERS.get(char, char) for char in spelled)))] = 1.0
    signed = before + spelled[:64] + after
    return [Form(stemmed(folded), "" if signed == folded[:64] else signed, others, folded)]


def _as_one(group: list[Token]) -> list[Form]:
    return [Form(stemmed(fold("".join(token.text for token in group))), beside=True)]


def _korean(word: str) -> list[Form]:
    if word in _PARTICLES:
        return [Form(word[:2], light=True)]
    if len(word) == 1:
        return [Form(word)]
    stem, noun = word, _less_a_particle(word)
    while len(noun) > 1:
        stem, noun = noun, _less_a_particle(noun)
    certain = bool(noun) and len(stem) > 2
    noun = "" if len(stem) == 2 and stem != word else noun
    found = list[Form]()
    for at in range(len(word) - 1):
        others = {noun: 0.6} if noun and not certain and at == 0 else {}
        found.append(Form(word[at : at + 2], others=others, light=at > 0 if certain else at + 2 > len(stem)))
    return found + ([Form(noun, beside=True)] if certain else [])


def _less_a_particle(word: str) -> str:
    ends = [part for part in _PARTICLES if word.endswith(part) and word != part]
    return word[: -len(max(ends, key=len))] if ends else ""
