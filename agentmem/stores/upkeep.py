"""Giving back the space that nobody uses, a few milliseconds at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agentmem.stores import erasure
from agentmem.stores.commit import GroupCommit, Task, Write
from agentmem.stores.connection import CHUNK, Connection
from agentmem.stores.log import truncate_wal
from agentmem.stores.rows import Place
from agentmem.stores.writes import Repository
from agentmem.types.clock import Micros
from agentmem.types.patience import attempts

VACUUM_PAGES = 100
"""Unused pages given back to the file system at a time: about 6 ms."""


def remove_old_generations(commits: GroupCommit) -> None:
    """Delete the vectors of models that the store no longer uses, a few at a time, and give their space back."""
    removed = False
    while commits.submit(Write(lambda repository: repository.remove_old_embeddings(CHUNK))).result():
        removed = True
    if removed:
        give_space_back(commits)


def purge(
    commits: GroupCommit,
    now: Callable[[], Micros],
    pause: Callable[[], object] = lambda: None,
    *,
    background: bool = False,
) -> erasure.Purged:
    """Remove what is left of erased records whose time is over, and the names that only they had; how many of each.

    In the background not beyond what the copies have yet to pass: they will soon have passed all of it.
    """
    total, at = erasure.Purged(0, 0), erasure.BEGINNING
    while True:
        work = Write(partial(_purge, now, at), erasure.PURGED)
        done = commits.submit(work, background=background).result()
        total = erasure.Purged(total.rows + done.rows, total.names + done.names, total.indexed + done.indexed)
        if done.next is None or (background and not done.rows):
            return total
        at = done.next
        pause()


def _purge(now: Callable[[], Micros], after: Place, repository: Repository) -> erasure.Purged:
    return erasure.purge(repository, now(), after)


def vacuum(db: Connection) -> bool:
    """Give some unused pages back; False when that did not make them fewer."""
    before = db.execute("PRAGMA freelist_count")[0][0]
    db.vacuum(VACUUM_PAGES)
    return db.execute("PRAGMA freelist_count")[0][0] < before


def shrink(db: Connection) -> bool:
    """Give some unused pages back if more than a quarter of them is unused; False when there was no need."""
    unused, pages = (db.execute(f"PRAGMA {name}")[0][0] for name in ("freelist_count", "page_count"))
    return unused > VACUUM_PAGES and unused * 4 > pages and vacuum(db)


def give_space_back(
    commits: GroupCommit, step: Callable[[Connection], bool] = vacuum, stopped: Callable[[], bool] = lambda: False
) -> None:
    """Shrink the database file by what is unused in it, a little at a time, and empty the log if that did anything.

    ``step`` is ``vacuum``, or ``shrink`` to do it only where much is unused; ``stopped`` is asked before each.
    """
    given = False
    while not stopped() and commits.submit(Task(step)).result():
        given = True
    if given:
        commits.submit(Task(truncate_wal)).result()


def empty_wal(commits: GroupCommit, patience: float = 2.0) -> bool:
    """Empty the write-ahead log; False if readers do not let go of it within ``patience`` seconds."""
    return any(commits.submit(Task(truncate_wal)).result() for _ in attempts(patience, first=0.01))
