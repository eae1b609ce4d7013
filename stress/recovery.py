"""What a killed process left of its backups: each is whole or none, the last acknowledged one has not gone, and what is
restored is the store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from agentmem import ALL, Memory, restore
from agentmem.archive.folder import FolderObjects
from agentmem.archive.reading import ArchiveReader
from agentmem.client import is_store
from agentmem.glacier.bodies import TABLE, from_row
from stress.aftermath import Aftermath
from stress.victim import archives_of, backups_of, restored_of, settings_of


def check_backups(after: Aftermath, memory: Memory, path: Path, embedder: Any) -> None:
    """Look at every backup, then go on with one more: a store that is made of it has all that the store itself has."""
    found, url, into = after.found, backups_of(path), restored_of(path)
    if is_store(into):
        with Memory(into, settings=settings_of(200), embedder=embedder) as left:
            if problems := left.verify().problems:
                found.wrong("half", f"a restore that was killed left a store with {problems}")
    made = memory.backup.list()
    if after.backed_up > max((one.seq for one in made), default=0):
        found.wrong("lost", f"a backup up to event {after.backed_up} was acknowledged; there are {made}")
    for one in made:
        if problems := memory.backup.verify(one.id).problems:
            found.wrong("half", f"{one} has {problems}")
    last = memory.backup.create("incremental")
    memory.backup.prune()
    shutil.rmtree(into, ignore_errors=True)
    report = restore(url, into, embedder=embedder)
    if report.records != last.records:
        found.wrong("lost", f"{last} was restored as {report}")
    with Memory(into, settings=settings_of(200), embedder=embedder) as again:
        after.check_truth(again)
        if problems := again.verify().problems:
            found.wrong("unclean", f"what was restored has {problems}")
    shutil.rmtree(into)
    named = {one.id for one in memory.backup.list()}
    archives = {folder for folder in url.glob("*/backups/*") if any(folder.rglob("manifest"))}
    if len(archives) > len(named):
        found.wrong("ghosts", f"there are {len(named)} backups and {len(archives)} archives")


def check_archives(after: Aftermath, memory: Memory, path: Path) -> None:
    """What lies in archives is whole, nothing of what was erased is left there, and all of it comes back."""
    if problems := memory.repair().problems:
        after.found.wrong("unclean", f"with archives there are {problems}")
    objects = FolderObjects(archives_of(path))
    for info in objects.list():
        if info.key.endswith("/manifest"):
            for block in ArchiveReader(objects, info.key.removesuffix("/manifest")).read(TABLE.name):
                for body in map(from_row, block.rows):
                    if memory.get(body.id, touch=False) is None:
                        after.found.wrong("resurrected", f"{body.id} {body.content!r} is in {info.key}")
    while found := memory.page(user_id=ALL, archived=True, limit=1_000, data=False).records:
        memory.tiers.rehydrate([record.id for record in found])
