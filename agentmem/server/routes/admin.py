"""The store as a whole: users, erasing them, events, figures, upkeep."""

from __future__ import annotations

from asyncio import to_thread
from dataclasses import replace
from typing import Literal

from agentmem import EraseReport, Erasure, Health, Stats, StoreEvent, UserPage, VerifyReport
from agentmem.errors import AccessDeniedError
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body, Nothing
from agentmem.server.key import composed
from agentmem.server.routes.models import Done

area = Area("admin")

_UNDER_WAY_S = 60.0
"""For which a write may go on that was under way when its user was erased."""


class After(Body):
    """Which part of a list."""

    after: int = 0
    limit: int = 100


class Between(After):
    """And from which end."""

    before: int | None = None
    order: Literal["oldest", "newest"] = "oldest"


class SomeUsers(Body):
    """Which users: those whose names begin so, or all."""

    prefix: str = ""
    limit: int = 100
    cursor: str | None = None
    most: bool = False


class Erased(Body):
    """Whether backups are rewritten at once, so that none of them has the user any more."""

    rewrite_backups: bool = False


@area("GET", "/v1/users", "admin", query=SomeUsers, gives=UserPage, whole=True)
async def users(call: Call) -> Answer:
    """Who has records here, with their number and the first and the last time; `cursor` leads to the next page.

    With `most` those who have the most."""
    return answer(await call.store.user_page(**call.asked()))


@area("DELETE", "/v1/users/{user_id}", "erase", query=Erased, gives=EraseReport, slow=True)
async def erase_user(call: Call) -> Answer:
    """Erase everything that was ever stored for a user, and end the user's keys; nothing brings them back.

    A key of a user may erase that user, unless it is for an agent or a namespace only.
    """
    key, user = call.key, composed(call.id)
    if not (key.any_user or key.user_id == user) or key.agent_id is not None or key.namespace is not None:
        raise AccessDeniedError(f"the key {key.id} is not for all memories of that user")
    writes = call.gate.under_way(user)
    report = await call.store.erase_all(user_id=user, rewrite_backups=call.query.rewrite_backups)
    await call.note("user.erase")
    ended = await to_thread(call.keys.forget_user, user)
    writes |= call.gate.under_way(user)
    if ended or writes:
        # What was let in before may have come after, or may still: it is waited for, and erased, too.
        await call.gate.written(writes, _UNDER_WAY_S)
        again = await call.store.erase_all(user_id=user, rewrite_backups=call.query.rewrite_backups)
        pending = tuple(dict.fromkeys((*report.pending, *again.pending)))
        report = replace(again, erased=report.erased + again.erased, pending=pending)
    return answer(report)


@area("GET", "/v1/users/{user_id}/erasures", "admin", gives=list[Erasure], whole=True)
async def erasures(call: Call) -> Answer:
    """What the store still says of a user who was erased: when, and how many records went."""
    return answer(await call.store.erasures(user_id=call.id))


@area("GET", "/v1/events", "admin", query=Between, gives=list[StoreEvent], whole=True)
async def events(call: Call) -> Answer:
    """What happened in the store after an event, oldest or newest first; nothing of what records say."""
    return answer(await call.store.events(**call.asked()))


@area("GET", "/v1/stats", "admin", gives=Stats, whole=True)
async def stats(call: Call) -> Answer:
    """What the store holds: counts, sizes, caches."""
    return answer(await call.store.stats())


@area("GET", "/v1/health", "admin", gives=Health, whole=True)
async def health(call: Call) -> Answer:
    """How the background work is doing."""
    return answer(await call.store.health())


@area("POST", "/v1/admin/flush", "admin", body=Nothing, gives=Done, whole=True, slow=True)
async def flush(call: Call) -> Answer:
    """Wait until all indexes have everything."""
    await call.store.flush()
    return answer({"done": True})


@area("POST", "/v1/admin/verify", "admin", body=Nothing, gives=VerifyReport, whole=True, slow=True)
async def verify(call: Call) -> Answer:
    """Compare every part of the store with every other."""
    return answer(await call.store.verify())


@area("POST", "/v1/admin/repair", "admin", body=Nothing, gives=VerifyReport, whole=True, slow=True)
async def repair(call: Call) -> Answer:
    """Rebuild what is derived, if it is wrong."""
    report = await call.store.repair()
    await call.note("repair")
    return answer(report)


@area("POST", "/v1/admin/compact", "admin", body=Nothing, gives=Done, whole=True, slow=True)
async def compact(call: Call) -> Answer:
    """Merge files and give space back to the disk."""
    await call.store.compact()
    await call.note("compact")
    return answer({"done": True})
