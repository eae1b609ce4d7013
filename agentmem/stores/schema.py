"""The tables, and how an older store becomes a newer one.

Migrations are appended, never edited once released; each runs in one transaction with its own record.

``records.row`` and ``history.seq`` are AUTOINCREMENT: numbers are never reused, so that ``row`` can key derived copies
and ``seq`` can be the change feed. Scope ids are interned in ``names`` (text), and so are the namespaces of each user
(bytes, see ``stores.spaces``); 0 stands for "none". ``state`` is 0 for live, 1 for deleted, 2 for erased (then ``id``
and ``key`` are keyed hashes, and ``expires_at`` says how long the row stays), 3 for expired or evicted, since
``updated_at``, 4 for archived: live, with its text, vectors and data elsewhere (``stores.archived``). Embeddings have
tables of their own, one for each model the store ever had, so that scans of records stay narrow and a new model's
vectors can grow beside the old one's; ``meta`` says which is current.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from agentmem.stores import keyed, valueschema
from agentmem.stores.connection import Connection, damaged
from agentmem.types.clock import now_micros
from agentmem.types.errors import StoreCorruptError, StoreVersionError

LIVE, DELETED, ERASED, EXPIRED, ARCHIVED = 0, 1, 2, 3, 4
"""The values of ``records.state``. Written into statements as they are: partial indexes are found by the number."""
STATES = (LIVE, DELETED, ERASED, EXPIRED, ARCHIVED)
STATE_AFTER = {
    "ADD": LIVE, "UPDATE": LIVE, "RESTORE": LIVE,
    "DELETE": DELETED, "EXPIRE": EXPIRED, "EVICT": EXPIRED, "ERASE": ERASED,
}  # fmt: skip
"""Events that decide a record's state, and the state after each. ARCHIVE and REHYDRATE do not: what is archived is as
live as it was, and lies elsewhere."""

# As they were when the migration that runs them was written; what runs them today is in ``accounting``.
_COUNTED = "state = 0 AND row <= (SELECT value FROM meta WHERE key = 'settled_row')"
_RECOUNT = f"""UPDATE layers SET (records, bytes) = (
    SELECT count(*), coalesce(sum(octet_length(content) + coalesce(octet_length(metadata), 0)), 0)
    FROM records WHERE {_COUNTED} AND records.layer = layers.layer)"""
_REQUEUE = f"""INSERT OR IGNORE INTO due SELECT layer, coalesce(aged_from, created_at), row
    FROM records WHERE {_COUNTED} AND pinned = 0"""


def _first(db: Connection) -> None:
    for statement in (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "CREATE TABLE names (n INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT NOT NULL UNIQUE)",
        """CREATE TABLE records (
            row INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            user INTEGER NOT NULL, agent INTEGER NOT NULL, run INTEGER NOT NULL,
            state INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL DEFAULT 1,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, occurred_at INTEGER, expires_at INTEGER,
            role TEXT, kind TEXT NOT NULL, layer TEXT NOT NULL,
            importance REAL, rating REAL,
            fingerprint BLOB,
            metadata TEXT,
            content TEXT NOT NULL)""",
        "CREATE INDEX records_by_user ON records (user, row) WHERE state = 0",
        "CREATE INDEX records_by_agent ON records (agent, row) WHERE state = 0 AND agent != 0",
        "CREATE INDEX records_by_run ON records (run, row) WHERE state = 0 AND run != 0",
        "CREATE INDEX records_by_fingerprint ON records (fingerprint) WHERE state = 0 AND fingerprint IS NOT NULL",
        "CREATE TABLE embeddings_1 (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
        """CREATE TABLE history (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            row INTEGER NOT NULL, event TEXT NOT NULL, at INTEGER NOT NULL, version INTEGER NOT NULL, data TEXT)""",
        "CREATE INDEX history_by_row ON history (row)",
        # Keyword index for scopes too large for memory. Terms and scope numbers are separated by blanks and every
        # other character belongs to a term, so that what goes in is exactly what the package's own tokenizer made.
        """CREATE VIRTUAL TABLE keywords USING fts5(
            scope, terms, content='', contentless_delete=1, tokenize="ascii tokenchars '_'")""",
        "INSERT INTO keywords (keywords, rank) VALUES ('automerge', 0)",
        "CREATE TABLE keyword_lengths (row INTEGER PRIMARY KEY, terms INTEGER NOT NULL)",
        """CREATE TABLE keyword_totals (
            user INTEGER NOT NULL, agent INTEGER NOT NULL, run INTEGER NOT NULL,
            documents INTEGER NOT NULL, terms INTEGER NOT NULL, PRIMARY KEY (user, agent, run)) WITHOUT ROWID""",
    ):
        db.execute(statement)


def _lifecycle(db: Connection) -> None:
    """What lets a sweep find what is due without looking at the rest, and what is counted as records come and go.

    An add touches none of it: new records are counted and queued in the background (``settle``).
    """
    for statement in (
        "ALTER TABLE records ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
        # When the layer's time to live began, where that is not created_at.
        "ALTER TABLE records ADD COLUMN aged_from INTEGER",
        "CREATE INDEX records_by_expiry ON records (expires_at) WHERE state = 0 AND expires_at IS NOT NULL",
        "CREATE INDEX records_by_grace ON records (updated_at) WHERE state = 3",
        """CREATE TABLE accesses (
            row INTEGER PRIMARY KEY, times INTEGER NOT NULL, first_at INTEGER, last_at INTEGER,
            value REAL NOT NULL, weight REAL NOT NULL, touched INTEGER NOT NULL)""",
        "CREATE INDEX accesses_touched ON accesses (row) WHERE touched = 1",
        # Every live record that is not pinned, by the beginning of its time in its layer; and what once was so.
        """CREATE TABLE due (
            layer TEXT NOT NULL, at INTEGER NOT NULL, row INTEGER NOT NULL,
            PRIMARY KEY (layer, at, row)) WITHOUT ROWID""",
        # Live records, and the bytes of their text and metadata.
        """CREATE TABLE layers (
            layer TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
            pressure TEXT NOT NULL DEFAULT 'low') WITHOUT ROWID""",
        "INSERT INTO layers (layer, records, bytes) VALUES ('interact', 0, 0), ('insights', 0, 0), ('assets', 0, 0)",
        "INSERT INTO meta SELECT 'settled_row', coalesce(max(row), 0) FROM records",
        _RECOUNT,
        _REQUEUE,
    ):
        db.execute(statement)


def _facts_by_user(db: Connection) -> None:
    """Fingerprints are random: sorted by them alone, each new record would change a page of the index of its own."""
    db.execute("DROP INDEX records_by_fingerprint")
    where = "state = 0 AND fingerprint IS NOT NULL"
    db.execute(f"CREATE INDEX records_by_fact ON records (user, fingerprint) WHERE {where}")


def _keys(db: Connection) -> None:
    """Records by key and in namespaces; checksums, times of events, what is gone, and what is left of who was erased.

    While this was in development, its parts were migrations of their own; a store that has some of them gets the rest.
    """
    there = {row[1] for row in db.execute("PRAGMA table_info(records)")}
    for column in _COLUMNS:
        if column.split()[0] not in there:
            db.execute(f"ALTER TABLE records ADD COLUMN {column}")
    if "checksum" not in there:
        # Records from before have no checksum, and facts a key by the first rule; both are left so, which spares
        # writing every record once more. A change gives a record both.
        db.execute("INSERT INTO meta SELECT 'first_keys_row', coalesce(max(row), 0) FROM records")
    for name, on in _INDEXES.items():
        db.execute(f"DROP INDEX IF EXISTS {name}")
        db.execute(f"CREATE {'UNIQUE ' * (name in _UNIQUE)}INDEX {name} ON records {on}")
    # Users all of whose records were erased: a keyed hash, how many, when.
    db.execute(
        """CREATE TABLE IF NOT EXISTS erasures (
            n INTEGER PRIMARY KEY AUTOINCREMENT, who BLOB NOT NULL, records INTEGER NOT NULL, at INTEGER NOT NULL)"""
    )
    # What is too large for a row, by the version that brought it, see ``stores.bodies``: part 0 is the beginning of the
    # record's data, for filters; what follows is the data itself in chunks, where that is more; part -1 are the texts
    # that were embedded in the place of the content.
    db.execute(
        """CREATE TABLE IF NOT EXISTS bodies (
            row INTEGER NOT NULL, version INTEGER NOT NULL, part INTEGER NOT NULL, body TEXT NOT NULL, checksum BLOB,
            PRIMARY KEY (row, version, part))"""
    )
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'embeddings_*'"):
        more_embeddings(db, table)
    db.execute("DELETE FROM keyword_totals WHERE documents = 0")
    if not db.execute("SELECT 1 FROM meta WHERE key = 'erasure_key'"):
        _bury(db)
    db.executemany("DELETE FROM migrations WHERE name = ?", [(name,) for name in _DEVELOPMENT])


_COLUMNS = (
    "checksum BLOB",
    # The number of the namespace, 0 for none; see ``names``.
    "space INTEGER NOT NULL DEFAULT 0",
    # Text; of a record that was erased a keyed hash.
    "key TEXT",
    # When a fact holds, and the row of the one that took its place.
    "valid_from INTEGER",
    "valid_to INTEGER",
    "superseded_by INTEGER",
    # The version whose parts in ``bodies`` are the record's, and their bytes.
    "body INTEGER",
    "body_size INTEGER NOT NULL DEFAULT 0",
    # 1: it has one embedding, that of its content. 0: none. More: one more than the texts that were embedded in the
    # place of the content, of which part -1 of the body has the list. Below zero: that many, which its caller gave.
    "vectors INTEGER NOT NULL DEFAULT 1",
    # By how many microseconds from now a read renews ``expires_at``.
    "sliding INTEGER",
)
_DATED = "WHERE state = 0 AND occurred_at IS NOT NULL"
_INDEXES = {
    "records_by_user": "(user, space, row) WHERE state = 0",
    # One live or archived record for each key of a user's namespace; and what had the key before.
    "records_by_key": "(user, space, key) WHERE key IS NOT NULL AND state IN (0, 4)",
    "records_given": "(row) WHERE vectors < 0",
    "records_by_former_key": "(user, space, key, version) WHERE key IS NOT NULL AND state NOT IN (0, 4)",
    # Times of events, to list by; of those records only that say when they happened: the rest costs nothing.
    "records_dated": f"(occurred_at, row) {_DATED}",
    "records_dated_by_user": f"(user, space, occurred_at, row) {_DATED}",
    "records_dated_by_run": f"(run, occurred_at, row) {_DATED} AND run != 0",
    # What was deleted or has expired, by when that was: to be listed, and brought back.
    "records_gone": "(user, state, updated_at, row) WHERE state IN (1, 3)",
    "records_by_deletion": "(updated_at) WHERE state = 1",
    # Tombstones, by when they go; the others tell, with the indexes of live records, whether anybody has a name.
    "records_erased": "(expires_at) WHERE state = 2",
    "records_hidden_by_user": "(user, space) WHERE state != 0",
    "records_hidden_by_agent": "(agent) WHERE state != 0 AND agent != 0",
    "records_hidden_by_run": "(run) WHERE state != 0 AND run != 0",
}
_UNIQUE = ("records_by_key",)


def more_embeddings(db: Connection, table: str) -> None:
    """Beside a generation's table of embeddings, one for those that a record has after its first."""
    db.execute(
        f"CREATE TABLE IF NOT EXISTS more_{table} "
        "(row INTEGER NOT NULL, part INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (row, part))"
    )


