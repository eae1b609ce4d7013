"""The language of metadata filters, and what it is compiled to.

One file for the language, one for each target. Nothing here runs a statement. May import ``types``.
"""
