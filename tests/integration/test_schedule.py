"""The schedule on the real stack: each fire queues the fleet once, also when all rotators were down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select, text

from cli.client import AnswerError
from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import System
from dev.waiting import until
from services.rotator import leader
from services.rotator.context import Rotator
from services.rotator.scheduler import Scheduler
from shared import crypto
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.database.tables import AuditEntry, RotationSchedule
from shared.protocol import admin, topics
from shared.protocol.admin import AuditView
from shared.runtime import schedule_rules
from shared.runtime.settings import RotatorSettings
from shared.server.rpc import RequestContext
from tests.raw import RawDevice

GRACE_S = 400 * 24 * 3600
NEW_YEAR = "0 0 1 1 *"
"""It never fires in the midst of a test."""
EACH_SECOND = "* * * * * *"


@pytest.fixture
async def usual(system: System) -> AsyncIterator[None]:
    """Have the usual rotator back after a test."""
    yield
    await system.restart("rotator")


async def restart(system: System, *, zone: str = "Europe/Berlin", grace_s: int = GRACE_S) -> None:
    """Restart the rotator with a schedule."""
    await system.restart(
        "rotator",
        MDM_ROTATION_SCHEDULE=NEW_YEAR,
        MDM_ROTATION_TIME_ZONE=zone,
        MDM_ROTATION_GRACE_S=str(grace_s),
        MDM_ROTATION_DEADLINE_S="300",
    )


@asynccontextmanager
async def leading(database: Database, expression: str) -> AsyncIterator[Scheduler]:
    """Lead on a database of one's own, with this schedule; here it may have a sixth field, of seconds."""
    url = SecretStr(database.engine.url.render_as_string(hide_password=False))
    settings = RotatorSettings.model_construct(
        rotation_schedule=expression, rotation_time_zone="UTC", rotation_grace_s=GRACE_S
    )
    async with leader.elected(url, database, poll_s=0.05, lease_s=30) as leadership:
        vault = crypto.Vault([SecretStr(Fernet.generate_key().decode())])
        yield Scheduler(settings, Rotator(leadership, database, Outbox("rotator"), vault))


async def done(database: Database) -> list[str]:
    """The fires in the audit log, in the order in which they were done."""
    async with database.transaction() as session:
        rows = await session.scalars(
            select(AuditEntry.after).where(AuditEntry.actor == "schedule").order_by(AuditEntry.id)
        )
        return [row["fire_at"] for row in rows if row]


async def fires(fleet: Fleet) -> list[AuditView]:
    return (await fleet.ask(admin.AUDIT_LIST, actor="schedule")).entries


async def shown(fleet: Fleet) -> admin.RotationScheduleView:
    """What the leader says of its schedule; it answers only after it has made up for what was missed."""
    return await fleet.ask(admin.SCHEDULE_SHOW)


@pytest.mark.usefixtures("usual")
async def test_fires_that_were_missed_are_made_up_for_once(fleet: Fleet, system: System, stack: Stack) -> None:
    holder, device, disabled = await fleet.device(), await fleet.device(), await fleet.device()
    await fleet.ask(admin.DEVICE_UPDATE, device=disabled.client_id, enabled=False)
    await restart(system)
    try:
        async with RawDevice(holder, online=True) as raw:
            # It holds the only slot, so that no other device is offered anything meanwhile.
            await fleet.ask(admin.ROTATION_START, device=holder.client_id)
            await raw.receive(topics.ROTATION_OFFER)
        first, before = await shown(fleet), await fires(fleet)
        assert first.last_fire_at is None

        await run(stack, "UPDATE mdm.rotation_schedule SET last_fire_at = since - interval '3 years'")
        await restart(system)
        event = await fleet.witness.seen(None, "rotation/scheduled")
        made_up = await shown(fleet)
        await restart(system)
        assert await shown(fleet) == made_up

        [fire, *others] = await fires(fleet)
        assert others == before
        assert fire.after == event.data
        assert datetime.fromisoformat(event.data["fire_at"]) == made_up.last_fire_at
        assert event.data["queued"] >= 1
        assert event.data["already"] >= 1
        states = [(await fleet.show(one)).rotation_state for one in (holder, device, disabled)]
        assert states == ["PENDING", "QUEUED", "OK"]

        # Another zone is another schedule.
        await run(stack, "UPDATE mdm.rotation_schedule SET last_fire_at = since - interval '3 years'")
        await restart(system, zone="Asia/Tokyo")
        anew = await shown(fleet)
        assert (anew.zone, anew.last_fire_at) == ("Asia/Tokyo", None)
        assert await fires(fleet) == [fire, *before]
    finally:
        await run(stack, "UPDATE mdm.devices SET rotation_state = 'OK' WHERE rotation_state = 'QUEUED'")
        await run(stack, "UPDATE mdm.rotations SET deadline_at = now() WHERE outcome IS NULL")
        await fleet.seen(holder, "rotation/timed_out")


@pytest.mark.usefixtures("usual")
async def test_what_was_missed_for_longer_than_the_grace_is_not_made_up_for(
    fleet: Fleet, system: System, stack: Stack
) -> None:
    before = await fires(fleet)
    await restart(system, grace_s=60)
    await run(stack, "UPDATE mdm.rotation_schedule SET last_fire_at = since - interval '3 years'")
    await restart(system, grace_s=60)
    assert len((await shown(fleet)).next) == 5
    assert await fires(fleet) == before


async def test_a_leader_fires_by_itself_and_each_fire_is_done_once(database: Database) -> None:
    async with leading(database, EACH_SECOND) as clock:
        await clock.begin()
        assert await done(database) == []
        running = asyncio.create_task(clock.run())
        await until(lambda: done(database), lambda fires: len(fires) >= 3)
        running.cancel()
        await asyncio.wait([running])
    fired = await done(database)
    assert all(earlier < later for earlier, later in pairwise(fired))
    async with database.transaction() as session:
        assert (await session.get_one(RotationSchedule, 1)).last_fire_at == datetime.fromisoformat(fired[-1])


