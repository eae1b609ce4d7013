"""Dates in a question, as ranges of time that memories may have occurred in; docs/retrieval.md says what means what.

``tokens`` cuts a question up and reads dates in digits; ``language`` looks its words up in the languages that it may be
in (``languages`` has a file for each); ``rules`` makes dates of the kinds of tokens, by the functions of ``counted``,
``named``, ``dayparts`` and ``combined``; ``civil`` is the calendar of a time zone.
"""

from agentmem.text.dates.civil import Range
from agentmem.text.dates.nearness import DATE_HALF_LIFE, closeness
from agentmem.text.dates.ranges import end_of_day, ranges_of

__all__ = ["DATE_HALF_LIFE", "Range", "closeness", "end_of_day", "ranges_of"]