_DEVELOPMENT = ("0004_checksums", "0005_dated", "0006_gone", "0007_erasures")


def _bury(db: Connection) -> None:
    """Have erased records be found by nothing but their ids, and go after a while."""
    key, after = keyed.new_key(), 0
    db.execute("INSERT INTO meta VALUES ('erasure_key', ?)", (key,))
    sql = "SELECT row, id, updated_at FROM records WHERE state = 2 AND row > ? ORDER BY row LIMIT 10000"
    while erased := db.execute(sql, (after,)):
        db.executemany(
            "UPDATE records SET id = ?, expires_at = ? WHERE row = ?",
            [(keyed.tombstone_id(key, id, row), at + 30 * 86_400_000_000, row) for row, id, at in erased],
        )
        after = erased[-1][0]


def _placements(db: Connection) -> None:
    """Where callers want vectors to be at hand, whatever becomes of the records' scores."""
    db.execute("CREATE TABLE placements (row INTEGER PRIMARY KEY, tier TEXT NOT NULL)")


def _archives(db: Connection) -> None:
    """Records whose text, vectors and data lie in archives: see ``stores.archived``."""
    for statement in (
        # In which archive a record's are; row by row, for every record of which they are not here.
        "CREATE TABLE archived (row INTEGER PRIMARY KEY, archive TEXT NOT NULL)",
        # The archives that this store has written: 0 while it is being written, else 1; how often it was written anew;
        # records in it, and how many of them are still away; what it takes; when the last of them came back.
        """CREATE TABLE archives (
            name TEXT PRIMARY KEY, state INTEGER NOT NULL, generation INTEGER NOT NULL, records INTEGER NOT NULL,
            live INTEGER NOT NULL, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, at INTEGER NOT NULL,
            emptied_at INTEGER) WITHOUT ROWID""",
        # Erased records, by row, and whose they were, that are yet to leave an archive.
        """CREATE TABLE burials (
            archive TEXT NOT NULL, row INTEGER NOT NULL, user INTEGER NOT NULL, PRIMARY KEY (archive, row))
            WITHOUT ROWID""",
        "CREATE INDEX records_archived ON records (user, space, row) WHERE state = 4",
    ):
        db.execute(statement)


