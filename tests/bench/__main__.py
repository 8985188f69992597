"""`python -m tests.bench`: measure on a stack of its own, print a table, write the figures as JSON if asked."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import structlog
from rich.console import Console

from cli.client import Admin
from tests import stack, system
from tests.bench import firmware
from tests.bench.measure import Row, table
from tests.fleet import Fleet
from tests.witness import watching


def main() -> int:
    """Run the bench; its figures are told, never judged."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--size-bytes", type=int, default=1024 * 1024, help="of the image, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory(prefix="device-mdm-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user when this runs as root
        with stack.running(folder) as servers, system.running(servers) as running:
            rows = asyncio.run(_firmware(running, folder, given))
    title = f"{given.devices} devices fetch {given.size_bytes} bytes at once"
    Console().print(table(title, rows))
    if given.json:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        figures = {"title": title, "machine": machine, "rows": [row.facts(rows) for row in rows]}
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


async def _firmware(running: system.System, folder: Path, given: argparse.Namespace) -> list[Row]:
    async with Admin(running.profile) as admin, watching(admin) as witness:
        return await firmware.run(
            running,
            Fleet(admin, witness, folder),
            devices=given.devices,
            size_bytes=given.size_bytes,
            rounds=given.rounds,
        )


if __name__ == "__main__":
    sys.exit(main())
