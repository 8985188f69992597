"""Firmware on the real stack: only a whole and right image is stored, and only it is ever run."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from pathlib import Path

import pytest

from cli.client import AnswerError
from dev import waiting
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import upload
from device import image_builder
from shared.protocol import admin, messages, topics
from tests import secure_boot
from tests.downloads import check
from tests.raw import RawDevice
from tests.unit.firmware import images

CHUNK = 16 * 1024


@pytest.mark.parametrize(
    "size_bytes", [5 * CHUNK, 5 * CHUNK + 16, 1024], ids=["a multiple", "a rest", "one piece"]
)
async def test_an_image_is_delivered_whole_verified_booted_and_confirmed(fleet: Fleet, size_bytes: int) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.0.0")
        await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=size_bytes))
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")


async def test_a_device_that_was_away_asks_when_it_comes(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")


async def test_a_device_that_loses_power_in_a_download_goes_on_where_it_was(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=40 * CHUNK))
    async with fleet.powered(package, cut_at="download.save:after") as power:
        await power.failed()
    async with fleet.powered(package):
        again = await fleet.seen(package, "firmware/reported", stage="downloading")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert again.data["sha256"]


async def test_a_service_killed_in_a_download_costs_only_time(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=60 * CHUNK))
    async with fleet.powered(package):
        await fleet.seen(package, "firmware/reported", stage="downloading")
        await asyncio.to_thread(system.services["firmware"].kill)
        await asyncio.to_thread(system.services["firmware"].start)
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")


async def test_an_image_without_a_version_is_stored_under_its_label(fleet: Fleet) -> None:
    model = await fleet.model()
    image = images.build(segments=[images.descriptor(version=b"", project="küche".encode()) + bytes(64)])
    with pytest.raises(AnswerError, match="version: expected a label given at the upload"):
        await upload(fleet, model, image)
    assert (await upload(fleet, model, image, version="1.0 kitchen")).version == "1.0 kitchen"


async def test_a_device_runs_an_image_without_a_version(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    image = images.build(segments=[images.descriptor(version=b"", project=model.encode()) + bytes(64)])
    async with fleet.powered(package):
        await upload(fleet, model, image, version="1.0 kitchen")
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        await waiting.until(
            lambda: fleet.ask(admin.FIRMWARE_OF, devices=[package.client_id]),
            lambda found: found.devices[0].runs == "1.0 kitchen",
        )


async def test_an_image_signed_for_secure_boot_is_delivered_with_its_signatures(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    image = secure_boot.sign(image_builder.build(version="1.1.0", project=model), "p256", "p256/2")
    async with fleet.powered(package):
        stored = await upload(fleet, model, image)
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(image).hexdigest(), len(image))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (gzip.compress(b"image"), "file: expected an application image, found a file compressed with gzip"),
        (b"\x00" * 4096, "magic"),
        (image_builder.build(version="1.1.0", project="p", chip="esp32c3"), "chip"),
        (image_builder.build(version="1.1.0", project="p")[:-1] + b"\x00", "appended_sha256"),
    ],
    ids=["compressed", "no image", "another chip", "damaged"],
)
async def test_a_wrong_image_is_refused_with_its_reason(fleet: Fleet, image: bytes, reason: str) -> None:
    model = await fleet.model()
    with pytest.raises(AnswerError, match=reason):
        await upload(fleet, model, image)


async def test_another_image_of_the_same_version_is_refused(fleet: Fleet) -> None:
    model = await fleet.model()
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
    with pytest.raises(AnswerError, match=r"already has another image 1\.1\.0"):
        await upload(fleet, model, image_builder.build(version="1.1.0", project=model, size_bytes=8192))


async def test_an_upload_goes_on_where_it_was_and_the_same_image_again_changes_nothing(fleet: Fleet) -> None:
    model = await fleet.model()
    image = image_builder.build(version="1.1.0", project=model, size_bytes=96 * 1024)
    announced = {"model": model, "sha256": hashlib.sha256(image).hexdigest(), "size_bytes": len(image)}
    begun = await fleet.ask(admin.UPLOAD_BEGIN, **announced)
    first = base64.b64encode(image[: begun.chunk_size_bytes])
    await fleet.ask(admin.UPLOAD_CHUNK, upload_id=begun.upload_id, offset=0, data=first)
    again = await fleet.ask(admin.UPLOAD_BEGIN, **announced)
    assert (again.upload_id, again.missing) == (begun.upload_id, begun.missing[1:])
    with pytest.raises(AnswerError, match="bytes are missing"):
        await fleet.ask(admin.UPLOAD_FINISH, upload_id=begun.upload_id)
    stored = await upload(fleet, model, image)
    assert await upload(fleet, model, image) == stored
    assert stored.current


async def test_an_unknown_image_is_refused_with_a_reason_that_stops_the_retry(fleet: Fleet) -> None:
    package = await fleet.device()
    request = messages.FirmwareChunkRequest(sha256="0" * 64, offset=0, length=1024)
    async with RawDevice(package) as device:
        await device.send(topics.FIRMWARE_CHUNK, request)
        cancelled = await device.receive(topics.FIRMWARE_CANCELLED)
    assert cancelled.sha256 == request.sha256


async def test_another_models_image_is_refused(fleet: Fleet) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
    package = await fleet.device()
    async with RawDevice(package) as device:
        request = messages.FirmwareChunkRequest(sha256=stored.sha256, offset=0, length=1024)
        await device.send(topics.FIRMWARE_CHUNK, request)
        await device.receive(topics.FIRMWARE_CANCELLED)


async def test_an_image_that_a_device_rolled_back_is_not_offered_to_it_again(fleet: Fleet) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        question = check(model)
        assert not (await device.ask(topics.FIRMWARE_CHECK, question, topics.FIRMWARE_OFFER)).up_to_date
        report = messages.FirmwareReport(sha256=stored.sha256, stage=messages.FirmwareStage.ROLLED_BACK)
        await device.send(topics.FIRMWARE_REPORT, report)
        await fleet.seen(package, "firmware/reported", stage="rolled_back")
    async with RawDevice(package) as device:
        await device.send(topics.FIRMWARE_CHECK, question)
        assert (await device.receive(topics.FIRMWARE_OFFER)).up_to_date


async def test_an_image_is_offered_once_whatever_version_a_device_says_that_it_runs(fleet: Fleet) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, image_builder.build(version="1.1.0", project=model), version="1.1.0")
    package = await fleet.device(model)

    async with RawDevice(package) as device:

        async def offered(version: str, sha256: str) -> messages.FirmwareOffer:
            return await device.ask(
                topics.FIRMWARE_CHECK, check(model, version=version, sha256=sha256), topics.FIRMWARE_OFFER
            )

        assert (await offered("1.0.0", "1" * 64)).sha256 == stored.sha256
        report = messages.FirmwareReport(sha256=stored.sha256, stage=messages.FirmwareStage.CONFIRMED)
        await device.send(topics.FIRMWARE_REPORT, report)
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        for version in ("1.1.0", "1.0.0", "9.9.9"):
            assert (await offered(version, stored.sha256)).up_to_date


async def test_a_device_that_has_updated_is_not_offered_the_image_again(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    stored = await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
    async with fleet.powered(package):
        await fleet.seen(package, "firmware/offered", version="1.1.0")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
        await fleet.seen(package, "firmware/reported", stage="confirmed")
    # A slow device may have asked twice before it had updated.
    fleet.witness.forget(package.client_id)
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
    # The release of another image comes after all that the second start could have led to.
    other = await upload(fleet, model, image_builder.build(version="1.2.0", project=model))
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.2.0")
        await fleet.seen(package, "firmware/reported", sha256=other.sha256, stage="confirmed")
    assert not fleet.witness.remembers(package.client_id, "firmware/offered", version="1.1.0")
    assert stored.sha256 != other.sha256


def test_the_store_holds_only_whole_images(system: System) -> None:
    images = list(Path(system.stack.folder, "assets").rglob("*.bin"))
    assert images
    for image in images:
        assert hashlib.sha256(image.read_bytes()).hexdigest() == image.stem
