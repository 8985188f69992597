"""`mdm fleet`: all devices at a glance, once or as it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli import events, output, session
from cli.client import Admin
from shared.protocol import admin
from shared.protocol.messages import Event

app = typer.Typer()

PAUSE_S: Final = 0.5
"""Between two looks at least, however much happens."""
IDLE_S: Final = 10.0
"""Between two looks when nothing happens: health changes with time alone."""
_LAST: Final = 8
_BAR: Final = 30
_COLOURS: Final = {
    "healthy": "green",
    "warning": "yellow",
    "critical": "red",
    "OK": "green",
    "QUEUED": "cyan",
    "PENDING": "cyan",
    "TIMEOUT": "red",
}


@app.command("show")
def show(ctx: typer.Context) -> None:
    """Show how many devices there are, and how they stand."""
    here = session.of(ctx)
    here.show(here.ask(admin.FLEET_SHOW), _print_view)


@app.command("watch")
def watch(
    ctx: typer.Context,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many looks.")] = None,
) -> None:
    """Show the fleet and what happens, as it happens, until interrupted; in a pipe, a line for each change."""
    here = session.of(ctx)

    async def work(connection: Admin) -> None:
        happened: deque[str] = deque(maxlen=_LAST)
        async with _listening(connection, happened) as news:
            with _screen(as_json=here.as_json) as paint:
                left = count
                while left is None or left > 0:
                    news.clear()
                    request = session.build(admin.FLEET_SHOW)
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
async def _listening(connection: Admin, happened: deque[str]) -> AsyncIterator[asyncio.Event]:
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


def _line(noun: str, verb: str, event: Event) -> str:
    return events.line(noun, verb, event, as_json=False)


class _Paint:
    """Shows a view on a terminal, or as a line where there is none."""

    def __init__(self, live: Live | None, *, as_json: bool) -> None:
        self._live = live
        self._as_json = as_json
        self._before: admin.FleetView | None = None

    def draw(self, view: admin.FleetView, happened: deque[str]) -> None:
        if self._live is not None:
            self._live.update(picture(view, happened), refresh=True)
        elif view != self._before:
            self._before = view
            if self._as_json:
                output.print_json(view, indent=None)
            else:
                output.print_line(line(view))


@contextlib.contextmanager
def _screen(*, as_json: bool) -> Iterator[_Paint]:
    console = Console()
    if as_json or not console.is_terminal:
        yield _Paint(None, as_json=as_json)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield _Paint(live, as_json=False)


def line(view: admin.FleetView) -> str:
    """Return a view as one line."""
    parts = [f"devices {view.devices}", f"online {view.online}", f"drifting {view.drifting}"]
    parts += [f"{health} {count}" for health, count in sorted(view.health.items())]
    parts += [f"{state} {count}" for state, count in sorted(view.rotation.items())]
    return "  ".join(parts)


def picture(view: admin.FleetView, happened: deque[str]) -> RenderableType:
    """Return a view and what happened last, as a terminal shows it."""
    recent = Text("\n".join(happened) or "nothing yet", no_wrap=True, overflow="ellipsis")
    return Group(
        *_charts(view),
        Text("\nlast events", style="bold"),
        recent,
        Text("\nCtrl-C ends this; the fleet goes on.", style="dim"),
    )


def _charts(view: admin.FleetView) -> Iterator[RenderableType]:
    yield Text(f"{view.devices} devices, {view.disabled} of them disabled\n", style="bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    bars = [
        ("online", view.online, "green"),
        ("drifting", view.drifting, "yellow"),
        *((f"health {name}", count, _COLOURS.get(name, "white")) for name, count in sorted(view.health.items())),
        *((f"rotation {name}", count, _COLOURS[name]) for name, count in sorted(view.rotation.items())),
        *((f"{it.model} {it.version or '-'}", it.devices, "blue") for it in view.versions),
    ]
    for name, count, colour in bars:
        bar = ProgressBar(total=max(view.devices, 1), completed=count, width=_BAR, complete_style=colour)
        table.add_row(Text(output.clean(name)), Text(str(count), justify="right"), bar)
    yield table


def _print_view(view: admin.FleetView) -> None:
    output.print_facts(
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
    rows = ((it.model, it.version, it.devices) for it in view.versions)
    output.print_table(("model", "version", "devices"), rows)
