"""The public face: ``Memory`` and ``AsyncMemory``, and the border where every value from outside is checked.

May import ``operations``, ``engine`` and below; surfaces (``cli``) import this floor's public names only.
"""
