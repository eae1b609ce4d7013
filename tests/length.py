"""How long tests of many examples last: shortly with each run, and for minutes with ``make test-long``."""

from hypothesis import settings


def examples(short: int, long: int) -> int:
    """How many examples the profile of this run wants; those who use it have the mark ``long``."""
    return long if settings.get_current_profile_name() == "long" else short
