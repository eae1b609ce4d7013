"""Derived copies of the records that live outside of a search: what proposes candidates in large scopes.

An engine per file, imported when it is first used. A copy follows the feed (``types.ports.FeedCopy``) and may be lost
at any time. Scoring does not belong here. May import ``stores``, ``text``, ``embedding``, ``filters`` and below.
"""
