"""One store, opened once per process: its threads, the way of an add, and what follows the feed in the background.

The engine keeps resources and runs writes; what callers want done is in ``operations``. May import everything below.
"""
