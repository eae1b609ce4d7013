"""What belongs to a session falls due with it: turns age from the session's end, and no open session loses any.

A session's record says when it is over, and is put off by its turns; so whoever asks looks there, and an append need
not touch the turns of before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from agentmem.stores import keys
from agentmem.stores.records import Records
from agentmem.stores.rows import Numbers, ScopeKey, expired
from agentmem.stores.spaces import entry, parts_of, path_of
from agentmem.types.clock import Micros
from agentmem.types.errors import NotFoundError
from agentmem.types.sessionkeys import CLOSED, OF_SESSIONS, SESSIONS, session_key


class Standing(NamedTuple):
    """Of the session that a record belongs to: when it is over (None: never), and whether it takes turns."""

    end: Micros | None
    open: bool


class Sessions:
    """Looks up the sessions of records, each once; for one walk, or one transaction."""

    def __init__(self, records: Records, now: Micros) -> None:
        self._records = records
        self._now = now
        self._known = dict[Numbers, Standing | None]()

    def of(self, rows: Iterable[int]) -> dict[int, Standing]:
        """Those of rows that belong to a session that is not over."""
        sql = "SELECT row, user, agent, run, space FROM records WHERE row IN ({}) AND run != 0"
        found = dict[int, Standing]()
        for row, *numbers in self._records.db.select_in(sql, rows):
            user, agent, run, space = numbers
            standing = self._standing((user, agent, run, space))
            if standing is not None:
                found[row] = standing
        return found

    def _standing(self, numbers: Numbers) -> Standing | None:
        if numbers not in self._known:
            self._known[numbers] = self._look_up(*numbers)
        return self._known[numbers]

    def _look_up(self, user: int, agent: int, run: int, space: int) -> Standing | None:
        records = self._records
        names, db = records.names, records.db
        try:
            path = parts_of(names.path(db, space)) if space else ()
            if path and path[0] in OF_SESSIONS:
                path = path[1:]
            at = names.find_space(db, entry(user, path_of((SESSIONS, *path))))
            if at is None:
                return None
            who, which = names.name(db, agent), str(names.name(db, run))
        except NotFoundError:  # erased meanwhile
            return None
        scope, latest = ScopeKey(user, None, None, at), None
        # That of the agent, and that of the whole run; the one that lives longer decides.
        for key in dict.fromkeys((session_key(who, which), session_key(None, which))):
            stored = keys.find(records, key, scope, terms=True)
            if stored is None or expired(stored, self._now):
                continue
            closed = bool(stored.metadata) and json.loads(stored.metadata).get(CLOSED) is not None
            standing = Standing(stored.expires_at, not closed)
            latest = standing if latest is None else _longer(latest, standing)
        return latest


def _longer(one: Standing, other: Standing) -> Standing:
    ends = (one.end, other.end)
    return Standing(None if None in ends else max(end for end in ends if end is not None), one.open or other.open)
