"""`mdm log`: the lines that devices log, as they were kept or as they come."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from cli import client, durations, output, session
from cli.arguments import Device, MaybeDevice
from shared.protocol import admin
from shared.protocol.words import LogLevel

app = typer.Typer()

POLL_S: Final = 1.0
"""Between two looks for new lines."""
_PAGE: Final = 500
_Level = Annotated[LogLevel, typer.Option(help="The lowest level that is shown.")]


@app.command("show")
def show(
    ctx: typer.Context,
    device: Device,
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what came within: 90s, 30m, 1h, 2d.")
    ] = None,
    level: _Level = LogLevel.DEBUG,
    limit: Annotated[int, typer.Option(help="The newest so many, up to 500.")] = 200,
) -> None:
    """Show the newest lines of a device, in the order in which they came."""
    here = session.of(ctx)
    since_s = None if since is None else durations.seconds(since, field="since")
    found = here.ask(admin.LOG_LIST, device=device, since_s=since_s, level=level, limit=limit)
    here.show(found, _print)


@app.command("tail")
def tail(
    ctx: typer.Context,
    device: MaybeDevice = None,
    *,
    tag: Annotated[str | None, typer.Option(help="Devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Devices of this model.")] = None,
    level: _Level = LogLevel.DEBUG,
    lines: Annotated[int, typer.Option(min=1, help="Begin with the last so many, up to 500.")] = 10,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many lines.")] = None,
) -> None:
    """Print lines as they come, until interrupted: of one device, of those that fit, or of all.

    With --json, an object a line.
    """
    here = session.of(ctx)
    which = {
        "device": device,
        "tag": tag,
        "model": model,
        "all": True if device is tag is model is None else None,
        "level": level,
    }
    first = client.build(admin.LOG_LIST, limit=lines, **which)

    async def work(connection: client.Admin) -> None:
        left = count
        request = first
        while True:
            found = await connection.call(admin.LOG_LIST, request, timeout_s=here.timeout_s)
            for line in found.lines:
                output.print_line(text_of(line, as_json=here.as_json))
                if left is not None:
                    left -= 1
                    if left == 0:
                        return
            if len(found.lines) < _PAGE:
                await asyncio.sleep(POLL_S)
            request = client.build(admin.LOG_LIST, after=found.next, limit=_PAGE, **which)

    here.run(work)


def text_of(line: admin.LogLineView, *, as_json: bool = False) -> str:
    """Return a line without anything that could drive the reader's terminal."""
    if as_json:
        return output.as_json(line.model_dump(mode="json"))
    tag = f"{line.tag}: " if line.tag else ""
    at = output.cell(line.received_at)
    return output.clean(f"{at} {line.client_id} {line.level.upper()} {tag}{line.message}")


def _print(found: admin.LogLines) -> None:
    if not found.lines:
        output.print_note("no such lines")
    for line in found.lines:
        output.print_line(text_of(line))
