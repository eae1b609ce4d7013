"""A text's words: where they begin and end, and the forms under which each is found.

Unicode's word boundaries (UAX #29) are the reference: a word is letters and digits with their marks, format characters
and joiners belong to the word that they are in, and an emoji with its skin tone and what is joined to it is one word,
as are the two halves of a flag. It differs where retrieval needs it to:

* scripts written without blanks (Han, Kana, Thai, Lao, Khmer, Myanmar) are split into characters with their marks,
  Korean into pairs of syllables (``hangul``); where one of these, Hebrew or Arabic meets another script, a word ends;
* what UAX #29 joins by a full stop or an apostrophe stays apart, but node.js, U.S. and R&D are found as "nodejs", "us"
  and "rd" as well;
* C++, C# and F# are words; the sign of ``.NET``, ``Disney+`` and ``A-`` tells them from "net", "disney" and "a"; signs
  of currencies are words, and so are dingbats.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple, cast

import py_rust_stemmers

from agentmem.text import hangul
from agentmem.text.folding import fold, spelled, written_out

LONGEST = 64
"""Longer runs are hashes or encoded data; their first characters are enough to tell them apart."""
_GUESS = 0.6
"""What a Korean noun of one syllable counts where the word may as well be another noun, of two."""
_SKIN_TONES = dict.fromkeys(range(0x1F3FB, 0x1F400), "")
_PRESENTATION = dict.fromkeys(range(0xFE0E, 0xFE10), "")
_UMLAUTS = frozenset("äöüøåđ")
_PATTERN = r"""
    (?<!{inside})[a-z](?:\+\+|\#)
  | (?:(?<![.]|{inside})\.(?=[a-z])(?![a-z](?:\+\+|\#)))? {word} (?:\+\+|\+(?!{inside})|-(?![-_]|{inside}))?
"""
_ASCII = re.compile(_PATTERN.format(word="[a-z0-9]+", inside="[a-z0-9]") + r"|\$", re.VERBOSE)
_BLANKS = bytes(code if chr(code).isalnum() else 0x20 for code in range(128)).ljust(256)
"""Bytes, whose translation takes a tenth of the time of a string's."""
_DOTTED = re.compile(r"\.[a-z]")
_MINUS = re.compile(r"-(?:(?<=[a-z0-9]-)(?<![a-z0-9][a-z0-9]-)|(?<=ab-)(?<![a-z0-9]ab-))(?![\w-])")
_english: Callable[[str], str] = cast("Any", py_rust_stemmers).SnowballStemmer("english").stem_word


class Form(NamedTuple):
    """What a word is found by, or a part of it.

    ``term`` is what memories and questions have in common. ``spelled`` is the word as it was spelled, where that says
    more (accents, points, a skin tone, the plus of ``Disney+``); ``others`` are further terms with what they count of
    the word; ``folded`` is the term before stemming, where it may be misspelled. ``light``: it says as little as a
    function word; ``beside``: it comes on top of other forms of the same characters, and makes the text no longer.
    """

    term: str
    spelled: str = ""
    others: tuple[tuple[str, float], ...] = ()
    folded: str = ""
    light: bool = False
    beside: bool = False

    @property
    def terms(self) -> tuple[str, ...]:
        """All of them."""
        own = (self.term, self.spelled) if self.spelled else (self.term,)
        return own + tuple(other for other, _ in self.others)


def plain_words(text: str) -> list[str] | None:
    """The words of a case-folded text where they are nothing but runs of ASCII letters and digits; else None."""
    if not text.isascii() or "+" in text or "#" in text or "$" in text or "&" in text:
        return None
    if _DOTTED.search(text) or _MINUS.search(text):
        return None
    return text.encode().translate(_BLANKS).decode().split()


def forms(text: str) -> list[Form]:
    """The forms of a text's words, in order."""
    text = text.casefold()
    if (plain := plain_words(text)) is not None:
        return [Form(stem(word), folded=word) for word in plain]
    return [form for chunk in text.split() for word in words_in(chunk) for form in forms_of(word)]


def words_in(chunk: str) -> list[str]:
    """The words of a piece of case-folded text that has no blanks; last, with their signs, those that are joined."""
    if chunk.isascii():
        pattern = _ASCII
    else:
        chunk = unicodedata.normalize("NFKC", chunk).casefold().replace("\u266f", "#")  # the musical sharp
        pattern = _any_script()
    if "." not in chunk and "&" not in chunk:
        return pattern.findall(chunk)
    words, joined, end = list[str](), list[str](), -2
    for match in pattern.finditer(chunk):
        word, start = match[0], match.start()
        if start == end + 1 and (chunk[end] == "&" or (chunk[end] == "." and word[0].isalpha())):
            joined[-1] += f"&{word}"
        else:
            joined.append(word)
        words.append(word)
        end = match.end()
    return words + [each for each in joined if "&" in each]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The term of a folded word: of an ASCII one the English stem (Snowball)."""
    word = word[:LONGEST]
    return _english(word) if word.isascii() else word


def forms_of(word: str) -> Iterator[Form]:
    """The forms of one word, case-folded, as ``words_in`` gives it."""
    if "&" in word:
        yield Form(stem(fold(word.replace("&", ""))), beside=True)
        return
    first = word[0]
    if "\uac00" <= first <= "\ud7a3":
        yield from _korean("".join(char for char in word if "\uac00" <= char <= "\ud7a3"))
    elif first != "." and not first.isalnum():  # emoji and signs
        emoji = word.translate(_PRESENTATION)
        plain = emoji.translate(_SKIN_TONES)
        yield Form(plain, emoji if emoji != plain else "")
    elif word[1:] in ("++", "#") and first.isalpha():
        yield Form(word)
    else:
        bare = word.lstrip(".").rstrip("+-")
        before, after = word.split(bare, 1)
        if after == "-" and len(bare) > 1 and bare != "ab":
            after = ""  # a hyphen at the end of a line, and no grade or blood group
        yield from _plain(bare, before, after)


def _plain(word: str, before: str, after: str) -> Iterator[Form]:
    """A word in letters and digits, and the signs beside it."""
    as_spelled = spelled(word)
    folded = fold(as_spelled)
    if not folded:
        return
    others: tuple[tuple[str, float], ...] = ()
    if not _UMLAUTS.isdisjoint(as_spelled):
        others = ((stem(written_out(as_spelled)), 1.0),)
    signed = f"{before}{as_spelled[:LONGEST]}{after}"
    yield Form(stem(folded), signed if signed != folded[:LONGEST] else "", others, folded)


def _korean(word: str) -> Iterator[Form]:
    if hangul.is_particle(word):  # what it belongs to is in another script
        yield Form(word[:2], light=True)
        return
    if len(word) == 1:
        yield Form(word)
        return
    parts = hangul.parts_of(word)
    for at, pair in enumerate(parts.pairs):
        guess = ((parts.noun, _GUESS),) if parts.noun and not (parts.certain or at) else ()
        yield Form(pair, others=guess, light=at >= parts.telling)
    if parts.certain:
        yield Form(parts.noun, beside=True)


@cache
def _any_script() -> Any:
    """The pattern for texts that are not ASCII; a module of its own knows scripts, marks and emoji."""
    import regex

    alone = r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]&&[\p{L}\p{Nl}]]"
    korean, hebrew, arabic = r"[\uac00-\ud7a3]", r"[\p{Hebrew}&&\p{L}]", r"[[\p{Arabic}\u0640]&&\p{L}]"
    other = rf"[[\p{{L}}\p{{N}}]--[{alone}{korean}{hebrew}{arabic}]]"
    inside = rf"[{other}\p{{M}}\p{{Cf}}]"
    picture = r"[\p{Extended_Pictographic}\u2600-\u27bf][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
    return regex.compile(
        rf"""(?V1x)
        {alone}[\p{{M}}\p{{Cf}}]* | {korean}[{korean}\p{{M}}\p{{Cf}}]*
      | {_PATTERN.format(word=f"{other}{inside}*", inside=inside)}
      | {hebrew}[{hebrew}\p{{M}}\p{{Cf}}]* | {arabic}[{arabic}\p{{M}}\p{{Cf}}]*
      | [\U0001f1e6-\U0001f1ff]{{1,2}} | {picture}(?:\u200d{picture})*[\U000e0020-\U000e007f]* | \p{{Sc}}
        """
    )
