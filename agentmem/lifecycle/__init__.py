"""Layers: pure rules (``subject``, ``promotion``, ``expiry``, ``pressure``), the sweep that applies them, its worker.

A rule is a function of (record, now, rules); it reads no table. May import ``retrieval``, ``stores`` and below.
"""
