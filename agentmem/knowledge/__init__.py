"""From what was said to what is known: facts drawn from messages by a model, under guards that are code.

Here belong the queue of what is yet to be looked at, the ledger of what that costs, the guards, the proposals, and the
port of a model. Everything is kept as records through a port of its own (``ports.py``), which ``client/knowing.py``
implements. Imports ``types`` only; the one file that speaks to an endpoint imports its client when it is first used.
"""
