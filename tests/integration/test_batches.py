"""What many devices say and ask at once goes through the database together, each as if it were alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from dev import database
from dev.credentials import account_client
from dev.fleet import Fleet
from dev.stack import Stack
from dev.uploads import build, upload
from dev.waiting import PATIENCE_S, until
from services.firmware.assignment.progress import Reports
from services.registry.commands.service import CommandService
from services.registry.devices.presence import Presences, ReceivedStatus
from shared.database import engine
from shared.database.outbox import Outbox
from shared.mqtt import connection as connection_module
from shared.protocol import messages, topics
from shared.protocol.messages import FirmwareStage
from tests.raw import RawDevice

DEVICES: Final = 6
NOW: Final = datetime.now(UTC)
ASKING: Final = 3
WINDOW: Final = 20
_HELD: Final = "LOCK TABLE mdm.device_configs, mdm.device_presence IN ACCESS EXCLUSIVE MODE"
_WAITING: Final = """
SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'ANY .*::TEXT\\[\\]'
"""
_STAGES: Final = """
SELECT key, stage FROM mdm.firmware_deliveries JOIN mdm.devices ON devices.id = device_id WHERE sha256 = $1
"""


@asynccontextmanager
async def presences(stack: Stack) -> AsyncIterator[Presences]:
    """Store statuses as a registry does, beside the one that runs."""
    async with engine.connected(SecretStr(stack.endpoints.database_url)) as connected:
        registry: Any = SimpleNamespace(database=connected, outbox=Outbox("registry"))
        yield Presences(registry, CommandService(registry).send_again)


def status(version: str, *, online: bool = True) -> messages.Status:
    return messages.Status(online=online, firmware_version=version)


async def test_of_a_device_that_is_twice_in_a_batch_the_last_word_is_kept_and_each_change_is_told(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    one, other = await fleet.device(model), await fleet.device(model)
    wrong_model = one.client_id.replace(model, "another")
    async with presences(stack) as stored:
        known = await stored._store(
            [
                ReceivedStatus(one.client_id, status("1"), NOW),
                ReceivedStatus(other.client_id, status("7"), NOW),
                ReceivedStatus(wrong_model, status("8"), NOW),
                ReceivedStatus(one.client_id, status("2", online=False), NOW),
                ReceivedStatus("no client id at all", status("9"), NOW),
                ReceivedStatus(one.client_id, status("3"), NOW),
            ]
        )
    assert known == [True, True, False, True, False, True]
    assert (await fleet.show(one)).firmware_version == "3"
    assert (await fleet.show(other)).firmware_version == "7"
    for name in ("online", "offline", "online"):
        await fleet.seen(one, f"device/{name}")
    await fleet.seen(other, "device/online")


async def test_two_batches_of_the_same_devices_in_other_orders_do_not_lock_each_other_out(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    ids = [(await fleet.device(model)).client_id for _ in range(4)]
    async with presences(stack) as one, presences(stack) as other:
        batches = [
            stored._store([ReceivedStatus(client_id, status(str(number)), NOW) for client_id in order])
            for number in range(10)
            for stored, order in ((one, ids), (other, ids[::-1]))
        ]
        for known in await asyncio.gather(*batches):
            assert all(known)


async def test_a_device_that_is_back_before_our_own_offline_keeps_its_status(fleet: Fleet, stack: Stack) -> None:
    """The registry says that a device is gone a moment after it has stored it, or long after, as in an outage."""
    package = await fleet.device()
    ours = messages.Status(online=False, recorded=True)
    async with account_client(stack.endpoints, "svc-registry") as reader, presences(stack) as stored:
        await stored._store([ReceivedStatus(package.client_id, status("1"), NOW)])
        await stored._store([ReceivedStatus(package.client_id, ours, NOW)])
        assert (await fleet.show(package)).online
        await reader.subscribe(topics.STATUS.of(client_id=package.client_id))
        async with asyncio.timeout(PATIENCE_S):
            message = await anext(aiter(reader.messages))
        assert isinstance(message.payload, bytes)
        assert topics.STATUS.decode(message.payload) == status("1")


@asynccontextmanager
async def reports(stack: Stack) -> AsyncIterator[Reports]:
    """Store reports as a firmware service does, beside the one that runs."""
    async with engine.connected(SecretStr(stack.endpoints.database_url)) as connected:
        yield Reports(connected, Outbox("firmware"))


async def stages(stack: Stack, sha256: str) -> dict[str, str]:
    """Return at which stage of an image the devices are, by key."""
    return {row["key"]: row["stage"] for row in await database.run(stack, _STAGES, sha256)}


def downloading(sha256: str, percent: int) -> messages.FirmwareReport:
    return messages.FirmwareReport(sha256=sha256, stage=FirmwareStage.DOWNLOADING, percent=percent)


async def test_a_report_that_cannot_be_stored_costs_the_others_of_its_batch_nothing(
    fleet: Fleet, stack: Stack
) -> None:
    model, elsewhere = await fleet.model(), await fleet.model()
    image = await upload(fleet, model, build(model, "1.0.0"), release=False)
    one, other, foreign = await fleet.device(model), await fleet.device(model), await fleet.device(elsewhere)
    failed = messages.FirmwareReport(sha256=image.sha256, stage=FirmwareStage.FAILED, error="out of power")
    rebooting = messages.FirmwareReport(sha256=image.sha256, stage=FirmwareStage.REBOOTING)
    unknown = "0" * 64
    async with reports(stack) as stored:
        refusals = await stored._store(
            [
                (one.client_id, downloading(image.sha256, 5)),
                (other.client_id, downloading(unknown, 5)),
                (foreign.client_id, downloading(image.sha256, 5)),
                (one.client_id.replace(model, "another"), downloading(image.sha256, 5)),
                (other.client_id, downloading(image.sha256, 10)),
                (other.client_id, failed),
                # It has ended, or the device reboots: what comes late does not begin it again.
                (other.client_id, downloading(image.sha256, 15)),
                (one.client_id, rebooting),
                (one.client_id, downloading(image.sha256, 95)),
            ]
        )
    assert [refusal is None for refusal in refusals] == [True, False, False, False, True, True, True, True, True]
    assert [refusal.message for refusal in refusals[1:3] if refusal] == [
        f"sha256: {model} has no image {unknown}",
        f"sha256: {elsewhere} has no image {image.sha256}",
    ]
    assert await stages(stack, image.sha256) == {one.device_key: "rebooting", other.device_key: "failed"}
    told = [await fleet.seen(other, "firmware/reported") for _ in range(2)]
    assert [event.data["stage"] for event in told] == ["downloading", "failed"]


async def test_two_batches_of_reports_in_other_orders_do_not_lock_each_other_out(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    image = await upload(fleet, model, build(model, "1.0.0"), release=False)
    ids = [(await fleet.device(model)).client_id for _ in range(4)]
    async with reports(stack) as one, reports(stack) as other:
        batches = [
            stored._store([(client_id, downloading(image.sha256, number)) for client_id in order])
            for number in range(10)
            for stored, order in ((one, ids), (other, ids[::-1]))
        ]
        for refusals in await asyncio.gather(*batches):
            assert refusals == [None] * len(ids)


async def test_a_database_that_is_killed_in_the_middle_of_a_batch_costs_no_device_its_answer(
    fleet: Fleet, stack: Stack
) -> None:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(DEVICES)]
    async with AsyncExitStack() as connections:
        devices = [await connections.enter_async_context(RawDevice(package)) for package in packages]
        holder = await asyncpg.connect(stack.endpoints.database_url.replace("+asyncpg", ""))
        await holder.execute(f"BEGIN; {_HELD}")
        asked = messages.ConfigGet(request_id="in-the-middle")
        # Others than those who ask: what one device says is dealt with in its order.
        for device in devices[ASKING:]:
            await device.send(topics.STATUS, status("5"))
        asking = asyncio.gather(
            *(device.ask(topics.CONFIG_GET, asked, topics.CONFIG) for device in devices[:ASKING])
        )
        await until(lambda: _both_wait(stack), within_s=30)
        await asyncio.to_thread(stack.postgres.kill)
        holder.terminate()
        await asyncio.to_thread(stack.postgres.start)
        answers = await asking
        assert [answer.request_id for answer in answers] == [asked.request_id] * ASKING
        for package in packages[ASKING:]:
            await fleet.until(package, lambda view: view.online and view.firmware_version == "5")


async def test_answers_are_posted_in_their_order_and_up_to_a_bound_while_the_broker_acknowledges_none(
    fleet: Fleet, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "WINDOW", WINDOW)
    package, endpoints = await fleet.device(), stack.endpoints
    account = connection_module.Account(
        endpoints.mqtt_host,
        endpoints.mqtt_port,
        "svc-registry",
        SecretStr(endpoints.accounts["svc-registry"]),
    )
    connection = connection_module.Connection(account, f"test-{uuid4().hex}")

    async def post(version: int) -> None:
        answer = messages.Config(version=version, secret_generation=1)
        await connection.post(topics.CONFIG, answer, client_id=package.client_id)

    async with RawDevice(package) as device, connection.running():
        await connection.ready()
        stack.broker.send_signal(signal.SIGSTOP)
        try:
            for version in range(WINDOW):
                await post(version)
            one_more = asyncio.create_task(post(WINDOW))
            done, _ = await asyncio.wait([one_more], timeout=0.2)
            assert not done
        finally:
            stack.broker.send_signal(signal.SIGCONT)
        await one_more
        versions = [(await device.receive(topics.CONFIG)).version for _ in range(WINDOW + 1)]
    assert versions == list(range(WINDOW + 1))


async def _both_wait(stack: Stack) -> bool:
    """Say whether a batch of questions and one of statuses wait for the lock."""
    queries = [row["query"] for row in await database.run(stack, _WAITING)]
    wanted = ("device_configs", "device_presence")
    return all(any(f"JOIN mdm.{table} " in query for query in queries) for table in wanted)
