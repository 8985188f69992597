"""Arguments of several commands."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = "Client id or key of a device, the beginning of either, its name, or its MAC address."
Device = Annotated[str, typer.Argument(metavar="DEVICE", help=_HELP)]
MaybeDevice = Annotated[str | None, typer.Argument(metavar="[DEVICE]", help=_HELP)]
