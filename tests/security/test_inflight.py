"""What the broker has in progress to a client that takes it and acknowledges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiomqtt
import pytest

from dev.credentials import account_client, device_client
from dev.fleet import Fleet
from dev.stack import Stack
from dev.waiting import PATIENCE_S
from shared.protocol.admin import Package
from shared.protocol.topics import PREFIX

KIB = 1024
MIB = 1024 * KIB
LAST = "last"


async def sent(stack: Stack, package: Package, *, times: int, size: int) -> None:
    """Send a device so many messages, and then one that is not queued and so shows what has come before it."""
    down = f"{PREFIX}/d/{package.client_id}/down"
    async with account_client(stack.endpoints, "svc-firmware") as service:
        for number in range(times):
            await service.publish(f"{down}/{number}", bytes(size), qos=1)
        await service.publish(f"{down}/{LAST}", b"", qos=0)


async def until_last(messages: AsyncIterator[aiomqtt.Message]) -> list[aiomqtt.Message]:
    """Return what comes before the last message."""
    found: list[aiomqtt.Message] = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in messages:
            if str(message.topic).endswith(LAST):
                return found
            found.append(message)
    raise AssertionError


@pytest.mark.parametrize(
    ("times", "size", "under_way"),
    [(1000, KIB, 1000), (256, 64 * KIB, 256), (40, MIB, 16)],
    ids=["a burst of small messages", "pieces of the largest size", "large messages"],
)
async def test_what_is_under_way_to_a_client_is_bounded_in_bytes_and_nothing_is_lost(
    fleet: Fleet, stack: Stack, times: int, size: int, under_way: int
) -> None:
    package = await fleet.device()
    async with device_client(package) as device:
        device._client.manual_ack_set(on=True)
        await device.subscribe(f"{PREFIX}/d/{package.client_id}/down/#", qos=1)
        await sent(stack, package, times=times, size=size)
        messages = aiter(device.messages)
        waiting = await until_last(messages)
        assert len(waiting) == under_way
        come = 0
        while waiting:
            message = waiting.pop()
            device._client.ack(message.mid, message.qos)
            come += 1
            if not waiting and come < times:
                async with asyncio.timeout(PATIENCE_S):
                    waiting.append(await anext(messages))
        assert come == times
