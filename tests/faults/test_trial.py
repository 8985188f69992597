"""A configuration that cuts a device off from its broker is undone by the device itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from dev.fleet import OPTIONS, Fleet
from dev.stack import Stack
from dev.waiting import PATIENCE_S
from device.agent import Agent
from device.options import Hooks
from shared.protocol import admin


async def test_a_device_that_cannot_reconnect_in_a_trial_goes_back_while_it_is_offline(
    fleet: Fleet, stack: Stack
) -> None:
    package = await fleet.device(await fleet.model(config_defaults={"wifi": "good"}))
    undone = asyncio.Event()

    def on_event(name: str, _: Mapping[str, object]) -> None:
        if name == "config.on_trial":
            stack.broker.send_signal(signal.SIGSTOP)
        if name == "config.reverted":
            undone.set()

    options = replace(OPTIONS, answer_timeout_s=0.5)
    agent = Agent(package, fleet.folder / package.client_id, options=options, hooks=Hooks(on_event=on_event))
    device = asyncio.create_task(agent.run())
    try:
        await fleet.until(package, lambda view: view.config_outcome == "applied")
        setting = asyncio.create_task(
            fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"wifi": "bad"}, trial_seconds=2)
        )
        async with asyncio.timeout(PATIENCE_S):
            await undone.wait()
        stack.broker.send_signal(signal.SIGCONT)
        assert (await setting).version == 2
        restored = await fleet.until(package, lambda view: view.config_version_reported == 3)
    finally:
        stack.broker.send_signal(signal.SIGCONT)
        device.cancel()
        with suppress(asyncio.CancelledError):
            await device
    assert restored.config_outcome == "applied"
