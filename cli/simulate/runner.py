"""Runs all simulated devices in this process, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from cli.simulate import failure_modes
from cli.simulate.tally import FailureMode, Tally
from device import durable, image_builder
from device.agent import Agent
from device.options import Options
from shared.errors import FleetError, InvalidInputError
from shared.protocol.admin import ModelView, Package

SPARE_FILES: Final = 256
"""Open files besides connections of devices: flash files, which are open for a moment, and libraries."""
_PATIENCE_S: Final = 60.0
_KEEPALIVE_S: Final = 60
_VITALS_S: Final = 300


async def wait_stopped(stop: asyncio.Event, *, within_s: float) -> bool:
    """Wait for `stop`, but no longer than this, and return whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await stop.wait()
    return stop.is_set()


def allow_files(count: int) -> None:
    """Raise this process's limit of open files for this number of devices, or raise InvalidInputError."""
    try:
        import resource  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidInputError(
            f"devices: {count} need {wanted} open files, but the hard limit is {hard}; raise it "
            "(ulimit -Hn, LimitNOFILE) or start fewer devices"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def disable_logs() -> None:
    """Disable logs, as thousands of devices log each step; a Tally counts what matters."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("device.mqtt").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class SimulatedFleet:
    """Devices of one model with their files in `folder`; at most `per_second` are started per second.

    Devices in `wake_intervals_s` sleep for so long.
    """

    model: ModelView
    packages: Sequence[Package]
    folder: Path
    tally: Tally
    per_second: float
    slow_s: float
    wake_intervals_s: Mapping[str, int] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Start the devices one after the other and run them until `stop`; then disconnect each one cleanly."""
        durable.WAITS.set(False)
        image = image_builder.build(version="1.0.0", project=self.model.code, chip=self.model.chip)
        agents: list[Agent] = []
        async with asyncio.TaskGroup() as tasks:
            for package in self.packages:
                if await wait_stopped(stop, within_s=1 / self.per_second):
                    break
                agent = self._agent(package, image)
                agents.append(agent)
                tasks.create_task(self._run(agent, package.client_id), name=package.client_id)
            await stop.wait()
            for agent in agents:
                agent.stop()

    def _agent(self, package: Package, image: bytes) -> Agent:
        mode = self.tally.failing.get(package.client_id)
        options = Options(
            chip=self.model.chip,
            slot_size_bytes=self.model.slot_size_bytes,
            wake_interval_s=self.wake_intervals_s.get(package.client_id),
            slow_s=self.slow_s if mode is FailureMode.SLOW else 0.0,
            # Long timeouts, as many devices share one processor.
            answer_timeout_s=_PATIENCE_S,
            disconnect_timeout_s=_PATIENCE_S,
            keepalive_s=_KEEPALIVE_S,
            vitals_s=_VITALS_S,
        )
        hooks = failure_modes.hooks(mode, package.client_id, self.tally)
        return Agent(package, self.folder / package.client_id, options=options, hooks=hooks, image=image)

    async def _run(self, agent: Agent, client_id: str) -> None:
        """Run a device; if its files are unusable, record that and let the others continue."""
        try:
            await agent.run()
        except (FleetError, OSError) as error:
            self.tally.broken[client_id] = str(error)
