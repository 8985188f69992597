"""With 20,000 devices in the database, what is asked all the time reads about as many rows as it answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, NoReturn, cast

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from dev.bench import population
from dev.bench.population import PopulationDevice
from dev.database import empty_database
from dev.stack import Stack
from services.firmware import queries as firmware_queries
from services.firmware.assignment.prospects import prospects
from services.firmware.images import doctor
from services.registry import batch_queries
from services.registry import queries as registry_queries
from services.registry.context import Registry
from services.registry.devices import fleet, views
from services.registry.health import HealthThresholds
from services.rotator import campaign_queries
from services.rotator import queries as rotator_queries
from shared.database import device_refs
from shared.database.engine import Database
from shared.errors import UnavailableError
from shared.protocol import admin
from shared.server.rpc import RequestContext

DEVICES: Final = 20_000
THRESHOLDS: Final = HealthThresholds(*[timedelta(days=days) for days in (1, 7, 30)])
MOST_READ: Final = 2500
"""Rows: a page has 500 devices, each with its presence, and half of those on the way may not fit."""
SOME: Final = range(7, DEVICES, DEVICES // 50)
FEW: Final = [PopulationDevice(number).client_id for number in SOME]
ONE: Final = FEW[3]
LARGE: Final = {
    "devices",
    "device_presence",
    "device_configs",
    "rotations",
    "firmware_deliveries",
    "rollout_devices",
}

_STATE: Final = (
    "UPDATE mdm.device_presence SET online = true WHERE device_id % 100 = 0",
    """
    UPDATE mdm.devices SET secret_created_at = now() - id * interval '1 second',
        rotation_state = CASE WHEN id % 2 = 0 THEN 'QUEUED' ELSE 'OK' END
    """,
    """
    INSERT INTO mdm.rotations
        (id, device_id, generation, old_generation, step, outcome, started_at, deadline_at, ended_at)
    SELECT gen_random_uuid(), id, 2, 1, 'SWITCHED', 'DONE', now(), now(), now() FROM mdm.devices
    """,
    """
    INSERT INTO mdm.firmware_deliveries (device_id, sha256, stage)
    SELECT id, repeat('0', 64), CASE WHEN id % 2 = 0 THEN 'confirmed' ELSE 'rolled_back' END FROM mdm.devices
    """,
    """
    INSERT INTO mdm.firmware_images
        (model_id, sha256, version, project, chip, size_bytes, secure_version, idf_version, uploaded_by)
    SELECT id, repeat('0', 64), '1.0', '', chip, 1024, 0, '', 'test' FROM mdm.device_models
    """,
    "UPDATE mdm.device_models SET image_sha256 = repeat('0', 64)",
    """
    INSERT INTO mdm.rollouts (model_id, version, sha256, tags, percent, state, wave, waves, plan, author)
    SELECT id, '1.0', repeat('0', 64), '{}', 100, 'PAUSED', 1, 1, '{}', 'test' FROM mdm.device_models
    """,
    """
    INSERT INTO mdm.rollout_devices (rollout_id, device_id, wave, state, live)
    SELECT rollouts.id, devices.id, 1, 'WAITING', true FROM mdm.rollouts, mdm.devices
    """,
    "VACUUM ANALYZE",
)

Query = Callable[[AsyncSession], Awaitable[object]]
QUERIES: Final[dict[str, Query]] = {
    "devices ask for their configuration": lambda session: batch_queries.asking(session, FEW),
    "devices say their status": lambda session: batch_queries.presences(session, FEW),
    "have they a rotation that waits?": lambda session: rotator_queries.arrivals(session, FEW),
    "do they run what they should?": lambda session: firmware_queries.attempts(session, FEW[0]),
    "who reports of an image": lambda session: firmware_queries.reporters(session, FEW),
    "how far were they with it?": lambda session: firmware_queries.stages(
        session, [(one, "0" * 64) for one in SOME]
    ),
    "what should they run?": lambda session: prospects(session, FEW),
    "one device": lambda session: registry_queries.device(session, ONE, lock=True),
    "the presence of one": lambda session: registry_queries.presence(session, ONE),
    "a page": lambda session: registry_queries.devices(session, listed()),
    "a later page": lambda session: registry_queries.devices(session, listed(after=DEVICES // 2)),
    "a page of those with a tag": lambda session: registry_queries.devices(session, listed(tag="room-7")),
    "a page of those online": lambda session: registry_queries.devices(session, listed(online=True)),
    "a page of those that drift": lambda session: registry_queries.devices(session, listed(drift=True)),
    "the health of some": lambda session: views.states_of(
        session, THRESHOLDS, [number + 1 for number in SOME], datetime.now(UTC)
    ),
    "a page of those in rotation": lambda session: registry_queries.devices(
        session, listed(rotation_state="QUEUED")
    ),
    "the last to be told of an image": lambda session: firmware_queries.online_after(
        session, population.MODEL, DEVICES * 3 // 4, limit=50
    ),
    "lock those with a tag": lambda session: registry_queries.lock_tagged(session, "room-7"),
    "rotate those with a tag": lambda session: campaign_queries.targets(
        session, device_refs.selected(None, tag="room-7")
    ),
    "the next to rotate": lambda session: rotator_queries.due(session, [0], now=datetime.now(UTC), beginning=()),
    "rotations whose device has left": lambda session: rotator_queries.left(session, now=datetime.now(UTC)),
    "rotations in progress": lambda session: campaign_queries.under_way(
        session, admin.RotationStatus(request_id="x")
    ),
}


def listed(**wanted: object) -> admin.DeviceList:
    return admin.DeviceList.model_validate({"request_id": "x", **wanted})


@pytest.fixture(scope="module")
async def crowded(stack: Stack) -> AsyncIterator[Database]:
    """Devices of which each hundredth is online, and half are queued for a rotation, the oldest secret first."""
    async with empty_database(stack, "crowded") as database:
        await population.insert(stack.endpoints.database_url.rpartition("/")[0] + "/crowded", 0, DEVICES)
        for statement in _STATE:
            async with database.engine.connect() as connection:
                await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text(statement))
        yield database


async def plans(database: Database, query: Query) -> list[dict[str, Any]]:
    """Return how the database has done each statement of a query."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:  # noqa: ANN401
        statements.append((statement, parameters))

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        async with database.transaction() as session:
            await query(session)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    found = []
    async with database.engine.connect() as connection:
        for statement, parameters in statements:
            rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            said = rows.scalar_one()
            found.append((json.loads(said) if isinstance(said, str) else said)[0]["Plan"])
    return found


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


