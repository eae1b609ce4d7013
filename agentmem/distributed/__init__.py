"""Beyond one machine: bulk work with Ray Data over Lance datasets, and stores as shards that Ray keeps alive.

Bulk work begins in ``bulk.py``; what it stands on are ``datasource.py`` and ``datasink.py``, which read and write a Lance
dataset fragment by fragment, and ``fragments.py``, the one file that imports Lance. A store is reached through the public
names of ``agentmem``, object storage through ``archive``'s port, and nothing below those. Ray and Lance are the extra
``ray``; nothing here is imported before it is asked for.
"""
