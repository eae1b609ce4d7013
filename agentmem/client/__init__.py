"""The public face: ``Memory`` and ``AsyncMemory``, and the border where every value from outside is checked.

What is exported here is for surfaces (a command line, a server): the arguments of a call as one value, which folder a
path means, whether that holds a store, and whether it can be written; where a surface keeps records of its own
beside a user's; and what an export says beside a record. The two clients are exported by ``agentmem``.

May import ``operations``, ``engine`` and below; surfaces (``cli``) import public names only: those of ``agentmem``,
``agentmem.errors``, ``agentmem.settings``, and these.
"""

from typing import TYPE_CHECKING

from agentmem.client.options import AddOptions, PageOptions, SearchOptions
from agentmem.client.places import resolve
from agentmem.types.inputs import Item

if TYPE_CHECKING:
    from agentmem.client.asyncmemory import own_namespace
    from agentmem.client.returned import embedded_by
    from agentmem.stores.folder import is_store, is_writable

__all__ = [
    "AddOptions",
    "Item",
    "PageOptions",
    "SearchOptions",
    "embedded_by",
    "is_store",
    "is_writable",
    "own_namespace",
    "resolve",
]


def __getattr__(name: str) -> object:
    # On first use, since it comes with the locks of a store, which a client that is only constructed does not need.
    if name in ("is_store", "is_writable"):
        from agentmem.stores import folder

        return getattr(folder, name)
    if name == "own_namespace":
        from agentmem.client.asyncmemory import own_namespace

        return own_namespace
    if name == "embedded_by":
        from agentmem.client.returned import embedded_by

        return embedded_by
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
