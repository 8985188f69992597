"""`mdm events`: events as they happen."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import client, output, session
from shared.errors import InvalidInputError
from shared.protocol import events as catalogue
from shared.protocol import messages


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


def line(noun: str, verb: str, event: messages.Event, *, as_json: bool) -> str:
    """Return one event as one line."""
    if as_json:
        facts = {"noun": noun, "verb": verb, **event.model_dump(mode="json")}
        return output.as_json(facts)
    data = output.cell(event.data) if event.data else ""
    parts = (output.cell(event.at), f"{noun}.{verb}", output.cell(event.client_id), data)
    return output.clean("  ".join(parts)) if data else output.clean("  ".join(parts[:3]))
