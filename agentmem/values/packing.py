"""Packing what is stored anew, harder: the content of the chunks stays, and with it every value and version of it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from operator import itemgetter

from agentmem.engine.engine import Engine
from agentmem.stores import chunks, chunkupkeep
from agentmem.stores.chunkfiles import ChunkFiles, settle
from agentmem.stores.chunkframes import frames, is_whole
from agentmem.stores.chunks import Part, Repacked
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository
from agentmem.types.errors import StoreError
from agentmem.values.codecs import Bytes, Packer, unpack

_GROUP = 8
"""Chunks that are packed anew in one transaction, some 32 MB at most."""


def repack(engine: Engine, stored: Stored, level: int) -> int:
    """Pack the chunks of a value, of all versions, by zstd; by how many bytes they are smaller now.

    Those that would get no smaller stay as they are, and so do damaged ones.
    """
    engine.check_writable()
    db, saved = engine.repository.db, 0
    numbers = sorted({n for _, _, n, _ in chunks.references(db, stored.row)})
    for start in range(0, len(numbers), _GROUP):
        saved += _repack(engine, numbers[start : start + _GROUP], Packer("zstd", level))
    chunkupkeep.remove_files(engine.commits, db, engine.held)
    return saved


def _repack(engine: Engine, numbers: Sequence[int], packer: Packer) -> int:
    files, made, staging = ChunkFiles(engine.held), list[Repacked](), None
    inline = round(engine.settings.values.inline_kb * 1024)
    try:
        for n in numbers:
            part = chunks.numbered(engine.repository.db, n)
            content = None if part is None else _content(files, part)
            if part is None or content is None:
                continue
            packed = packer.packed(content)
            if packed.codec == "none" or packed.stored >= part.stored:
                continue
            file = None
            if packed.stored > inline:
                staging = staging or files.stage()
                file = staging.write(*packed.bodies)
            body = None if file else b"".join(packed.bodies)
            made.append(Repacked(part, packed.codec, packed.stored, packed.checksum, file, body))
        if staging is not None:
            staging.seal()
        if not made:
            return 0
        future = engine.begin_write(lambda repository: _change(repository, made), len(made))
    except BaseException:
        if staging is not None:
            staging.drop()
        raise
    future.add_done_callback(lambda done: settle(staging, done, itemgetter(1)))
    return future.result()[0]


def _change(repository: Repository, made: Sequence[Repacked]) -> tuple[int, set[str]]:
    changed = [each for each in made if chunks.repack(repository.db, each)]
    saved = sum(each.was.stored - each.stored for each in changed)
    return saved, {each.file for each in changed if each.file is not None}


def _content(files: ChunkFiles, part: Part) -> list[tuple[bytes, Bytes]] | None:
    try:
        body = part.body if part.file is None else files.read(part.file)
        if body is not None and is_whole(part.codec, part.size, part.checksum, body):
            every = frames(part.codec, part.size, part.checksum)
            unpacked = [unpack(frame.codec, frame.of(body), frame.size) for frame in every]
            return [(sha256(frame).digest(), frame) for frame in unpacked]
    except (FileNotFoundError, StoreError, ValueError):
        pass  # ``verify`` tells of it
    return None
