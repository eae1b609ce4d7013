"""Values: what an agent keeps that is no sentence. Bytes, texts, JSON, arrays, tables, files and streams by key.

Here is how a value becomes bytes and comes back (``kinds.py``, with ``arrays.py`` and ``tables.py``), how the bytes are
cut, packed and committed with their record (``cutting.py``, ``codecs.py``, ``writing.py``), how any part of them is
read (``reading.py``), and where they are at hand (``moving.py``, ``holding.py``, ``devices.py``). A value *is* a record
by key: scopes, versions, history, erasing and backups are those of records, and have no place here; nor has what knows
tables and files, which is ``stores.chunks`` and its neighbours.
May import ``operations`` and below.
"""
