"""What can be done with an open store, one verb per file: functions of the engine and checked arguments.

No operation checks what a caller gave (``client`` did), and none keeps state between calls. May import ``engine`` and
below.
"""
