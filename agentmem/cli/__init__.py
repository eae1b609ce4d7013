"""The command line, ``agentmem``. Only what a command needs is imported, and only once it runs."""


def main() -> None:
    """Entry point of the ``agentmem`` script."""
    from agentmem.cli.app import app

    app()
