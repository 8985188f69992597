"""The registry is killed at each step of changing a connection profile: devices get it all the same."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

from dev.fleet import Fleet
from dev.waiting import until
from shared.protocol import admin, messages, topics
from tests.faults.test_registry_matrix import Registry, registry, steps_of
from tests.matrix import Matrix
from tests.raw import RawDevice

__all__ = ["registry"]
SENT = "commit Connections._send:after"


async def online(fleet: Fleet, device: RawDevice, connection_id: str | None) -> None:
    """Have the device report that it is online with its package's profile."""
    await device.send(topics.STATUS, messages.Status(online=True))
    state = messages.ConnectionState(first=connection_id, in_use=connection_id)
    await device.send(topics.CONFIG_GET, messages.ConfigGet(request_id="1", connection=state))
    look = partial(fleet.ask, admin.DEVICE_SHOW, device=device.client_id)
    await until(look, lambda it: it.online and it.connection and it.connection.progress == "in use")


def change(client_id: str) -> admin.ConnectionSet:
    return admin.ConnectionSet(request_id=uuid4().hex, device=client_id, mqtt_host="new.test")


async def test_a_registry_killed_at_each_step_of_a_change_sends_the_profile_all_the_same(
    fleet: Fleet, registry: Registry
) -> None:
    first = await fleet.device()
    matrix = Matrix("kill -9 of the registry while it changes a connection profile")
    async with RawDevice(first) as device:
        await online(fleet, device, first.connection_id)
        deed = partial(fleet.admin.call, admin.CONNECTION_SET, change(first.client_id), timeout_s=60)
        steps = await steps_of(registry, deed, SENT)
    for death in steps:
        async with matrix.case(death) as case:
            package = await fleet.device()
            async with RawDevice(package) as device:
                await online(fleet, device, package.connection_id)
                request = change(package.client_id)
                await registry.dies(death, fleet.admin.call(admin.CONNECTION_SET, request, timeout_s=60))
                effect = await fleet.admin.call(admin.CONNECTION_SET, request, timeout_s=60)
                assert (effect.changed, effect.moving) == (True, 1)
                shown = await fleet.ask(admin.CONNECTION_SHOW, device=package.client_id)
                offer = await device.receive(topics.CONNECTION)
                assert offer.connection_id == shown.connection_id != package.connection_id
                case.outcome = "sent twice" if device.received(topics.CONNECTION) else "sent"
            await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    matrix.end()