def _validity(db: Connection) -> None:
    """When the store learned that a fact holds no more, and what facts were drawn from. Each index has those records
    only that say so: the rest costs nothing."""
    for statement in (
        "ALTER TABLE records ADD COLUMN retired_at INTEGER",
        # Until when it was said to hold before it was retired.
        "ALTER TABLE records ADD COLUMN stated_to INTEGER",
        # JSON: ``[row, first, end]`` of each source, and of the characters there that say it.
        "ALTER TABLE records ADD COLUMN evidence TEXT",
        "CREATE INDEX records_retired ON records (user, space, row) WHERE retired_at IS NOT NULL",
        "CREATE INDEX records_valid_from ON records (user, space, row) WHERE valid_from IS NOT NULL",
        "CREATE INDEX records_valid_to ON records (user, space, row) WHERE valid_to IS NOT NULL",
        "CREATE INDEX records_derived ON records (user, row) WHERE evidence IS NOT NULL",
    ):
        db.execute(statement)


MIGRATIONS: tuple[tuple[str, Callable[[Connection], None]], ...] = (
    ("0001_first", _first),
    ("0002_lifecycle", _lifecycle),
    ("0003_facts_by_user", _facts_by_user),
    ("0004_keys", _keys),
    ("0005_placements", _placements),
    ("0006_archives", _archives),
    ("0007_validity", _validity),
    ("0008_values", valueschema.create),
)


