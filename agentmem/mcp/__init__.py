"""agentmem as a server of the Model Context Protocol: tools and resources, over stdio and streamable HTTP.

A surface: whatever a tool does, a client does for it. Imports public names only (see ``client``), and the package
``mcp``, the extra of the same name, in the files that need it: nothing is imported here, and the room is loaded when a
server is wanted. ``tools.py`` is what a tool is, ``memories.py`` and ``graphtools.py`` are the sets of them,
``server.py`` answers the protocol's requests, ``stdio.py`` and ``http.py`` carry them.
"""
