"""Archives of old records: text, vectors and data leave the store for a folder or bucket, the rest of the row stays.

Begin with ``writing.py`` (there), ``returning.py`` (back) and ``place.py`` (where); ``bodies.py`` says what an archive
has; ``burying.py`` writes archives anew without what was erased, and merges small ones; ``scanning.py`` searches what
lies there; ``checking.py`` looks whether all of it is there. How an archive is written belongs to ``archive``, what
stays of a record to ``stores/archived.py``. May import ``engine`` and what is below it.
"""
