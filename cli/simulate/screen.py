"""The counts of simulated devices: a live table on a terminal, and a line for each change where there is none."""

from __future__ import annotations

import asyncio
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli import output
from cli.simulate import life
from cli.simulate.tally import Tally

PAUSE_S: Final = 1.0
_BAR: Final = 30


async def show(tally: Tally, stop: asyncio.Event, *, as_json: bool) -> None:
    """Show the counts until `stop`, and once more then; set it when nobody reads them any more."""
    console = Console()
    if as_json or not console.is_terminal:
        before = ""
        while True:
            now = output.as_json(tally.facts()) if as_json else line(tally)
            if now != before and not output.print_while_read(now):
                stop.set()
            before = now
            if await life.over(stop, within_s=PAUSE_S):
                return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(picture(tally), refresh=True)
            if await life.over(stop, within_s=PAUSE_S):
                return


def line(tally: Tally) -> str:
    """Return the counts as one line."""
    parts = [f"{name} {count}" for name, count in tally.counts().items()]
    parts += [f"{fate} {devices}/{times}" for fate, (devices, times) in tally.failures().items()]
    return "  ".join(parts)


def picture(tally: Tally) -> RenderableType:
    """Return the counts as a terminal shows them."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, count in tally.counts().items():
        bar = ProgressBar(total=max(tally.devices, 1), completed=min(count, tally.devices), width=_BAR)
        table.add_row(Text(output.clean(name)), Text(str(count), justify="right"), bar)
    for fate, (devices, times) in tally.failures().items():
        table.add_row(Text(fate), Text(str(devices), justify="right"), Text(f"{times} times", style="yellow"))
    broken = [Text(f"{name}: {output.clean(why)}", style="red") for name, why in list(tally.broken.items())[:3]]
    return Group(table, *broken, Text("\nCtrl-C ends this; `--remove` removes the devices.", style="dim"))
