"""`mdm rotate` and `mdm rotation`: new secrets for devices."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output, schedule, session
from shared import admin
from shared.errors import InvalidInputError

app = typer.Typer(help="New secrets for devices: now, or when the schedule says so.")
app.command("schedule")(schedule.show_schedule)


@app.command("start")
def rotate(
    ctx: typer.Context,
    device: Annotated[
        str | None, typer.Argument(metavar="DEVICE", help="A device's key or its whole client id.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All devices that are enabled.")] = False,
) -> None:
    """Queue one device, or all, for a rotation of the secret."""
    if (device is None) != everything:
        raise InvalidInputError("device: expected either DEVICE or --all")
    here = session.of(ctx)
    result = here.ask(admin.ROTATION_START, device=device, all=everything)
    if here.as_json:
        output.print_json(result)
        return
    rows = [(name, "queued") for name in result.queued]
    rows += [(name, "already queued or under way") for name in result.already]
    if rows:
        output.print_table(("DEVICE", "ROTATION"), rows)
    else:
        output.print_note("no device is enabled: nothing to rotate")
