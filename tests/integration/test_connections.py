"""Connection profiles: what devices report of them, and what they are sent."""

from __future__ import annotations

from uuid import uuid4

from dev.fleet import Fleet
from shared.protocol import topics
from shared.protocol.admin import Package
from shared.protocol.messages import Config, ConfigGet, ConnectionOffer, ConnectionState
from tests.raw import RawDevice

OLD = "0123456789abcdef"


async def ask(device: RawDevice, **state: object) -> Config:
    """Request the configuration with a report of the device's profiles."""
    request_id = uuid4().hex
    report = ConnectionState.model_validate(state)
    await device.send(topics.CONFIG_GET, ConfigGet(request_id=request_id, connection=report))
    answer = await device.receive(topics.CONFIG)
    assert answer.request_id == request_id
    return answer


async def offered(device: RawDevice, package: Package) -> ConnectionOffer:
    offer = await device.receive(topics.CONNECTION)
    assert offer.connection_id == package.connection_id
    return offer


async def test_a_device_with_another_profile_than_the_wanted_one_is_sent_that_once_an_hour(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await ask(device, first=OLD, in_use=OLD)
        offer = await offered(device, package)
        assert offer.profile is not None
        assert offer.profile.mqtt_port == package.mqtt_port
        assert offer.profile.ca_certificate == package.ca_certificate
        assert offer.trial_seconds == 300
        await ask(
            device, first=OLD, in_use=OLD, refused={"connection_id": package.connection_id, "outcome": "reverted"}
        )
        await fleet.seen(package, "connection/reverted", outcome="reverted", connection_id=package.connection_id)
        await ask(device, first=OLD, in_use=OLD)
        await ask(device, first=OLD, in_use=OLD)
        assert not device.received(topics.CONNECTION)
        await ask(device, first=package.connection_id, fallback=OLD, in_use=package.connection_id)
        await fleet.seen(package, "connection/applied", connection_id=package.connection_id)
        await ask(device, first=package.connection_id, fallback=OLD, in_use=OLD)
        await fleet.seen(package, "connection/fell_back", connection_id=OLD)


async def test_a_device_that_reports_no_profile_or_the_wanted_one_is_sent_nothing(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await device.send(topics.CONFIG_GET, ConfigGet(request_id="1"))
        assert (await device.receive(topics.CONFIG)).request_id == "1"
        await ask(device, first=package.connection_id, in_use=package.connection_id)
        await ask(device, first=package.connection_id, in_use=package.connection_id)
        assert not device.received(topics.CONNECTION)
