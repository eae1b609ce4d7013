"""``Memory.backup``, where its operations are documented, ``AsyncMemory.backup``, and ``agentmem.restore``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from agentmem.client.checks import check_flag
from agentmem.types.checks import check_instant
from agentmem.types.enums import ALL, Instant, UserId
from agentmem.types.errors import ArchiveError, InvalidInputError, ScopeError, StoreLockedError, shown
from agentmem.types.inputs import Scope
from agentmem.types.ports import AnyEmbedder

if TYPE_CHECKING:
    from agentmem.backup.place import Place
    from agentmem.client.handle import Handle
    from agentmem.types.reports import BackupInfo, EraseReport, RestoreReport, VerifyReport
else:
    from agentmem.types.named import BackupInfo, EraseReport, RestoreReport, VerifyReport

Progress = Callable[[int, int], object]
BackupKind: TypeAlias = Literal["full", "incremental", "snapshot"]
"""What a backup is to be."""
_KINDS: tuple[str, ...] = get_args(BackupKind)


class BackupClient:
    """Backups of the whole store in a folder or bucket, as ``[memory.backup]`` names it: see docs/backup.md."""

    def __init__(self, handle: Handle, bound: Scope | None) -> None:
        self._handle = handle
        self._bound = bound

    def create(
        self,
        kind: BackupKind = "full",
        *,
        description: str | None = None,
        new_lineage: bool = False,
        progress: Progress | None = None,
    ) -> BackupInfo:
        """Back the store up as it is now, while it is in use. Returns once the backup is complete and durable.

        ``"incremental"`` has what happened since the backup before, and needs that one; it becomes a full one where
        there is none, or the store has moved to another model since. A ``"snapshot"`` is a full one that is made to be
        kept. It is the state at one event: everything that was acknowledged before this was called is in it. How often
        records were used is as it was when that was read. ``progress`` is called with the records read so far and their
        number.

        Raises ``ConflictError`` if the place has newer backups of this store than it knows of: then this is a copy of
        the store, or an older state of it, and ``new_lineage=True`` goes on beside those that are there. Raises
        ``InvalidInputError`` where no place is set, ``StoreLockedError`` while another backup is made,
        ``ArchiveError`` and below where the place cannot be used. After an error there is no new backup.
        """
        from agentmem.backup import create, look

        if kind not in _KINDS:
            raise InvalidInputError(f"kind must be one of {', '.join(_KINDS)}, not {shown(kind)}", field="kind")
        if description is not None and not isinstance(description, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"description must be text, not {shown(description)}", field="description")
        check_flag(new_lineage, "new_lineage")
        engine = self._handle.engine()
        self._check_bound()
        engine.check_writable()
        place = self._place(read_only=False)
        more = {} if progress is None else {"progress": progress}
        entry = create.create(
            engine,
            place.objects,
            place.keyring,
            kind=kind,
            description=description,
            new_lineage=new_lineage,
            **more,
        )
        return look.info(entry)

    def list(self) -> list[BackupInfo]:
        """The backups that there are in the place, those of other stores included, oldest first."""
        from agentmem.backup import look
        from agentmem.backup.moment import Places

        self._handle.engine()
        self._check_bound()
        return [look.info(entry) for entry in Places(self._place(read_only=True, sealed=False).objects).all()]

    def verify(self, id: str | None = None) -> VerifyReport:
        """Look at every byte of a backup, default the newest, and of those that it goes on from; open what is sealed.

        ``counts`` has the rows of ``records``, ``embeddings`` and ``history``. Raises ``NotFoundError`` for a backup
        that is not there. To prove that it can be restored, restore it (``agentmem.restore``).
        """
        from agentmem.backup import look

        self._handle.engine()
        self._check_bound()
        place = self._place(read_only=True)
        return look.verify(place.objects, _checked_id(id), place.keyring)

    def prune(self, *, dry_run: bool = False) -> Sequence[BackupInfo]:
        """Remove backups of this store that ``keep_hours``, ``keep_days`` and ``keep_weeks`` keep no longer.

        Returns which, oldest first; with ``dry_run`` nothing is removed. The newest stays, and so do snapshots and
        whatever a backup that stays goes on from, and backups of other stores and lineages. What killed processes have
        left is removed, too. Raises ``ConflictError`` and ``StoreLockedError`` as ``create`` does.
        """
        from agentmem.backup import create, look
        from agentmem.backup.pruning import Retention

        check_flag(dry_run, "dry_run")
        engine = self._handle.engine()
        self._check_bound()
        engine.check_writable()
        chosen = self._handle.settings.backup
        objects = self._place(read_only=False, sealed=False).objects
        retention = Retention(chosen.keep_hours, chosen.keep_days, chosen.keep_weeks)
        return [look.info(entry) for entry in create.prune(engine, objects, retention, dry_run=dry_run)]

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
        kind: BackupKind = "full",
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

    async def prune(self, *, dry_run: bool = False) -> Sequence[BackupInfo]:
        """See ``BackupClient.prune``."""
        return await self._wait(self._blocking.prune, dry_run=dry_run)

    async def forget(self, *, user_id: str) -> bool:
        """See ``BackupClient.forget``."""
        return await self._wait(self._blocking.forget, user_id=user_id)


def erase_with_keys(handle: Handle, scope: Scope) -> EraseReport:
    """Erase a user, and delete the key that backups hold the user's records under. See ``Memory.erase_all``."""
    from agentmem import operations
    from agentmem.backup import create, forgetting
    from agentmem.backup.place import open_place

    engine, chosen = handle.engine(), handle.settings.backup
    engine.check_writable()
    forgetting.note(engine, str(scope.user_id))
    report = operations.erase.erase_all(engine, scope)
    try:
        keyring = open_place(chosen.url, chosen.encryption, chosen.keyring, read_only=False).keyring
        if keyring is not None:
            create.complete_forgetting(engine, keyring)
    except (ArchiveError, StoreLockedError):
        return replace(report, pending=(*report.pending, "backups"))
    return report