async def test_a_fire_that_is_cut_off_before_its_commit_is_made_up_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with leading(database, NEW_YEAR) as clock:
        await clock.begin()
    async with database.transaction() as session:
        await session.execute(text("UPDATE mdm.rotation_schedule SET last_fire_at = since - interval '3 years'"))

    class CutError(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise CutError

    async with leading(database, NEW_YEAR) as clock:
        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "emit", cut)
            with pytest.raises(CutError):
                await clock.begin()
        assert await done(database) == []
        await clock.begin()
        await clock.begin()
    assert len(await done(database)) == 1


async def test_a_schedule_that_was_off_meanwhile_makes_up_for_nothing(database: Database) -> None:
    for expression in (NEW_YEAR, "", NEW_YEAR):
        async with leading(database, expression) as clock:
            await clock.begin()
        async with database.transaction() as session:
            await session.execute(
                text("UPDATE mdm.rotation_schedule SET last_fire_at = since - interval '3 years'")
            )
    assert await done(database) == []


async def test_no_schedule_is_shown_as_empty(fleet: Fleet) -> None:
    view = await shown(fleet)
    assert (view.expression, view.zone, view.last_fire_at, view.next) == ("", "UTC", None, [])


async def change(clock: Scheduler, expression: str) -> admin.RotationScheduleView:
    """Set another schedule as an admin does; the rules of expressions are not applied here."""
    async with clock.rotator.leadership.transaction() as session:
        request = admin.ScheduleSet(request_id="x", expression=expression, zone="UTC")
        return await clock.change(RequestContext("alice", "x", session), request)


async def test_a_changed_schedule_is_in_force_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_rules, "cron_expression", str)
    async with leading(database, "") as clock:
        running = asyncio.create_task(clock.run())
        await until(lambda: rows(database), len)
        await change(clock, EACH_SECOND)
        # Without the wake-up it would sleep for a minute.
        await until(lambda: done(database), lambda fires: len(fires) >= 2)
        await change(clock, "")
        fired = await done(database)
        running.cancel()
    async with leading(database, EACH_SECOND) as clock:
        await clock.begin()
    assert await done(database) == fired


async def test_at_a_change_a_run_that_is_due_is_done_once_and_the_new_schedule_counts_from_then(
    database: Database,
) -> None:
    async with leading(database, NEW_YEAR) as clock:
        await clock.begin()
        async with database.transaction() as session:
            await session.execute(
                text("UPDATE mdm.rotation_schedule SET last_fire_at = since - interval '3 years'")
            )
        view = await change(clock, "0 0 2 1 *")
        assert (view.expression, view.author, view.last_fire_at) == ("0 0 2 1 *", "alice", None)
    assert len(await done(database)) == 1
    # The next leader has another setting, and continues with what the admin has set.
    async with leading(database, NEW_YEAR) as clock:
        await clock.begin()
        async with clock.rotator.leadership.transaction() as session:
            context = RequestContext("alice", "y", session)
            assert (await clock.show(context, admin.Nothing(request_id="y"))).expression == "0 0 2 1 *"
            cleared = await clock.clear(context, admin.Nothing(request_id="y"))
        assert (cleared.expression, cleared.author) == (NEW_YEAR, None)
        await clock.begin()
    assert len(await done(database)) == 1


async def test_the_same_schedule_again_keeps_what_was_done(database: Database) -> None:
    async with leading(database, NEW_YEAR) as clock:
        await clock.begin()
        before = (await rows(database))[0]
        await change(clock, NEW_YEAR)
        assert (await rows(database))[0].since == before.since


async def rows(database: Database) -> list[RotationSchedule]:
    async with database.transaction() as session:
        return list(await session.scalars(select(RotationSchedule)))


async def test_an_admin_sets_and_clears_the_schedule(fleet: Fleet, system: System) -> None:
    try:
        made = await fleet.ask(admin.SCHEDULE_SET, expression=" 0  0 1 1 * ", zone="Europe/Berlin")
        assert (made.expression, made.zone, made.author) == (NEW_YEAR, "Europe/Berlin", "admin")
        assert [(at.astimezone(UTC).month, at.astimezone(UTC).hour) for at in made.next] == [(12, 23)] * 5
        event = await fleet.witness.seen(None, "schedule/changed")
        assert event.data == {"expression": NEW_YEAR, "zone": "Europe/Berlin", "author": "admin"}
        await system.restart("rotator")
        assert await shown(fleet) == made
        for fields, rule in (
            ({"expression": "0 8 * *"}, "expression: must be five fields of cron"),
            ({"expression": "0 25 * * *"}, "expression: must be an expression of cron"),
            ({"expression": NEW_YEAR, "zone": "CEST"}, "zone: must be the IANA name of a time zone"),
        ):
            with pytest.raises(AnswerError, match=rule):
                await fleet.ask(admin.SCHEDULE_SET, **fields)
        off = await fleet.ask(admin.SCHEDULE_SET, expression="")
        assert (off.expression, off.zone, off.next) == ("", "Europe/Berlin", [])
    finally:
        cleared = await fleet.ask(admin.SCHEDULE_CLEAR)
    assert (cleared.expression, cleared.zone, cleared.author) == ("", "UTC", None)
    entries = (await fleet.ask(admin.AUDIT_LIST, subject="rotation")).entries
    assert [it.action for it in entries if it.action.startswith("schedule")][:3] == [
        "schedule.clear",
        "schedule.set",
        "schedule.set",
    ]
