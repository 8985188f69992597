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
from cli.simulate import failure_modes, inventory, runner, screen
from cli.simulate.tally import FailureMode, Tally
from shared.errors import InvalidInputError

MODEL: Final = "simulated"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to simulate, for how long, and the folder with the devices' files."""

    devices: int
    model: str
    percents: Mapping[FailureMode, float]
    sleeping: float
    wake_interval_s: int
    slow_s: float
    per_second: float
    minutes: float | None
    state: Path


def simulate(
    ctx: typer.Context,
    *,
    devices: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Number of devices; existing ones are used first.")
    ] = None,
    model: Annotated[str, typer.Option(help="Code of their model; it is added if it is missing.")] = MODEL,
    silent: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of devices that receive no messages.")
    ] = "0%",
    slow: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of devices that process messages late.")
    ] = "0%",
    rolled_back: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of devices that roll back new images.")
    ] = "0%",
    wrong_proof: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of devices that send wrong proofs of a new secret.")
    ] = "0%",
    sleeping: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of devices, of those that do not fail, that sleep.")
    ] = "0%",
    wake_interval_s: Annotated[
        int,
        typer.Option(min=1, max=30 * 24 * 3600, metavar="SECONDS", help="Wake interval of these devices."),
    ] = 60,
    slow_s: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Delay of slow devices.")] = 30.0,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Stop after this time.")] = None,
    per_second: Annotated[float, typer.Option(min=0.1, help="Number of devices to start per second.")] = 50.0,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for packages and flash; the default is XDG_STATE_HOME/mdm/HOST-PORT."
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the model's simulated devices and exit.")
    ] = False,
    yes: lifecycle.Yes = False,
) -> None:
    """Run many simulated devices in one process until Ctrl-C.

    Each device has its own connection and identity. The first start adds the devices, with the tag `simulated`;
    later starts use the same ones, of which the same ones fail. They handle configurations, rotations, images and
    commands as the reference device does.
    """
    here = session.of(ctx)
    if (devices is None) != remove:
        raise InvalidInputError("devices: expected either --devices or --remove")
    shares = {"silent": silent, "slow": slow, "rolled_back": rolled_back, "wrong_proof": wrong_proof}
    percents = {mode: failure_modes.percent(shares[mode.field], field=mode.field) for mode in FailureMode}
    failure_modes.check(percents)
    folder = state or _default_state(here.profile)
    if devices is None:
        lifecycle.confirm(f"remove all devices of {model} with the tag {inventory.TAG} permanently?", yes=yes)
        removed = here.run(lambda it: inventory.remove(it, model, folder, timeout_s=here.timeout_s))
        if here.as_json:
            output.print_json({"removed": removed})
        else:
            tables.print_all({"removed": len(removed)})
        return
    runner.allow_files(devices)
    runner.disable_logs()
    asleep = failure_modes.percent(sleeping, field="sleeping")
    plan = _Plan(devices, model, percents, asleep, wake_interval_s, slow_s, per_second, minutes, folder)
    tally = here.run(lambda it: _simulate(it, plan, as_json=here.as_json, timeout_s=here.timeout_s))
    for client_id, reason in tally.broken.items():
        output.print_note(f"{client_id}: {reason}")
    if tally.broken:
        raise typer.Exit(1)


async def _simulate(connection: client.Admin, plan: _Plan, *, as_json: bool, timeout_s: float) -> Tally:
    """Add missing devices, run all until the time is over or a signal arrives, and return the counts."""
    model = await inventory.model(connection, plan.model, timeout_s=timeout_s)
    packages = await inventory.devices(connection, plan.model, plan.devices, plan.state, timeout_s=timeout_s)
    failing = failure_modes.assign([package.client_id for package in packages], plan.percents)
    sleepers = failure_modes.sleepers(
        [it.client_id for it in packages if it.client_id not in failing], plan.sleeping
    )
    tally = Tally(failing, len(packages))
    intervals_s = dict.fromkeys(sleepers, plan.wake_interval_s)
    fleet = runner.SimulatedFleet(model, packages, plan.state, tally, plan.per_second, plan.slow_s, intervals_s)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows
            loop.add_signal_handler(number, stop.set)
    if plan.minutes is not None:
        loop.call_later(plan.minutes * 60, stop.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(screen.show(tally, stop, as_json=as_json), name="screen")
        await fleet.run(stop)
    return tally


def _default_state(profile: profile.Profile) -> Path:
    """Return the folder for devices of this broker, by the XDG base directory specification."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "mdm" / f"{profile.host}-{profile.port}"
