"""What is refused of a model's operations, whatever the prompt said. Pure functions of what was shown and answered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import pairwise
from unicodedata import combining, normalize

from agentmem.knowledge.answers import Claim, Op, Quote, instant
from agentmem.knowledge.asking import Asked, local
from agentmem.knowledge.ports import Fact, Message, Span
from agentmem.types.plain import Plain

LONGEST = 1_000
"""Characters of a fact."""
_LONGEST_SUBJECT = 200
_SHORTEST = 2
"""Characters of a quote; less is in nearly every text."""
MOST_RETIRED = 10
"""Facts that one answer may retire: who wants more has probably misunderstood."""
_USERS = frozenset({"user", "nutz", "benu", "usua", "util", "uten", "użyt", "поль"})
"""How "user" begins in some languages that write it large, or may."""
_WORD = re.compile(r"\w+")
MARKS = str.maketrans(
    {
        char: mark
        for mark, chars in {
            "'": "\u2018\u2019\u201a\u02bc\u00b4`",
            '"': "\u201c\u201d\u201e\u00ab\u00bb",
            "-": "\u2010\u2011\u2012\u2013\u2014\u2212",
        }.items()
        for char in chars
    }
)
"""Quotation marks and dashes that models write in one way and people in many; one character for one."""
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:[ \u00a0\u202f.,'\u2019]\d{3})+(?![\d])")
"""Numbers with something between their thousands."""
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True)
class Refusal(Plain):
    """An operation that was not made, and why."""

    op: str
    why: str
    text: str = ""
    """What it would have said; kept nowhere."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An operation that may be made."""

    op: Op
    text: str
    subject: str
    target: Fact | None
    spans: tuple[Span, ...]
    reason: str
    at: datetime | None
    """When the last of its evidence was said."""
    valid_from: datetime | None
    valid_to: datetime | None


def judge(
    claims: Sequence[Claim], asked: Asked, *, roles: Collection[str], zone: tzinfo
) -> tuple[list[Accepted], list[Refusal]]:
    """Which operations may be made; ``roles`` are those whose messages are evidence."""
    targets = Counter(claim.target for claim in claims if claim.target is not None)
    retired = sum(claim.op in ("SUPERSEDE", "RETRACT") for claim in claims)
    known = {(canonical(fact.subject), canonical(fact.text)) for fact in asked.facts.values()}
    accepted, refused = list[Accepted](), list[Refusal]()
    for claim in claims:
        try:
            if claim.target is not None and targets[claim.target] > 1:
                raise RefusedError("two operations on one fact")
            if claim.op in ("SUPERSEDE", "RETRACT") and retired > MOST_RETIRED:
                raise RefusedError(f"{retired} facts at once are to be retired, more than {MOST_RETIRED}")
            one = _checked(claim, asked, roles, zone)
        except RefusedError as exc:
            refused.append(Refusal(claim.op, str(exc), claim.text))
            continue
        if one.op in ("ADD", "SUPERSEDE"):
            words = (canonical(one.subject), canonical(one.text))
            if one.op == "ADD" and words in known:
                one = Accepted("NOOP", "", one.subject, None, one.spans, "known already", one.at, None, None)
            known.add(words)
        accepted.append(one)
    return accepted, refused


class RefusedError(Exception):
    """What a model said is not to be stored; the text says why."""


def _checked(claim: Claim, asked: Asked, roles: Collection[str], zone: tzinfo) -> Accepted:
    target = None
    if claim.target is not None:
        target = asked.facts.get(claim.target)
        if target is None:
            raise RefusedError("its target was not shown")
    if claim.op == "NOOP":
        return Accepted("NOOP", "", claim.subject, target, (), claim.reason, None, None, None)
    if claim.op == "ADD" and target is not None:
        raise RefusedError("an ADD has no target")
    if claim.op != "ADD" and target is None:
        raise RefusedError("no target")
    spans, cited = evidence_of(claim.evidence, asked.messages)
    if not any(message.role in roles for message in cited):
        raise RefusedError(f"no evidence of the role {' or '.join(sorted(roles))}")
    at = max(message.at for message in cited)
    subject = claim.subject or (target.subject if target is not None else "")
    if not subject:
        raise RefusedError("no subject")
    if len(subject) > _LONGEST_SUBJECT:
        raise RefusedError(f"a subject of {len(subject):,} characters, more than {_LONGEST_SUBJECT}")
    if target is not None and canonical(subject) != canonical(target.subject):
        raise RefusedError("the target is about another subject")
    since, until = _times(claim, zone)
    if claim.op == "RETRACT":
        began = None if target is None else target.valid_from
        if until is not None and began is not None and until <= began:
            raise RefusedError("it ends before its target begins")
        return Accepted("RETRACT", "", subject, target, spans, claim.reason, at, None, until)
    days = [local(at, zone) for at in (*(message.at for message in cited), since, until) if at is not None]
    check_text(claim.text, subject, cited, asked, days)
    if target is not None:
        if canonical(claim.text) == canonical(target.text):
            raise RefusedError("it says what its target says")
        if since is None:  # said at one time with its target, or before that is to begin: in its place, then
            since = at if target.valid_from is None else max(at, target.valid_from)
        if target.valid_from is not None and since < target.valid_from:
            raise RefusedError("it begins before what it is to supersede")
    if since is not None and until is not None and since >= until:
        raise RefusedError("it would hold at no time")
    return Accepted(claim.op, claim.text, subject, target, spans, claim.reason, at, since, until)


