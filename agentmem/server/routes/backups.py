"""Backups, where ``[memory.backup]`` says that they go: no request names a place."""

from __future__ import annotations

from typing import Literal

from agentmem import BackupInfo, RestoreReport, VerifyReport
from agentmem.server.answers import Answer, answer
from agentmem.server.calls import Call
from agentmem.server.endpoint import Area, Body

area = Area("backups")


class NewBackup(Body):
    """What it is to be."""

    kind: Literal["full", "incremental", "snapshot"] = "full"
    description: str | None = None


class BackupCheck(Body):
    """Whether its objects are only looked for, and not read."""

    quick: bool = False


class RestoreBackup(Body):
    """Whether only to say what would be restored."""

    dry_run: bool = False


class PruneBackups(Body):
    """Whether only to say which would go."""

    dry_run: bool = False


@area("GET", "/v1/backups", "admin", gives=list[BackupInfo], whole=True)
async def backups(call: Call) -> Answer:
    """All backups, oldest first."""
    return answer(await call.store.backup.list())


@area("POST", "/v1/backups", "admin", body=NewBackup, gives=BackupInfo, status=201, whole=True, slow=True)
async def create(call: Call) -> Answer:
    """Back the store up as it is now, while it is in use."""
    made = await call.store.backup.create(call.body.kind, description=call.body.description)
    await call.note("backup.create", made.id)
    return answer(made, 201)


@area("POST", "/v1/backups/prune", "admin", body=PruneBackups, gives=list[BackupInfo], whole=True, slow=True)
async def prune(call: Call) -> Answer:
    """Remove backups that the settings keep no longer."""
    gone = await call.store.backup.prune(dry_run=call.body.dry_run)
    await call.note("backup.prune")
    return answer(list(gone))


@area("POST", "/v1/backups/{id}/verify", "admin", body=BackupCheck, gives=VerifyReport, whole=True, slow=True)
async def verify(call: Call) -> Answer:
    """Read a backup and compare it with what it says of itself."""
    return answer(await call.store.backup.verify(call.id, quick=call.body.quick))


@area("POST", "/v1/backups/{id}/restore", "admin", body=RestoreBackup, gives=RestoreReport, whole=True, slow=True)
async def restore(call: Call) -> Answer:
    """Make the store what it was, in its place; nobody else may have it open, so not with several workers.

    Keys stay what they are now: none that was revoked comes back.
    """
    report = await call.store.backup.restore(call.id, dry_run=call.body.dry_run)
    if not call.body.dry_run:
        await call.note("backup.restore", call.id)
    return answer(report)


@area("DELETE", "/v1/backups/{id}", "admin", gives=BackupInfo, whole=True, slow=True)
async def drop(call: Call) -> Answer:
    """Keep a snapshot no longer."""
    gone = await call.store.backup.drop_snapshot(call.id)
    await call.note("backup.drop", call.id)
    return answer(gone)
