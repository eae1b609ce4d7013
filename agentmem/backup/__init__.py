"""Backups of a whole store: written while it is in use, into a folder or bucket, proved and restored; users that are
taken elsewhere.

Begin with ``create.py`` and ``restore.py``; ``tables.py`` says how the store's rows look in an archive, ``lineage.py``
which backups there are and who may add to them. How an archive is written belongs to ``archive``, which rows a store
consists of to ``stores.copying``. May import ``engine`` and below.
"""