def every_migration() -> list[str]:
    """Those that a new store goes through."""
    return [name for name, _ in MIGRATIONS]


def configure(db: Connection) -> None:
    """Settings of the writing connection: an acknowledged commit survives a power cut, deleted pages are zeroed."""
    if not db.execute("PRAGMA page_count")[0][0]:  # it can only be chosen while the database is empty
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA secure_delete=ON")
    db.execute("PRAGMA wal_autocheckpoint=1000")
    db.execute("PRAGMA cache_size=-16000")


def pending(db: Connection, path: object) -> list[str]:
    """The migrations that the database has yet to go through.

    Raises ``StoreVersionError`` for a store of a newer version, ``StoreCorruptError`` for somebody else's database.
    """
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "migrations" not in tables:
        raise StoreCorruptError(f"{path} is a database, but not one of this library; choose another path")
    done = {row[0] for row in db.execute("SELECT name FROM migrations")} if tables else set[str]()
    if not all(re.fullmatch(r"\d{4}_[a-z_]+", str(name)) for name in done - {*every_migration()}):
        raise StoreCorruptError(damaged(path, "its list of migrations is unreadable"))
    check_known(done, path)
    return [name for name, _ in MIGRATIONS if name not in done]


def check_known(migrations: Collection[str], where: object) -> None:
    """Raise ``StoreVersionError`` if what lies there is of a store that has gone further than this version."""
    newer = {*migrations} - {*every_migration()} - {*_DEVELOPMENT}
    if newer:
        raise StoreVersionError(
            f"{where} was written by a newer version of agentmem (it has {min(newer)!r}); "
            "upgrade with: pip install -U agentmem-db"
        )


def migrate(db: Connection, path: object, upto: Collection[str] | None = None) -> None:
    """Bring the database up to date; raises what ``pending`` does. The caller holds the lock between processes.

    ``upto``: go through these migrations only, for the rows of a store that had gone no further.
    """
    left, steps = [name for name in pending(db, path) if upto is None or name in upto], dict(MIGRATIONS)
    new = bool(left) and left[0] == MIGRATIONS[0][0]
    for group in [left] if new else [[name] for name in left]:  # each transaction waits for the disk
        with db.transaction():
            if new:
                db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL)")
            for name in group:
                steps[name](db)
                db.execute("INSERT INTO migrations VALUES (?, ?)", (name, now_micros()))
