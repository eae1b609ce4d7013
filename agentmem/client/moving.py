"""Taking users elsewhere: ``Memory.export`` and ``Memory.import_``, where the operations are documented."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentmem.client.backupchecks import check_unbound, checked_id, checked_user
from agentmem.types.enums import ALL, UserId
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.client.handle import Handle
    from agentmem.types.reports import BackupInfo, ImportReport

Progress = Callable[[int, int], object]


def export(
    handle: Handle,
    bound: Scope | None,
    url: str | os.PathLike[str],
    user_id: UserId,
    description: str | None,
    encryption: str | None,
    keyring: str | None,
    progress: Progress | None,
) -> BackupInfo:
    """See ``Memory.export``."""
    from agentmem.archive.home import open_place
    from agentmem.backup import look, moving

    engine = handle.engine()
    check_unbound(bound)
    place = open_place(os.fspath(url), encryption, keyring, read_only=False)
    more: Any = {} if progress is None else {"progress": progress}
    user = ALL if user_id is ALL else checked_user(user_id)
    return look.info(moving.export(engine, place.objects, user, place.keyring, description=description, **more))


def import_archive(
    handle: Handle,
    bound: Scope | None,
    url: str | os.PathLike[str],
    id: str | None,
    user_id: UserId,
    encryption: str | None,
    keyring: str | None,
    progress: Progress | None,
) -> ImportReport:
    """See ``Memory.import_``."""
    from agentmem.archive.home import open_place
    from agentmem.backup import moving
    from agentmem.backup.moment import Places

    engine = handle.engine()
    check_unbound(bound)
    place = open_place(os.fspath(url), encryption, keyring, read_only=True)
    more: Any = {} if progress is None else {"progress": progress}
    user = ALL if user_id is ALL else checked_user(user_id)
    moment = Places(place.objects).choose(checked_id(id))
    return moving.bring(engine, place.objects, moment, user, place.keyring, back=False, **more)
