"""Live display of the fleet on a terminal; without one, a line for each change."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli import output
from shared.protocol import admin

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


class Display:
    """Shows views on a terminal, or as lines without one."""

    def __init__(self, live: Live | None, *, as_json: bool) -> None:
        self._live = live
        self._as_json = as_json
        self._before: admin.FleetView | None = None

    def update(self, view: admin.FleetView, happened: deque[str]) -> None:
        """Show a view and the newest events."""
        if self._live is not None:
            self._live.update(render(view, happened), refresh=True)
        elif view != self._before:
            self._before = view
            if self._as_json:
                output.print_json(view, indent=None)
            else:
                output.print_line(line(view))


@contextlib.contextmanager
def open_display(*, as_json: bool) -> Iterator[Display]:
    """Open a display on the terminal, if there is one, until the block ends."""
    console = Console()
    if as_json or not console.is_terminal:
        yield Display(None, as_json=as_json)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield Display(live, as_json=False)


def line(view: admin.FleetView) -> str:
    """Return a view as one line."""
    parts = [f"devices {view.devices}", f"online {view.online}", f"asleep {view.asleep}"]
    parts.append(f"drifting {view.drifting}")
    parts += [f"{health} {count}" for health, count in sorted(view.health.items())]
    parts += [f"{reason} {count}" for reason, count in sorted(view.health_reasons.items())]
    parts += [f"{state} {count}" for state, count in sorted(view.rotation.items())]
    return "  ".join(parts)


def render(view: admin.FleetView, happened: deque[str]) -> RenderableType:
    """Return a view and the newest events for a terminal."""
    recent = Text("\n".join(happened) or "no events yet", no_wrap=True, overflow="ellipsis")
    return Group(
        *_charts(view),
        Text("\nlast events", style="bold"),
        recent,
        Text("\nPress Ctrl-C to exit.", style="dim"),
    )


def _charts(view: admin.FleetView) -> Iterator[RenderableType]:
    yield Text(f"{view.devices} devices, {view.disabled} of them disabled\n", style="bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    bars = [
        ("online", view.online, "green"),
        ("asleep", view.asleep, "cyan"),
        ("drifting", view.drifting, "yellow"),
        *((f"health {name}", count, _COLOURS.get(name, "white")) for name, count in sorted(view.health.items())),
        *((f"with {name}", count, "yellow") for name, count in sorted(view.health_reasons.items())),
        *((f"rotation {name}", count, _COLOURS[name]) for name, count in sorted(view.rotation.items())),
        *((f"{it.model} {it.version or '-'}", it.devices, "blue") for it in view.versions),
    ]
    for name, count, colour in bars:
        bar = ProgressBar(total=max(view.devices, 1), completed=count, width=_BAR, complete_style=colour)
        table.add_row(Text(output.clean(name)), Text(str(count), justify="right"), bar)
    yield table
