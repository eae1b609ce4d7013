"""Erasing, where backups may still have what is erased: ``Memory.erase`` and ``Memory.erase_all``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.client.backupchecks import open_place_of, retention
from agentmem.types.errors import ArchiveError, ArchiveUnavailableError, DiskFullError, StoreError, StoreLockedError
from agentmem.types.inputs import Scope
from agentmem.types.ownrooms import OWN_ROOMS

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.engine.engine import Engine
    from agentmem.types.reports import EraseReport


def erase_one(handle: Handle, id: str, bound: Scope | None) -> EraseReport:
    """Erase a record, and say whether backups still have it. See ``Memory.erase``."""
    from agentmem import operations

    engine = handle.engine()
    stored = operations.read.find(engine, id, bound, any_state=True) if handle.settings.backup.url else None
    report = operations.erase.erase(engine, id, bound)
    if stored is None:
        return report
    first = engine.repository.first_event(stored.row)
    return report if first is None else _with_backups(engine, report, first)


def erase_scope(handle: Handle, scope: Scope) -> EraseReport:
    """Erase what lies in a scope that is not all of a user's, and say whether backups still have any of it. See
    ``Memory.erase_all``."""
    from agentmem import operations

    engine, scopes = handle.engine(), _with_own_rooms(scope)
    first: int | None = None
    if handle.settings.backup.url:
        from agentmem.backup import holding

        engine.check_writable()
        events = [
            seq
            for each in scopes
            for seq in holding.events_of(engine, operations.page.matching(engine, each, deleted_too=True), each)
        ]
        first = min(events, default=None)
    report = operations.erase.erase_matching(engine, scopes)
    return report if first is None else _with_backups(engine, report, first)


def erase_user(handle: Handle, scope: Scope, *, rewrite: bool) -> EraseReport:
    """Erase a user. Where backups are sealed, delete the key that they hold the user's records under; of others say
    which hold any, or have them made anew. See ``Memory.erase_all``."""
    from agentmem import operations

    engine, chosen, user = handle.engine(), handle.settings.backup, str(scope.user_id)
    if not chosen.url:
        if rewrite:
            _ = open_place_of(handle, read_only=True)  # says that there is none
        return operations.erase.erase_all(engine, scope)
    from agentmem.backup import create, forgetting, holding
    from agentmem.backup.moment import Places

    engine.check_writable()
    events = holding.events_of(engine, operations.page.matching(engine, scope, deleted_too=True), scope)
    if chosen.encryption:
        forgetting.note(engine, user)
    report = operations.erase.erase_all(engine, scope)
    erased = engine.repository.last_seq()
    try:
        place = open_place_of(handle, read_only=False)
        if place.keyring is not None:
            create.complete_forgetting(engine, place.keyring)
        if rewrite and _has_no_remains(engine):
            create.rewrite(engine, place.objects, place.keyring, events, erased)
        places = Places(place.objects)
        if events and events[0] <= create.newest_event(engine, place.objects) and not places.all():
            raise ArchiveUnavailableError(f"the backups in {place.objects.url} are not there")
        held = holding.holders(places, create.lineage_of(engine, place.objects), events, erased)
        backups = tuple(holding.described(places, held, retention(handle)))
        # Of backups that belong to no list: their users' keys are gone, where they are sealed.
        left = bool(events) and not chosen.encryption and not create.remove_leftovers(engine, place.objects)
    except (ArchiveError, DiskFullError, StoreLockedError):
        return replace(report, pending=(*report.pending, "backups"))
    return replace(report, pending=(*report.pending, *["backups"] * bool(backups or left)), backups=backups)


def _has_no_remains(engine: Engine) -> bool:
    """Remove what is left of a user, so that a backup that is made now has not even the ids; whether that worked."""
    from agentmem import operations

    try:
        operations.compact.remove_remains(engine)
    except StoreError:  # LanceDB lags behind, and ``health`` tells why
        return False
    return True


def _with_own_rooms(scope: Scope) -> list[Scope]:
    """A scope, and where the package keeps what is of the same namespaces: values, sessions, blocks and the like."""
    if scope.namespace is None and scope.under is None:
        return [scope]  # these rooms among all others
    return [scope, *(scope.inside(*room) for room in OWN_ROOMS)]


def _with_backups(engine: Engine, report: EraseReport, first: int) -> EraseReport:
    """The report, and whether a backup has any of what was erased, whose first event has that number."""
    from agentmem.backup import lineage

    if first > lineage.newest_event(engine.repository.db):
        return report
    return replace(report, pending=(*report.pending, "backups"))
