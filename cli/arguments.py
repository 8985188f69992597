"""Arguments of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_HELP = "Client id or key of a device, the beginning of either, its name, or its MAC address."
Device = Annotated[str, typer.Argument(metavar="DEVICE", help=_HELP)]
MaybeDevice = Annotated[str | None, typer.Argument(metavar="[DEVICE]", help=_HELP)]
Assignments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE...", help="Values are JSON or else strings; dots separate nested keys: led.on=true"
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="KEY",
        help="Key whose value is read without echo, or from standard input: it is in no history. May be repeated.",
    ),
]
Document = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", exists=True, dir_okay=False, help="JSON file that replaces all keys."),
]
