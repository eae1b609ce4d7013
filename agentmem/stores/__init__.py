"""libSQL: the truth. Connection, log and locks; tables and migrations; reading, writing, accounting; group commit.

Statements on these tables stand here and take conditions on ``records r`` from above; the keyword index has its own,
and so has salvage, which reads damaged files. What is derived from the records, and can be rebuilt, belongs to
``indexes`` and ``retrieval``. May import ``settings`` and ``types``.
"""
