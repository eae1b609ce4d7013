"""The command line, ``agentmem``: arguments and output. Only what a command needs is imported, and only once it runs.

A surface: whatever a command does, a client does for it. Imports public names only (see ``client``).
"""

import gc


def main() -> None:
    """Entry point of the ``agentmem`` script."""
    try:
        # Nothing that is imported becomes garbage: looking for some meanwhile took a tenth of the time to the help.
        gc.disable()
        from agentmem.cli.streams import prepare

        prepare()
        from agentmem.cli.app import run

        gc.freeze()
        gc.enable()
        run()
    except KeyboardInterrupt:  # before there was a command that could say so
        raise SystemExit(130) from None