def restore(
    url: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    id: str | None = None,
    at: Instant | None = None,
    seq: int | None = None,
    user_id: UserId = ALL,
    ids: Iterable[str] | None = None,
    dry_run: bool = False,
    embedder: AnyEmbedder = None,
    encryption: str | None = None,
    keyring: str | None = None,
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Make a store of a backup (``id``, default the newest) in the folder ``into``, which holds none yet.

    With ``at``, as it was after the last event at that instant or before; with ``seq``, after that event. Later events
    of the backup that has it are taken back: that is the first one made after it, or the one named by ``id``. With
    ``user_id`` it has the records of one user (None: of nobody), with ``ids`` those of these ids. What was erased
    since, as far as later backups know, is left out, and so is what belongs to users whose key was deleted. With
    ``dry_run`` all is done and compared, and no store made.

    It becomes a store in the last step, after everything in it was compared; open it with ``Memory(into)``. Texts that
    were replaced between two backups are embedded again, by the model that the store names, or by ``embedder``, where
    that was an object of its caller's. ``encryption`` and ``keyring`` are those that the backup was sealed with, see
    ``[memory.backup]``; ``options`` are obstore's for the bucket, where the environment does not have them.
    ``progress`` is called with the records so far and their number.

    Raises ``NotFoundError`` where there is no such backup, or none reaches that moment, ``ModelMismatchError`` where
    texts have to be embedded by a model that is not at hand, ``StoreError`` where ``into`` is a store already,
    ``ArchiveKeyError`` for another key or none, ``ArchiveCorruptError`` and ``StoreCorruptError`` for what is not
    whole, ``ArchiveError`` and below where the place cannot be used. After an error there is no store in ``into``.
    """
    from agentmem.backup import look
    from agentmem.backup.filling import Wanted
    from agentmem.backup.moment import Places
    from agentmem.backup.place import open_place
    from agentmem.backup.restore import restore_moment
    from agentmem.types.reports import RestoreReport

    folder = Path(os.path.abspath(into))
    place = open_place(os.fspath(url), encryption, keyring, options=options, read_only=True)
    instant = None if at is None else check_instant(at, "at")
    moment = Places(place.objects).choose(_checked_id(id), at=instant, seq=_checked_seq(seq))
    more = {} if progress is None else {"progress": progress}
    check_flag(dry_run, "dry_run")
    made = restore_moment(
        place.objects,
        moment,
        folder,
        place.keyring,
        wanted=Wanted(user_id if user_id is ALL or user_id is None else str(user_id), _checked_ids(ids)),
        embedder=embedder,
        dry_run=dry_run,
        **more,
    )
    return RestoreReport(
        str(folder), look.info(moment.chain[-1]), made.records, made.seq, made.embedded, made.without_data, dry_run
    )


def _checked_seq(seq: object) -> int | None:
    if seq is None or (isinstance(seq, int) and not isinstance(seq, bool) and seq >= 1):
        return seq
    raise InvalidInputError(f"seq is the number of an event, from 1 on, not {shown(seq)}", field="seq")


def _checked_ids(ids: Iterable[str] | None) -> frozenset[str] | None:
    if ids is None:
        return None
    found = [ids] if isinstance(ids, str) else list(ids)
    if wrong := [id for id in found if not isinstance(id, str)]:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"ids are texts, and {shown(wrong[0])} is none", field="ids")
    return frozenset(found)


def _checked_id(id: object) -> str | None:
    if id is None or isinstance(id, str):
        return id
    raise InvalidInputError(f"a backup's id is text, not {shown(id)}", field="id")