def evidence_of(quotes: Sequence[Quote], messages: Mapping[str, Message]) -> tuple[tuple[Span, ...], list[Message]]:
    """Where quotes are, and the messages. Raises ``RefusedError`` where one is not there, or there is none."""
    if not quotes:
        raise RefusedError("no evidence")
    spans, cited = list[Span](), list[Message]()
    for quote in quotes:
        message = messages.get(quote.message)
        if message is None:
            raise RefusedError("its evidence was not shown")
        place = find_quote(quote.words, message.text)
        if place is None:
            raise RefusedError("a quote is not in its source")
        spans.append(Span(message.id, *place, message.text[slice(*place)]))
        cited.append(message)
    return tuple(dict.fromkeys(spans)), cited


def find_quote(words: str, text: str) -> tuple[int, int] | None:
    """Where words are in a text, whole ones, whatever blanks, quotation marks and dashes; None if they are not."""
    words, text = words.translate(MARKS), text.translate(MARKS)
    parts = [re.escape(part) for part in normalize("NFC", words).split()]
    if len("".join(words.split())) < _SHORTEST:
        return None
    before = r"(?<!\w)" if re.match(r"\w", words.strip()) and words.strip()[0].isascii() else ""
    after = r"(?!\w)" if words.strip()[-1].isascii() and re.match(r"\w", words.strip()[-1]) else ""
    pattern = before + r"\s+".join(parts) + after
    found = re.search(pattern, text)
    if found is not None or normalize("NFC", text) == text:
        return None if found is None else (found.start(), found.end())
    composed, places = _composed(text)  # spelled in another way there
    found = re.search(pattern, composed)
    return None if found is None else (places[found.start()], places[found.end()])


def _composed(text: str) -> tuple[str, list[int]]:
    """A text with composed accents, and where each character of it, and its end, are in the text as it is."""
    starts = [at for at, char in enumerate(text) if not at or not (combining(char) or "\u1160" <= char <= "\u11ff")]
    made, places = list[str](), list[int]()
    for start, end in pairwise([*starts, len(text)]):
        cluster = normalize("NFC", text[start:end])
        made.append(cluster)
        places += [start] * len(cluster)
    return "".join(made), [*places, len(text)]


def _times(claim: Claim, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    try:
        return instant(claim.valid_from, zone), instant(claim.valid_to, zone)
    except (ValueError, OverflowError) as exc:
        raise RefusedError("a time that is none") from exc


def check_text(text: str, subject: str, cited: Sequence[Message], asked: Asked, days: Sequence[datetime]) -> None:
    """Refuse a text that says what no source has, as far as its form tells: numbers, names, or not one word of it."""
    if not text:
        raise RefusedError("no text")
    if len(text) > LONGEST:
        raise RefusedError(f"a fact of {len(text):,} characters, more than {LONGEST:,}")
    said = "\n".join(message.text for message in cited)
    numbers = set(_NUMBER.findall(said)) | {piece for number in _NUMBER.findall(said) for piece in _pieces(number)}
    numbers |= {form for at in days for form in (str(at.year), str(at.day), f"{at:%d}", str(at.month), f"{at:%m}")}
    numbers |= set(map(_joined, _GROUPED.findall(said)))
    for number in _NUMBER.findall(_GROUPED.sub(lambda found: _joined(found[0]), text)):
        if number not in numbers and not set(_pieces(number)) <= numbers:
            raise RefusedError("a number that its evidence does not have")
    own, there = _stems(text), _stems(said)
    names = {_stem(word) for word in _names(text)}
    shown = _stems("\n".join(fact.text for fact in asked.facts.values())) | _stems(subject)
    months = {f"{at:%B}"[:4].casefold() for at in days}
    if names - there - shown - months - _USERS:
        raise RefusedError("a name that neither its evidence nor a known fact has")
    if own and not own & there:
        raise RefusedError("not one word of its evidence")


def _joined(number: str) -> str:
    """A number without what is between its thousands."""
    return "".join(_pieces(number))


def _pieces(number: str) -> list[str]:
    return re.findall(r"\d+", number)


def _names(text: str) -> list[str]:
    """Capitalised words that do not begin a sentence."""
    found, text = list[str](), normalize("NFC", text)
    for match in re.finditer(r"\w+", text):
        before = text[: match.start()].rstrip(" \"'([")
        if match[0][0].isupper() and before and before[-1] not in ".!?:\n" and len(match[0]) > 1:
            found.append(match[0])
    return found


def _stems(text: str) -> set[str]:
    """What words are recognised by: their first four letters, and of scripts without blanks each two signs."""
    found = set[str]()
    for word in _WORD.findall(normalize("NFKC", text)):
        found.add(_stem(word))
        if not word.isascii() and len(word) > 1 and not any(char.isupper() or char.islower() for char in word):
            found |= {word[at : at + 2] for at in range(len(word) - 1)}
    return {stem for stem in found if len(stem) > 2 or not stem.isascii()}


def _stem(word: str) -> str:
    return normalize("NFKC", word).casefold()[:4]


def canonical(text: str) -> str:
    """A text as far as its words go."""
    return " ".join(_WORD.findall(normalize("NFKC", text).casefold()))
