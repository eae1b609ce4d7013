"""The tables of values: chunks of bytes, and which versions of which records consist of them; see ``stores.chunks``."""

from __future__ import annotations

from agentmem.stores.connection import Connection


def create(db: Connection) -> None:
    """Make them. What refers to chunks goes with the body of its version, whoever removes that."""
    for statement in (
        # What is stored, once in each namespace of a user: ``hash`` is of the content, ``checksum`` of the ``stored``
        # bytes that a codec made of it, or the table of its frames (``chunkframes``); they are in ``body`` or else in a
        # ``file`` beside the database.
        """CREATE TABLE chunks (
            n INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER NOT NULL, space INTEGER NOT NULL, hash BLOB NOT NULL,
            size INTEGER NOT NULL, codec TEXT NOT NULL, stored INTEGER NOT NULL, checksum BLOB NOT NULL,
            file TEXT, body BLOB)""",
        "CREATE UNIQUE INDEX chunks_by_hash ON chunks (user, space, hash)",
        "CREATE INDEX chunks_by_file ON chunks (file) WHERE file IS NOT NULL",
        # Of a version of a record, as ``bodies`` numbers them: which chunk begins at which byte of the value.
        """CREATE TABLE value_chunks (
            row INTEGER NOT NULL, version INTEGER NOT NULL, start INTEGER NOT NULL, chunk INTEGER NOT NULL,
            PRIMARY KEY (row, version, start))""",
        "CREATE INDEX value_chunks_by_chunk ON value_chunks (chunk)",
        # Chunks that something referred to and may refer to no more; files that are to be removed.
        "CREATE TABLE loose_chunks (chunk INTEGER PRIMARY KEY)",
        "CREATE TABLE loose_files (file TEXT PRIMARY KEY) WITHOUT ROWID",
        """CREATE TRIGGER bodies_removed AFTER DELETE ON bodies WHEN OLD.part = 0 BEGIN
            DELETE FROM value_chunks WHERE row = OLD.row AND version = OLD.version; END""",
        """CREATE TRIGGER value_chunks_removed AFTER DELETE ON value_chunks BEGIN
            INSERT OR IGNORE INTO loose_chunks VALUES (OLD.chunk); END""",
    ):
        db.execute(statement)
