"""Layers: pure rules (``promotion``, ``expiry``, ``pressure``), the sweep that applies them, its worker.

A rule is a function of (subject, now, rules) and reads no table; what finds the subjects and moves them is in
``stores``. May import ``retrieval``, ``stores`` and below.
"""
