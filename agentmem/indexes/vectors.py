"""LanceDB's table as a copy that follows the feed: what is written to it, what is noted of it, when it is believed.

A watermark in libSQL says how far the table has come. Beside it stand the table's version, its number of rows and the
checksums of its files after the last write, since LanceDB does not sync: after a power cut the table may be at an older
version, or its numbers may have changed, and neither raises an error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from agentmem.indexes.driver import TableCorruptError, usable
from agentmem.indexes.lance import PART_BITS, ROW, LanceIndex, went_back
from agentmem.stores import meta
from agentmem.stores.commit import GroupCommit, Write
from agentmem.stores.records import LIVE_ONLY, Records
from agentmem.stores.writes import Repository
from agentmem.types.errors import StoreCorruptError, StoreError
from agentmem.types.events import Event
from agentmem.types.ports import FeedEvent, Mask, Nearest, VectorIndex

if TYPE_CHECKING:
    from agentmem.types.ports import Vector

GROUP = 2_000
"""Changes per write to LanceDB."""
_SHOWN = 20
_NOTHING = Nearest(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), 0)


class LanceCopy(VectorIndex):
    """The embeddings of one model in LanceDB, by row and part.

    The table's column ``row`` has the row of part 0; those of further parts have the part in the bits above it, so that
    a table of before has what it needs, and the nearest of equal vectors is the first one.

    Any thread may search. ``apply``, ``inspect``, ``optimize`` and ``reset`` need the lock that all processes share.
    """

    def __init__(self, records: Records, commits: GroupCommit, table: LanceIndex, dim: int) -> None:
        self.table = table
        self.writes = 0
        """Since the table was last merged; each leaves a fragment and a version behind."""
        self.damaged = False
        """Whether a search found damage."""
        self.suspected = Event[[]]()
        """A search found damage: the table is to be built anew."""
        self.records = records
        self._commits = commits
        self._dim = dim
        self._inspected = False
        self._intact = False

    @property
    @override
    def name(self) -> str:
        return "lancedb"

    @property
    @override
    def group(self) -> int:
        return GROUP

    def count(self) -> int:
        """How many vectors the table has."""
        return self.table.state()[1]

    @override
    def applied_seq(self) -> int:
        return int(self.records.meta(meta.LANCE_APPLIED) or 0)

    @property
    def uninspected(self) -> bool:
        """Whether there are vectors that this process is yet to compare with what was noted of them."""
        return usable() and not self._inspected and self.applied_seq() > 0

    # -- following ---------------------------------------------------------------------------------------------------

    @override
    def apply(self, events: Sequence[FeedEvent], after: int) -> None:
        numbers = {
            event.row: (event.owner, event.agent, event.run) for event in events if event.row and not event.touch
        }
        found = self.records.live_vectors(numbers)
        order = sorted(found)
        vectors = np.frombuffer(b"".join(found[row] for row in order), np.float32).reshape(-1, self._dim)
        rows = np.array(order, np.int64)
        scopes = np.array([numbers[row] for row in order], np.int64).reshape(-1, 3)
        if len(vectors) != len(rows):
            counts = np.array([len(found[row]) // (4 * self._dim) for row in order])
            parts = np.arange(len(vectors)) - np.repeat(np.cumsum(counts) - counts, counts)
            rows, scopes = np.repeat(rows, counts) + (parts << PART_BITS), np.repeat(scopes, counts, axis=0)
        gone = [row for row in numbers if row not in found]
        self._commits.check_files()  # LanceDB goes by the path, and might write beside another database
        if not self.applied_seq():
            # A repair may have had everything forgotten since ``inspect``: what is left over must not stay.
            self.table.reset()
        self.table.apply(gone, rows, scopes[:, 0], scopes[:, 1], scopes[:, 2], vectors)
        self.writes += 1
        self._commits.note_lance()

        def advance(repository: Repository) -> None:
            if int(repository.meta(meta.LANCE_APPLIED) or 0) == after:
                repository.set_meta(meta.LANCE_APPLIED, events[-1].seq)

        self._note(advance)

    def inspect(self) -> None:
        """Compare the table with what it was after the last write: a power cut can take its newest files away.

        Raises ``TableCorruptError``. All of its files are read once in the life of this object, without LanceDB.
        """
        if self.damaged:
            raise TableCorruptError("a search could not read the vectors")
        noted = self.records.meta(meta.LANCE_STATE)
        if not self.applied_seq():
            self.table.reset()
        elif noted is not None and (self._inspected or not self._unchanged()):
            found = self.table.state()
            # A larger version belongs to a drainer that died before it noted so; its changes are applied again.
            if went_back(noted, found):
                raise TableCorruptError(f"the vectors are at {found}, not ({noted})")
            damaged = [] if self._inspected else self.table.damaged(self._files(), noted)
            if damaged:
                raise TableCorruptError(f"{len(damaged)} files of the vectors have changed, {damaged[0]} for one")
        self._inspected = True

    def optimize(self, purge: int | None) -> None:
        """Merge fragments and remove old versions; with ``purge``, a value of ``LANCE_PURGE``, every trace of removed
        rows too. That value is taken back unless an erase that came in between has set another one."""
        self._commits.check_files()
        self.table.optimize(purge=bool(purge))
        self.writes = 0

        def purged(repository: Repository) -> None:
            if purge and repository.meta(meta.LANCE_PURGE) == purge:
                repository.set_meta(meta.LANCE_PURGE, None)

        self._note(purged)

    def forget(self) -> None:
        """Have everything applied again: the watermark goes back, and the next ``inspect`` or ``apply`` begins anew."""
        forgotten = Write(lambda repository: repository.set_meta(meta.LANCE_APPLIED, 0))
        self._commits.submit(forgotten, background=True).result()

    @override
    def reset(self) -> None:
        # In this order: a reader must not take an emptied table for a complete one.
        self.forget()
        self.table.reset()
        self._inspected, self.damaged = True, False

    def close(self) -> None:
        self.table.close()

    def _note(self, change: Callable[[Repository], object]) -> None:
        """Record what was done to the table, unless the store has moved to another model meanwhile."""
        state = ",".join(map(str, self.table.state()))
        files = json.dumps(self.table.checksums())

        def run(repository: Repository) -> None:
            if repository.generation == self.records.generation:
                repository.set_meta(meta.LANCE_STATE, state)
                repository.set_meta(meta.LANCE_FILES, files)
                change(repository)

        self._commits.submit(Write(run), background=True).result()

    def _files(self) -> dict[str, int]:
        return json.loads(self.records.meta(meta.LANCE_FILES) or "{}")

    def _unchanged(self) -> bool:
        """Whether the table's files are those of the last write, to the byte: seen without loading LanceDB."""
        files = self.records.meta(meta.LANCE_FILES)
        return files is not None and self.table.checksums() == json.loads(files)

    # -- searching ---------------------------------------------------------------------------------------------------

    @override
    def search(self, vector: Vector, k: int, mask: Mask) -> Nearest:
        read = self.records.meta
        applied, noted, files = self.applied_seq(), read(meta.LANCE_STATE), read(meta.LANCE_FILES)
        if not applied:
            return _NOTHING
        try:
            intact = self._intact or not self.table.damaged(json.loads(files or "{}"), noted or "")
            keys, similarities = self.table.search(
                vector, k, user=mask.user, agent=mask.agent, run=mask.run, rows=mask.rows, exact=False
            )
            went = noted is not None and went_back(noted, self.table.state())
        except StoreError as exc:
            if isinstance(exc, StoreCorruptError):
                self._suspect()
            return _NOTHING
        if self.applied_seq() < applied:
            return _NOTHING  # another process has begun to rebuild it under the search
        if went or (not intact and read(meta.LANCE_FILES) == files):
            self._suspect()
        if went or not intact:
            return _NOTHING
        self._intact = True
        return Nearest(keys & ROW, keys >> PART_BITS, similarities, applied)

    def _suspect(self) -> None:
        self.damaged = True
        self.suspected()

    # -- checking ----------------------------------------------------------------------------------------------------

    @override
    def check(self) -> list[str]:
        """Whether exactly the live records are there, each once, in the right scope, with the same vector to the byte.

        Raises ``StoreError`` where the table was merged under the scan; then it has to be repeated.
        """
        before = self.applied_seq()
        suspects, seen = self._scan()
        suspects |= {key & ROW for key, times in seen.items() if times > 1}
        held = Counter(key & ROW for key in seen)
        for low, high in self.records.windows(LIVE_ONLY, ()):
            expected = self.records.counts_between(low, high)
            suspects |= {row for row, count in expected.items() if held[row] != count}
        # Records that changed since are not at fault, whoever has taken that up meanwhile.
        wrong = sorted(suspects - self.records.changed_since(before)) if suspects else []
        more = [f"{self.name}: and {len(wrong) - _SHOWN} more rows"] if len(wrong) > _SHOWN else []
        return [f"{self.name}: row {row} is missing, left over, repeated or different" for row in wrong[:_SHOWN]] + more

    def _scan(self) -> tuple[set[int], dict[int, int]]:
        """Rows of which something differs from libSQL's, and how often each key is in the table."""
        suspects, seen, width = set[int](), dict[int, int](), 4 * self._dim
        for keys, users, agents, runs, vectors in self.table.scan():
            truth = self.records.owned_vectors(dict.fromkeys((keys & ROW).tolist()))
            for at, key in enumerate(keys.tolist()):
                seen[key] = seen.get(key, 0) + 1
                row, start = key & ROW, (key >> PART_BITS) * width
                scope, held = truth.get(row, (None, b""))
                found = (int(users[at]), int(agents[at]), int(runs[at]))
                if scope != found or held[start : start + width] != vectors[at].tobytes():
                    suspects.add(row)
        return suspects, seen
