"""Rescues what can be read of a damaged database into a new one.

Everything else in a store derives from the database, so damage inside it has no second copy to heal from. Rows are read
range by range, and around what cannot be read; what comes back is checked against whatever else is known of it. The
damaged files are kept aside, untouched, and the new database takes their place in one step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, TypeVar

from agentmem.embedding import fingerprint_of, known_dim, settle
from agentmem.engine.opening import Spec, note_model, open_model
from agentmem.operations import salvage_values
from agentmem.operations.salvage_vectors import Held, copy_embeddings
from agentmem.settings import Settings
from agentmem.stores import erasure, keyed, meta, rescue
from agentmem.stores.alone import alone_with
from agentmem.stores.bodies import checksum as checksum_of
from agentmem.stores.connection import Connection, Row
from agentmem.stores.facts import checksum, is_intact
from agentmem.stores.folder import DAMAGED, DATABASE, LANCE, SALVAGE, new_folder, sync
from agentmem.stores.log import truncate_wal
from agentmem.stores.records import COLUMNS
from agentmem.stores.rescue import largest, ranges, whole
from agentmem.stores.rows import COLUMN_NAMES, Stored
from agentmem.stores.schema import ARCHIVED, ERASED, LIVE, STATE_AFTER, STATES, configure, migrate
from agentmem.types.clock import to_micros
from agentmem.types.enums import EventType, Layer
from agentmem.types.errors import ModelMismatchError, StoreCorruptError, StoreError
from agentmem.types.ports import Embedder
from agentmem.types.problems import Problems
from agentmem.types.refusals import refusal
from agentmem.types.reports import VerifyReport

T = TypeVar("T")
_TYPES: tuple[tuple[str, tuple[type, ...], Any], ...] = (
    ("role", (str, NoneType), None),
    ("kind", (str,), "fact"),
    *((name, (int, float, NoneType), None) for name in ("importance", "rating")),
    *((name, (int, NoneType), None) for name in ("occurred_at", "expires_at", "aged_from")),
    *((name, (int, NoneType), None) for name in ("valid_from", "valid_to", "superseded_by", "body", "sliding")),
    *(
        (name, types, None)
        for name, types in (
            ("retired_at", (int, NoneType)),
            ("stated_to", (int, NoneType)),
            ("evidence", (str, NoneType)),
        )
    ),
    ("body_size", (int,), 0),
    ("vectors", (int,), 1),
    ("key", (str, bytes, NoneType), None),
    *((name, (bytes, NoneType), None) for name in ("fingerprint", "checksum")),
)
"""What columns may hold, and what they get where damage has left something else."""
_INSTANTS = ("occurred_at", "expires_at", "aged_from", "valid_from", "valid_to", "retired_at", "stated_to")
_FIRST, _LAST = to_micros(datetime.min.replace(tzinfo=UTC)), to_micros(datetime.max.replace(tzinfo=UTC))
_ABSENT = {"space": "0", "body_size": "0", "vectors": "1"}
"""What stands in for a column that an older store lacks; NULL for the others."""


@dataclass
class _Tally:
    """What became of the records; ``problems`` names the first of those that are not as they were."""

    salvaged: int = 0
    lost: int = 0
    altered: int = 0
    reembedded: int = 0
    histories_lost: int = 0
    problems: Problems = field(default_factory=Problems)


class _Chain(NamedTuple):
    """A record's history in short."""

    first: str
    version: int
    state: int


