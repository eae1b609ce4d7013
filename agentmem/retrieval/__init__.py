"""From a query to scored candidates: scopes held in memory, large scopes, the one scorer, context for prompts.

Nothing here writes to the store. May import ``indexes``, ``text``, ``stores`` and below.
"""
