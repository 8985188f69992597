"""`mdm simulate` as a process, and its counts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.system import System

_LINE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Simulator:
    """A running simulator with its files in `folder`; `counts` is its last line."""

    process: asyncio.subprocess.Process
    folder: Path
    counts: dict[str, Any] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self) -> None:
        """Read its counts until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.counts = json.loads(line)
                self._news.notify_all()
        await self.process.wait()
        async with self._news:
            self._news.notify_all()

    async def until(self, holds: Callable[[dict[str, Any]], object], *, patience_s: float) -> dict[str, Any]:
        """Wait until a condition holds for the counts, and return them; AssertionError if it ends before."""
        async with asyncio.timeout(patience_s), self._news:
            while not (self.counts and holds(self.counts)):
                assert self.process.returncode is None, f"the simulator has ended: {self.process.returncode}"
                await self._news.wait()
        return self.counts

    async def interrupt(self) -> int:
        """Stop it like Ctrl-C, and return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return await self.process.wait()


@asynccontextmanager
async def simulating(system: System, folder: Path, *options: object) -> AsyncIterator[Simulator]:
    """Run `mdm simulate` with its state in `folder` until the block ends."""
    profile = folder / "profile.toml"
    system.profile.save(profile)
    state = folder / "simulated"
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("mdm"),
        *map(str, ("--json", "--profile", profile, "simulate", "--state", state, *options)),
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    simulator = Simulator(process, state)
    reading = asyncio.create_task(simulator.read(), name="simulator")
    try:
        yield simulator
    finally:
        if process.returncode is None:
            await simulator.interrupt()
        await reading
