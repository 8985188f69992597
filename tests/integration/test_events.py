"""What has happened is kept for a while, and told by device."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pydantic import SecretStr

from cli.client import AnswerError
from dev.database import run
from dev.fleet import Fleet
from dev.system import System
from dev.waiting import until
from services.registry import history
from shared.database import engine
from shared.protocol import admin, messages, topics
from shared.protocol.admin import Package
from tests.raw import RawDevice


async def of(fleet: Fleet, package: Package, **fields: object) -> admin.Events:
    return await fleet.ask(admin.EVENT_LIST, device=package.client_id, **fields)


async def names(fleet: Fleet, package: Package) -> list[str]:
    return [f"{it.noun}/{it.verb}" for it in reversed((await of(fleet, package, limit=500)).events)]


async def test_the_life_of_a_device_is_told(fleet: Fleet) -> None:
    package = await fleet.device()
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"interval_s": 60})
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.config_outcome == "applied")
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        completed = await fleet.seen(package, "rotation/completed")
    # The switch has ended a connection too, and the device's health changes a while after.
    told = await until(
        lambda: names(fleet, package),
        lambda told: "device/offline" in told[told.index("rotation/completed") :],
    )
    order = [
        "device/added",
        "config/changed",
        "device/online",
        "config/reported",
        "rotation/queued",
        "rotation/offered",
        "rotation/switched",
        "rotation/completed",
    ]
    assert [it for it in dict.fromkeys(told) if it in order] == order
    events = (await of(fleet, package, limit=500)).events
    (rotated,) = [it for it in events if it.verb == "completed"]
    assert (rotated.event_id, rotated.at, rotated.data) == (completed.event_id, completed.at, completed.data)
    (online, *_) = [it for it in reversed(events) if it.verb == "online"]
    assert online.data == {"reset_reason": "poweron"}
    newest = (await fleet.ask(admin.EVENT_LIST, limit=500)).events
    assert {it.event_id for it in events} <= {it.event_id for it in newest}
    only = (await of(fleet, package, noun="rotation", limit=500)).events
    assert {it.noun for it in only} == {"rotation"}


async def test_pages_follow_each_other_and_an_unknown_device_is_refused(fleet: Fleet) -> None:
    package = await fleet.device()
    for number in range(3):
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"n": number})
    first = await of(fleet, package, limit=2)
    rest = await of(fleet, package, before=first.next)
    assert [it.data.get("version") for it in (*first.events, *rest.events)][:3] == [4, 3, 2]
    assert rest.next is None
    with pytest.raises(AnswerError, match="no device"):
        await fleet.ask(admin.EVENT_LIST, device="iotdevice-none-00000000")


async def test_a_wake_up_is_no_news_and_an_overdue_device_is(fleet: Fleet, system: System) -> None:
    package = await fleet.device()
    for _ in range(3):
        async with RawDevice(package) as device:
            await device.send(topics.STATUS, messages.Status(online=True, wake_interval_s=3600))
            await fleet.until(package, lambda view: view.online)
            await device.send(topics.STATUS, messages.Status(online=False, asleep=True))
            await fleet.until(package, lambda view: view.presence == "asleep")
    await run(
        system.stack,
        "UPDATE mdm.device_presence SET asleep_until = now() WHERE device_id ="
        " (SELECT id FROM mdm.devices WHERE key = $1)",
        package.device_key,
    )
    await fleet.until(package, lambda view: view.presence == "offline")
    assert [it for it in await names(fleet, package) if it.startswith("device/o")] == [
        "device/online",
        "device/offline",
    ]


async def test_events_are_forgotten_after_their_time_and_of_a_restless_device_but_the_newest(
    fleet: Fleet, system: System
) -> None:
    quiet, restless = await fleet.device(), await fleet.device()
    await run(
        system.stack,
        "UPDATE mdm.events SET at = at - interval '31 days' WHERE client_id = $1 AND name = 'device/added'",
        quiet.client_id,
    )
    insert = (
        "INSERT INTO mdm.events (event_id, at, name, client_id, data)"
        " SELECT gen_random_uuid(), now() - interval '1 minute', 'device/offline', $1, jsonb_build_object('n', n)"
        " FROM generate_series(1, 1200) n"
    )
    await run(system.stack, insert, restless.client_id)
    before = await names(fleet, quiet)
    async with engine.connected(SecretStr(system.stack.endpoints.database_url)) as database:
        now = datetime.now(UTC)
        await history.forget(database, before=now - timedelta(days=30), now=now)
    assert await names(fleet, quiet) == [it for it in before if it != "device/added"]
    found = await run(
        system.stack, "SELECT data FROM mdm.events WHERE client_id = $1 ORDER BY id", restless.client_id
    )
    assert len(found) == history.KEPT
    newest = await until(partial(of, fleet, restless, limit=1), lambda page: page.events)
    assert newest.events[0].data == {"n": 1200}
