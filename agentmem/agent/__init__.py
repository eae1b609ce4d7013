"""What an agent works with: sessions and their turns, working memory, blocks, and prompts made of them.

Everything here is records by key, in namespaces of the package's own, and turns, which are messages like others: so
history, erasing, scopes, backups and layers hold for it without a second mechanism. Written against ``AgentStore``
(``ports.py``), which ``client`` provides; may import ``types``, and nothing between. Begin with ``sessions.py``;
``prompt.py`` puts together what the others hold.
"""
