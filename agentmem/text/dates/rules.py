"""The rules, in the order in which they are tried, and how they are applied.

A cascade (Abney, "Partial Parsing via Finite-State Cascades", 1996): each rule is a regular expression over the string
of kinds (``tokens`` and ``language`` say what the letters mean), and what it matches becomes one token ``I``, a date
that later rules may build on. So "the end of last week" is ``tefAU``, then ``tefI``, then ``tI``. A rule whose function
finds its match to be no date leaves the tokens as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agentmem.text.dates import combined, counted, dayparts, named
from agentmem.text.dates.match import Context, Item, Match
from agentmem.text.dates.token import Token

Build = Callable[[Match], Item | None]

_COUNT = r"(?P<n>cc|[nc])(?:[-j&](?P<n2>[nc]))?"
_UNITS = rf"{_COUNT}(?P<h>h)?(?P<u>U)"
_UNITS_AND_HALF = rf"{_COUNT}(?P<u>U)(?P<h>h)"
_YEAR = r"(?:[,fq]{0,2}(?P<y>[Yy]))"
_PART = r"(?P<p>[PH])"

_RULES: list[tuple[Build, str, tuple[str, ...]]] = [
    # Counted from now.
    (counted.ago, "GV", (
        rf"{_UNITS_AND_HALF}(?P<g>G)", rf"{_UNITS}(?P<g>G)", r"(?P<C>C)(?P<g>G)", r"(?P<u>U)G",
        rf"V{_UNITS_AND_HALF}", rf"V{_UNITS}", r"V(?P<C>C)",
    )),
    (counted.ahead, "Bv", (rf"{_UNITS}B", r"(?P<C>C)B", rf"v{_UNITS}", r"v(?P<C>C)", r"v(?P<u>U)")),
    (counted.rolling, "AXZk", (
        rf"(?P<a>[AX]){_UNITS}", r"(?P<a>[AX])(?P<C>C)", rf"{_COUNT}(?P<a>[AX])(?P<h>h)?(?P<u>U)",
        rf"{_UNITS}(?P<z>[ZX])", rf"(?P<k>k){_UNITS}(?!G)", r"(?P<k>k)(?P<C>C)(?!G)",
    )),
    # By name.
    (named.in_digits, "Tl", (r"(?P<T>[Tl])",)),
    (named.day_of_month, "Mmbuz", (
        rf"(?P<d>[nop])(?:(?P<to>[-jk&])(?P<d2>[nop]))?[ft]{{0,2}}(?P<m>[Mmbuz])\.?{_YEAR}?",
        rf"(?P<r>r)f(?P<m>[Mm]){_YEAR}?",
        rf"(?P<m>[Mmbu])\.?t?(?P<d>[no])(?:(?P<to>[-jk&])(?P<d2>[no]))?{_YEAR}?(?![hU])",
        r"(?P<y>Y)[,f]?(?P<m>[Mmbu])(?P<d>[no])(?![hU])",
    )),
    (named.month_or_season, "MmbuzS", (rf"(?P<m>[MmbuzS])\.?{_YEAR}", r"(?P<y>Y)[,f]?(?P<m>[MmbuS])")),
    (named.quarter, "QU", (
        r"(?P<o>Q)[/f]?(?P<y>Y)", r"(?P<y>Y)[/f-]?(?P<o>Q)", r"(?P<o>[ronp])(?P<u>U)[ftq]{0,2}(?P<y>Y)",
        r"(?P<y>Y)f{0,2}(?P<o>[rn])(?P<u>U)", r"(?P<o>[rn])(?P<u>U)", r"(?P<o>Q)",
    )),
    (named.month_or_season, "MmSb", (
        r"(?P<a>[AX])(?P<m>[MmS])(?!f?[nYy])", r"(?P<m>[MmS])(?P<z>[ZX])", r"(?P<m>[Mb])", r"(?P<m>m)",
    )),
    (named.year, "Y", (r"(?P<y>Y)",)),
    (counted.unit_by_itself, "R", (r"(?P<r>R)",)),
    (counted.unit_near, "U", (r"(?P<a>[AX])(?P<u>U)", r"(?P<u>U)(?P<z>[ZX])")),
    (combined.of_that_year, "I", (
        r"(?P<m>[SmMbQI])[ifqt,]{0,3}(?P<I>I)", r"(?P<I>I)[iftdOV,]{0,3}(?P<m>[SmMbQI])",
    )),
    # Days and their parts.
    (dayparts.weekday_of_week, "W", (
        rf"(?P<w>W){_PART}?[iftd,]{{0,3}}(?P<I>I)", rf"(?P<I>I)[iftd,]{{0,3}}(?P<w>W){_PART}?",
    )),
    (dayparts.weekday_and_date, "Ww", (r"[AX]?[Ww][PH]?[,ftd]{0,2}(?P<I>I)",)),
    (combined.weekday_beside, "W", (r"(?P<w>W)(?P<k>[kV])[td]{0,2}(?P<I>I)",)),
    (combined.within, "W", (r"(?P<o>[roAX])(?P<w>W)[ftqi]{1,3}(?P<I>I)",)),
    (dayparts.weekday, "Ww", (
        rf"(?P<a>[AX])(?P<w>[Ww]){_PART}?", rf"(?P<w>[Ww])(?P<z>[ZX]){_PART}?", rf"(?P<w>[Ww]){_PART}?",
        rf"(?<=I[j&-])(?P<w>[Ww]){_PART}?",
    )),
    (dayparts.part_by_name, "F", (r"(?P<F>F)",)),
    (dayparts.today_and_date, "D", (r"(?P<D>D)(?P<I>I)", r"(?P<I>I)(?P<D>D)")),
    (dayparts.day, "D", (rf"(?P<D>D)[ift]{{0,3}}{_PART}", r"(?P<D>D)")),
    (dayparts.tomorrow, "H", (rf"(?P<H>H)[ift]{{0,3}}{_PART}",)),
    (dayparts.part_near, "PH", (rf"(?P<a>[AX]){_PART}", r"(?P<p>P)(?P<z>[ZX])")),
    (dayparts.tomorrow, "H", (r"(?P<H>H)",)),
    (dayparts.part_of_day, "PH", (rf"(?P<I>I)[ift]{{0,2}}{_PART}", r"(?P<p>P)[ift]{1,2}(?P<I>I)")),
    # Dates made of dates.
    (combined.share, "egL", (r"(?P<e>e)[ft]{0,3}(?P<I>I)", r"(?P<e>g)ft?(?P<I>I)", r"(?P<I>I)f?(?P<e>L)")),
    (combined.within, "U", (r"(?P<o>[roAX])(?P<u>U)[ftqi]{1,3}(?P<I>I)",)),
    (combined.week_of, "U", (r"(?P<u>U)[ft]{1,2}(?P<I>I)",)),
    (combined.beside, "U", (rf"(?:[AX]|{_COUNT})?(?P<u>U)(?P<k>[kV])[td]{{0,2}}(?P<I>I)",)),
    (combined.between, "I", (
        r"(?P<q>[qfvk])[td]?(?P<I>I)(?P<j>[jk&-])[td]?(?P<I2>I)", r"(?P<I>I)(?P<j>[j-])[td]?(?P<I2>I)",
    )),
    (combined.both_of_a_year, "I", (r"(?P<I>I)[,&](?P<I2>I)",)),
    (combined.bounded, "kVKGB", (r"(?P<k>[kV])[td]{0,2}(?P<I>I)", r"(?P<I>I)f?(?P<k>[KGB])")),
]  # fmt: skip
"""Functions, kinds one of which has to be there, and the expressions."""

_CASCADE = [(build, frozenset(needed), list(map(re.compile, patterns))) for build, needed, patterns in _RULES]


def dates_among(tokens: list[Token], context: Context) -> list[Token]:
    """The dates in tokens that were looked up in the context's language, each a token with an ``Item``."""
    kinds = "".join([token.kind for token in tokens])
    for build, needed, patterns in _CASCADE:
        if needed.isdisjoint(kinds):
            continue
        for pattern in patterns:
            if pattern.search(kinds) is not None:
                tokens = _applied(pattern, build, tokens, kinds, context)
                kinds = "".join([token.kind for token in tokens])
    return [token for token in tokens if token.kind == "I"]


def _applied(pattern: re.Pattern[str], build: Build, tokens: list[Token], kinds: str, context: Context) -> list[Token]:
    result, at = list[Token](), 0
    for found in pattern.finditer(kinds):
        item = build(Match(context, tokens, kinds, found))
        if item is not None:
            start, end = found.span()
            result += tokens[at:start]
            result.append(Token("I", item, tokens[start].start, tokens[end - 1].end))
            at = end
    return result + tokens[at:] if at else tokens
