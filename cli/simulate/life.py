"""The simulated devices alive: all reference devices of this process, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from cli.simulate import fates
from cli.simulate.tally import Fate, Tally
from device import durable, image_builder
from device.agent import Agent
from device.options import Options
from shared.errors import FleetError, InvalidInputError
from shared.protocol.admin import ModelView, Package

SPARE_FILES: Final = 256
"""For all that is no connection of a device: files of flash, which are open for a moment, and libraries."""
_PATIENCE_S: Final = 60.0
_KEEPALIVE_S: Final = 60


async def over(stop: asyncio.Event, *, within_s: float) -> bool:
    """Wait for `stop`, but no longer than this, and return whether it has come."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await stop.wait()
    return stop.is_set()


def allow_files(count: int) -> None:
    """Let this process open files for so many devices, or raise InvalidInputError; without a limit do nothing."""
    try:
        import resource  # noqa: PLC0415 - there is no such module on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidInputError(
            f"devices: {count} need {wanted} open files, and this process may have {hard}; raise the hard limit "
            "(ulimit -Hn, LimitNOFILE) or start fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def hush() -> None:
    """Write no logs: thousands of devices tell their steps, and what matters is counted."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("device.mqtt").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Devices of one model with their files in `folder`, at most `per_second` of which are started in a second."""

    model: ModelView
    packages: Sequence[Package]
    folder: Path
    tally: Tally
    per_second: float
    slow_s: float

    async def live(self, stop: asyncio.Event) -> None:
        """Start the devices one after the other and let them live until `stop`; each then says goodbye."""
        durable.WAITS.set(False)
        image = image_builder.build(version="1.0.0", project=self.model.code, chip=self.model.chip)
        agents: list[Agent] = []
        async with asyncio.TaskGroup() as tasks:
            for package in self.packages:
                if await over(stop, within_s=1 / self.per_second):
                    break
                agent = self._agent(package, image)
                agents.append(agent)
                tasks.create_task(self._run(agent, package.client_id), name=package.client_id)
            await stop.wait()
            for agent in agents:
                agent.stop()

    def _agent(self, package: Package, image: bytes) -> Agent:
        fate = self.tally.failing.get(package.client_id)
        options = Options(
            chip=self.model.chip,
            slot_size_bytes=self.model.slot_size_bytes,
            slow_s=self.slow_s if fate is Fate.SLOW else 0.0,
            # Patient: many share one processor.
            answer_timeout_s=_PATIENCE_S,
            goodbye_s=_PATIENCE_S,
            keepalive_s=_KEEPALIVE_S,
        )
        hooks = fates.hooks(fate, package.client_id, self.tally)
        return Agent(package, self.folder / package.client_id, options=options, hooks=hooks, image=image)

    async def _run(self, agent: Agent, client_id: str) -> None:
        """Let a device live; one whose files cannot be used is counted, and the others go on."""
        try:
            await agent.run()
        except (FleetError, OSError) as error:
            self.tally.broken[client_id] = str(error)
