"""The public face: ``Memory`` and ``AsyncMemory``, and the border where every value from outside is checked.

What is exported here is for surfaces (a command line, a server): the arguments of a call as one value, and whether a
folder holds a store. The two clients themselves are exported by ``agentmem``.

May import ``operations``, ``engine`` and below; surfaces (``cli``) import public names only: those of ``agentmem``,
``agentmem.errors``, ``agentmem.settings``, and these.
"""

from typing import TYPE_CHECKING

from agentmem.client.options import AddOptions, PageOptions, SearchOptions
from agentmem.types.inputs import Item

if TYPE_CHECKING:
    from agentmem.stores.folder import is_store

__all__ = ["AddOptions", "Item", "PageOptions", "SearchOptions", "is_store"]


def __getattr__(name: str) -> object:
    # On first use, since it comes with the locks of a store, which a client that is only constructed does not need.
    if name == "is_store":
        from agentmem.stores.folder import is_store

        return is_store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
