"""agentmem behind the interfaces of other frameworks: one file each, judged by the framework's own tests.

A framework is imported in its file only, is an extra of the distribution, and is asked for its version by ``versions``.
What two of them share has a file of its own and knows no framework. Works on public names of ``agentmem`` alone: what
an adapter lacks belongs into the core. Nothing is imported here, so that each framework comes when it is asked for.
"""
