"""libSQL: the truth. Connection, log and locks; tables and migrations; reading, writing, accounting; group commit.

Each table's statements have one home here. What is derived from the records, and can be rebuilt, belongs to
``indexes`` and ``retrieval``. May import ``settings`` and ``types``.
"""
