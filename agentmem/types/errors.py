"""Every error that this library raises on purpose.

::

    AgentMemError
    ├── ScopeError            also ValueError   a scope id is missing, malformed, or ALL where it may not be
    ├── InvalidInputError     also ValueError   a value cannot be stored or searched; .field, .index
    │   └── FilterError                         a filter is malformed or names an unknown operator
    ├── NotFoundError         also LookupError  no record with this id (in this scope)
    ├── ConflictError                           the id is taken, or the version moved on
    │   └── SessionClosedError                  the session was closed; nothing can be appended to it
    ├── ModelMismatchError                      the store was written with another embedding model
    ├── EmbeddingError                          the model failed or returned something unusable
    ├── CapacityError                           a limit is reached
    │   └── BlockFullError                      what a block would hold has more tokens than its limit
    ├── BlockReadOnlyError                      the block is not to be edited
    ├── ClosedError                             the client was closed
    ├── ModelError                              a language model did not answer; .trouble, .paid, .retry_after
    ├── MissingExtraError     also ImportError  an optional dependency is not installed
    ├── AccessError                             a server's key does not lead there
    │   ├── InvalidKeyError                     no key, or one that is unknown, revoked or expired
    │   ├── AccessDeniedError                   the key lacks a scope, or is for somebody else's memories
    │   └── RateLimitError                      the key has made as many requests as it may for now
    ├── ArchiveError                            what lies outside of the store: backups, archives, their objects
    │   ├── ObjectNotFoundError   also LookupError  no object with this key
    │   ├── ObjectExistsError                   an object that is written once exists already
    │   ├── ObjectChangedError                  an object was replaced by somebody else meanwhile
    │   ├── ArchiveUnavailableError             no network, a server that is down or throttles, after every attempt
    │   ├── ArchiveAccessError                  credentials or permissions are refused
    │   ├── ArchiveCorruptError                 damaged, cut short, exchanged, or not one of ours
    │   ├── ArchiveVersionError                 written by a newer version of this library
    │   └── ArchiveKeyError                     sealed, and the key is another one or none
    └── StoreError                              the store on disk
        ├── StoreLockedError                    another process held the write lock for too long
        ├── StoreCorruptError                   a file is damaged or is not one of ours
        ├── StoreVersionError                   written by a newer version of this library
        ├── StoreGoneError                      deleted, moved or replaced while it was open
        ├── FencedError                         another process owns the store by now
        ├── ShardUnavailableError               a shard of a cluster does not answer; .shards, .unknown
        ├── ReadOnlyError                       opened to be read only, or it cannot be written
        └── DiskFullError                       no space left; nothing of the request was kept

    FilterWarning             a UserWarning: a filter that finds nothing, probably because it asks the wrong thing

Each message says what was wrong, with which value, and what to do about it. Errors of the libraries underneath
are mapped where those libraries are called, and chained (``raise … from exc``).
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


def shown(value: object) -> str:
    """A value as it appears in a message: never long, and never an error of its own."""
    try:
        return _SHORT.repr(value)
    except Exception:
        # An int of more than 4,300 digits, or an object whose __repr__ fails.
        return f"<{type(value).__name__}>"


class AgentMemError(Exception):
    """Base of every error raised on purpose by this library."""


class ScopeError(AgentMemError, ValueError):
    """A scope id is missing, malformed, or ``ALL`` where it may not be.

    ``index`` is the position in the sequence for calls that take many items.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class InvalidInputError(AgentMemError, ValueError):
    """A value cannot be stored or searched for.

    ``field`` names the argument; ``index`` is the position in the sequence for calls that take many items.
    """

    def __init__(self, message: str, *, field: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.index = index


class FilterError(InvalidInputError):
    """A filter is malformed or uses an operator that does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="filters")


class FilterWarning(UserWarning):
    """A filter that can never match, or asks metadata for what a record has as a field of its own. Not an error."""


class NotFoundError(AgentMemError, LookupError):
    """There is no record with this id in this scope.

    ``index`` is the position in the sequence for calls that take many items.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class ConflictError(AgentMemError):
    """The id is already in use, or the record has moved on from the version that was expected.

    ``index`` is the position in the sequence for calls that take many items.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class SessionClosedError(ConflictError):
    """The session was closed: its turns can be read, and ``reopen`` lets it go on."""


class ModelMismatchError(AgentMemError):
    """The store was written with another embedding model than the one it is opened with."""


class EmbeddingError(AgentMemError):
    """The embedding model could not be loaded, failed, or returned something that is not a usable vector."""


class CapacityError(AgentMemError):
    """A configured limit is reached.

    ``index`` is the position in the sequence for calls that take many items.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class BlockFullError(CapacityError):
    """A block has no room for what is to be written into it; nothing was changed.

    ``label`` is the block's, ``tokens`` what it would have, ``limit`` what it may have.
    """

    def __init__(self, message: str, *, label: str, tokens: int, limit: int) -> None:
        super().__init__(message)
        self.label = label
        self.tokens = tokens
        self.limit = limit


class BlockReadOnlyError(AgentMemError):
    """The block is read-only: its text is not to be edited. ``configure`` changes that."""


class ClosedError(AgentMemError):
    """The client was closed; open a new one."""


class ModelError(AgentMemError):
    """A language model did not answer.

    ``trouble`` is ``"busy"`` (too many requests), ``"down"`` (it fails, or is not there), ``"slow"`` (it takes too
    long), ``"refused"`` (it will not answer this), ``"unsupported"`` (it knows no such way to ask for JSON) or
    ``"denied"`` (it does not admit the key or the model). ``paid``: it may have worked, and cost what a call costs at
    most. ``retry_after``: seconds after which to ask again, if it said so.
    """

    def __init__(self, message: str, trouble: str, *, paid: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.paid = paid
        self.retry_after = retry_after


class MissingExtraError(AgentMemError, ImportError):
    """An optional dependency is needed and not installed; the message has the command that installs it."""


class AccessError(AgentMemError):
    """What was asked of a server is not for whoever asked."""


class InvalidKeyError(AccessError):
    """There is no key, or none that is valid: unknown, revoked or expired."""


class AccessDeniedError(AccessError):
    """The key is valid, and lacks the scope that is needed, or is for the memories of somebody else."""


class RateLimitError(AccessError):
    """The key has made as many requests as it may for now; ``retry_after`` says in how many seconds it may again."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ArchiveError(AgentMemError):
    """What lies outside of the store, in a folder or bucket, cannot be used as asked."""


class ObjectNotFoundError(ArchiveError, LookupError):
    """There is no object with this key."""


class ObjectExistsError(ArchiveError):
    """The object exists already, and objects like it are written once."""


class ObjectChangedError(ArchiveError):
    """The object is no longer what was read: somebody else has replaced or removed it. Nothing was written."""


class ArchiveUnavailableError(ArchiveError):
    """No network, a server that is down or throttles, or an answer that was cut short, at every attempt."""


class ArchiveAccessError(ArchiveError):
    """Credentials are missing or wrong, or what they allow does not suffice."""


class ArchiveCorruptError(ArchiveError):
    """An object is damaged, cut short, exchanged for another, or none that this library has written."""


class ArchiveVersionError(ArchiveError):
    """The archive was written by a newer version of this library."""


class ArchiveKeyError(ArchiveError):
    """What was sealed cannot be opened: the master key is another one, the keyring lacks the key, or it was erased.

    ``erased`` is true where the keyring remembers that this key was deleted, so that nothing is missing by mistake.
    """

    def __init__(self, message: str, *, erased: bool = False) -> None:
        super().__init__(message)
        self.erased = erased


class StoreError(AgentMemError):
    """The store on disk cannot be used as asked."""


class StoreLockedError(StoreError):
    """Another process held the write lock for longer than the setting ``performance.lock_timeout_s``."""


class StoreCorruptError(StoreError):
    """A file of the store is damaged, or the path holds something that is not a store."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of this library."""


class StoreGoneError(StoreError):
    """What lies at the store's path is no longer what was opened: deleted, moved away or replaced.

    Every call but ``health`` and ``close`` raises it from then on; close the client and open a new one. What failed
    with it was not stored in what lies at the path now.
    """


class FencedError(StoreError):
    """The store, one that lives in a folder or bucket and has one owner, belongs to another process by now.

    What failed with it does not count, also where the process was stopped in the middle of it.
    """


class ShardUnavailableError(StoreError):
    """Shards of a cluster did not answer in time. ``shards`` are their names.

    With ``unknown`` the call may have been done: what has an id can be repeated, for the rest look first.
    """

    def __init__(self, message: str, *, shards: Sequence[str] = (), unknown: bool = False) -> None:
        super().__init__(message)
        self.shards = tuple(shards)
        self.unknown = unknown


class ReadOnlyError(StoreError):
    """A change was asked of a store that was opened with ``read_only=True``, or that cannot be written."""


class DiskFullError(StoreError):
    """No space is left on the device; nothing of the failed request was kept."""
