"""Core dumps on the real stack: whole and encrypted or not at all, whatever is killed, lost or comes twice."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet

from cli.client import AnswerError
from dev.credentials import device_client
from dev.database import run
from dev.fleet import OPTIONS, Fleet
from dev.system import System
from dev.uploads import upload
from dev.waiting import PATIENCE_S, until
from device import image_builder
from device.options import Hooks
from shared.protocol import admin, topics
from shared.protocol.admin import CoreDumpView, Package
from shared.protocol.messages import CoreDumpChunk, CoreDumpOffer, CoreDumpRefused, CoreDumpStored, CoreDumpWanted
from tests.integration.test_tool import environment, mdm
from tests.raw import RESEND_S, RawDevice

__all__ = ["environment"]

CHUNK = 16 * 1024
ANSWERS = (topics.COREDUMP_WANTED, topics.COREDUMP_STORED, topics.COREDUMP_REFUSED)
Answer = CoreDumpWanted | CoreDumpStored | CoreDumpRefused


def offer_of(dump: bytes, **facts: object) -> CoreDumpOffer:
    usual = {
        "sha256": hashlib.sha256(dump).hexdigest(),
        "size_bytes": len(dump),
        "elf_sha256": "e" * 64,
        "reason": "panic",
    }
    return CoreDumpOffer.model_validate({**usual, **facts})


async def answer(device: RawDevice) -> Answer:
    """Wait for an answer to an offer."""
    receiving: list[asyncio.Task[Any]] = [asyncio.create_task(device.receive(topic)) for topic in ANSWERS]
    done, pending = await asyncio.wait(receiving, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return done.pop().result()  # type: ignore[no-any-return]


async def offered(device: RawDevice, offer: CoreDumpOffer) -> Answer:
    """Offer a dump once and return the answer."""
    await device.send(topics.COREDUMP_OFFER, offer)
    return await answer(device)


async def send(device: RawDevice, dump: bytes, wanted: CoreDumpWanted, *, times: int = 1) -> None:
    """Send the pieces that are wanted."""
    for offset in wanted.missing:
        data = dump[offset : offset + wanted.chunk_size_bytes]
        piece = CoreDumpChunk(sha256=wanted.sha256, offset=offset, data=data)
        for _ in range(times):
            await device.send(topics.COREDUMP_CHUNK, piece)


async def sent(device: RawDevice, dump: bytes, offer: CoreDumpOffer | None = None, *, times: int = 1) -> Answer:
    """Send a dump until it is stored or refused, each message so many times."""
    offer = offer or offer_of(dump)
    while True:
        for _ in range(times - 1):
            await device.send(topics.COREDUMP_OFFER, offer)
        said = await offered(device, offer)
        if not isinstance(said, CoreDumpWanted):
            return said
        await send(device, dump, said, times=times)


async def dumps_of(fleet: Fleet, package: Package) -> list[CoreDumpView]:
    return (await fleet.ask(admin.COREDUMP_LIST, device=package.client_id)).dumps


async def read(fleet: Fleet, dump: CoreDumpView) -> bytes:
    data = b""
    while len(data) < dump.size_bytes:
        data += (await fleet.ask(admin.COREDUMP_READ, id=dump.id, offset=len(data))).data
    return data


async def rows(system: System, package: Package, what: str) -> list[Any]:
    return await run(
        system.stack,
        f"SELECT {what} FROM mdm.core_dumps c JOIN mdm.devices d ON d.id = c.device_id"  # noqa: S608 - our words
        " LEFT JOIN mdm.core_dump_chunks k ON k.dump_id = c.id WHERE d.key = $1",
        package.device_key,
    )


async def begun_earlier(system: System, package: Package, interval: str) -> None:
    """Make all dumps of a device so much older."""
    await run(
        system.stack,
        f"UPDATE mdm.core_dumps SET begun_at = begun_at - interval '{interval}'"  # noqa: S608 - our words
        " WHERE device_id = (SELECT id FROM mdm.devices WHERE key = $1)",
        package.device_key,
    )


@pytest.fixture
async def usual(system: System) -> AsyncIterator[None]:
    """Give the firmware service its usual settings back."""
    yield
    await system.restart("firmware")


async def test_a_crash_reaches_a_file_of_an_admin_and_is_erased_from_flash(
    fleet: Fleet, environment: dict[str, str]
) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, image_builder.build(version="1.0.0", project=model))
    stored = asyncio.Event()
    hooks = Hooks(on_event=lambda name, _: stored.set() if name == "coredump.stored" else None)
    options = replace(OPTIONS, panic_bytes=20 * CHUNK + 100)
    in_flash = fleet.folder / package.client_id / "flash" / "coredump.bin"
    async with fleet.powered(package, options=options, hooks=hooks):
        event = await fleet.seen(package, "coredump/stored", reason="panic")
        async with asyncio.timeout(PATIENCE_S):
            await stored.wait()
        assert not in_flash.exists()

    listed = await mdm("coredump", "list", package.device_key, **environment)
    [line] = listed.output.splitlines()[1:]
    assert line.split()[:2] == [str(event.data["id"]), package.client_id]
    assert [model, "1.0.0", "panic"] == line.split()[-4:-1]
    target = fleet.folder / "core.bin"
    got = await mdm("coredump", "get", event.data["id"], "-o", target, **environment)
    assert got.status == 0, got.errors
    assert hashlib.sha256(target.read_bytes()).hexdigest() == event.data["sha256"]
    assert target.stat().st_mode & 0o777 == 0o600
    target.write_bytes(b"mine")
    again = await mdm("coredump", "get", event.data["id"], "-o", target, **environment)
    assert (again.status, target.read_bytes()) == (1, b"mine")
    assert "exists" in again.errors
    deleted = await mdm("coredump", "delete", event.data["id"], **environment)
    assert deleted.status == 0, deleted.errors
    await fleet.seen(package, "coredump/deleted")
    assert await dumps_of(fleet, package) == []
    audit = await fleet.ask(admin.AUDIT_LIST, subject=package.client_id)
    assert [entry.action for entry in audit.entries][:2] == ["coredump.delete", "coredump.read"]


async def test_a_dump_of_an_unknown_image_is_kept_and_says_so(fleet: Fleet, environment: dict[str, str]) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        assert isinstance(await sent(device, os.urandom(100)), CoreDumpStored)
    [dump] = await dumps_of(fleet, package)
    assert (dump.image_model, dump.image_version, dump.image_sha256) == (None, None, None)
    assert "unknown image" in (await mdm("coredump", "list", package.device_key, **environment)).output


async def test_nothing_of_a_dump_can_be_read_in_the_database(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    memory = package.secret.encode() * 1000
    async with RawDevice(package) as device:
        await sent(device, memory)
    found = await rows(system, package, "c.*, k.data")
    assert len(found) == -(-len(memory) // CHUNK)
    assert not any(package.secret in str(value) for row in found for value in row)
    assert await read(fleet, (await dumps_of(fleet, package))[0]) == memory


async def test_a_service_killed_in_the_middle_goes_on_where_it_was(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    dump = os.urandom(20 * CHUNK)
    async with RawDevice(package) as device:
        first = await offered(device, offer_of(dump))
        assert isinstance(first, CoreDumpWanted)
        await send(device, dump, first)
        second = await offered(device, offer_of(dump))
        assert isinstance(second, CoreDumpWanted)
        assert second.missing[0] == 8 * CHUNK
        await asyncio.to_thread(system.services["firmware"].kill)
        await asyncio.to_thread(system.services["firmware"].start)
        waiting = asyncio.create_task(answer(device))
        while not waiting.done():
            await device.send(topics.COREDUMP_OFFER, offer_of(dump))
            await asyncio.wait([waiting], timeout=RESEND_S)
        third = waiting.result()
        assert isinstance(third, CoreDumpWanted)
        assert third.missing == second.missing
        assert isinstance(await sent(device, dump), CoreDumpStored)
    assert await read(fleet, (await dumps_of(fleet, package))[0]) == dump


@pytest.mark.parametrize(
    "cut_at",
    [
        "coredump.write:after",
        "publish.coredump.offer:after",
        "publish.coredump.chunk:after",
        "coredump.erase:before",
    ],
)
async def test_a_device_that_loses_power_on_the_way_goes_on(fleet: Fleet, cut_at: str) -> None:
    package = await fleet.device()
    async with fleet.powered(package, options=replace(OPTIONS, panic_bytes=12 * CHUNK), cut_at=cut_at) as power:
        await power.failed()
    in_flash = (fleet.folder / package.client_id / "flash" / "coredump.bin").read_bytes()
    erased = asyncio.Event()
    hooks = Hooks(on_event=lambda name, _: erased.set() if name == "coredump.stored" else None)
    async with fleet.powered(package, hooks=hooks), asyncio.timeout(PATIENCE_S):
        await erased.wait()
    [dump] = await dumps_of(fleet, package)
    assert await read(fleet, dump) == in_flash


async def test_what_comes_twice_is_kept_once(fleet: Fleet) -> None:
    package = await fleet.device()
    dump = os.urandom(10 * CHUNK + 1)
    async with RawDevice(package) as device:
        assert isinstance(await sent(device, dump, times=2), CoreDumpStored)
        wanted = CoreDumpWanted(sha256=offer_of(dump).sha256, chunk_size_bytes=CHUNK, missing=[0])
        await send(device, dump, wanted)
        assert isinstance(await sent(device, dump), CoreDumpStored)
    [stored] = await dumps_of(fleet, package)
    assert await read(fleet, stored) == dump


async def test_bytes_with_another_hash_are_refused_for_good_and_dropped(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    offer = offer_of(b"other bytes", size_bytes=2 * CHUNK)
    async with RawDevice(package) as device:
        refused = await sent(device, os.urandom(2 * CHUNK), offer)
        assert isinstance(refused, CoreDumpRefused)
        assert refused.reason.startswith("sha256: the bytes have ")
        assert await offered(device, offer) == refused
    await fleet.seen(package, "coredump/refused", sha256=offer.sha256)
    assert await dumps_of(fleet, package) == []
    assert [row["data"] for row in await rows(system, package, "k.data")] == [None]


async def test_what_is_too_large_is_refused_before_anything_is_sent(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        refused = await offered(device, offer_of(b"x", size_bytes=admin.MAX_CORE_DUMP_BYTES + 1))
        assert isinstance(refused, CoreDumpRefused)
        assert "must be at most 1048576" in refused.reason
    assert await rows(system, package, "c.id") == []


async def test_a_piece_of_a_wrong_length_or_place_is_not_kept(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    offer = offer_of(bytes(2 * CHUNK))
    template = topics.COREDUMP_CHUNK.template
    before = system.counted("firmware", template)["failed"]
    async with RawDevice(package) as device:
        first = await offered(device, offer)
        for offset, length in ((0, CHUNK - 1), (1, CHUNK), (2 * CHUNK, 1), (0, 0)):
            piece = CoreDumpChunk(sha256=offer.sha256, offset=offset, data=bytes(length))
            await device.send(topics.COREDUMP_CHUNK, piece)
        await system.takes("firmware", template, "failed", beyond=before + 3)
        assert await offered(device, offer) == first


async def test_the_hours_limit_is_refused_and_beyond_twenty_the_oldest_is_removed(
    fleet: Fleet, system: System, usual: None
) -> None:
    del usual
    await system.restart("firmware", MDM_COREDUMPS_PER_HOUR="20")
    package = await fleet.device()
    async with RawDevice(package) as device:
        for number in range(20):
            assert isinstance(await sent(device, b"dump %d" % number), CoreDumpStored)
        oldest = (await dumps_of(fleet, package))[-1]
        refused = await offered(device, offer_of(b"one more"))
        assert isinstance(refused, CoreDumpRefused)
        assert refused.reason == "this device has sent 20 core dumps within an hour"
        await begun_earlier(system, package, "1 hour")
        assert isinstance(await sent(device, b"one more"), CoreDumpStored)
    kept = await dumps_of(fleet, package)
    assert len(kept) == 20
    assert oldest.id not in {dump.id for dump in kept}
    paged: list[CoreDumpView] = []
    before: int | None = None
    while before is not None or not paged:
        page = await fleet.ask(admin.COREDUMP_LIST, device=package.client_id, limit=7, before=before)
        paged, before = paged + page.dumps, page.next
    assert paged == kept
    assert await read(fleet, kept[0]) == b"one more"
    with pytest.raises(AnswerError, match="there is no core dump"):
        await fleet.ask(admin.COREDUMP_READ, id=oldest.id)


async def test_another_dump_takes_the_place_of_one_that_is_under_way(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    early, late = os.urandom(9 * CHUNK), os.urandom(CHUNK)
    async with RawDevice(package) as device:
        wanted = await offered(device, offer_of(early))
        assert isinstance(wanted, CoreDumpWanted)
        await send(device, early, wanted)
        assert isinstance(await sent(device, late), CoreDumpStored)
        refused = await offered(device, offer_of(early))
        assert isinstance(refused, CoreDumpRefused)
        assert "another core dump" in refused.reason
    assert len([row for row in await rows(system, package, "k.data") if row["data"]]) == 1


async def test_what_is_not_finished_in_a_day_is_forgotten(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await sent(device, b"stored")
        await offered(device, offer_of(bytes(CHUNK)))
    await begun_earlier(system, package, "1 day")
    await system.restart("firmware")
    await until(lambda: rows(system, package, "c.id"), lambda kept: len(kept) == 1)
    assert [dump.size_bytes for dump in await dumps_of(fleet, package)] == [len(b"stored")]


async def test_another_device_can_neither_add_to_a_dump_nor_hear_of_it(fleet: Fleet, system: System) -> None:
    mine, other = await fleet.device(), await fleet.device()
    offer = offer_of(bytes(CHUNK))
    template = topics.COREDUMP_CHUNK.template
    before = system.counted("firmware", template)
    async with RawDevice(mine) as device, device_client(other) as thief:
        await thief.subscribe(f"{topics.PREFIX}/d/+/down/#", qos=1)
        first = await offered(device, offer)
        piece = topics.COREDUMP_CHUNK.encode(CoreDumpChunk(sha256=offer.sha256, offset=0, data=bytes(CHUNK)))
        for client_id in (mine.client_id, other.client_id):
            await thief.publish(topics.COREDUMP_CHUNK.of(client_id=client_id), piece, qos=1)
        await system.takes("firmware", template, "failed", beyond=before["failed"])
        assert await offered(device, offer) == first
        assert system.counted("firmware", template)["handled"] == before["handled"]
        await thief.publish(
            topics.COREDUMP_OFFER.of(client_id=other.client_id), topics.COREDUMP_OFFER.encode(offer), qos=1
        )
        heard = await anext(thief.messages)
        assert str(heard.topic) == topics.COREDUMP_WANTED.of(client_id=other.client_id)
    assert await dumps_of(fleet, mine) == await dumps_of(fleet, other) == []


async def test_dumps_follow_a_change_of_the_master_key(
    fleet: Fleet, system: System, environment: dict[str, str], usual: None
) -> None:
    del usual
    package = await fleet.device()
    async with RawDevice(package) as device:
        await sent(device, b"memory")
    [dump] = await dumps_of(fleet, package)
    old, new = system.own["firmware"]["MDM_MASTER_KEYS"], Fernet.generate_key().decode()

    await system.restart("firmware", MDM_MASTER_KEYS=new)
    with pytest.raises(AnswerError, match="no master key"):
        await fleet.ask(admin.COREDUMP_READ, id=dump.id)
    missing = await mdm("secrets", "rekey", **environment)
    assert (missing.status, package.client_id in missing.errors) == (1, True)

    await system.restart("firmware", MDM_MASTER_KEYS=f"{new},{old}")
    assert (await mdm("secrets", "rekey", **environment)).status == 0
    await system.restart("firmware", MDM_MASTER_KEYS=new)
    assert await read(fleet, dump) == b"memory"

    await system.restart("firmware", MDM_MASTER_KEYS=f"{old},{new}")
    assert not (await fleet.ask(admin.COREDUMP_REKEY)).unreadable.count


async def test_a_dump_that_is_deleted_twice_at_once_is_deleted_once(fleet: Fleet) -> None:
    package = await fleet.device()
    async with RawDevice(package) as device:
        await sent(device, b"memory")
    [dump] = await dumps_of(fleet, package)
    both = (fleet.ask(admin.COREDUMP_DELETE, id=dump.id) for _ in range(2))
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    [refused] = [it for it in outcomes if isinstance(it, AnswerError)]
    assert refused.answer_code == "not_found"
    assert admin.Removed(removed=str(dump.id)) in outcomes
