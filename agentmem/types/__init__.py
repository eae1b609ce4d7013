"""The bottom floor: words that every other floor uses, and no machinery.

What goes in and what comes out (``records``, ``reports``, ``inputs``), closed sets of values (``enums``), the errors,
the ports that adapters are written against, checks of single values, time, ids, and waiting. Nothing here reads
settings, knows a table, or keeps state between calls. Imports nothing of the package but itself.
"""
