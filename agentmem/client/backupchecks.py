"""What the calls about backups share: the place that settings name, and the checks of their arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentmem.types.enums import ALL
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.archive.home import Place
    from agentmem.backup.pruning import Retention
    from agentmem.client.handle import Handle


def open_place_of(handle: Handle, *, read_only: bool, sealed: bool = True) -> Place:
    """The place for backups that a client's settings name."""
    from agentmem.archive.home import open_place

    chosen = handle.settings.backup
    keys = (chosen.encryption, chosen.keyring) if sealed else (None, None)
    return open_place(chosen.url, *keys, read_only=read_only)


def retention(handle: Handle) -> Retention:
    """How long the settings keep backups."""
    from agentmem.backup.pruning import Retention

    chosen = handle.settings.backup
    return Retention(chosen.keep_hours, chosen.keep_days, chosen.keep_weeks)


def checked_seq(seq: object) -> int | None:
    """The number of an event, or None. Raises ``InvalidInputError``."""
    if seq is None or (isinstance(seq, int) and not isinstance(seq, bool) and seq >= 1):
        return seq
    raise InvalidInputError(f"seq is the number of an event, from 1 on, not {shown(seq)}", field="seq")


def checked_ids(ids: Iterable[str] | None) -> frozenset[str] | None:
    """Ids of records, or None for all. Raises ``InvalidInputError``."""
    if ids is None:
        return None
    found = [ids] if isinstance(ids, str) else list(ids)
    if wrong := [id for id in found if not isinstance(id, str)]:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"ids are texts, and {shown(wrong[0])} is none", field="ids")
    return frozenset(found)


def check_unbound(bound: Scope | None) -> None:
    """Raise ``ScopeError`` in a view of somebody's records."""
    if bound is not None:
        raise ScopeError("a backup holds everybody's records; call it on the memory, not on a scoped view")


def checked_user(user_id: object) -> str | None:
    """One user's id, or None. Raises ``InvalidInputError``."""
    if user_id is None or (isinstance(user_id, str) and user_id is not ALL):
        return user_id
    raise InvalidInputError(f"user_id must be one user's id, or None, not {shown(user_id)}", field="user_id")


def checked_id(id: object) -> str | None:
    """A backup's id, or None. Raises ``InvalidInputError``."""
    if id is None or isinstance(id, str):
        return id
    raise InvalidInputError(f"a backup's id is text, not {shown(id)}", field="id")
