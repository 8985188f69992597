"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = "A device's key or its whole client id."
Device = Annotated[str, typer.Argument(metavar="DEVICE", help=_HELP)]
MaybeDevice = Annotated[str | None, typer.Argument(metavar="[DEVICE]", help=_HELP)]
