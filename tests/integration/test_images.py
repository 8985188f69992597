"""What becomes of stored images: released, kept, deleted, at a stable path; also when a service is killed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from cli.client import AnswerError
from dev import database, waiting
from dev.crash_injection import CrashPlan, CrashPoint
from dev.fleet import Fleet
from dev.system import System
from dev.uploads import begin, build, upload, versions
from dev.waiting import PATIENCE_S
from device import image_builder
from shared.protocol import admin, messages, topics
from shared.protocol.messages import FirmwareStage
from tests.downloads import check
from tests.raw import RawDevice


async def until(holds: Callable[[], object]) -> None:
    """Look at the disk until this holds."""
    await waiting.until(lambda: asyncio.to_thread(holds))


def stored_at(system: System, image: bytes) -> Path:
    return system.stack.folder / "assets" / "images" / f"{hashlib.sha256(image).hexdigest()}.bin"


def shelf_of(system: System, model: str) -> Path:
    return system.stack.folder / "shelf" / f"firmware-{model}.bin"


@asynccontextmanager
async def another(system: System) -> AsyncIterator[None]:
    """Run one more firmware service: it keeps house at its start."""
    await asyncio.to_thread(lambda: system.start("firmware", name="another-firmware"))
    try:
        yield
    finally:
        await asyncio.to_thread(system.stop, "another-firmware")


async def test_images_are_listed_in_pages_newest_first(fleet: Fleet) -> None:
    model, other = await fleet.model(), await fleet.model()
    for number in range(5):
        await upload(fleet, model, build(model, f"1.{number}"))
    await upload(fleet, other, build(other, "7.0"))
    assert await versions(fleet, other) == ["7.0"]
    first = await fleet.ask(admin.IMAGE_LIST, model=model, limit=2)
    second = await fleet.ask(admin.IMAGE_LIST, model=model, limit=2, after=first.next)
    third = await fleet.ask(admin.IMAGE_LIST, model=model, limit=2, after=second.next)
    pages = [[image.version for image in page.images] for page in (first, second, third)]
    assert pages == [["1.4", "1.3"], ["1.2", "1.1"], ["1.0"]]
    assert third.next is None
    everything = [image.model for image in (await fleet.ask(admin.IMAGE_LIST)).images]
    assert everything[:6] == [other, *[model] * 5]


async def test_a_page_after_an_image_that_is_gone_is_an_error_and_not_the_end(fleet: Fleet) -> None:
    with pytest.raises(AnswerError, match="after: there is no image"):
        await fleet.ask(admin.IMAGE_LIST, after="nosuch/" + "0" * 64)


@pytest.mark.parametrize(
    "operation",
    [admin.IMAGE_SHOW, admin.IMAGE_RELEASE, admin.IMAGE_PIN, admin.IMAGE_UNPIN, admin.IMAGE_DELETE],
    ids=lambda operation: operation.verb,
)
async def test_what_is_not_there_is_not_found(
    fleet: Fleet, operation: admin.Operation[admin.ImageRef, admin.ImageView]
) -> None:
    model = await fleet.model()
    with pytest.raises(AnswerError, match=rf"version: {model} has no image 1\.0"):
        await fleet.ask(operation, model=model, version="1.0")
    with pytest.raises(AnswerError, match="model: there is no model nosuch"):
        await fleet.ask(operation, model="nosuch", version="1.0")


async def test_an_older_image_is_released_again_and_devices_go_back_to_it(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, build(model, "1.1.0"))
    await upload(fleet, model, build(model, "1.2.0"))
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.2.0")
        await fleet.seen(package, "firmware/reported", stage="confirmed")
        released = await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
    assert released.current
    assert [image.current for image in (await fleet.ask(admin.IMAGE_LIST, model=model)).images] == [False, True]
    entries = (await fleet.ask(admin.AUDIT_LIST, subject=model)).entries
    assert (entries[0].action, entries[0].after) == (
        "firmware.release",
        {"version": "1.1.0", "sha256": released.sha256},
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chip": "esp32s3"}, "chip: expected the chip"),
        ({"slot_size_bytes": 65536}, "size_bytes: expected at most"),
    ],
)
async def test_an_image_that_no_longer_suits_its_model_is_not_released(
    fleet: Fleet, change: dict[str, object], reason: str
) -> None:
    model = await fleet.model()
    await upload(fleet, model, build(model, "1.1.0", size_bytes=65552), release=False)
    await fleet.ask(admin.MODEL_UPDATE, code=model, **change)
    with pytest.raises(AnswerError, match=reason):
        await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")


async def test_the_models_image_is_deleted_only_once_it_is_withdrawn(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    image = build(model, "1.1.0")
    await upload(fleet, model, image)
    with pytest.raises(AnswerError, match=r"1\.1\.0 is in use: it is its model's image$"):
        await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
    await fleet.ask(admin.IMAGE_WITHDRAW, model=model)
    with pytest.raises(AnswerError, match="has no image to withdraw"):
        await fleet.ask(admin.IMAGE_WITHDRAW, model=model)
    request = admin.ImageRef(request_id=uuid4().hex, model=model, version="1.1.0")
    for _ in range(2):
        removed = await fleet.admin.call(admin.IMAGE_DELETE, request, timeout_s=PATIENCE_S)
        assert removed.removed == "1.1.0"
    await until(lambda: not stored_at(system, image).exists())
    await fleet.witness.seen(None, "firmware/deleted", model=model, version="1.1.0", by="admin")
    actions = [entry.action for entry in (await fleet.ask(admin.AUDIT_LIST, subject=model)).entries]
    assert actions[:2] == ["firmware.delete", "firmware.withdraw"]
    assert (await fleet.ask(admin.MODEL_REMOVE, code=model)).removed == model


async def test_what_a_device_runs_is_not_deleted(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, build(model, "1.1.0"))
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.1.0")
        await fleet.seen(package, "firmware/reported", stage="confirmed")
    await upload(fleet, model, build(model, "1.2.0"))
    shown = await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")
    assert (shown.running, shown.delivering, shown.uploaded_by) == (1, 0, "admin")
    with pytest.raises(AnswerError, match=r"1\.1\.0 is in use: 1 device runs it$") as caught:
        await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
    assert caught.value.details == {"current": False, "running": 1, "delivering": 0, "rollout": None}
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "1.2.0")
        await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
    assert await versions(fleet, model) == ["1.2.0"]


async def test_what_is_being_delivered_is_not_deleted(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(2)]
    old = await upload(fleet, model, build(model, "1.1.0"))
    for package in packages:
        async with RawDevice(package) as device:
            await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)
    new = await upload(fleet, model, build(model, "1.2.0"))
    with pytest.raises(AnswerError, match=r"in use: it is being delivered to 2 devices$"):
        await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
    # The first one is offered the newer image; the second one has said nothing for days.
    async with RawDevice(packages[0]) as device:
        offer = await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)
    assert offer.sha256 == new.sha256
    with pytest.raises(AnswerError, match=r"in use: it is being delivered to 1 device$"):
        await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
    aged = "UPDATE mdm.firmware_deliveries SET updated_at = now() - interval '2 days' WHERE sha256 = $1"
    await database.run(system.stack, aged, old.sha256)
    await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
    async with RawDevice(packages[1]) as device:
        request = messages.FirmwareChunkRequest(sha256=old.sha256, offset=0, length=1024)
        await device.send(topics.FIRMWARE_CHUNK, request)
        assert (await device.receive(topics.FIRMWARE_CANCELLED)).sha256 == old.sha256


async def test_a_device_that_rolled_an_image_back_is_not_offered_it_after_a_deletion(fleet: Fleet) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    image = build(model, "1.1.0")
    stored = await upload(fleet, model, image)
    async with RawDevice(package) as device:
        await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)
        report = messages.FirmwareReport(sha256=stored.sha256, stage=FirmwareStage.ROLLED_BACK)
        await device.send(topics.FIRMWARE_REPORT, report)
        await fleet.seen(package, "firmware/reported", stage="rolled_back")
        await fleet.ask(admin.IMAGE_WITHDRAW, model=model)
        await fleet.ask(admin.IMAGE_DELETE, model=model, version="1.1.0")
        await upload(fleet, model, image)
        assert (await device.ask(topics.FIRMWARE_CHECK, check(model), topics.FIRMWARE_OFFER)).up_to_date


async def test_the_newest_images_are_kept_and_those_that_are_pinned_or_used(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, build(model, "running"))
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.firmware_version == "running")
        await fleet.seen(package, "firmware/reported", stage="confirmed")
    await upload(fleet, model, build(model, "pinned"), release=False)
    assert (await fleet.ask(admin.IMAGE_PIN, model=model, version="pinned")).pinned
    await upload(fleet, model, build(model, "current"))
    going = build(model, "going")
    await upload(fleet, model, going, release=False)
    for number in range(5):
        assert "going" in await versions(fleet, model)
        await upload(fleet, model, build(model, f"new {number}"), release=False)
    kept = ["new 4", "new 3", "new 2", "new 1", "new 0", "current", "pinned", "running"]
    assert await versions(fleet, model) == kept
    await until(lambda: not stored_at(system, going).exists())
    gone = await fleet.witness.seen(None, "firmware/deleted", model=model, version="going")
    assert gone.data["by"] == "retention"
    removals = [
        (entry.actor, entry.before)
        for entry in (await fleet.ask(admin.AUDIT_LIST, subject=model)).entries
        if entry.action == "firmware.delete"
    ]
    facts = {"model": model, "version": "going", "sha256": hashlib.sha256(going).hexdigest()}
    assert removals == [("retention", facts)]
    await fleet.ask(admin.IMAGE_UNPIN, model=model, version="pinned")
    async with another(system):
        await fleet.witness.seen(None, "firmware/deleted", model=model, version="pinned")
    assert await versions(fleet, model) == [version for version in kept if version != "pinned"]


async def test_the_models_image_lies_at_a_stable_path(fleet: Fleet, system: System) -> None:
    model = await fleet.model()
    shelf = shelf_of(system, model)
    first, second = build(model, "1.1.0"), build(model, "1.2.0", size_bytes=512 * 1024)
    await upload(fleet, model, first, release=False)
    assert not shelf.exists()
    seen: set[bytes] = set()

    def shows(image: bytes) -> Callable[[], bool]:
        def look() -> bool:
            if not shelf.exists():
                return False
            found = shelf.read_bytes()
            seen.add(found)
            return found == image

        return look

    await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")
    await until(shows(first))
    await upload(fleet, model, second)
    await until(shows(second))
    await fleet.ask(admin.IMAGE_RELEASE, model=model, version="1.1.0")
    await until(shows(first))
    assert seen == {first, second}
    shelf.write_bytes(first[:100])
    async with another(system):
        await until(shows(first))
    shelf.unlink()
    async with another(system):
        await until(shows(first))
    await fleet.ask(admin.IMAGE_WITHDRAW, model=model)
    await until(lambda: not shelf.exists())


@pytest.fixture(scope="module")
async def fate(system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CrashPlan]:
    """The one firmware service is mortal from here on, until the last of these tests."""
    fate = CrashPlan(tmp_path_factory.mktemp("fate"))
    async with system.altered("firmware", fate=fate):
        yield fate


async def killed_at(system: System, fate: CrashPlan, step: str) -> None:
    """Wait until the service has died there, and start it again, to live."""
    process = system.services["firmware"]
    await until(lambda: not process.running)
    fate.pardon()
    assert fate.steps()[-1] == step
    await asyncio.to_thread(process.start)


@pytest.mark.parametrize("step", ["store put:before", "store put:after", "commit RpcServer._once:before"])
async def test_a_service_killed_at_an_upload_leaves_all_or_nothing(
    fleet: Fleet, system: System, fate: CrashPlan, step: str
) -> None:
    model = await fleet.model()
    image = build(model, "1.1.0", size_bytes=256 * 1024)
    begun = await begin(fleet, model, image)
    fate.condemn(CrashPoint(step, 1))
    request = admin.UploadFinish(request_id=uuid4().hex, upload_id=begun.upload_id)
    async with asyncio.TaskGroup() as tasks:
        call = fleet.admin.call(admin.UPLOAD_FINISH, request, timeout_s=PATIENCE_S)
        finished = tasks.create_task(call, name="finish")
        await killed_at(system, fate, step)
    assert finished.result().current
    assert stored_at(system, image).read_bytes() == image
    await no_leftovers(system)
    assert stored_at(system, image).read_bytes() == image


@pytest.mark.parametrize("step", ["store put:after", "commit RpcServer._once:before"])
async def test_bytes_of_an_upload_that_is_never_finished_are_removed(
    fleet: Fleet, system: System, fate: CrashPlan, step: str
) -> None:
    model = await fleet.model()
    image = build(model, "1.1.0")
    begun = await begin(fleet, model, image)
    fate.condemn(CrashPoint(step, 1))
    request = admin.UploadFinish(request_id=uuid4().hex, upload_id=begun.upload_id)
    with pytest.raises(ExceptionGroup):  # noqa: PT012 - the call is given up while the service is dead
        async with asyncio.TaskGroup() as tasks:
            call = fleet.admin.call(admin.UPLOAD_FINISH, request, timeout_s=PATIENCE_S)
            tasks.create_task(call, name="finish")
            process = system.services["firmware"]
            await until(lambda: not process.running)
            raise ConnectionError
    fate.pardon()
    assert stored_at(system, image).exists()
    delete = "DELETE FROM mdm.firmware_uploads WHERE id = $1"
    await database.run(system.stack, delete, begun.upload_id)
    await asyncio.to_thread(process.start)
    await no_leftovers(system)
    assert not stored_at(system, image).exists()
    assert await versions(fleet, model) == []


@pytest.mark.parametrize(
    "step", ["commit RpcServer._once:before", "commit RpcServer._once:after", "store delete:before"]
)
async def test_a_service_killed_at_a_deletion_leaves_no_image_without_its_bytes(
    fleet: Fleet, system: System, fate: CrashPlan, step: str
) -> None:
    model = await fleet.model()
    image = build(model, "1.1.0")
    await upload(fleet, model, image, release=False)
    fate.condemn(CrashPoint(step, 1))
    request = admin.ImageRef(request_id=uuid4().hex, model=model, version="1.1.0")
    async with asyncio.TaskGroup() as tasks:
        call = fleet.admin.call(admin.IMAGE_DELETE, request, timeout_s=PATIENCE_S)
        deleted = tasks.create_task(call, name="delete")
        await killed_at(system, fate, step)
    assert deleted.result().removed == "1.1.0"
    await until(lambda: not stored_at(system, image).exists())
    assert (await upload(fleet, model, image)).current
    assert stored_at(system, image).read_bytes() == image


async def no_leftovers(system: System) -> None:
    """Wait until nothing is noted as left over."""
    query = "SELECT 1 FROM mdm.firmware_leftovers"
    await waiting.until(lambda: database.run(system.stack, query), lambda rows: not rows)


def test_the_shelf_holds_only_whole_images(system: System) -> None:
    """What a killed service leaves is hidden: other servers never see it, and it is removed after an hour."""
    files = [file for file in (system.stack.folder / "shelf").iterdir() if not file.name.startswith(".")]
    assert files
    for file in files:
        assert file.name.startswith("firmware-")
        assert file.stat().st_size >= image_builder.MIN_IMAGE_BYTES
