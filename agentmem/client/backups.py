"""``Memory.backup``, where its operations are documented, ``AsyncMemory.backup``, and ``agentmem.restore``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentmem.client.checks import check_flag
from agentmem.types.errors import InvalidInputError, ScopeError, shown
from agentmem.types.inputs import Scope

if TYPE_CHECKING:
    from agentmem.backup.place import Place
    from agentmem.client.handle import Handle
    from agentmem.types.reports import BackupInfo, RestoreReport, VerifyReport

Progress = Callable[[int, int], object]


class BackupClient:
    """Backups of the whole store in a folder or bucket, as ``[memory.backup]`` names it: see docs/backup.md."""

    def __init__(self, handle: Handle, bound: Scope | None) -> None:
        self._handle = handle
        self._bound = bound

    def create(
        self,
        kind: Literal["full"] = "full",
        *,
        description: str | None = None,
        new_lineage: bool = False,
        progress: Progress | None = None,
    ) -> BackupInfo:
        """Back the store up as it is now, while it is in use. Returns once the backup is complete and durable.

        It is the state at one event: everything that was acknowledged before this was called is in it. How often
        records were used is as it was when that was read. ``progress`` is called with the records read so far and their
        number.

        Raises ``ConflictError`` if the place has newer backups of this store than it knows of: then this is a copy of
        the store, or an older state of it, and ``new_lineage=True`` goes on beside those that are there. Raises
        ``InvalidInputError`` where no place is set, ``StoreLockedError`` while another backup is made,
        ``ArchiveError`` and below where the place cannot be used. After an error there is no new backup.
        """
        from agentmem.backup import create, look

        if kind != "full":
            raise InvalidInputError(f"kind must be 'full', not {shown(kind)}", field="kind")
        if description is not None and not isinstance(description, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"description must be text, not {shown(description)}", field="description")
        check_flag(new_lineage, "new_lineage")
        engine = self._handle.engine()
        self._check_bound()
        engine.check_writable()
        place = self._place(read_only=False)
        more = {} if progress is None else {"progress": progress}
        entry = create.create(
            engine, place.objects, place.keyring, description=description, new_lineage=new_lineage, **more
        )
        return look.info(entry)

    def list(self) -> list[BackupInfo]:
        """The backups that there are in the place, those of other stores included, oldest first."""
        from agentmem.backup import look

        self._handle.engine()
        self._check_bound()
        return [look.info(entry) for entry in look.listed(self._place(read_only=True, sealed=False).objects)]

    def verify(self, id: str | None = None) -> VerifyReport:
        """Look at every byte of a backup, default the newest, and open whatever is sealed.

        ``counts`` has the rows of ``records``, ``embeddings`` and ``history``. Raises ``NotFoundError`` for a backup
        that is not there. To prove that it can be restored, restore it (``agentmem.restore``).
        """
        from agentmem.backup import look

        self._handle.engine()
        self._check_bound()
        place = self._place(read_only=True)
        return look.verify(place.objects, look.find(place.objects, _checked_id(id)), place.keyring)

    def forget(self, *, user_id: str) -> bool:
        """Delete a user's key: what sealed backups hold of him is unreadable from now on, in every copy of them.

        Whether he had one. For after ``erase_all``, which leaves backups alone. Cannot be undone. Raises
        ``InvalidInputError`` where backups are not sealed, ``StoreLockedError`` while one is being made.
        """
        from agentmem.backup import create

        if not isinstance(user_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"user_id must be text, not {shown(user_id)}", field="user_id")
        engine = self._handle.engine()
        self._check_bound()
        engine.check_writable()
        keyring = self._place(read_only=False).keyring
        if keyring is None:
            raise InvalidInputError(
                "backups are not sealed here, so there are no keys to delete; prune those that hold the user, or set "
                "backup.encryption and backup.keyring",
                field="user_id",
            )
        return create.forget(engine, keyring, user_id)

    def _place(self, *, read_only: bool, sealed: bool = True) -> Place:
        from agentmem.backup.place import open_place

        chosen = self._handle.settings.backup
        keys = (chosen.encryption, chosen.keyring) if sealed else (None, None)
        return open_place(chosen.url, *keys, read_only=read_only)

    def _check_bound(self) -> None:
        if self._bound is not None:
            raise ScopeError("a backup holds everybody's records; call it on the memory, not on a scoped view")


class AsyncBackupClient:
    """``BackupClient`` for event loops: the same operations; what they mean is said there."""

    def __init__(self, blocking: BackupClient, wait: Callable[..., Awaitable[Any]]) -> None:
        self._blocking = blocking
        self._wait = wait

    async def create(
        self,
        kind: Literal["full"] = "full",
        *,
        description: str | None = None,
        new_lineage: bool = False,
        progress: Progress | None = None,
    ) -> BackupInfo:
        """See ``BackupClient.create``."""
        return await self._wait(
            self._blocking.create, kind, description=description, new_lineage=new_lineage, progress=progress
        )

    async def list(self) -> list[BackupInfo]:
        """See ``BackupClient.list``."""
        return await self._wait(self._blocking.list)

    async def verify(self, id: str | None = None) -> VerifyReport:
        """See ``BackupClient.verify``."""
        return await self._wait(self._blocking.verify, id)

    async def forget(self, *, user_id: str) -> bool:
        """See ``BackupClient.forget``."""
        return await self._wait(self._blocking.forget, user_id=user_id)


def restore(
    url: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    id: str | None = None,
    encryption: str | None = None,
    keyring: str | None = None,
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Make a store of a backup (``id``, default the newest) in the folder ``into``, which holds none yet.

    It becomes a store in the last step, after everything in it was compared; open it with ``Memory(into)``. Of users
    whose key was deleted it has nothing. ``encryption`` and ``keyring`` are those that the backup was sealed with, see
    ``[memory.backup]``; ``options`` are obstore's for the bucket, where the environment does not have them.
    ``progress`` is called with the records so far and their number.

    Raises ``NotFoundError`` where there is no such backup, ``StoreError`` where ``into`` is a store already,
    ``ArchiveKeyError`` for another key or none, ``ArchiveCorruptError`` and ``StoreCorruptError`` for what is not
    whole, ``ArchiveError`` and below where the place cannot be used. After an error there is no store in ``into``.
    """
    from agentmem.backup import look
    from agentmem.backup.place import open_place
    from agentmem.backup.restore import restore
    from agentmem.types.reports import RestoreReport

    folder = Path(os.path.abspath(into))
    place = open_place(os.fspath(url), encryption, keyring, options=options, read_only=True)
    entry = look.find(place.objects, _checked_id(id))
    more = {} if progress is None else {"progress": progress}
    records = restore(place.objects, entry, folder, place.keyring, **more)
    return RestoreReport(str(folder), look.info(entry), records)


def _checked_id(id: object) -> str | None:
    if id is None or isinstance(id, str):
        return id
    raise InvalidInputError(f"a backup's id is text, not {shown(id)}", field="id")
