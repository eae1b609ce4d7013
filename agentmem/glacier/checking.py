"""Whether archives have what the store says lies there, looking at every byte; and mending what can be mended."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress

from agentmem.archive.reading import ArchiveReader
from agentmem.engine.engine import Engine
from agentmem.glacier import burying, merging
from agentmem.glacier.bodies import TABLE, fetch
from agentmem.glacier.place import alone, archives_of
from agentmem.glacier.returning import rehydrate
from agentmem.stores import archived
from agentmem.types.errors import ArchiveError, InvalidInputError, ObjectNotFoundError

_GROUP = 500


def problems(engine: Engine) -> Iterator[str]:
    """What is wrong with the archives that records lie in; each begins with ``archive``."""
    keys = _Keys(engine)
    for name, rows in _held(engine).items():
        while rows and (found := list(_problems_of(engine, name, rows, keys))):
            before, rows, keys = rows, _held(engine).get(name), _Keys(engine)
            if rows == before:  # else some have left it, or come, while it was looked at
                yield from found
                break


class _Keys:
    """The tags of users' keys, each looked up once."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._known = engine, dict[int, set[str]]()

    def of(self, user: int) -> set[str]:
        """Those of a user's, by number."""
        if user not in self._known:
            _, keyring = archives_of(self._engine).open(read_only=True)
            name = self._engine.repository.names.name(self._engine.repository.db, user)
            self._known[user] = set() if keyring is None else {key.tag for key in keyring.keys_of(name)}
        return self._known[user]


def _problems_of(engine: Engine, name: str, rows: array[int], keys: _Keys) -> Iterator[str]:
    try:
        reader = archives_of(engine).bare(name)
        found = list(reader.problems()) or list(_missing(engine, reader, rows, keys))
        yield from (f"archive {name}: {problem}" for problem in found)
    except ObjectNotFoundError as exc:
        yield f"archive {name}: it is not there, and {len(rows)} records lie in it ({exc})"
    except (ArchiveError, InvalidInputError) as exc:
        yield f"archive {name}: {len(rows)} records lie in it, and it cannot be read ({exc})"


def _missing(engine: Engine, reader: ArchiveReader, rows: array[int], keys: _Keys) -> Iterator[str]:
    """Records that are to be in an archive in which nothing is damaged, and are not, or have no key that opens them."""
    blocks = [(block, zone) for block in reader.blocks(TABLE.name) if (zone := block.zones[0]) is not None]
    sealed, lost, shut = reader.manifest.keyring is not None, 0, set[int]()
    for stored in engine.repository.find_rows(rows):
        around = [block for block, (low, high) in blocks if low <= stored.row <= high]
        lost += not around
        if sealed and around and not any(block.tag in keys.of(stored.user) for block in around):
            shut.add(stored.user)
    lost = max(lost, len(rows) - reader.manifest.content(TABLE.name).rows)
    if lost > 0:
        yield f"{lost} records that are to be in it are not"
    if shut:
        yield f"the keys of {len(shut)} users, whose records lie in it, are not in the keyring"


def _held(engine: Engine) -> dict[str, array[int]]:
    """The rows that lie in each archive."""
    held = dict[str, "array[int]"]()
    for row, name in archived.all_places(engine.repository.db):
        held.setdefault(name, array("q")).append(row)
    return held


def mend(engine: Engine) -> None:
    """Remove what killed writers have left and what was erased, and bring back what lies in damaged archives, as far as
    it, or another copy of it, can be read. Raises what reading and writing archives raises."""
    if not archives_of(engine).settings.url:
        return
    with alone(engine):
        archives_of(engine).check_there()
        burying.tidy(engine)
        archives_of(engine).open(read_only=False)[0].sweep()
    keys = _Keys(engine)
    for name, rows in _held(engine).items():
        if any(_problems_of(engine, name, rows, keys)):
            _bring_back(engine, rows)
    with alone(engine):  # now that nothing that can be read lies in damaged ones
        burying.bury(engine)
        merging.merge(engine)


def _bring_back(engine: Engine, rows: array[int]) -> None:
    for start in range(0, len(rows), _GROUP):
        stubs = list(engine.repository.find_rows(rows[start : start + _GROUP]))
        try:
            fetch(engine, stubs)
        except ArchiveError:
            for stub in stubs:  # one by one: those that can be read
                with suppress(ArchiveError):
                    rehydrate(engine, [stub])
        else:
            rehydrate(engine, stubs)
