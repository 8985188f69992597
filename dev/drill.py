"""`python -m dev.drill [NAME ...]`: take a server away from a simulated fleet, or update all services under it.

Each drill begins a rotation of all devices. It passes if every device is then connected, with a new secret that
Keycloak and the broker accept, and if each request of an admin was answered. The exit status is 0 if all pass.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Final

from cli.client import Admin, AnswerError, NoAnswerError
from cli.simulate import inventory, runner
from dev import stack, system
from dev.bench.report import Report, console
from dev.event_recorder import EventRecorder
from dev.fleet import Fleet
from dev.servers.base import Server
from dev.simulator import Simulator, simulating
from dev.system import SERVICES, System
from dev.waiting import until
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
    """A system with simulated devices; the server that a drill takes away is `away_s` seconds away."""

    running: System
    simulator: Simulator
    fleet: Fleet
    away_s: float
    requests: Counter[str] = field(default_factory=Counter)

    async def run(self, name: str) -> Mapping[str, Any]:
        """Run one drill and return its row; raise TimeoutError if devices are lost."""
        loop = asyncio.get_running_loop()
        devices = self.simulator.counts["devices"]
        before = self.simulator.counts["rotations"]
        self.requests.clear()
        await self.fleet.ask(admin.ROTATION_START, tag=inventory.TAG)
        async with self._asking():
            began = loop.time()
            await DRILLS[name](self)
            done = loop.time()
            await self.simulator.until(lambda counts: counts["connected"] == devices, patience_s=PATIENCE_S)
            connected = loop.time()
            await until(self._rotations, lambda counts: counts.ok == devices, within_s=PATIENCE_S)
            rotated = loop.time()
        await self.simulator.until(lambda counts: counts["rotations"] - before >= devices, patience_s=PATIENCE_S)
        return {
            "drill": name,
            "it took s": done - began,
            "then connected after s": connected - done,
            "all rotated after s": rotated - done,
            "devices lost": 0,
            "requests answered": self.requests["answered"],
            "refused": self.requests["refused"],
            "unanswered": self.requests["unanswered"],
            "longest answer s": self.requests["longest_ms"] / 1000,
        }

    async def _rotations(self) -> admin.RotationCounts:
        return (await self.fleet.ask(admin.ROTATION_STATUS, limit=1)).counts

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Let an admin ask all services, one request after another, for the block."""
        asking = asyncio.create_task(self._ask(), name="admin")
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    async def _ask(self) -> None:
        page = await self.fleet.ask(admin.DEVICE_LIST, tag=inventory.TAG)
        loop = asyncio.get_running_loop()
        for number, device in enumerate(cycle(page.devices)):
            began = loop.time()
            try:
                await self._ask_one(number, device.client_id)
                self.requests["answered"] += 1
            except AnswerError:
                self.requests["refused"] += 1
            except NoAnswerError:
                self.requests["unanswered"] += 1
            took_ms = round((loop.time() - began) * 1000)
            self.requests["longest_ms"] = max(self.requests["longest_ms"], took_ms)
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
    """Return whether no request was lost."""
    return not row["unanswered"] and not (row["refused"] and row["drill"] == "update")


def main() -> int:
    """Run the drills and print what they have shown."""
    parser = argparse.ArgumentParser(prog="python -m dev.drill", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DRILLS)}; the default is all")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--away-s", type=float, default=60.0, help="how long a server is away")
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
