"""`mdm log`: log messages of devices, stored or live."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from cli import client, device_names, durations, output, selection, session
from cli.arguments import Device, MaybeDevice
from shared.protocol import admin
from shared.protocol.words import LogLevel

app = typer.Typer()

POLL_S: Final = 1.0
"""Between two polls for new lines."""
_PAGE: Final = 500
_Level = Annotated[LogLevel, typer.Option(help="Lowest level to show.")]


@app.command("show")
def show(
    ctx: typer.Context,
    device: Device,
    *,
    since_s: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only lines received within this time: 90s, 30m, 1h, 2d."),
    ] = None,
    level: _Level = LogLevel.DEBUG,
    limit: Annotated[int, typer.Option(help="Maximum number of lines, up to 500.")] = 200,
) -> None:
    """Show the newest log lines of a device, oldest first."""
    here = session.of(ctx)
    age_s = None if since_s is None else durations.seconds(since_s, field="since_s")
    found = here.request(admin.LOG_LIST, device=device, since_s=age_s, level=level, limit=limit)
    here.show(found, _print)


@app.command("tail")
def tail(
    ctx: typer.Context,
    device: MaybeDevice = None,
    *,
    tag: Annotated[str | None, typer.Option(help="Devices with this tag.")] = None,
    model: Annotated[str | None, typer.Option(help="Devices of this model.")] = None,
    level: _Level = LogLevel.DEBUG,
    lines: Annotated[int, typer.Option(min=1, help="Start with this number of stored lines, up to 500.")] = 10,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this number of lines.")] = None,
) -> None:
    """Print log lines as they arrive, until interrupted.

    The default is all devices. With --json, print one JSON object per line.
    """
    here = session.of(ctx)
    which: dict[str, object] = {
        "device": device and device_names.ANY,
        "tag": tag,
        "model": model,
        "all": True if device is tag is model is None else None,
        "level": level,
    }
    first = client.build(admin.LOG_LIST, limit=lines, **which)

    async def work(connection: client.Admin) -> None:
        await selection.check_filters(connection, model=model, tags=[tag] if tag else (), timeout_s=here.timeout_s)
        which["device"] = device and await device_names.resolve(connection, device, timeout_s=here.timeout_s)
        left = count
        request = first.model_copy(update={"device": which["device"]})
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
    """Return a log line as one line of text or JSON, without control characters."""
    if as_json:
        return output.as_json(line.model_dump(mode="json"))
    tag = f"{line.tag}: " if line.tag else ""
    at = output.cell(line.received_at)
    return output.clean(f"{at} {line.client_id} {line.level.upper()} {tag}{line.message}")


def _print(found: admin.LogLines) -> None:
    if not found.lines:
        output.print_note("no matching lines")
    for line in found.lines:
        output.print_line(text_of(line))
