"""Options that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stress.texts import Profile

Path_ = Annotated[
    Path | None, typer.Option("--path", help="Folder for the store, empty or new; left out, a temporary one.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")]
Embedder = Annotated[
    str | None, typer.Option(help="Model name or folder, as Memory takes it; left out, the bundled model.")
]
Seed = Annotated[int, typer.Option(help="Seed of the made-up texts and of every random choice.")]
Users = Annotated[int, typer.Option(min=1, max=1_000_000, help="Users that the records belong to.")]
Records = Annotated[int, typer.Option(min=1, max=10_000_000, help="Records in the store.")]
Duration = Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds to measure for.")]
Texts = Annotated[Profile, typer.Option("--profile", help="Which texts.")]
