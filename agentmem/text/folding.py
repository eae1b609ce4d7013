"""What makes two spellings of a word the same: width, case, accents, points, and characters that nobody sees.

``spelled`` is a word as it was written, in Unicode's NFKC, case-folded, without format characters. ``fold`` also takes
off what people leave out when they type in a hurry: accents of Latin and Greek letters, stress marks, Arabic and
Hebrew points, the nukta; letters that no rule of Unicode takes apart (ø, ł, đ, æ, ı) become what stands for them on a
keyboard without them, and digits of all scripts are 0 to 9.

Marks that make another letter stay: vowel signs of Indic scripts, the dots of Kana, and й, ї, ў, ѓ, ќ of Cyrillic,
which nobody writes as и, і, у, г, к. ё is another matter: most Russian texts spell it е.
"""

# ruff: noqa: RUF001, RUF002, RUF003
from __future__ import annotations

import re
import unicodedata

_SAME = {
    "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ı": "i", "ə": "e", "ǝ": "e", "ŋ": "n", "ɛ": "e", "ɔ": "o", "ĸ": "k",
    # Letters that stand for an apostrophe, as in Hawaiʻi and Qurʾān.
    "ʻ": "", "ʼ": "", "ʽ": "", "ʾ": "", "ʿ": "", "ˈ": "",
    "ё": "е", "ѐ": "е", "ѝ": "и",
    # Spelled one way or the other by habit and by keyboard: alef maksura, teh marbuta, Persian and Urdu letters, and
    # the line that makes a word longer.
    "ى": "ي", "ی": "ي", "ې": "ي", "ة": "ه", "ہ": "ه", "ھ": "ه", "ک": "ك", "ٱ": "ا", "ـ": "",
    # Candrabindu is written as anusvara.
    "ँ": "ं",
    # Malayalam's chillus and Bengali's khanda ta were once spelled with a joiner.
    "ൺ": "ണ്", "ൻ": "ന്", "ർ": "ര്", "ൽ": "ല്", "ൾ": "ള്", "ൿ": "ക്", "ৎ": "ত্",
}  # fmt: skip
_WRITTEN_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "đ": "dj"})
_LEFT_OUT = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u08ca-\u08e1\u08e3-\u08ff\u093c"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
"""Accents, points, stress and enclosing marks; a combining mark that is not among them belongs to its letter."""
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's default ignorable characters, and other format characters."""
_NAMED = re.compile(r"LATIN SMALL LETTER ([A-Z]) WITH ")


class _Folds(dict[int, str]):
    """What each character becomes, worked out when it is first met; for ``str.translate``."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold_character(chr(code))
        return folded


_folds = _Folds()


def spelled(word: str) -> str:
    """The word in NFKC, case-folded, without characters that are not seen."""
    seen = _UNSEEN.sub("", unicodedata.normalize("NFKC", word).casefold())
    # The capital İ becomes an i with a second dot, which the small letter has anyway.
    return unicodedata.normalize("NFKC", seen).replace("i\u0307", "i")


def fold(word: str) -> str:
    """The word without what is left out in a hurry. Folding again changes nothing."""
    while (folded := unicodedata.normalize("NFC", spelled(word).translate(_folds))) != word:
        word = folded
    return word


def written_out(word: str) -> str:
    """A spelled word with its umlauts written as two letters, as in Mueller, Soerensen and Djokovic, and folded."""
    return fold(word.translate(_WRITTEN_OUT))


def _fold_character(char: str) -> str:
    if char in _SAME:
        return _SAME[char]
    if _LEFT_OUT.match(char):
        return ""
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    name = unicodedata.name(char, "")
    if named := _NAMED.match(name):
        return named[1].lower()
    parts = unicodedata.normalize("NFD", char)
    if parts == char or name.startswith(("CYRILLIC", "HANGUL")):
        return char
    return "".join(_fold_character(part) for part in parts)
