"""Which image a device has and should have: by any hash, a label for each build, and why an image is withheld."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.client import AnswerError
from dev import waiting
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.uploads import build, upload
from device import image_builder
from shared.protocol import admin, messages, topics
from shared.protocol.admin import DeviceFirmware, ImageView, Package
from shared.protocol.messages import FirmwareStage
from tests import secure_boot
from tests.downloads import check
from tests.integration.test_tool import mdm
from tests.raw import RawDevice
from tests.swarm import OLD, status
from tests.unit.firmware import images

AT_ONCE = {"soak_s": 3600, "offers_per_minute": 10_000, "max_under_way": 10_000}


@pytest.fixture(scope="module", autouse=True)
async def quick(system: System) -> AsyncIterator[None]:
    """Look at rollouts all the time."""
    async with system.altered("firmware", MDM_ROLLOUT_SWEEP_S="0.1"):
        yield


async def asked(device: RawDevice, model: str, sha256: str = OLD, **facts: object) -> str | None:
    """Return the image that a device is offered when it checks."""
    question = check(model, sha256=sha256).model_copy(update=facts)
    await device.send(topics.FIRMWARE_CHECK, question)
    while True:
        offer = await device.receive(topics.FIRMWARE_OFFER)
        if offer.request_id == question.request_id:
            return offer.sha256


async def firmware_of(fleet: Fleet, package: Package) -> DeviceFirmware:
    [found] = (await fleet.ask(admin.FIRMWARE_OF, devices=[package.client_id])).devices
    return found


async def report(fleet: Fleet, device: RawDevice, package: Package, sha256: str, stage: FirmwareStage) -> None:
    """Report a stage, and wait until it is stored."""
    await device.send(topics.FIRMWARE_REPORT, messages.FirmwareReport(sha256=sha256, stage=stage))
    await waiting.until(partial(firmware_of, fleet, package), lambda found: found.stage == stage)


async def keep(fleet: Fleet, device: RawDevice, package: Package, image: ImageView) -> None:
    """Let a device start and confirm an image."""
    await report(fleet, device, package, image.sha256, FirmwareStage.REBOOTING)
    await device.send(topics.STATUS, status(image.model, image.sha256))
    await report(fleet, device, package, image.sha256, FirmwareStage.CONFIRMED)


def builds(model: str, version: str) -> tuple[bytes, bytes]:
    """Return two images that embed the same version, as of two builds."""
    first, second = (
        image_builder.build(
            version=version, project=model, payload=bytes([number]) * 512, elf_sha256=bytes([number]) * 32
        )
        for number in (1, 2)
    )
    return first, second


async def test_of_two_builds_that_embed_one_version_the_second_is_named_by_its_label(fleet: Fleet) -> None:
    model = await fleet.model()
    first, second = builds(model, "arduino-1")
    await upload(fleet, model, first)
    with pytest.raises(AnswerError, match=r"already has another image arduino-1; .* --version LABEL"):
        await upload(fleet, model, second)
    stored = await upload(fleet, model, second, version="1.1.0")
    assert (stored.version, stored.embedded_version) == ("1.1.0", "arduino-1")
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, status(model))
        question = check(model)
        await device.send(topics.FIRMWARE_CHECK, question)
        offer = await device.receive(topics.FIRMWARE_OFFER)
    assert (offer.sha256, offer.version) == (stored.sha256, "1.1.0")
    with pytest.raises(AnswerError, match=f"version: {model} has this image already, as 1.1.0"):
        await upload(fleet, model, second, version="1.2.0")


async def test_one_file_belongs_to_two_models_and_stays_while_one_has_it(fleet: Fleet, system: System) -> None:
    one, other = await fleet.model(), await fleet.model()
    image = build("shared", "1.1.0")
    first, second = [await upload(fleet, model, image) for model in (one, other)]
    assert (first.sha256, first.model, second.model) == (second.sha256, one, other)
    await fleet.ask(admin.IMAGE_WITHDRAW, model=one)
    await fleet.ask(admin.IMAGE_DELETE, model=one, version="1.1.0")
    package = await fleet.device(other)
    async with RawDevice(package) as device:
        assert await asked(device, "shared") == second.sha256
        request = messages.FirmwareChunkRequest(sha256=second.sha256, offset=0, length=1024)
        await device.send(topics.FIRMWARE_CHUNK, request)
        assert await device.receive(topics.FIRMWARE_CHUNK_DATA) == image[:1024]
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    await fleet.ask(admin.IMAGE_WITHDRAW, model=other)
    await fleet.ask(admin.IMAGE_DELETE, model=other, version="1.1.0")
    file = system.stack.folder / "assets" / "images" / f"{first.sha256}.bin"
    await waiting.until(lambda: asyncio.to_thread(file.exists), lambda exists: not exists)


@pytest.mark.parametrize("named_by", ["app_sha256", "elf_sha256"])
async def test_a_device_that_names_its_image_by_another_hash_runs_it(fleet: Fleet, named_by: str) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, build(model, "1.1.0"))
    said = getattr(stored, named_by)
    assert said not in (None, stored.sha256)
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, status(model, said, firmware_version="whatever"))
        await fleet.until(package, lambda view: view.online)
        assert await asked(device, model, said) is None
        found = await firmware_of(fleet, package)
        assert (found.runs, found.up_to_date) == ("1.1.0", True)
        assert (await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")).running == 1
        preflight = await fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version="1.1.0")
        assert preflight.already.names == [package.client_id]


@pytest.mark.parametrize("named_by", ["app_sha256", "elf_sha256"])
async def test_a_rollout_counts_a_device_that_names_the_image_by_another_hash(fleet: Fleet, named_by: str) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, build(model, "1.1.0"), release=False)
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        await device.send(topics.STATUS, status(model))
        await fleet.until(package, lambda view: view.online)
        plan = {**AT_ONCE, "soak_s": 0}
        begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan)
        assert (await device.receive(topics.FIRMWARE_OFFER)).sha256 == stored.sha256
        await report(fleet, device, package, stored.sha256, FirmwareStage.REBOOTING)
        await device.send(topics.STATUS, status(model, getattr(stored, named_by)))
        assert await asked(device, model, getattr(stored, named_by)) is None
        await report(fleet, device, package, stored.sha256, FirmwareStage.CONFIRMED)
        await fleet.witness.seen(None, "rollout/completed", rollout=begun.rollout)


async def test_a_device_that_falls_back_in_the_soak_has_failed_and_the_rollout_halts(fleet: Fleet) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, build(model, "1.1.0"), release=False)
    first, second = await fleet.device(model), await fleet.device(model)
    async with RawDevice(first) as one, RawDevice(second) as other:
        for device in (one, other):
            await device.send(topics.STATUS, status(model))
        for package in (first, second):
            await fleet.until(package, lambda view: view.online)
        plan = {**AT_ONCE, "waves": ["1", "100%"]}
        begun = await fleet.ask(admin.ROLLOUT_START, model=model, version="1.1.0", plan=plan)
        offers = [asyncio.ensure_future(device.receive(topics.FIRMWARE_OFFER)) for device in (one, other)]
        await asyncio.wait(offers, return_when=asyncio.FIRST_COMPLETED)
        device, package = (one, first) if offers[0].done() else (other, second)
        for offer in offers:
            offer.cancel()
        await keep(fleet, device, package, stored)
        await fleet.witness.seen(None, "rollout/wave_met", rollout=begun.rollout)
        await asked(device, model)
        halted = await fleet.witness.seen(None, "rollout/halted", rollout=begun.rollout)
    assert halted.data["reason"] == "wave 1: 1 of 1 devices failed, 0 may"
    found = await fleet.ask(admin.ROLLOUT_STATUS, rollout=begun.rollout)
    assert [(it.client_id, it.reason) for it in found.failures] == [
        (package.client_id, "had confirmed the image, and came back with other firmware")
    ]
    await fleet.ask(admin.ROLLOUT_ABORT, rollout=begun.rollout)


async def test_a_device_that_goes_round_is_stopped_after_three_times_and_told(fleet: Fleet) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, build(model, "1.1.0"))
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        for _ in range(3):
            assert await asked(device, model) == stored.sha256
            await keep(fleet, device, package, stored)
            await device.send(topics.STATUS, status(model))
        assert await asked(device, model) is None
        assert await asked(device, model) is None
    reason = "the device has confirmed this image 3 times, and each time was back on another"
    await fleet.seen(package, "firmware/withheld", version="1.1.0", reason=reason)
    assert not fleet.witness.remembers(package.client_id, "firmware/withheld")
    found = await waiting.until(partial(firmware_of, fleet, package), lambda found: found.runs is None)
    assert (found.wanted, found.withheld) == ("1.1.0", reason)
    findings = (await fleet.ask(admin.FIRMWARE_DOCTOR)).findings
    assert f"does not get 1.1.0: {reason}" in [it.problem for it in findings if it.subject == package.client_id]
    # Another build is another image.
    later = await upload(fleet, model, build(model, "1.2.0"))
    async with RawDevice(package) as device:
        assert await asked(device, model) == later.sha256


async def test_an_older_image_that_is_released_again_is_no_fallback(fleet: Fleet) -> None:
    model = await fleet.model()
    old, new = [await upload(fleet, model, build(model, version)) for version in ("1.1.0", "1.2.0")]
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        for image, running in ((old, OLD), (new, old.sha256), (old, new.sha256)):
            await fleet.ask(admin.IMAGE_RELEASE, model=model, version=image.version)
            await device.send(topics.STATUS, status(model, running))
            assert await asked(device, model, running) == image.sha256
            await keep(fleet, device, package, image)
        assert await asked(device, model, old.sha256) is None
    assert not fleet.witness.remembers(package.client_id, "firmware/reported", stage="fell_back")


KEY, OTHER = secure_boot.key_digest("rsa"), secure_boot.key_digest("rsa/2")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"secure_version": 2}, "secure_version: the image has 1, the device requires 2"),
        ({"chip": "ESP32-C3 (QFN32)"}, "chip: the image is for esp32, the device has esp32c3"),
        ({"chip_revision": 100}, "chip_revision: the image is for v3.0 to v3.99, the device has v1.0"),
        (
            {"secure_boot_keys": [OTHER]},
            f"secure_boot_keys: the device trusts {OTHER}, the image has been signed by {KEY}",
        ),
    ],
)
async def test_what_the_board_would_refuse_is_withheld_told_and_named_by_preflight(
    fleet: Fleet, facts: dict[str, Any], reason: str
) -> None:
    model = await fleet.model()
    descriptor = images.descriptor(version=b"1.1.0", project=model.encode(), secure_version=1)
    image = secure_boot.sign(images.build(segments=[descriptor + bytes(64)], revisions=(300, 399)), "rsa")
    stored = await upload(fleet, model, image)
    assert stored.secure_boot_keys == [KEY]
    package, fits = await fleet.device(model), await fleet.device(model)
    suits: dict[str, Any] = {
        "secure_version": 1,
        "chip": "ESP32-D0WD-V3",
        "secure_boot_keys": [KEY, OTHER],
        "chip_revision": 301,
    }
    async with RawDevice(package) as device, RawDevice(fits) as other:
        await device.send(topics.STATUS, status(model, **facts))
        await other.send(topics.STATUS, status(model, **suits))
        for one in (package, fits):
            await fleet.until(one, lambda view: view.online)
        assert await asked(device, model, chip=facts.get("chip", "esp32")) is None
        assert await asked(other, model, chip="ESP32-D0WD-V3") == stored.sha256
    await fleet.seen(package, "firmware/withheld", version="1.1.0", reason=reason)
    assert (await firmware_of(fleet, package)).withheld == reason
    found = await fleet.ask(admin.ROLLOUT_PREFLIGHT, model=model, version="1.1.0")
    assert [(it.client_id, it.reason, it.refuses) for it in found.problems] == [(package.client_id, reason, True)]


async def test_a_device_cannot_fetch_an_image_that_is_withheld_from_it_nor_keep_it_from_being_deleted(
    fleet: Fleet,
) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, build(model, "1.1.0"))
    package = await fleet.device(model)
    async with RawDevice(package) as device:
        assert await asked(device, model, project="other") is None
        wanted = messages.FirmwareChunkRequest(sha256=stored.sha256, offset=0, length=1024)
        await device.send(topics.FIRMWARE_CHUNK, wanted)
        cancelled = await device.receive(topics.FIRMWARE_CANCELLED)
        assert cancelled.reason == "the image is withheld from this device"
        assert (await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")).delivering == 0
        # It has got other firmware by other means.
        assert await asked(device, model) == stored.sha256
    await fleet.ask(admin.IMAGE_WITHDRAW, model=model)


async def test_a_model_that_demands_keys_takes_images_signed_by_one_of_them_only(fleet: Fleet) -> None:
    model = await fleet.model(secure_boot_keys=[KEY])
    plain = build(model, "1.1.0")
    with pytest.raises(AnswerError, match=rf"secure_boot: expected a signature by a key .*\({KEY}\), found none"):
        await upload(fleet, model, plain)
    with pytest.raises(AnswerError, match=f"found {OTHER}"):
        await upload(fleet, model, secure_boot.sign(plain, "rsa/2"))
    both = await upload(fleet, model, secure_boot.sign(plain, "rsa", "rsa/2"))
    assert (both.secure_boot_signatures, both.secure_boot_keys) == (2, [KEY, OTHER])
    # The change of keys: what both have signed can still be released, what the old one alone has signed can not.
    old = await upload(fleet, model, secure_boot.sign(build(model, "1.0.0"), "rsa"))
    await fleet.ask(admin.MODEL_UPDATE, code=model, secure_boot_keys=[OTHER])
    await fleet.ask(admin.IMAGE_RELEASE, model=model, version=both.version)
    with pytest.raises(AnswerError, match="secure_boot: expected"):
        await fleet.ask(admin.IMAGE_RELEASE, model=model, version=old.version)


def stored_at(system: System, sha256: str) -> Path:
    return system.stack.folder / "assets" / "images" / f"{sha256}.bin"


@pytest.mark.parametrize("damage", ["missing", "damaged"])
async def test_bytes_that_are_lost_are_named_repaired_by_the_same_file_and_hold_no_other_model_up(
    fleet: Fleet, system: System, damage: str
) -> None:
    model, other = await fleet.model(), await fleet.model()
    image, later = build(model, "1.1.0"), build(other, "7.0")
    stored = await upload(fleet, model, image)
    shelf = system.stack.folder / "shelf"
    await waiting.until(lambda: asyncio.to_thread((shelf / f"firmware-{model}.bin").exists))
    (shelf / f"firmware-{model}.bin").unlink()
    file = stored_at(system, stored.sha256)
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(image[:-1] + b"?")
    await upload(fleet, other, later)
    exported = shelf / f"firmware-{other}.bin"
    await waiting.until(lambda: asyncio.to_thread(lambda: exported.exists() and exported.read_bytes() == later))
    findings = (await fleet.ask(admin.FIRMWARE_DOCTOR)).findings
    [found] = [it for it in findings if it.subject == f"{model} 1.1.0"]
    assert found.problem == f"the bytes of the image are {damage}"
    assert f"--model {model} --version 1.1.0" in found.remedy
    await upload(fleet, model, image)
    assert file.read_bytes() == image
    assert [it for it in (await fleet.ask(admin.FIRMWARE_DOCTOR)).findings if model in it.subject] == []


async def test_stored_bytes_of_no_image_are_named_and_deleted_by_a_repair(fleet: Fleet, system: System) -> None:
    data = b"left over"
    file = stored_at(system, hashlib.sha256(data).hexdigest())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    name = f"{file.stem[:12]}..."
    assert name in [it.subject for it in (await fleet.ask(admin.FIRMWARE_DOCTOR)).findings]
    assert file.exists()
    repaired = (await fleet.ask(admin.FIRMWARE_DOCTOR_REPAIR)).findings
    assert [it.repaired for it in repaired if it.subject == name] == [True]
    await waiting.until(lambda: asyncio.to_thread(file.exists), lambda exists: not exists)


async def test_facts_of_images_from_before_are_read_when_the_service_starts(
    fleet: Fleet, stack: Stack, system: System
) -> None:
    model = await fleet.model()
    stored = await upload(fleet, model, build(model, "1.1.0"))
    await run(
        stack,
        "UPDATE mdm.firmware_images SET embedded_version = NULL, app_sha256 = NULL WHERE sha256 = $1",
        stored.sha256,
    )
    await system.restart("firmware", MDM_ROLLOUT_SWEEP_S="0.1")
    found = await waiting.until(
        lambda: fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0"), lambda image: image.embedded_version
    )
    assert found.app_sha256 == stored.app_sha256


async def test_a_release_says_what_it_will_do_and_asks_if_some_devices_would_not_take_it(
    fleet: Fleet, system: System, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.toml"
    system.profile.save(profile)
    environment = {"MDM_PROFILE": str(profile)}
    model = await fleet.model()
    good, bad = await fleet.device(model), await fleet.device(model)
    await fleet.ask(admin.DEVICE_UPDATE, device=bad.client_id, name="garage")
    for package, project in ((good, model), (bad, "other")):
        async with RawDevice(package) as device:
            await device.send(topics.STATUS, status(project))
            await fleet.until(package, lambda view: view.last_seen_at)
    file = tmp_path / "app.bin"
    file.write_bytes(build(model, "1.1.0"))
    words = ("firmware", "upload", file, "--model", model)
    refused = await mdm(*words, **environment)
    assert refused.status == 1
    assert f"1 of 2 devices would take {model} 1.1.0" in refused.errors
    assert f"garage would not: project: the image is {model}, the device runs other" in refused.errors
    assert "1.1.0 is stored and not released; --yes does it without a question" in refused.errors
    assert not (await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")).current
    released = await mdm(*words, "--yes", **environment)
    assert (released.status, released.errors.count("would not")) == (0, 1), released.errors
    assert (await fleet.ask(admin.IMAGE_SHOW, model=model, version="1.1.0")).current
    shown = json.loads((await mdm("device", "show", bad.client_id, "--json", **environment)).output)
    assert shown["firmware"]["withheld"].startswith("project: ")
    listed = await mdm("device", "list", "--model", model, **environment)
    assert "1.1.0 (withheld" in " ".join(listed.output.split())
