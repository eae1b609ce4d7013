"""The language of metadata filters, and what it is compiled to.

One file for the language, one for each target. Nothing here runs a statement. May import ``types``. The files are
imported when they are first used, as ``filters.parsing`` and so on: most programs import the package long before they
filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentmem.types.lazily import lazily

if TYPE_CHECKING:
    from agentmem.filters import fields, never, parsing, sqlite

__all__ = ["fields", "never", "parsing", "sqlite"]
__getattr__, load = lazily(__name__, __all__)
