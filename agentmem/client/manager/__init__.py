"""Values in four tiers behind one object: ``MemoryManager``, and one class for each tier.

A face over ``Memory.values`` for programs that think in tiers and in sizes; whatever it does is a call of that, or of
the backups. What such programs ask for that would not be true here is refused, with the reason (``wishes.py``). Imports
what is public only: the client, settings, errors and reports.
"""
