"""`mdm events` and `mdm device events`: events as they happen, and those of a device that have happened."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from cli import client, output, session
from cli.arguments import Device
from shared.errors import InvalidInputError
from shared.protocol import admin, messages
from shared.protocol import events as catalogue

_ID: Final = re.compile("(^|_)(id|sha256)$")


def events(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", help="Continue until interrupted; this is the default.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this number of events.")] = None,
    noun: Annotated[str | None, typer.Option(help="Only events with this noun, such as device.")] = None,
) -> None:
    """Print events as they happen.

    Each line has time, noun.verb, device and data of an event; with --json it is a JSON object.
    """
    if follow and count is not None:
        raise InvalidInputError("expected either --follow or --count N")
    if noun is not None:
        nouns = sorted({it.noun for it in catalogue.EVENTS.values()})
        if noun not in nouns:
            raise InvalidInputError(f"--noun: there are no events about {noun}; there are {', '.join(nouns)}")
    here = session.of(ctx)

    async def work(connection: client.Admin) -> None:
        left = count
        async for found_noun, verb, event in connection.events(noun):
            output.print_line(line(found_noun, verb, event, as_json=here.as_json))
            if left is not None:
                left -= 1
                if left == 0:
                    return

    here.run(work)


def of_device(
    ctx: typer.Context,
    device: Device,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of events.")] = 100,
) -> None:
    """Show what has happened to a device, newest first."""
    here = session.of(ctx)
    found = here.request_pages(admin.EVENT_LIST, "events", device=device, limit=limit)
    here.show_table(
        found,
        found.events,
        (
            "at",
            ("event", lambda it: f"{it.noun} {it.verb.replace('_', ' ')}"),
            ("data", lambda it: facts(it.data)),
        ),
        none="nothing has happened to the device in the time that events are kept",
    )


def facts(data: dict[str, Any]) -> str:
    """Return what is worth reading of an event's data: no ids, hashes and nulls."""
    shown = {name: value for name, value in data.items() if value is not None and not _ID.search(name)}
    return ", ".join(f"{name}={output.cell(value)}" for name, value in shown.items())


def line(noun: str, verb: str, event: messages.Event, *, as_json: bool) -> str:
    """Return one event as one line."""
    if as_json:
        facts = {"noun": noun, "verb": verb, **event.model_dump(mode="json")}
        return output.as_json(facts)
    data = output.cell(event.data) if event.data else ""
    parts = (output.cell(event.at), f"{noun}.{verb}", output.cell(event.client_id), data)
    return output.clean("  ".join(parts)) if data else output.clean("  ".join(parts[:3]))
