"""The command `mdm simulate`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import client, lifecycle, output, profile, session, tables
from cli.simulate import fates, life, screen, stock
from cli.simulate.tally import Fate, Tally
from shared.errors import InvalidInputError

MODEL: Final = "simulated"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be simulated, for how long, and where the devices' files are."""

    devices: int
    model: str
    percents: Mapping[Fate, float]
    slow_s: float
    per_second: float
    minutes: float | None
    state: Path


def simulate(
    ctx: typer.Context,
    *,
    devices: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="How many; those there are taken first.")
    ] = None,
    model: Annotated[str, typer.Option(help="The code of their model; made if it is not there.")] = MODEL,
    silent: Annotated[str, typer.Option(metavar="PERCENT", help="So many take no message.")] = "0%",
    slow: Annotated[str, typer.Option(metavar="PERCENT", help="So many take their messages late.")] = "0%",
    rolled_back: Annotated[
        str, typer.Option(metavar="PERCENT", help="So many start a new image and fall back to the old one.")
    ] = "0%",
    wrong_proof: Annotated[
        str, typer.Option(metavar="PERCENT", help="So many cannot prove that they have a new secret.")
    ] = "0%",
    slow_s: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How late.")] = 30.0,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="End after so long.")] = None,
    per_second: Annotated[float, typer.Option(min=0.1, help="So many devices are started in a second.")] = 50.0,
    state: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of packages and flash [XDG_STATE_HOME/mdm/HOST-PORT].")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the model's simulated devices, and end.")
    ] = False,
    yes: lifecycle.Yes = False,
) -> None:
    """Let many devices live until Ctrl-C: each with a connection and an identity of its own, in one process.

    They are made at the first start, with the tag `simulated`, and the same ones come back at the next. They take
    configurations, rotations, images and commands as the reference device does. The same devices fail each time.
    """
    here = session.of(ctx)
    if (devices is None) != remove:
        raise InvalidInputError("devices: either --devices or --remove must be given")
    shares = {"silent": silent, "slow": slow, "rolled_back": rolled_back, "wrong_proof": wrong_proof}
    percents = {fate: fates.percent(shares[fate.field], field=fate.field) for fate in Fate}
    fates.check(percents)
    folder = state or _default_state(here.profile)
    if devices is None:
        lifecycle.sure(f"remove all devices of {model} with the tag {stock.TAG} for good?", yes=yes)
        removed = here.run(lambda it: stock.remove(it, model, folder, timeout_s=here.timeout_s))
        if here.as_json:
            output.print_json({"removed": removed})
        else:
            tables.print_all({"removed": len(removed)})
        return
    life.allow_files(devices)
    life.hush()
    wish = _Wish(devices, model, percents, slow_s, per_second, minutes, folder)
    tally = here.run(lambda it: _simulate(it, wish, as_json=here.as_json, timeout_s=here.timeout_s))
    for client_id, reason in tally.broken.items():
        output.print_note(f"{client_id}: {reason}")
    if tally.broken:
        raise typer.Exit(1)


async def _simulate(connection: client.Admin, wish: _Wish, *, as_json: bool, timeout_s: float) -> Tally:
    """Have the devices made, and live until the time is over or a signal comes; return what was counted."""
    model = await stock.model(connection, wish.model, timeout_s=timeout_s)
    packages = await stock.devices(connection, wish.model, wish.devices, wish.state, timeout_s=timeout_s)
    failing = fates.allot([package.client_id for package in packages], wish.percents)
    tally = Tally(failing, len(packages))
    crowd = life.Crowd(model, packages, wish.state, tally, wish.per_second, wish.slow_s)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows
            loop.add_signal_handler(number, stop.set)
    if wish.minutes is not None:
        loop.call_later(wish.minutes * 60, stop.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(screen.show(tally, stop, as_json=as_json), name="screen")
        await crowd.live(stop)
    return tally


def _default_state(profile: profile.Profile) -> Path:
    """Return the folder for devices of this broker, by the XDG base directory specification."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "mdm" / f"{profile.host}-{profile.port}"
