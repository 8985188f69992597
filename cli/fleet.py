"""`mdm fleet`: summary of all devices, once or live."""

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
"""Between two polls at least, whatever happens."""
IDLE_S: Final = 10.0
"""Between two polls without events, as health also changes with time."""
_LAST: Final = 8


@app.command("show")
def show(ctx: typer.Context) -> None:
    """Show the number of devices by state, health and firmware version."""
    here = session.of(ctx)
    here.show(here.request(admin.FLEET_SHOW), _print)


@app.command("watch")
def watch(
    ctx: typer.Context,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this number of updates.")] = None,
) -> None:
    """Show the summary and the newest events live.

    The command runs until it is interrupted. In a pipe, it prints a line for each change.
    """
    here = session.of(ctx)

    async def work(connection: client.Admin) -> None:
        happened: deque[str] = deque(maxlen=_LAST)
        async with _record_events(connection, happened) as news:
            with fleet_screen.open_display(as_json=here.as_json) as display:
                left = count
                while left is None or left > 0:
                    news.clear()
                    request = client.build(admin.FLEET_SHOW)
                    view = await connection.call(admin.FLEET_SHOW, request, timeout_s=here.timeout_s)
                    display.update(view, happened)
                    left = None if left is None else left - 1
                    if left != 0:
                        await asyncio.sleep(PAUSE_S)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(IDLE_S):
                                await news.wait()

    here.run(work)


@asynccontextmanager
async def _record_events(connection: client.Admin, happened: deque[str]) -> AsyncIterator[asyncio.Event]:
    """Record events, and set the yielded one at each."""
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
            "asleep": view.asleep,
            "drifting": view.drifting,
            "without a key": view.without_key,
            **{f"health {name}": count for name, count in sorted(view.health.items())},
            **{f"with {name}": count for name, count in sorted(view.health_reasons.items())},
            **{f"rotation {name}": count for name, count in sorted(view.rotation.items())},
        }
    )
    tables.print_table_below(view.versions, "model, version, devices")
