"""Delivery on the real stack: what a device may ask for, and how many of them share the service."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiomqtt
import pytest

from cli.client import Admin
from dev.credentials import device_client
from dev.database import run
from dev.event_recorder import watching
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import upload
from device import image_builder
from shared.protocol import messages, topics
from shared.protocol.admin import ImageView, Package
from tests.downloads import Downloader, check, downloaders
from tests.integration.test_firmware import CHUNK
from tests.raw import RawDevice

PIECES = 12
MANY = 40


async def released(fleet: Fleet, model: str, version: str, *, size_bytes: int = 4 * CHUNK) -> ImageView:
    return await upload(fleet, model, image_builder.build(version=version, project=model, size_bytes=size_bytes))


def request(image: ImageView, offset: int, length: int) -> messages.FirmwareChunkRequest:
    return messages.FirmwareChunkRequest(sha256=image.sha256, offset=offset, length=length)


@pytest.mark.parametrize(
    ("offset", "length", "reason"),
    [
        (4 * CHUNK, CHUNK, "offset: must be less than"),
        (5 * CHUNK, CHUNK, "offset: must be less than"),
        (2**62, 1, "offset: must be less than"),
        (3 * CHUNK, CHUNK + 1, "length: must be at most"),
        (0, 0, "length: must be 1 to"),
        (0, 2**40, "length: must be 1 to"),
        (CHUNK + 1, CHUNK, "offset: must be a multiple"),
    ],
    ids=["at the end", "behind the end", "far behind", "beyond the end", "nothing", "too much", "unaligned"],
)
async def test_a_piece_that_the_image_does_not_have_is_refused_with_the_reason(
    fleet: Fleet, offset: int, length: int, reason: str
) -> None:
    model = await fleet.model()
    image = await released(fleet, model, "1.1.0")
    async with RawDevice(await fleet.device(model)) as device:
        await device.send(topics.FIRMWARE_CHUNK, request(image, offset, length))
        cancelled = await device.receive(topics.FIRMWARE_CANCELLED)
        await device.send(topics.FIRMWARE_CHUNK, request(image, 0, CHUNK))
        assert len(await device.receive(topics.FIRMWARE_CHUNK_DATA)) == CHUNK
    assert cancelled.sha256 == image.sha256
    assert cancelled.reason.startswith(reason)


async def test_a_piece_is_given_as_often_as_it_is_asked_for(fleet: Fleet) -> None:
    model = await fleet.model()
    image = await released(fleet, model, "1.1.0")
    async with RawDevice(await fleet.device(model)) as device:
        pieces = []
        for _ in range(3):
            await device.send(topics.FIRMWARE_CHUNK, request(image, CHUNK, CHUNK))
            pieces.append(await device.receive(topics.FIRMWARE_CHUNK_DATA))
    assert len(set(pieces)) == 1


async def test_a_device_that_is_disabled_in_a_download_gets_no_more_pieces(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    image = await released(fleet, model, "1.1.0")
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        await device.send(topics.FIRMWARE_CHUNK, request(image, 0, CHUNK))
        await device.receive(topics.FIRMWARE_CHUNK_DATA)
        # Behind the registry's back: it would also end the connection.
        await run(
            system.stack,
            "UPDATE mdm.devices SET enabled = false WHERE key = $1 RETURNING id",
            package.device_key,
        )
        cancelled = await device.ask(
            topics.FIRMWARE_CHUNK, request(image, CHUNK, CHUNK), topics.FIRMWARE_CANCELLED
        )
    assert "disabled" in cancelled.reason


async def test_an_image_that_a_device_has_refused_is_not_given_to_it(fleet: Fleet) -> None:
    model = await fleet.model()
    image = await released(fleet, model, "1.1.0")
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        failed = messages.FirmwareReport(sha256=image.sha256, stage=messages.FirmwareStage.FAILED, error="too big")
        await device.send(topics.FIRMWARE_REPORT, failed)
        await fleet.seen(package, "firmware/reported", stage="failed")
        await device.send(topics.FIRMWARE_CHUNK, request(image, 0, CHUNK))
        cancelled = await device.receive(topics.FIRMWARE_CANCELLED)
    assert cancelled.reason == "the device has had this image before: failed"


async def test_a_device_that_comes_back_with_another_image_is_not_offered_the_same_one_again(fleet: Fleet) -> None:
    model = await fleet.model()
    image = await released(fleet, model, "1.1.0")
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        offer = await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)
        assert offer.sha256 == image.sha256
        rebooting = messages.FirmwareReport(sha256=image.sha256, stage=messages.FirmwareStage.REBOOTING)
        await device.send(topics.FIRMWARE_REPORT, rebooting)
        await fleet.seen(package, "firmware/reported", stage="rebooting")
    async with RawDevice(package) as device:
        for _ in range(3):
            await device.send(topics.FIRMWARE_CHECK, check(model))
            assert (await device.receive(topics.FIRMWARE_OFFER)).up_to_date
        told = await fleet.seen(package, "firmware/reported", stage="rolled_back")
        assert told.data["error"] == "came back with other firmware than it rebooted for"
        # It was too early to say so: the device is running it after all.
        confirmed = messages.FirmwareReport(sha256=image.sha256, stage=messages.FirmwareStage.CONFIRMED)
        await device.send(topics.FIRMWARE_REPORT, confirmed)
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        later = await released(fleet, model, "1.2.0")
        offer = await device.ask(
            topics.FIRMWARE_CHECK, check(model, version="1.1.0", sha256=image.sha256), topics.FIRMWARE_OFFER
        )
        assert offer.sha256 == later.sha256


@pytest.fixture(scope="module")
async def many(admin: Admin, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Package]]:
    """Make a model and many devices of it, and one device more."""
    async with watching(admin) as witness:
        fleet = Fleet(admin, witness, tmp_path_factory.mktemp("many"))
        model = await fleet.model()
        gate = asyncio.Semaphore(8)

        async def made() -> Package:
            async with gate:
                return await fleet.device(model)

        return model, list(await asyncio.gather(*(made() for _ in range(MANY + 1))))


@pytest.fixture
async def narrow(system: System) -> AsyncIterator[int]:
    """Let the service be what limits the devices: small pieces, and few of them; return its bytes per second."""
    bytes_per_s = 200_000
    slow = {"MDM_CHUNK_SIZE_BYTES": "1024", "MDM_FIRMWARE_BYTES_PER_S": str(bytes_per_s)}
    async with system.altered("firmware", fate=None, **slow):
        yield bytes_per_s


@dataclass(slots=True)
class Race:
    """What each of the devices has when all together have half of what they fetch, in bytes.

    `others` is how many pieces went to somebody else between the first piece of the last device and that moment.
    """

    devices: list[Downloader]
    elsewhere: Counter[str] = field(default_factory=Counter)
    half: list[int] = field(default_factory=list)
    others: int = 0
    _before: int | None = None

    async def run(self, offers: Sequence[messages.FirmwareOffer]) -> None:
        """Let all devices fetch at once, to the end."""
        half_bytes = sum(offer.size_bytes or 0 for offer in offers) / 2

        def look() -> None:
            fetched = [device.fetched_bytes for device in self.devices]
            if self._before is None and min(fetched):
                self._before = self.elsewhere.total()
            if not self.half and sum(fetched) >= half_bytes:
                self.half = fetched
                self.others = self.elsewhere.total() - (self._before or 0)

        fetching = [device.fetch(offer, on_piece=look) for device, offer in zip(self.devices, offers, strict=True)]
        for offer, data in zip(offers, await asyncio.gather(*fetching), strict=True):
            assert hashlib.sha256(data).hexdigest() == offer.sha256


def assert_alike(race: Race) -> None:
    """Without fair turns the slowest has nothing when half is sent; on a busy machine it may be behind."""
    assert min(race.half) >= max(race.half) / 5


async def test_many_devices_at_once_are_told_and_fetch_alike_and_the_registry_still_answers(
    fleet: Fleet, many: tuple[str, list[Package]]
) -> None:
    model, (other, *packages) = many
    async with downloaders(packages, model) as devices, RawDevice(other) as bystander:
        for package in packages:
            await fleet.until(package, lambda view: view.online)
        image = await released(fleet, model, "1.1.0", size_bytes=PIECES * CHUNK)
        offers = await asyncio.gather(*(device.offered() for device in devices))
        assert {(offer.sha256, offer.request_id) for offer in offers} == {(image.sha256, None)}
        answered = 0

        async def ask_for_configuration() -> None:
            nonlocal answered
            while True:
                await bystander.send(topics.CONFIG_GET, messages.ConfigGet(request_id="r"))
                await bystander.receive(topics.CONFIG)
                answered += 1

        asking = asyncio.create_task(ask_for_configuration(), name="bystander")
        race = Race(devices)
        await race.run(offers)
        asking.cancel()
    assert answered > PIECES / 2
    assert_alike(race)


async def test_a_device_that_floods_is_slowed_and_the_others_do_not_notice(
    fleet: Fleet, system: System, many: tuple[str, list[Package]], narrow: int
) -> None:
    model, (flooder, *packages) = many
    image = await released(fleet, model, "1.2.0", size_bytes=PIECES * 1024)
    offer = messages.FirmwareOffer(
        sha256=image.sha256, size_bytes=image.size_bytes, version="1.2.0", chunk_size_bytes=1024, window=4
    )
    pieces: Counter[str] = Counter()
    async with downloaders(packages, model) as devices, device_client(flooder) as client:
        await client.subscribe(f"{topics.PREFIX}/d/{flooder.client_id}/down/#", qos=1)
        flooding = asyncio.create_task(flood(client, flooder.client_id, image, pieces), name="flooder")
        await system.takes("firmware", topics.FIRMWARE_CHUNK.template, "handled", beyond=1000)
        loop = asyncio.get_running_loop()
        began, before = loop.time(), pieces.total()
        race = Race(devices, pieces)
        await race.run([offer] * len(devices))
        took_s = loop.time() - began
        sent = sum(device.fetched_bytes for device in devices) + (pieces.total() - before) * 1024
        flooding.cancel()
        with suppress(asyncio.CancelledError):
            await flooding
    assert_alike(race)
    # Who always asks also gets the turns that others leave while they are busy with what has come: on a slow
    # machine many, but not the hundreds that it asks for.
    assert race.others <= 12 * max(race.half) / 1024 + 2 * 4, "far more than the fastest of the others"
    assert sent <= narrow * (took_s + 2), "faster than allowed, with a full bucket and what was in progress"


async def flood(client: aiomqtt.Client, client_id: str, image: ImageView, pieces: Counter[str]) -> None:
    """Ask for pieces without end and without waiting, and count those that come."""

    async def ask() -> None:
        topic = topics.FIRMWARE_CHUNK
        while True:
            for number in range(PIECES):
                payload = topic.encode(request(image, number * 1024, 1024))
                client._client.publish(topic.of(client_id=client_id), payload, qos=1)
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask(), name="asking")
    try:
        async for message in client.messages:
            pieces[str(message.topic)] += 1
    finally:
        asking.cancel()
