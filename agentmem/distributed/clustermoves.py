"""Shards and users that go elsewhere, while they are served: to another node, to a new shard, to a shard of their own.

A shard moves by its increments: the new owner reads them while the old one goes on, and in the end only the last ones
are missing. Users move by an export: nothing of theirs is written while it is made and taken in, which their callers
see as calls that take longer.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from agentmem.archive.opening import open_objects
from agentmem.distributed import clusteractors
from agentmem.distributed.clustercore import Core
from agentmem.distributed.shardmap import SLOTS, ShardMap, is_slot, shard_name, slot_of
from agentmem.distributed.shards import RENEW_S, Call, Step
from agentmem.types.errors import (
    AgentMemError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ShardUnavailableError,
)
from agentmem.types.spelling import composed

_LONG_S = 600.0
_TOGETHER = 20
"""Users whose slots move at once: so many exports is how long their writes wait."""


class MoveReport(NamedTuple):
    """A shard that moved: from one node to another, in so many ``seconds``; for ``refused_s`` of them its calls were
    refused, and made again by their callers."""

    shard: str
    source: str
    target: str
    records: int
    seconds: float
    refused_s: float


class SplitReport(NamedTuple):
    """Users who moved to another shard, their records, and the longest time for which writes of any of them waited."""

    shard: str
    users: int
    records: int
    seconds: float
    refused_s: float


def move(core: Core, shard: str, node: str | None) -> MoveReport:
    """Move a shard. Raises ``ShardUnavailableError`` where one of the two does not answer; it serves where it was
    then."""
    begun, source, made = time.monotonic(), core.control(shard, "status"), core.maps.read()
    if source.turn != made.turns[shard]:
        raise ConflictError(f"shard {shard} went elsewhere just now; look where it is, and move it again")
    old, new = core.actor(made, shard), core.start(made, shard, standing_by=True, node=node)
    try:
        core.control(shard, "prepare", actor=new, timeout=_LONG_S)
        core.control(shard, "hold_back", actor=old)
        core.control(shard, "prepare", actor=new, timeout=_LONG_S)
        stopped = time.monotonic()
        core.control(shard, "drain", actor=old)

        def hand_on(now: ShardMap) -> ShardMap:
            if now.turns.get(shard) != made.turns[shard]:
                raise ConflictError(f"shard {shard} was moved by somebody else meanwhile")
            return replace(now, turns={**now.turns, shard: now.turns[shard] + 1})

        core.maps.change(hand_on)
    except BaseException:
        with suppress(AgentMemError):
            # Where the old one hung, a caller may have had the new one take its place meanwhile.
            if core.maps.read().turns.get(shard) == made.turns[shard]:
                clusteractors.kill(new)
                core.control(shard, "resume", actor=old)
        raise
    # From here on the new one opens by itself with the first call, whatever becomes of this one.
    try:
        core.control(shard, "open", actor=new, timeout=_LONG_S)
        served = time.monotonic()
    finally:
        clusteractors.kill(old)  # it has shipped everything, and will never serve again
    there = core.control(shard, "status", actor=new)
    return MoveReport(shard, source.node, there.node, there.records, served - begun, served - stopped)


def drain(core: Core, node: str) -> list[MoveReport]:
    """Move every shard that runs on a node to others."""
    gone = clusteractors.node_named(node)
    others = [each["NodeID"] for each in clusteractors.nodes() if each["NodeID"] != gone]
    if not others:
        raise InvalidInputError(f"there is no node besides {node!r} to move shards to", field="node")
    here = [shard for shard, one in core.statuses().items() if getattr(one, "node", None) == gone[:12]]
    return [move(core, shard, others[number % len(others)]) for number, shard in enumerate(here)]


def shutdown(core: Core) -> None:
    """End all shards."""

    def end(shard: str) -> None:
        actor = core.actor(core.maps.known(), shard)
        with suppress(ShardUnavailableError):
            core.control(shard, "drain", actor=actor)
            core.control(shard, "close", actor=actor)
        clusteractors.kill(actor)

    core.each(end, core.maps.read().shards)
    core.forget()


# -- users -------------------------------------------------------------------------------------------------------------


def add_shard(core: Core) -> SplitReport:
    """One more shard, with its share of the slots of each other."""
    begun, made = time.monotonic(), core.maps.read()
    share = SLOTS // (len(made.shards) + 1) // len(made.shards)
    new = _new_shard(core)
    users = records = 0
    refused = 0.0
    for source in made.shards:
        # What is nobody's stays where it is.
        slots = [slot for slot, shard in enumerate(made.slots) if shard == source and slot != slot_of(None)][-share:]
        inside = defaultdict[int, list[str]](list)
        for user in _users_of(core, source):
            if (slot := slot_of(user)) in slots and composed(user) not in made.users:
                inside[slot].append(user)
        for group in _grouped(slots, inside):
            going = [user for slot in group for user in inside[slot]]
            count, spent = _relocate(core, source, new, going, [f"#{slot}" for slot in group])
            users, records, refused = users + len(going), records + count, max(refused, spent)
    return SplitReport(new, users, records, time.monotonic() - begun, refused)


def move_users(core: Core, users: Sequence[str], shard: str | None) -> SplitReport:
    """Give users another shard."""
    begun, made = time.monotonic(), core.maps.read()
    if not users or isinstance(users, str) or not all(isinstance(user, str) and user for user in users):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"name the users that are to move, in a list, not {users!r}", field="users")
    if shard is not None and shard not in made.turns:
        raise InvalidInputError(f"there is no shard {shard!r}; there are {', '.join(made.shards)}", field="shard")
    target, records, refused = shard or _new_shard(core), 0, 0.0
    for user in dict.fromkeys(users):
        source = core.maps.read().shard_of(user)
        if source != target:
            count, spent = _relocate(core, source, target, [user], [composed(user)])
            records, refused = records + count, max(refused, spent)
    return SplitReport(target, len(set(users)), records, time.monotonic() - begun, refused)


def _new_shard(core: Core) -> str:
    name = ""

    def add(now: ShardMap) -> ShardMap:
        nonlocal name
        name = shard_name(max(int(shard[1:]) for shard in now.shards) + 1)
        return replace(now, turns={**now.turns, name: 0})

    made = core.maps.change(add)
    core.control(name, "version", actor=core.actor(made, name), timeout=_LONG_S)
    return name


def _grouped(slots: Iterable[int], inside: dict[int, list[str]]) -> Iterable[list[int]]:
    """The slots in groups of not too many users; those without any together."""
    yield [slot for slot in slots if not inside[slot]]
    group, count = list[int](), 0
    for slot in slots:
        if inside[slot]:
            group.append(slot)
            count += len(inside[slot])
            if count >= _TOGETHER:
                yield group
                group, count = [], 0
    if group:
        yield group


def _relocate(core: Core, source: str, target: str, users: Sequence[str], what: Sequence[str]) -> tuple[int, float]:
    """Move what belongs to these users, who are named or in slots, from one shard to another; how many records, and for
    how long their writes waited."""
    begun, records = time.monotonic(), 0
    made = core.maps.change(lambda now: replace(now, leaving={**now.leaving, **dict.fromkeys(what, target)}))
    try:
        with _going_on(core):
            core.control(source, "learn", made)
            for user in users:
                _clean(core, target, user)
                records += _copy(core, source, target, user)
        made = core.maps.change(_arrived(what, target))
    except BaseException:
        stay = core.maps.change(lambda now: replace(now, leaving=_without(now.leaving, what)))
        with suppress(ShardUnavailableError):
            core.control(source, "learn", stay)
        raise
    core.control(target, "learn", made)
    spent = time.monotonic() - begun
    core.control(source, "learn", made)
    for user in users:
        # Nothing stays, deleted or not: if the user comes back one day, what is here must not stand in the way.
        _on(core, source, "erase_all", writes=True, user_id=user)
    return records, spent


@contextmanager
def _going_on(core: Core) -> Generator[None]:
    """Show, by the map's version, that users are still being moved: from who is gone, their shard keeps them."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_S):
            with suppress(AgentMemError):
                core.maps.change(lambda now: now)

    thread = threading.Thread(target=renew, name="agentmem-moving", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _clean(core: Core, target: str, user: str) -> None:
    """What a shard has of a user whose shard it is not yet was left there when a move was broken off."""
    gone = _on(core, target, "deleted", user_id=user, limit=1).records
    if gone or _on(core, target, "count", user_id=user):
        _on(core, target, "erase_all", writes=True, user_id=user)


def _arrived(what: Sequence[str], target: str) -> Callable[[ShardMap], ShardMap]:
    def change(now: ShardMap) -> ShardMap:
        if not all(each in now.leaving for each in what):
            raise ConflictError(
                "their shard has kept the users, since nobody seemed to move them any more; they are there, and can be "
                "moved again"
            )
        slots, users = list(now.slots), dict(now.users)
        for each in what:
            if is_slot(each):
                slots[int(each[1:])] = target
            else:
                users[each] = target
        return replace(now, slots=tuple(slots), users=users, leaving=_without(now.leaving, what))

    return change


def _without(leaving: Any, what: Sequence[str]) -> dict[str, str]:
    return {each: target for each, target in leaving.items() if each not in what}


def _copy(core: Core, source: str, target: str, user: str) -> int:
    url = f"{core.url.rstrip('/')}/transit/{secrets.token_hex(8)}"
    try:
        try:
            made = _on(core, source, "export", url, user_id=user)
        except NotFoundError:
            return 0  # there is nothing of his yet
        _on(core, target, "import_", url, writes=True)
        return made.records
    finally:
        objects = open_objects(url)
        for info in list(objects.list()):
            objects.delete(info.key)
        if "://" not in url:
            shutil.rmtree(url, ignore_errors=True)


def _users_of(core: Core, shard: str) -> list[str]:
    return [group.name for group in _on(core, shard, "users") if group.name is not None]


def _on(core: Core, shard: str, name: str, *given: Any, writes: bool = False, **named: Any) -> Any:
    """A call on one shard's client, whoever it is about."""
    call = Call(steps=(Step(name, (given, named)),), writes=writes, ack="replicated", version=0)
    return core.ask(lambda _: shard, call, again=True, patience_s=_LONG_S)
