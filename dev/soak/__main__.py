"""`python -m dev.soak`: run a stack with a simulated fleet, and judge the services' memory.

The exit status is 0 if the memory of all three services is flat, by the rule in dev.soak.measure, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from cli.client import Admin
from cli.simulate import inventory, runner
from dev import stack, system
from dev.bench.report import console
from dev.event_recorder import EventRecorder
from dev.fleet import Fleet
from dev.simulator import Simulator, simulating
from dev.soak import measure
from dev.soak.measure import Series
from dev.soak.work import SoakWork
from dev.system import SERVICES, System
from shared.protocol import admin

EVERY_S = 5.0
BUFFERS = "PostgreSQL, its buffers alone"
SHORTEST_MINUTES = 0.5
FAILURES = ("--silent", "1%", "--slow", "2%", "--rolled-back", "1%", "--wrong-proof", "1%")
SETTINGS = {
    "MDM_ROTATION_DEADLINE_S": "60",
    "MDM_ROTATION_RETRY_S": "60",
    "MDM_ROTATION_MAX_PARALLEL": "50",
    "MDM_RECONCILE_S": "120",
}


def main() -> int:
    """Run the soak test."""
    parser = argparse.ArgumentParser(prog="python -m dev.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0, help="after the warm-up")
    parser.add_argument(
        "--warm-up-minutes",
        type=float,
        default=5.0,
        help="warm-up after all devices are connected; the default is until each operation has run twice",
    )
    parser.add_argument("--idle", action="store_true", help="run without operations of admins")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    if given.minutes < SHORTEST_MINUTES:
        parser.error(f"--minutes: must be at least {SHORTEST_MINUTES:g}")
    runner.allow_files(given.devices)  # the broker inherits it
    with (
        stack.scratch("soak-") as folder,
        stack.running(folder) as servers,
        system.running(servers, **SETTINGS) as running,
    ):
        found, facts = asyncio.run(_soak(running, folder, given))
    printed = console()
    printed.print(measure.table(f"{given.devices} devices, {given.minutes:g} minutes", found))
    printed.print_json(data=facts)
    if given.json:
        given.json.write_text(json.dumps({**facts, "series": [one.facts() for one in found]}, indent=2) + "\n")
    return 0 if all(one.is_flat for one in found if one.judged) else 1


async def _soak(
    running: System, folder: Path, given: argparse.Namespace
) -> tuple[list[Series], dict[str, object]]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with (
        Admin(running.profile) as connection,
        simulating(running, folder, "--devices", given.devices, "--slow-s", 5, *FAILURES) as simulator,
    ):
        await simulator.until(lambda counts: counts["devices"], patience_s=3600)
        made_s = loop.time() - began
        await simulator.until(lambda counts: counts["connected"] == given.devices, patience_s=3600)
        connected_s = loop.time() - began - made_s
        fleet = Fleet(connection, EventRecorder(), folder)
        page = await fleet.ask(admin.DEVICE_LIST, tag=inventory.TAG)
        work = SoakWork(fleet, [device.client_id for device in page.devices])
        working = None if given.idle else asyncio.create_task(work.run(), name="work")
        await _sleep(given.warm_up_minutes * 60, working)
        found = await _watch(running, simulator, given.minutes * 60, working)
        if working is not None:
            working.cancel()
        facts = {"made_s": round(made_s), "connected_s": round(connected_s), "work": work.done, **simulator.counts}
    return found, facts


async def _watch(
    running: System, simulator: Simulator, seconds: float, working: asyncio.Task[None] | None
) -> list[Series]:
    """Take a sample every EVERY_S."""
    pids = {name: running.services[name].pid for name in SERVICES}
    others = {"broker": running.stack.broker.pid, "PostgreSQL": running.stack.postgres.pid}
    others |= {"Keycloak": running.stack.keycloak.pid, "simulator": simulator.process.pid}
    found = [Series(name, judged=name in pids) for name in {**pids, **others}]
    found.append(Series(BUFFERS, judged=False, kind=measure.SHARED))
    others[BUFFERS] = running.stack.postgres.pid
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (at_s := loop.time() - began) < seconds:
        for series in found:
            series.add(at_s, {**pids, **others}[series.name])
        await _sleep(EVERY_S, working)
    return found


async def _sleep(seconds: float, working: asyncio.Task[None] | None) -> None:
    """Wait for this time; raise the exception that ends the work, if any."""
    if working is None:
        await asyncio.sleep(seconds)
        return
    await asyncio.wait([working], timeout=seconds)
    if working.done():
        working.result()


if __name__ == "__main__":
    sys.exit(main())