def salvage(path: Path, settings: Settings, given: Spec) -> VerifyReport:
    """Replace a store's damaged database by a new one with everything that can still be read.

    ``counts`` tells the records ``salvaged`` and ``lost``, those whose text is ``altered``, those ``reembedded``
    because their embedding was damaged, and the ``histories_lost``; ``problems`` names them. The damaged files are
    copied to a folder ``damaged-…`` in the store first.

    Raises ``StoreLockedError`` while anybody has the store open, ``StoreCorruptError`` if nothing can be read,
    ``ModelMismatchError`` if ``given`` is not the store's model, ``DiskFullError``.
    """
    database, fresh = path / DATABASE, path / SALVAGE
    with ExitStack() as stack:
        stack.enter_context(alone_with(path, settings.performance.lock_timeout_s, "salvage"))
        _discard(fresh)  # what a killed one left
        stack.callback(_discard, fresh)
        aside = _copy_aside(path)
        os.close(os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            with closing(Connection(database)) as old, closing(Connection(fresh)) as new:
                old.execute("PRAGMA writable_schema=ON")  # a damaged table definition does not hide the others
                truncate_wal(old)
                configure(new)
                migrate(new, path)
                tally = _Transfer(old, new, settings, given).run()
                new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except ModelMismatchError:
            shutil.rmtree(aside)
            raise
        except StoreCorruptError as exc:
            raise StoreCorruptError(
                f"nothing can be read of {database} ({exc}); it is as it was, with a copy in {aside}; "
                "restore it from a backup"
            ) from exc
        for end in ("-wal", "-shm"):
            for name in (database, fresh):
                name.with_name(name.name + end).unlink(missing_ok=True)
        sync(fresh)
        os.replace(fresh, database)
        with suppress(FileNotFoundError):  # it followed another database
            os.rename(path / LANCE, aside / LANCE)
        sync(path)
    counts = {
        name: getattr(tally, name) for name in ("salvaged", "lost", "altered", "reembedded", "histories_lost")
    }  # fmt: skip
    return VerifyReport(not tally.problems, counts, tally.problems.listed())


def _discard(fresh: Path) -> None:
    for part in fresh.parent.glob(f"{fresh.name}*"):
        part.unlink()


def _copy_aside(path: Path) -> Path:
    aside = new_folder(path, DAMAGED)
    try:
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                shutil.copy2(path / f"{DATABASE}{end}", aside)
    except OSError as exc:
        raise StoreError(f"the damaged database cannot be copied to {aside}: {refusal(exc)}") from exc
    return aside


class _Transfer:
    """Reads the old database and writes the new one, table by table."""

    def __init__(self, old: Connection, new: Connection, settings: Settings, given: Spec) -> None:
        self._old = old
        self._new = new
        self._names: set[int] = set()
        self._last_name = self._last_seq = 0
        self._tally = _Tally()
        self._meta = dict(whole(old, "SELECT key, value FROM meta"))
        self._embedder = self._find_model(settings, given)
        key = self._meta.get(meta.ERASURE_KEY)
        if isinstance(key, bytes):
            meta.put(new, meta.ERASURE_KEY, key)
        self._key = bytes(meta.get(new, meta.ERASURE_KEY))
        self._kept = dict[int, Held]()
        self._broken = list[tuple[int, int, int]]()
        self._altered = list[int]()
        self._with_bodies = set[int]()
        self._away = dict[int, str]()
        """In which archive the text, the vectors and the data of a record are."""

    def _find_model(self, settings: Settings, given: Spec) -> Embedder:
        known = {key: self._meta[key] for key in meta.MODEL_KEYS if key in self._meta}
        for key, value in known.items():
            meta.put(self._new, key, value)
        embedder = open_model(self._new, settings, given)
        if meta.MODEL in known:
            settle(embedder, known[meta.MODEL], int(known[meta.DIM]))
        if meta.MODEL in known and (embedder.name, known_dim(embedder)) != (known[meta.MODEL], int(known[meta.DIM])):
            raise ModelMismatchError(
                f"the damaged store holds embeddings of {known[meta.MODEL]!r} ({known[meta.DIM]} dimensions), "
                f"not of {embedder.name!r} ({known_dim(embedder) or 'unknown'}); "
                "open it with the model it has to salvage it"
            )
        if meta.MODEL in known and known.get(meta.MODEL_FINGERPRINT) != fingerprint_of(embedder):
            raise ModelMismatchError(
                f"the files of {embedder.name!r} are not those that the damaged store was made with"
            )
        note_model(self._new, embedder, given if given is not None else known.get(meta.MODEL_SPEC) or None)
        return embedder

    def run(self) -> _Tally:
        self._copy_names()
        chains = self._read_chains()
        last = self._last_row()
        sql = "SELECT DISTINCT row FROM bodies WHERE row > ? AND row <= ?"
        if whole(self._old, "PRAGMA table_info(bodies)"):
            self._with_bodies = {found[0] for found in ranges(self._old, sql, last)}
        self._read_archives(last)
        seen = self._copy_records(last, chains)
        self._tally.lost += len(chains.keys() - seen)
        if missing := len(chains.keys() - seen):
            self._tally.problems.add(f"{missing} records could not be read at all; only their history names them")
        self._copy_history()
        self._copy_embeddings(last)
        self._copy_use(last)
        self._copy_erasures()
        self._copy_archives()
        self._tally.problems.extend(salvage_values.copy(self._old, self._new, last, self._write))
        meta.put(self._new, meta.FORMER_KEYS, self._meta.get(meta.FORMER_KEYS))
        meta.put(self._new, meta.FIRST_KEYS, int(self._meta.get(meta.FIRST_KEYS, last)))
        # These numbers are never given out twice.
        numbers = [("records", last), ("names", self._last_name)]
        self._write("DELETE FROM sqlite_sequence WHERE name = ?", [(name,) for name, _ in numbers])
        self._write("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", numbers)
        return self._tally

    def _write(self, sql: str, rows: Iterable[Row]) -> None:
        for chunk in _chunks(rows, 2_000):
            self._new.execute("BEGIN IMMEDIATE")
            self._new.executemany(sql, [tuple(map(_bindable, row)) for row in chunk])
            self._new.execute("COMMIT")

    def _follow_archives(self, row: int, event: str, data: str | None) -> None:
        if event == EventType.ARCHIVE and data:
            self._away[row] = str(json.loads(data).get("archive"))
        elif event in (EventType.REHYDRATE, EventType.ERASE):
            self._away.pop(row, None)

    def _read_archives(self, last: int) -> None:
        """What the table says goes before what the history does."""
        if whole(self._old, "PRAGMA table_info(archived)"):
            sql = "SELECT row, archive FROM archived WHERE row > ? AND row <= ?"
            self._away |= {row: name for row, name in ranges(self._old, sql, last) if isinstance(name, str)}

    # -- the tables --------------------------------------------------------------------------------------------------

    def _copy_erasures(self) -> None:
        """What is left of those who were erased; names whose records are all lost are nobody's."""
        lines = whole(self._old, "SELECT n, who, records, at FROM erasures")
        self._write("INSERT INTO erasures VALUES (?, ?, ?, ?)", [line for line in lines if isinstance(line[1], bytes)])
        used = " UNION ".join(f"SELECT {column} FROM records" for column in ("user", "agent", "run", "space"))
        self._write(f"DELETE FROM names WHERE n NOT IN ({used}) AND n > ?", [(0,)])

    def _copy_archives(self) -> None:
        """Where records' texts are, and what is known of the archives."""
        kept = dict(self._new.execute("SELECT row, state FROM records"))
        away = [(row, name) for row, name in self._away.items() if kept.get(row, ERASED) != ERASED]
        self._write("INSERT INTO archived VALUES (?, ?)", away)
        for table, columns in (("archives", 9), ("burials", 3)):
            if whole(self._old, f"PRAGMA table_info({table})"):
                found = [row for row in whole(self._old, f"SELECT * FROM {table}") if isinstance(row[0], str)]
                self._write(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})", found)

    def _copy_names(self) -> None:
        last = self._last_name = largest(
            self._old, "SELECT seq FROM sqlite_sequence WHERE name = 'names'", "SELECT max(n) FROM names"
        )
        names = [
            (n, value)
            for n, value in ranges(self._old, "SELECT n, value FROM names WHERE n > ? AND n <= ?", last)
            if isinstance(value, (str, bytes)) and value
        ]
        self._write("INSERT OR IGNORE INTO names VALUES (?, ?)", names)
        self._names = {0} | {row[0] for row in self._new.execute("SELECT n FROM names")}

    def _events(self) -> Iterator[Row]:
        sql = "SELECT seq, row, event, at, version, data FROM history WHERE seq > ? AND seq <= ?"
        events = {event.value for event in EventType}
        for row in ranges(self._old, sql, self._last_seq):
            _, record, event, at, version, data = row
            if event in events and all(isinstance(n, int) for n in (record, at, version)) and _is_json(data):
                yield row

    def _read_chains(self) -> dict[int, _Chain]:
        self._last_seq = largest(
            self._old, "SELECT seq FROM sqlite_sequence WHERE name = 'history'", "SELECT max(seq) FROM history"
        )
        chains = dict[int, _Chain]()
        for _, record, event, _, version, data in self._events():
            if not record:
                continue  # the store itself
            before = chains.get(record, _Chain(event, 0, LIVE))
            state = STATE_AFTER.get(event, before.state)
            self._follow_archives(record, event, data)
            chains[record] = _Chain(before.first, max(version, before.version), state)
        return chains

    def _last_row(self) -> int:
        return largest(
            self._old,
            "SELECT seq FROM sqlite_sequence WHERE name = 'records'",
            "SELECT max(row) FROM records",
            "SELECT max(row) FROM history",
            f"SELECT max(row) FROM {self._embeddings}",
        )

    @property
    def _embeddings(self) -> str:
        return f"embeddings_{int(self._meta.get(meta.GENERATION) or 1)}"

    def _copy_records(self, last: int, chains: dict[int, _Chain]) -> set[int]:
        columns = [row[1] for row in self._new.execute("PRAGMA table_info(records)")]
        there = {row[1] for row in whole(self._old, "PRAGMA table_info(records)")} or set(columns)
        chosen = ", ".join(
            # A text that is no longer UTF-8 can only be read as bytes; an older store lacks some columns.
            "CAST(content AS BLOB)" if name == "content" else name if name in there else _ABSENT.get(name, "NULL")
            for name in columns
        )
        sql = f"SELECT {chosen} FROM records WHERE row > ? AND row <= ?"
        ids, seen, kept, places = set[str | bytes](), set[int](), list[Row](), set[tuple[object, ...]]()
        for found in ranges(self._old, sql, last):
            record = dict(zip(columns, found, strict=True))
            row = record["row"]
            seen.add(row)
            if record["state"] == ERASED:
                self._bury(record)
            reason = self._unusable(record)
            if reason is None and record["id"] in ids:
                reason = "its id occurs twice"
            if reason is not None:
                self._tally.lost += 1
                self._tally.problems.add(f"record {record['id']!r} (row {row}): {reason}")
                continue
            ids.add(record["id"])
            sizes = self._copy_bodies(row) if row in self._with_bodies and record["state"] != ERASED else {}
            self._mend(record, chains.get(row), sizes)
            self._keep_key(record, places)
            kept.append(tuple(record[name] for name in columns))
            self._tally.salvaged += 1
            if record["state"] != ERASED:
                self._kept[row] = Held(record["id"], record["content"], record["vectors"], record["body"])
        marks = ", ".join("?" * len(columns))
        self._write(f"INSERT INTO records ({', '.join(columns)}) VALUES ({marks})", kept)
        self._sign(self._altered)
        return seen

    def _keep_key(self, record: dict[str, Any], places: set[tuple[object, ...]]) -> None:
        """One record has a key; another one that has it, too, because of the damage, is kept without it."""
        if record["key"] is None or record["state"] not in (LIVE, ARCHIVED):
            return
        place = record["user"], record["space"], record["key"]
        if place in places or not isinstance(record["key"], str):
            record["key"] = None
            self._altered.append(record["row"])
            self._tally.altered += 1
            self._tally.problems.add(f"record {record['id']!r} (row {record['row']}): its key is not what was stored")
        places.add(place)

    def _sign(self, rows: Iterable[int]) -> None:
        """From here on a record that is not what it was counts as it is, to the byte."""
        sql = f"SELECT {COLUMNS} FROM records r WHERE r.row IN ({{}})"
        altered = map(Stored._make, self._new.select_in(sql, rows))
        self._write("UPDATE records SET checksum = ? WHERE row = ?", [(checksum(one), one.row) for one in altered])

    def _bury(self, record: dict[str, Any]) -> None:
        """An erased record has a keyed hash for an id, and a time to go; in an older store it has neither yet."""
        if isinstance(record["id"], str) and isinstance(record["updated_at"], int):
            record["id"] = keyed.tombstone_id(self._key, record["id"], record["row"])
            record["expires_at"] = record["updated_at"] + erasure.KEPT

    def _unusable(self, record: dict[str, Any]) -> str | None:
        """Why a record cannot be kept: without its owner it might be shown to somebody else."""
        numbers = ("user", "agent", "run", "space", "state", "version", "created_at", "updated_at")
        kind = bytes if record["state"] == ERASED else str
        if not all(isinstance(record[name], int) for name in numbers) or not isinstance(record["id"], kind):
            return "its columns are damaged"
        if not {record["user"], record["agent"], record["run"], record["space"]} <= self._names:
            return "whose it was could not be read"
        if record["state"] not in STATES or record["layer"] not in {layer.value for layer in Layer}:
            return "its columns are damaged"
        if record["content"] is None and record["state"] != ERASED:
            return "its text could not be read"
        if record["state"] == ARCHIVED and record["row"] not in self._away:
            return "its text is in an archive, and nothing says in which"
        return None

    def _copy_bodies(self, row: int) -> dict[int, int]:
        """Copy what can be read of the bodies of a record; returns the bytes of each version."""
        sizes = dict[int, int]()
        for version, parts in rescue.bodies(self._old, row):
            self._write(
                "INSERT OR REPLACE INTO bodies (row, version, part, body, checksum) VALUES (?, ?, ?, ?, ?)",
                ((row, version, part, text, checksum_of(row, part, text)) for part, text in parts),
            )
            sizes[version] = sum(len(text.encode()) for _, text in parts)
        return sizes

    def _mend(self, record: dict[str, Any], chain: _Chain | None, bodies: Mapping[int, int]) -> None:
        """Bring a record in line with its history and its ``bodies``, and take note of what is not what was stored."""
        row, altered = record["row"], False
        try:
            record["content"] = bytes(record["content"] or b"").decode()
        except UnicodeDecodeError:
            record["content"] = bytes(record["content"]).decode(errors="replace")
            altered = True
        if not _is_json(record["metadata"]):
            record["metadata"], altered = None, True
        if record["pinned"] not in (0, 1):
            record["pinned"] = 0
        for name, types, instead in _TYPES:
            if not isinstance(record[name], types):
                record[name], altered = instead, True
        altered |= _bring_in_range(record)
        away = row in self._away
        if not away and record["body"] is not None and bodies.get(record["body"]) != record["body_size"]:
            there = record["body"] in bodies
            record["body_size"] = bodies[record["body"]] if there else 0
            record["body"], altered = record["body"] if there else None, True
        stored = Stored(*(record[name] for name in COLUMN_NAMES))
        if record["state"] != ERASED and (altered or not is_intact(stored, record["checksum"])):
            record["fingerprint"], altered = None, True  # nobody repeats a text that was never said
            self._altered.append(row)
        if altered:
            self._tally.altered += 1
            self._tally.problems.add(
                f"record {record['id']!r} (row {row}): its text, metadata or data is not what was stored"
            )
        if chain is None or chain.first != "ADD" or chain.version != record["version"]:
            self._broken.append((row, record["created_at"], record["version"]))
            self._tally.histories_lost += 1
            self._tally.problems.add(f"record {record['id']!r} (row {row}): its history could not be read")
        else:
            record["state"] = ARCHIVED if away and chain.state == LIVE else chain.state

    def _copy_history(self) -> None:
        broken = {row for row, _, _ in self._broken}
        known = {row[0] for row in self._new.execute("SELECT row FROM records")} - broken | {0}
        self._write(
            "INSERT INTO history (seq, row, event, at, version, data) VALUES (?,?,?,?,?,?)",
            (event for event in self._events() if event[1] in known),
        )
        # One event in place of the lost ones, which says what it is.
        states = dict(self._new.execute("SELECT row, state FROM records"))
        sql = "INSERT INTO history (row, event, at, version, data) VALUES (?,?,?,?,?)"
        self._write(sql, [(row, "ADD", at, version, '{"salvaged": true}') for row, at, version in self._broken])
        after = {state: event for event, state in STATE_AFTER.items() if event in ("DELETE", "ERASE", "EXPIRE")}
        hidden = [(row, after[states[row]], at, version) for row, at, version in self._broken if states[row] in after]
        self._write(sql, [(row, event, at, version, None) for row, event, at, version in hidden])

    def _copy_use(self, last: int) -> None:
        """How records were used; where that is lost, it is counted anew."""
        if not whole(self._old, "PRAGMA table_info(accesses)"):
            return
        sql = "SELECT row, times, first_at, last_at, value, weight FROM accesses WHERE row > ? AND row <= ?"
        self._write(
            "INSERT OR IGNORE INTO accesses VALUES (?, ?, ?, ?, ?, ?, 1)",
            (
                use
                for use in ranges(self._old, sql, last)
                if use[0] in self._kept and all(isinstance(number, (int, float)) for number in (use[1], *use[4:]))
                if all(when is None or isinstance(when, int) for when in use[2:4])
            ),
        )

    def _copy_embeddings(self, last: int) -> None:
        here = {row: held for row, held in self._kept.items() if row not in self._away}
        found = copy_embeddings(self._old, self._new, self._embeddings, last, here, self._embedder, self._write)
        self._tally.reembedded += found.reembedded
        for row in found.changed:
            self._tally.altered += 1
            self._tally.problems.add(
                f"record {self._kept[row].id!r} (row {row}): what it was embedded by could not all be read"
            )
        self._write(
            "UPDATE records SET vectors = ? WHERE row = ?", [(code, row) for row, code in found.changed.items()]
        )
        self._sign(found.changed)


def _is_json(text: object) -> bool:
    if text is None:
        return True
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk


def _bindable(value: Any) -> Any:
    """The driver turns large ints into floats; as text they stay exact."""
    return str(value) if isinstance(value, int) and abs(value) >= 2**31 else value


def _bring_in_range(record: dict[str, Any]) -> bool:
    """Let go of instants that no calendar has; returns whether there were any."""
    altered = False
    for name in _INSTANTS:
        if record[name] is not None and not _FIRST <= record[name] <= _LAST:
            record[name], altered = None, True
    made, changed = (record[name] for name in ("created_at", "updated_at"))
    for name, other in (("created_at", changed), ("updated_at", made)):
        if not _FIRST <= record[name] <= _LAST:
            record[name], altered = other if _FIRST <= other <= _LAST else 0, True
    return altered
