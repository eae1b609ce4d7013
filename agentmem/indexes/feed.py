"""The one loop over the feed: whatever follows the records follows them through here."""

from __future__ import annotations

from collections.abc import Callable

from agentmem.types.errors import StoreCorruptError
from agentmem.types.ports import Feed, FeedFollower


def follow(copy: FeedFollower, feed: Feed, goal: int, go_on: Callable[[], bool] = lambda: True) -> bool:
    """Apply the feed to a copy, a group at a time, until it has the event ``goal``; False if ``go_on`` ended it before.

    ``go_on`` is asked before each group. Raises what ``apply`` raises, and ``StoreCorruptError`` if events are missing.
    """
    while (after := copy.applied_seq()) < goal:
        if not go_on():
            return False
        events = feed.events_after(after, copy.group)
        if not events:
            raise StoreCorruptError("the newest events of the history cannot be found: the database is damaged")
        copy.apply(events, after)
    return True
