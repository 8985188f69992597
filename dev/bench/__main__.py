"""`python -m dev.bench [NAME ...]`: run benchmarks on their own stack; print tables, optionally write JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from cli.client import Admin
from dev import stack, system
from dev.bench import (
    configuration,
    firmware,
    growth,
    million,
    parallel,
    population,
    reconciler,
    rotation,
    statuses,
    storm,
    vitals,
)
from dev.bench.report import Report, console, figures
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.system import System
from shared.database import migrate

# Benchmarked devices exceed the rate limits, which are not measured.
SETTINGS: Final = {"MDM_DEVICE_RATE_PER_S": "100000", "MDM_DEVICE_BURST": "100000"}

LONGEST: Final = ("reconciler", "million")
"""Run only if they are named; all others together take less than 10 minutes on an idle machine."""

Bench = Callable[[System, Fleet], Awaitable[Report]]
BENCHES: Final[Mapping[str, Bench]] = {
    "configuration": lambda running, _: configuration.run(running),
    "storm": lambda running, _: storm.run(running),
    "statuses": lambda running, _: statuses.run(running),
    "rotation": rotation.run,
    "parallel": parallel.run,
    "firmware": firmware.run,
    "vitals": vitals.run,
    "reconciler": reconciler.run,
    "growth": growth.run,
    "million": lambda running, _: million.run(running),
}


def main() -> int:
    """Run the benchmarks and print their figures, without a verdict."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHES)}; all but {' and '.join(LONGEST)} by default",
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    unknown = set(given.names) - BENCHES.keys()
    if unknown:
        parser.error(f"NAME: must be one of {', '.join(BENCHES)}, not {', '.join(sorted(unknown))}")
    quiet = structlog.make_filtering_bound_logger("error")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr), wrapper_class=quiet)
    os.environ["TESTS_STACK"] = "native"  # accounts are written into the broker's file, memory is read from /proc
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="device-mdm-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user when this runs as root
        with stack.running(folder) as servers:
            migrate.upgrade(servers.endpoints.database_users[stack.OWNER])
            population.write_accounts(servers, population.COUNT)
            with system.running(servers, **SETTINGS) as running:
                reports = asyncio.run(
                    _run(running, folder, given.names or [it for it in BENCHES if it not in LONGEST])
                )
    if given.json:
        found = figures(reports, seconds=time.monotonic() - began)
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


async def _run(running: System, folder: Path, names: list[str]) -> dict[str, Report]:
    reports: dict[str, Report] = {}
    # Before, the registry would compare these devices, and add a client for each to Keycloak while others measure.
    await running.compared()
    await population.insert(running.stack.endpoints.database_url, 0, population.COUNT)
    async with Admin(running.profile) as admin, watching(admin) as witness:
        fleet = Fleet(admin, witness, folder)
        for name in names:
            began = time.monotonic()
            sys.stderr.write(f"bench: {name}\n")
            reports[name] = await BENCHES[name](running, fleet)
            sys.stderr.write(f"bench: {name} took {time.monotonic() - began:.0f} s\n")
            console().print(reports[name].table)
    return reports


if __name__ == "__main__":
    sys.exit(main())
