"""A store served over HTTP: its keys, the app, the processes that run it (``agentmem serve``; the extra ``server``).

What belongs here: who may do what (``keys.py``), the endpoints, a file for each area, and what protects them. What does
not: anything that a client cannot do as well; whatever an endpoint does, a client does for it.

A surface: imports public names only, those of ``agentmem``, ``agentmem.errors``, ``agentmem.settings`` and
``agentmem.client``. FastAPI, uvicorn and orjson are imported by the files that need them, never by ``keys.py``.
"""
