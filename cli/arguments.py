"""Arguments of several commands."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = "Key or client id of a device."
Device = Annotated[str, typer.Argument(metavar="DEVICE", help=_HELP)]
MaybeDevice = Annotated[str | None, typer.Argument(metavar="[DEVICE]", help=_HELP)]
