"""How full a layer is, as a level that does not flutter."""

from __future__ import annotations

from agentmem.types.enums import Pressure

MEDIUM, HIGH = 0.60, 0.85
EASED = {Pressure.MEDIUM: 0.55, Pressure.HIGH: 0.80}
"""A level is left downwards at this share, a little below where it began."""
_ORDER = (Pressure.LOW, Pressure.MEDIUM, Pressure.HIGH)


def pressure(used: float, before: Pressure = Pressure.LOW) -> Pressure:
    """The level at a share of the limit that is used: medium from 60 % on, high above 85 %.

    ``before`` is the level so far: it is left downwards only at 55 % and 80 %.
    """
    level = Pressure.HIGH if used > HIGH else Pressure.MEDIUM if used >= MEDIUM else Pressure.LOW
    if _ORDER.index(level) >= _ORDER.index(before):
        return level
    return before if used > EASED[before] else pressure(used, _ORDER[_ORDER.index(before) - 1])
