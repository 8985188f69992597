"""`python -m dev.drill [NAME ...]`: take a server away from a simulated fleet, or update all services under it.

Each drill begins a rotation of all devices, and an admin continues to ask. It passes if then every device is
connected and has a new secret, and every request was answered. The exit status is 0 if all pass.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Final

from cli.client import Admin, AnswerError, NoAnswerError
from cli.simulate import runner
from cli.simulate.command import MODEL
from dev import stack, system
from dev.bench.report import Report, console
from dev.event_recorder import EventRecorder
from dev.fleet import Fleet
from dev.servers.base import Server
from dev.simulator import Simulator, simulating
from dev.system import SERVICES, System
from shared.protocol import admin

SETTINGS: Final = {
    "MDM_ROTATION_DEADLINE_S": "120",
    "MDM_ROTATION_RETRY_S": "5",
    "MDM_ROTATION_MAX_PARALLEL": "20",
}
PATIENCE_S: Final = 1800.0
_PAUSE_S: Final = 0.2
"""Pause of the admin between two requests."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A system with simulated devices; the server that a drill takes away comes back after `away_s`."""

    running: System
    simulator: Simulator
    fleet: Fleet
    away_s: float
    model: str = MODEL
    requests: dict[str, float] = field(
        default_factory=lambda: {"answered": 0, "refused": 0, "unanswered": 0, "longest s": 0.0}
    )
    """The requests of an admin meanwhile."""

    async def run(self, name: str) -> Mapping[str, Any]:
        """Run one drill and return its row."""
        loop = asyncio.get_running_loop()
        devices = self.simulator.counts["devices"]
        target = self.simulator.counts["rotations"] + devices
        page = await self.fleet.ask(admin.DEVICE_LIST, model=self.model)
        await self.fleet.ask(admin.ROTATION_START, model=self.model)
        asking = asyncio.create_task(self._ask([one.client_id for one in page.devices]), name="admin")
        try:
            began = loop.time()
            await DRILLS[name](self)
            done = loop.time()
            connected_s = await self._until(lambda counts: counts["connected"] == devices, since=done)
            rotated_s = await self._until(lambda counts: counts["rotations"] >= target, since=done)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()
        return {
            "drill": name,
            "it took s": done - began,
            "then all connected after s": connected_s,
            "all rotated after s": rotated_s,
            "not connected": devices - self.simulator.counts["connected"],
            "not rotated": max(target - self.simulator.counts["rotations"], 0),
            **dict(self.requests),
        }

    async def _until(self, holds: Callable[[dict[str, Any]], object], *, since: float) -> float | None:
        """Wait until a condition holds for the simulator's counts; return the seconds, None if it never does."""
        try:
            await self.simulator.until(holds, patience_s=PATIENCE_S)
        except TimeoutError:
            return None
        return asyncio.get_running_loop().time() - since

    async def _ask(self, client_ids: Sequence[str]) -> None:
        """Ask all services as an admin, one request after another."""
        loop = asyncio.get_running_loop()
        for number, client_id in enumerate(cycle(client_ids)):
            began = loop.time()
            try:
                await self._ask_one(number, client_id)
                self.requests["answered"] += 1
            except AnswerError:
                self.requests["refused"] += 1
            except NoAnswerError:
                self.requests["unanswered"] += 1
            self.requests["longest s"] = max(self.requests["longest s"], loop.time() - began)
            await asyncio.sleep(_PAUSE_S)

    async def _ask_one(self, number: int, client_id: str) -> None:
        match number % 3:
            case 0:
                await self.fleet.ask(admin.CONFIG_SET, device=client_id, overrides={"level": number})
            case 1:
                await self.fleet.ask(admin.ROTATION_STATUS)
            case _:
                await self.fleet.ask(admin.IMAGE_LIST)


async def take_away(drill: Drill, server: Callable[[stack.Stack], Server]) -> None:
    """Kill a server, and start it again after a while."""
    chosen = server(drill.running.stack)
    await asyncio.to_thread(chosen.kill)
    await asyncio.sleep(drill.away_s)
    await asyncio.to_thread(chosen.start)


async def update(drill: Drill) -> None:
    """Replace each service by a new process of it, which runs before the old one stops."""
    running = drill.running
    for service in SERVICES:
        await asyncio.to_thread(partial(running.start, service, name=f"next-{service}"))
        await asyncio.to_thread(running.stop, service)
        # Once more, so that the service has its usual name again.
        await asyncio.to_thread(running.start, service)
        await asyncio.to_thread(running.stop, f"next-{service}")


DRILLS: Final[Mapping[str, Callable[[Drill], Awaitable[None]]]] = {
    "broker": partial(take_away, server=lambda servers: servers.broker),
    "keycloak": partial(take_away, server=lambda servers: servers.keycloak),
    "postgres": partial(take_away, server=lambda servers: servers.postgres),
    "update": update,
}


def passes(row: Mapping[str, Any]) -> bool:
    """Return whether no device and no answer was lost; without a server some requests are refused."""
    lost = ("not connected", "not rotated", "unanswered", *(["refused"] if row["drill"] == "update" else []))
    return not any(row[name] for name in lost)


def main() -> int:
    """Run the drills and print what they have shown."""
    parser = argparse.ArgumentParser(prog="python -m dev.drill", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DRILLS)}; the default is all")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--away-s", type=float, default=60.0, help="how long a server is unavailable")
    given = parser.parse_args()
    unknown = set(given.names) - DRILLS.keys()
    if unknown:
        parser.error(f"NAME: must be one of {', '.join(DRILLS)}, not {', '.join(sorted(unknown))}")
    runner.allow_files(given.devices)  # the broker inherits it
    with (
        stack.scratch("drill-") as folder,
        stack.running(folder) as servers,
        system.running(servers, **SETTINGS) as running,
    ):
        rows = asyncio.run(_run(running, given))
    return 0 if all(passes(row) for row in rows) else 1


async def _run(running: System, given: argparse.Namespace) -> list[Mapping[str, Any]]:
    folder = running.stack.folder
    rows = []
    async with (
        Admin(running.profile) as connection,
        simulating(running, folder, "--devices", given.devices) as simulator,
    ):
        await simulator.until(lambda counts: counts["connected"] == given.devices, patience_s=PATIENCE_S)
        fleet = Fleet(connection, EventRecorder(), folder)
        for name in given.names or DRILLS:
            sys.stderr.write(f"drill: {name}\n")
            rows.append(await Drill(running, simulator, fleet, given.away_s).run(name))
    console().print(Report(f"{given.devices} devices", rows).table)
    return rows


if __name__ == "__main__":
    sys.exit(main())
