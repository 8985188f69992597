"""Live display of the counts of simulated devices on a terminal; without one, a line for each change."""

from __future__ import annotations

import asyncio
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli import output
from cli.simulate import runner
from cli.simulate.tally import Tally

PAUSE_S: Final = 1.0
_BAR: Final = 30


async def show(tally: Tally, stop: asyncio.Event, *, as_json: bool) -> None:
    """Show the counts until `stop`, and once after it; set it when the reader of the output has exited."""
    console = Console()
    if as_json or not console.is_terminal:
        before = ""
        while True:
            now = output.as_json(tally.facts()) if as_json else line(tally)
            if now != before and not output.print_while_read(now):
                stop.set()
            before = now
            if await runner.wait_stopped(stop, within_s=PAUSE_S):
                return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(render(tally), refresh=True)
            if await runner.wait_stopped(stop, within_s=PAUSE_S):
                return


def line(tally: Tally) -> str:
    """Return the counts as one line."""
    parts = [f"{name} {count}" for name, count in tally.counts().items()]
    parts += [f"{mode} {devices}/{times}" for mode, (devices, times) in tally.failures().items()]
    return "  ".join(parts)


def render(tally: Tally) -> RenderableType:
    """Return the counts for a terminal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, count in tally.counts().items():
        bar = ProgressBar(total=max(tally.devices, 1), completed=min(count, tally.devices), width=_BAR)
        table.add_row(Text(output.clean(name)), Text(str(count), justify="right"), bar)
    for mode, (devices, times) in tally.failures().items():
        table.add_row(Text(mode), Text(str(devices), justify="right"), Text(f"{times} times", style="yellow"))
    broken = [Text(f"{name}: {output.clean(why)}", style="red") for name, why in list(tally.broken.items())[:3]]
    return Group(table, *broken, Text("\nPress Ctrl-C to exit; `--remove` removes the devices.", style="dim"))
