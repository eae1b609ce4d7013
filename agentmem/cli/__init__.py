"""The command line, ``agentmem``: arguments and output. Only what a command needs is imported, and only once it runs.

A surface: whatever a command does, a client does for it. Imports public names only (see ``client``).
"""


def main() -> None:
    """Entry point of the ``agentmem`` script."""
    from agentmem.cli.app import app

    app()