def read(node: dict[str, Any]) -> float:
    """Return how many rows of a table a part of a plan has looked at."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"]) if "Relation Name" in node else 0.0


@pytest.mark.parametrize("name", QUERIES)
async def test_a_hot_query_reads_no_more_than_it_must(crowded: Database, name: str) -> None:
    found = [node for plan in await plans(crowded, QUERIES[name]) for node in nodes(plan)]
    whole = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
    assert LARGE.isdisjoint(whole)
    assert sum(map(read, found)) < MOST_READ
    assert any(node.get("Relation Name") in LARGE for node in found), "the query looks at no table that grows"


async def test_the_measure_would_notice_a_whole_table_being_read(crowded: Database) -> None:
    async def whole(session: AsyncSession) -> None:
        await session.execute(text("SELECT count(*) FROM mdm.devices WHERE name = 'nobody'"))

    [plan] = await plans(crowded, whole)
    assert sum(map(read, nodes(plan))) > MOST_READ


async def test_numbers_of_many_devices_are_those_of_the_last_look(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = cast("Registry", SimpleNamespace(thresholds=THRESHOLDS, database=crowded))
    service, many = fleet.FleetService(registry), fleet.MANY
    async with crowded.transaction() as session:
        context = cast("RequestContext", SimpleNamespace(session=session))

        async def disabled() -> int:
            return (await service.show(context, admin.Nothing(request_id="x"))).disabled

        await service.look()
        await session.execute(text("UPDATE mdm.devices SET enabled = false WHERE id % 4 = 0"))
        assert await disabled() == 0
        # What is not looked at any more is not told for ever.
        monkeypatch.setattr(registry, "database", gone())
        with pytest.raises(UnavailableError):
            await service.look()
        assert await disabled() == DEVICES // 4
        # Of fewer devices the numbers are always those of now.
        monkeypatch.setattr(registry, "database", crowded)
        for most, expected in ((many, 0), (DEVICES, DEVICES // 4)):
            monkeypatch.setattr(fleet, "MANY", most)
            await service.look()
            assert await disabled() == expected
        await session.rollback()


def gone() -> Database:
    """Return a database that is unavailable."""

    def transaction() -> NoReturn:
        raise UnavailableError("the database does not answer")

    return cast("Database", SimpleNamespace(transaction=transaction))


async def test_a_reason_why_a_whole_fleet_gets_no_image_is_one_finding(crowded: Database) -> None:
    async with crowded.transaction() as session:
        lacking = await firmware_queries.devices_without_their_image(session)
        [found] = await doctor.withheld(session, lacking)
    assert len(lacking) == DEVICES // 2
    assert found.problem.endswith(
        f": the device has had this image before: rolled_back; of {DEVICES // 2} devices"
    )
