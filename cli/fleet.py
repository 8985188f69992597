"""`mdm fleet`: all devices at a glance, once or as it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from cli import client, events, fleet_screen, session, tables
from shared.protocol import admin, messages

app = typer.Typer()

PAUSE_S: Final = 0.5
"""Between two looks at least, however much happens."""
IDLE_S: Final = 10.0
"""Between two looks when nothing happens: health changes with time alone."""
_LAST: Final = 8


@app.command("show")
def show(ctx: typer.Context) -> None:
    """Show how many devices there are, and how they stand."""
    here = session.of(ctx)
    here.show(here.ask(admin.FLEET_SHOW), _print)


@app.command("watch")
def watch(
    ctx: typer.Context,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many looks.")] = None,
) -> None:
    """Show the fleet and what happens, as it happens, until interrupted; in a pipe, a line for each change."""
    here = session.of(ctx)

    async def work(connection: client.Admin) -> None:
        happened: deque[str] = deque(maxlen=_LAST)
        async with _listening(connection, happened) as news:
            with fleet_screen.opened(as_json=here.as_json) as paint:
                left = count
                while left is None or left > 0:
                    news.clear()
                    request = client.build(admin.FLEET_SHOW)
                    view = await connection.call(admin.FLEET_SHOW, request, timeout_s=here.timeout_s)
                    paint.draw(view, happened)
                    left = None if left is None else left - 1
                    if left != 0:
                        await asyncio.sleep(PAUSE_S)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(IDLE_S):
                                await news.wait()

    here.run(work)


@asynccontextmanager
async def _listening(connection: client.Admin, happened: deque[str]) -> AsyncIterator[asyncio.Event]:
    """Collect what happens, and set the event at each of it."""
    news = asyncio.Event()

    async def listen() -> None:
        async for noun, verb, event in connection.events():
            happened.append(_line(noun, verb, event))
            news.set()

    task = asyncio.create_task(listen(), name="events")
    try:
        yield news
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _line(noun: str, verb: str, event: messages.Event) -> str:
    return events.line(noun, verb, event, as_json=False)


def _print(view: admin.FleetView) -> None:
    tables.print_all(
        {
            "devices": view.devices,
            "disabled": view.disabled,
            "online": view.online,
            "drifting": view.drifting,
            "without a key": view.without_key,
            **{f"health {name}": count for name, count in sorted(view.health.items())},
            **{f"rotation {name}": count for name, count in sorted(view.rotation.items())},
        }
    )
    tables.print_table(view.versions, ("model", "version", "devices"))
