"""``Memory.backup``, where its operations are documented, ``AsyncMemory.backup``, and ``agentmem.restore``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from agentmem.client.backupchecks import (
    check_unbound,
    checked_id,
    checked_ids,
    checked_seq,
    checked_user,
    open_place_of,
    retention,
)
from agentmem.client.checks import check_flag
from agentmem.types.checks import check_instant
from agentmem.types.enums import ALL, Instant, UserId
from agentmem.types.errors import (
    AgentMemError,
    ArchiveKeyError,
    ConflictError,
    InvalidInputError,
    ModelMismatchError,
    StoreLockedError,
    shown,
)
from agentmem.types.inputs import Scope
from agentmem.types.ports import AnyEmbedder

if TYPE_CHECKING:
    from agentmem.archive.home import Place
    from agentmem.client.handle import Handle
    from agentmem.types.reports import BackupInfo, ImportReport, RestoreReport, VerifyReport
else:
    from agentmem.types.named import BackupInfo, ImportReport, RestoreReport, VerifyReport

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
        places = Places(self._place(read_only=True, sealed=False).objects)
        places.check_all()
        return [look.info(entry) for entry in places.all()]

    def verify(self, id: str | None = None, *, quick: bool = False, progress: Progress | None = None) -> VerifyReport:
        """Look at every byte of a backup, default the newest, and of those that it goes on from, and restore it.

        The store that is made of it lies in a folder ``proof`` of this one and is removed at the end. It is compared
        with what the backup says of itself and, if it is one of this store, with every record, embedding and event that
        nothing has happened to since. ``quick`` restores nothing, which takes a tenth of the time.

        ``counts`` has the rows of ``records``, ``embeddings`` and ``history`` in the archives, and how many records
        were ``restored`` and ``compared``; where backups are sealed and no keys are set, only hashes are compared.
        ``progress`` is called with the records restored so far and their number. Raises ``NotFoundError`` for a backup
        that is not there, ``StoreLockedError`` while another one is verified.
        """
        from agentmem.backup import look

        check_flag(quick, "quick")
        engine = self._handle.engine()
        self._check_bound()
        place = self._place(read_only=True)
        if not quick:
            more = {} if progress is None else {"progress": progress}
            try:
                return look.prove(engine, place.objects, checked_id(id), place.keyring, **more)
            except ArchiveKeyError:
                if place.keyring is not None:
                    raise
        return look.verify(place.objects, checked_id(id), place.keyring)

    def restore(
        self,
        id: str | None = None,
        *,
        at: Instant | None = None,
        seq: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Make this store what it was, in its place: as in a backup (``id``, default the newest), at an instant, or
        after an event, as ``agentmem.restore`` says.

        What there is now is backed up first, as a snapshot: ``RestoreReport.restore_point`` names it; restoring that
        undoes this. Nobody else may have the store open. It is the old one or the new one whenever the process is
        killed; what was erased since stays erased. Its backups go on as another lineage. With ``dry_run`` nothing is
        changed.

        Raises ``StoreLockedError`` while another client or process has the store open (with ``dry_run``, while a backup
        is verified or imported), ``ConflictError`` if it was changed meanwhile, ``ModelMismatchError`` where it had
        another model then, and what ``agentmem.restore`` and ``create`` raise; the store is what it was then.
        """
        from agentmem.backup import create, look
        from agentmem.backup.inplace import replace_store
        from agentmem.backup.moment import Places
        from agentmem.backup.proof import scratch
        from agentmem.backup.restore import restore_moment
        from agentmem.types.reports import RestoreReport

        check_flag(dry_run, "dry_run")
        handle, wanted = self._handle, checked_id(id)
        engine = handle.engine()
        self._check_bound()
        engine.check_writable()
        place = self._place(read_only=False)
        instant, number = None if at is None else check_instant(at, "at"), checked_seq(seq)
        more: Any = {"embedder": handle.embedder} | ({} if progress is None else {"progress": progress})
        moment = Places(place.objects).choose(wanted, at=instant, seq=number)
        chosen, point = moment.chain[-1], None
        if dry_run:
            with scratch(engine) as folder:
                made = restore_moment(place.objects, moment, folder, place.keyring, dry_run=True, **more)
        else:
            point = create.create(
                engine, place.objects, place.keyring, kind="snapshot", description=f"before restoring {chosen.id}"
            )
            if number is None and instant is None:
                moment = Places(place.objects).choose(chosen.id)
            else:
                moment = Places(place.objects).choose(wanted, at=instant, seq=number)
            replace = partial(
                replace_store, engine.path, place.objects, moment, place.keyring, seq=point.seq,
                timeout=handle.settings.performance.lock_timeout_s, **more,
            )  # fmt: skip
            del engine
            try:
                made = handle.apart(replace)
            except (StoreLockedError, ConflictError, ModelMismatchError):
                # Nothing was replaced, so that there is nothing to undo; each attempt would leave a backup for good.
                with suppress(AgentMemError):
                    create.drop_snapshot(handle.engine(), place.objects, point.id)
                raise
        return RestoreReport(
            str(handle.path), look.info(moment.chain[-1]), made.records, made.seq, made.embedded, made.without_data,
            dry_run, None if point is None else point.id, made.erased,
        )  # fmt: skip

    def restore_user(
        self,
        user_id: str | None,
        *,
        id: str | None = None,
        at: Instant | None = None,
        seq: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Bring back what a user (None: nobody) had, in a backup, at an instant or after an event.

        The store is in use meanwhile, and of everybody else nothing changes.

        What the user has now is backed up first, as an increment. Records that were deleted or have expired since are
        again what they were, with a RESTORE event; so are, with ``overwrite``, those that were changed. What came since
        stays. What was erased stays erased. A record whose key another one has by now is left out and reported. Some
        records at a time are brought back in a transaction; broken off, it can be called again.

        Raises what ``restore`` and ``create`` raise, ``StoreLockedError`` while a backup is verified.
        """
        from agentmem.backup import create, moving
        from agentmem.backup.moment import Places

        user = checked_user(user_id)
        check_flag(overwrite, "overwrite")
        engine = self._handle.engine()
        self._check_bound()
        place = self._place(read_only=False)
        instant, number = None if at is None else check_instant(at, "at"), checked_seq(seq)
        wanted = Places(place.objects).choose(checked_id(id), at=instant, seq=number).chain[-1].id
        create.create(engine, place.objects, place.keyring, kind="incremental")
        named = wanted if instant is number is None else checked_id(id)
        moment = Places(place.objects).choose(named, at=instant, seq=number)
        more: Any = {} if progress is None else {"progress": progress}
        return moving.bring(engine, place.objects, moment, user, place.keyring, back=True, overwrite=overwrite, **more)

    def snapshots(self) -> Sequence[BackupInfo]:
        """See ``Memory.snapshots``."""
        from agentmem.backup import create, look

        self._handle.engine()
        self._check_bound()
        return [look.info(entry) for entry in create.snapshots(self._place(read_only=True, sealed=False).objects)]

    def drop_snapshot(self, id: str) -> BackupInfo:
        """See ``Memory.drop_snapshot``."""
        from agentmem.backup import create, look

        engine = self._handle.engine()
        self._check_bound()
        objects = self._place(read_only=False, sealed=False).objects
        return look.info(create.drop_snapshot(engine, objects, str(checked_id(id))))

    def prune(self, *, dry_run: bool = False) -> Sequence[BackupInfo]:
        """Remove backups of this store that ``keep_hours``, ``keep_days`` and ``keep_weeks`` keep no longer.

        Returns which, oldest first; with ``dry_run`` nothing is removed. The newest stays, and so do snapshots and
        whatever a backup that stays goes on from, and backups of other stores and lineages. What killed processes have
        left is removed, too. Raises ``ConflictError`` and ``StoreLockedError`` as ``create`` does.
        """
        from agentmem.backup import create, look

        check_flag(dry_run, "dry_run")
        engine = self._handle.engine()
        self._check_bound()
        engine.check_writable()
        objects, kept = self._place(read_only=False, sealed=False).objects, retention(self._handle)
        return [look.info(entry) for entry in create.prune(engine, objects, kept, dry_run=dry_run)]

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
        return open_place_of(self._handle, read_only=read_only, sealed=sealed)

    def _check_bound(self) -> None:
        check_unbound(self._bound)


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

    async def verify(
        self, id: str | None = None, *, quick: bool = False, progress: Progress | None = None
    ) -> VerifyReport:
        """See ``BackupClient.verify``."""
        return await self._wait(self._blocking.verify, id, quick=quick, progress=progress)

    async def restore(
        self,
        id: str | None = None,
        *,
        at: Instant | None = None,
        seq: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """See ``BackupClient.restore``."""
        from agentmem.client.waiting import in_thread

        # On a thread of its own: those of the engine end with it.
        return await in_thread(partial(self._blocking.restore, id, at=at, seq=seq, dry_run=dry_run, progress=progress))

    async def restore_user(
        self,
        user_id: str | None,
        *,
        id: str | None = None,
        at: Instant | None = None,
        seq: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """See ``BackupClient.restore_user``."""
        return await self._wait(
            self._blocking.restore_user, user_id, id=id, at=at, seq=seq, overwrite=overwrite, progress=progress
        )

    async def snapshots(self) -> Sequence[BackupInfo]:
        """See ``Memory.snapshots``."""
        return await self._wait(self._blocking.snapshots)

    async def drop_snapshot(self, id: str) -> BackupInfo:
        """See ``Memory.drop_snapshot``."""
        return await self._wait(self._blocking.drop_snapshot, id)

    async def prune(self, *, dry_run: bool = False) -> Sequence[BackupInfo]:
        """See ``BackupClient.prune``."""
        return await self._wait(self._blocking.prune, dry_run=dry_run)

    async def forget(self, *, user_id: str) -> bool:
        """See ``BackupClient.forget``."""
        return await self._wait(self._blocking.forget, user_id=user_id)


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
    were replaced between two backups are embedded again, by the model that the store names, or by ``embedder`` (None:
    that of the setting), where that was an object of its caller's. ``encryption`` and ``keyring`` are those that the
    backup was sealed with, see ``[memory.backup]``; ``options`` are obstore's for the bucket, where the environment
    does not have them. ``progress`` is called with the records so far and their number.

    Raises ``NotFoundError`` where there is no such backup, or none reaches that moment, ``ModelMismatchError`` where
    texts have to be embedded by a model that is not at hand, ``StoreError`` where ``into`` is a store already,
    ``StoreLockedError`` while one is being made there, ``ArchiveKeyError`` for another key or none,
    ``ArchiveCorruptError`` and ``StoreCorruptError`` for what is not whole, ``ArchiveError`` and below where the place
    cannot be used. After an error there is no store in ``into`` but one that was there or came meanwhile.
    """
    from agentmem.archive.home import open_place
    from agentmem.backup import look
    from agentmem.backup.filling import Wanted
    from agentmem.backup.moment import Places
    from agentmem.backup.restore import restore_moment
    from agentmem.embedding.naming import imported
    from agentmem.settings import Settings
    from agentmem.types.reports import RestoreReport

    folder = Path(os.path.abspath(into))
    place = open_place(os.fspath(url), encryption, keyring, options=options, read_only=True)
    instant = None if at is None else check_instant(at, "at")
    moment = Places(place.objects).choose(checked_id(id), at=instant, seq=checked_seq(seq))
    more = {} if progress is None else {"progress": progress}
    check_flag(dry_run, "dry_run")
    made = restore_moment(
        place.objects,
        moment,
        folder,
        place.keyring,
        wanted=Wanted(user_id if user_id is ALL or user_id is None else str(user_id), checked_ids(ids)),
        embedder=imported(Settings().embedder if embedder is None else embedder),
        dry_run=dry_run,
        **more,
    )
    return RestoreReport(
        str(folder),
        look.info(moment.chain[-1]),
        made.records,
        made.seq,
        made.embedded,
        made.without_data,
        dry_run,
        erased=made.erased,
    )
