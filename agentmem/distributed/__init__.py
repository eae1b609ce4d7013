"""Beyond one machine: bulk work with Ray Data over Lance datasets, and stores as shards that Ray keeps alive.

Bulk work begins in ``bulk.py``, with ``loading.py`` and ``exporting.py`` for stores; it stands on ``datasource.py`` and
``datasink.py``, which read and write a Lance dataset fragment by fragment, and on ``fragments.py``, the one file that
imports Lance. A store is reached through the public names of ``agentmem``, a model as ``Memory`` reaches it, object
storage through ``archive``'s port. Ray and Lance are the extra ``ray``; nothing is imported before it is asked for.
"""
