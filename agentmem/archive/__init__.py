"""What leaves the store: one port for objects in a folder or bucket, one format, one keyring.

Begin with ``objects.py``, the port, and ``writing.py``, which writes the format through it; docs/archive.md is for
whoever writes a reader. Each library underneath is imported in one file when it is first needed: obstore in
``buckets.py``, pyarrow in ``blocks.py``, cryptography in ``sealing.py``. Nothing here knows the store's tables, opens a
database or decides what is backed up: that belongs above. May import ``settings`` and ``types``, and nothing else of
the package.
"""
