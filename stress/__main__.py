"""``python -m stress``: one command per file."""

from __future__ import annotations

import typer

from stress.backups import backup
from stress.bulk import bulk
from stress.compare import compare
from stress.context import context
from stress.crash import crash
from stress.damage import damage
from stress.disk import disk
from stress.glacier import glacier
from stress.interrupts import interrupts
from stress.keyed import keyed
from stress.languages import languages
from stress.lifecycle import lifecycle
from stress.mixed import mixed
from stress.pairs import pairs
from stress.processes import processes
from stress.quality import quality
from stress.reembed import reembed
from stress.report import report
from stress.search import search
from stress.serve import serve
from stress.sessions import sessions
from stress.soak import soak
from stress.swaps import swaps
from stress.throughput import throughput
from stress.tiers import tiers
from stress.values import values

app = typer.Typer(
    name="python -m stress",
    help="Stress tests: measure a store under load and check that nothing is lost.",
    epilog="Exit code: 0 if everything added is there once and where it belongs, else 1.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def stress() -> None:
    """Stress tests: measure a store under load and check that nothing is lost."""


app.command()(throughput)
app.command()(search)
app.command()(mixed)
app.command()(soak)
app.command()(compare)
app.command()(keyed)
app.command()(pairs)
app.command()(sessions)
app.command()(serve)
app.command()(report)
app.command()(crash)
app.command()(damage)
app.command()(backup)
app.command()(glacier)
app.command()(bulk)
app.command()(interrupts)
app.command()(processes)
app.command()(swaps)
app.command()(disk)
app.command()(reembed)
app.command()(lifecycle)
app.command()(quality)
app.command()(context)
app.command()(languages)
app.command()(tiers)
app.command()(values)

if __name__ == "__main__":
    app()
