"""Counting a scope: all of it, or by user, agent, conversation and kind."""

from __future__ import annotations

from contextlib import suppress

from agentmem.engine.engine import Engine
from agentmem.operations.page import Listing
from agentmem.stores.groups import by_space, grouped, held, users_before, users_named, users_with_most
from agentmem.stores.groups import count as counted
from agentmem.stores.spaces import parts_of
from agentmem.types.clock import to_datetime
from agentmem.types.errors import NotFoundError
from agentmem.types.inputs import Scope
from agentmem.types.reports import Group, KnownUser, NamespaceCount, UserPage


def count(engine: Engine, listing: Listing) -> int:
    """How many live records a list has."""
    engine.check()
    key = engine.key(listing.scope)
    return 0 if key is None else counted(engine.repository, key, listing.conditions, listing.within, engine.now())


def groups(engine: Engine, scope: Scope, by: str) -> list[Group]:
    """Live records of a scope by ``users``, ``agents``, ``runs`` or ``kinds``; the latest event first, then by name."""
    engine.check()
    key = engine.key(scope, anywhere=by == "users")
    if key is None:
        return []
    records, found = engine.repository, list[Group]()
    for user, common, size, first, last in grouped(records, key, by, engine.now()):
        with suppress(NotFoundError):  # erased since they were counted, and so is whose they were
            owner = None if user is None else records.names.name(records.db, user)
            name = owner if by == "users" else common
            if isinstance(name, int):
                name = records.names.name(records.db, name)
            found.append(Group(name, owner, size, to_datetime(first), to_datetime(last)))
    found.sort(key=lambda group: (group.name or "", group.user_id or ""))
    return sorted(found, key=lambda group: group.last_at, reverse=True)


def user_page(
    engine: Engine, prefix: str, limit: int, cursor: tuple[str, str] | None, *, most: bool = False
) -> UserPage:
    """The next users with live records; see ``Memory.user_page``. A cursor is how it goes on (``n``: below a number,
    ``v``: after a name) and where."""
    engine.check()
    records = engine.repository
    if most:
        numbers, on = users_with_most(records, limit), None
    elif prefix:
        after = "" if cursor is None else cursor[1]
        numbers, name = users_named(records, prefix, after, limit)
        on = None if name is None else f"v{name}"
    else:
        numbers = users_before(records, None if cursor is None else int(cursor[1]), limit)
        on = f"n{numbers[-1]}" if len(numbers) == limit else None
    found = list[KnownUser]()
    for number in numbers:
        with suppress(NotFoundError):  # erased since they were looked for
            name, known = records.names.name(records.db, number), held(records, number)
            if known is not None:
                size, first, last = known
                found.append(KnownUser(name, size, to_datetime(first), to_datetime(last)))
    return UserPage(found, on)


def namespaces(engine: Engine, scope: Scope, depth: int | None, limit: int, offset: int) -> list[NamespaceCount]:
    """Namespaces under one with their live records, by path; deeper ones counted at ``depth``."""
    engine.check()
    records = engine.repository
    key = records.scope_key(scope)
    if key is None:
        return []
    found = dict[tuple[str, ...], int]()
    for space, count in by_space(records, key, engine.now()).items():
        with suppress(NotFoundError):  # erased since they were counted, with all that was in it
            path = parts_of(records.names.path(records.db, space))[:depth]
            found[path] = found.get(path, 0) + count
    return [NamespaceCount(path, found[path]) for path in sorted(found)[offset : offset + limit]]
