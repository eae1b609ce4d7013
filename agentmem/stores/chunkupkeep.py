"""Looking after the chunks of values: files that are to go, what killed processes have left, whether all is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from agentmem.stores import chunks
from agentmem.stores.chunkfiles import ChunkFiles
from agentmem.stores.chunkframes import is_whole
from agentmem.stores.chunks import Part
from agentmem.stores.commit import GroupCommit, Write
from agentmem.stores.connection import Connection
from agentmem.stores.folder import Folder
from agentmem.types.errors import StoreCorruptError, StoreError


class Look(NamedTuple):
    """A chunk with its bytes, or what is wrong with them."""

    part: Part
    body: bytes | None
    wrong: str = ""


def remove_files(commits: GroupCommit, db: Connection, path: Folder) -> bool:
    """Remove the files that nothing refers to any more; False if some cannot be removed now."""
    files = ChunkFiles(path)
    while names := chunks.loose_files(db):
        try:
            files.remove(names)
        except StoreError:
            return False
        work = Write(lambda repository, names=names: chunks.forget_files(repository.db, names))
        commits.submit(work, background=True).result()
    return True


def settle_files(db: Connection, path: Folder) -> None:
    """Remove what killed processes have left behind, and what is not named by now never will be."""
    with suppress(OSError):  # what cannot be looked at is looked at again
        ChunkFiles(path).settle(lambda folder: chunks.files_of(db, folder))


def tidy(commits: GroupCommit, db: Connection, path: Folder, *, whole: bool = False) -> None:
    """Remove what killed processes have left, and what nothing refers to; with ``whole``, look at every file."""
    commits.submit(Write(lambda repository: chunks.collect(repository.db)), background=True).result()
    remove_files(commits, db, path)
    files = ChunkFiles(path)
    (files.sweep if whole else files.settle)(lambda folder: chunks.files_of(db, folder))


def problems(db: Connection, path: Folder, pause: Callable[[], object] = lambda: None) -> Iterator[str]:
    """What is wrong with values, in words: every chunk is what was stored, and every value has all of its own."""
    files = ChunkFiles(path)
    for part in chunks.every(db):
        try:
            looked = look(db, files, part)
        except StoreError as exc:  # it may be whole
            looked = Look(part, None, f"cannot be looked at: {exc}")
        if looked is not None and looked.wrong:
            for id, start in chunks.users_of(db, part.n):
                yield f"value of record {id!r}: its chunk at byte {start:,} {looked.wrong}"
        pause()
    yield from loose_ends(db)


def loose_ends(db: Connection) -> Iterator[str]:
    """What is wrong with how values and chunks belong together, as far as the database tells."""
    size = f"""json_extract(b.body, '$."{chunks.MARK}".size')"""
    held = (
        "(SELECT coalesce(sum(c.size), 0) FROM value_chunks v JOIN chunks c ON c.n = v.chunk "
        "WHERE v.row = b.row AND v.version = b.version)"
    )
    sql = (
        f"SELECT r.id, b.version, {size}, {held} FROM bodies b JOIN records r ON r.row = b.row "
        f"WHERE b.part = 0 AND r.kind = 'value' AND json_valid(b.body) AND {size} IS NOT NULL AND {size} != {held} "
        "AND r.row NOT IN (SELECT row FROM archived)"
    )
    for id, version, wanted, found in db.execute(sql):
        yield f"value of record {id!r}: its version {version} has {found:,} bytes, not {wanted:,}"
    orphans = (
        (
            "references belong to no version of a record",
            "value_chunks v WHERE NOT EXISTS "
            "(SELECT 1 FROM bodies b WHERE b.row = v.row AND b.version = v.version AND b.part = 0)",
        ),
        ("references are to chunks that do not exist", "value_chunks v WHERE v.chunk NOT IN (SELECT n FROM chunks)"),
        (
            "chunks belong to nothing",
            "chunks c WHERE NOT EXISTS (SELECT 1 FROM value_chunks v WHERE v.chunk = c.n) "
            "AND c.n NOT IN (SELECT chunk FROM loose_chunks)",
        ),
    )
    for what, where in orphans:
        if count := db.execute(f"SELECT count(*) FROM {where}")[0][0]:
            yield f"values: {count} {what}"


def look(db: Connection, files: ChunkFiles, part: Part) -> Look | None:
    """A chunk as it is, if it is there: one that was packed anew since it was found, or mended, is looked at again.

    Raises ``StoreError`` where its file cannot be opened now: it is not damaged, and must not be taken for that.
    """
    while True:
        try:
            body, wrong = part.body if part.file is None else files.read(part.file), ""
        except FileNotFoundError:
            body, wrong = None, "is missing"
        except (StoreCorruptError, TypeError, ValueError) as exc:
            body, wrong = None, f"cannot be read: {exc}"
        if body is not None and is_whole(part.codec, part.size, part.checksum, body):
            return Look(part, body)
        now = chunks.numbered(db, part.n)
        if now is None:
            return None
        if now == part:
            return Look(part, None, wrong or "is not what was stored")
        part = now
