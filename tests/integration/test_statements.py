"""Any number of rows in one statement: a connection keeps one for all numbers, and there is no largest number."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from dev.database import empty_database
from dev.stack import Stack
from services.firmware.assignment import rollout_devices
from services.firmware.diagnostics import queries as diagnostics_queries
from services.firmware.diagnostics import vital_queries
from services.registry import queries as registry_queries
from services.registry.connections import overview_queries
from services.registry.devices import views
from shared.database.arrays import one_of_rows
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.database.tables import FirmwareImage, OutboxMessage
from shared.protocol import events
from tests.integration.test_health import THRESHOLDS

MANY: Final = 40_000
"""A statement may have 32,767 parameters."""
NOW: Final = datetime.now(UTC)
QUERIES: Final[dict[str, Callable[[AsyncSession, int], Awaitable[object]]]] = {
    "versions of configurations": lambda session, count: registry_queries.all_versions(session, range(count)),
    "health": lambda session, count: views.states_of(session, THRESHOLDS, range(count), NOW),
    "profiles": lambda session, count: overview_queries.profiles(session, list(map(str, range(count)))),
    "devices with layers of their own": lambda session, count: overview_queries.alike(session, range(count)),
    "names": lambda session, count: rollout_devices.client_ids(session, range(count)),
    "images of core dumps": lambda session, count: diagnostics_queries.images_of(session, map(str, range(count))),
    "writers of logs": lambda session, count: diagnostics_queries.device_ids(
        session, [f"iotdevice-lamp-{number:08}" for number in range(count)]
    ),
    "hours": lambda session, count: vital_queries.hours(session, [(number, NOW) for number in range(count)]),
    "images": lambda session, count: session.execute(
        select(FirmwareImage.sha256).where(
            one_of_rows((FirmwareImage.model_id, FirmwareImage.sha256), [(n, str(n)) for n in range(count)])
        )
    ),
}


@pytest.fixture(scope="module")
async def database(stack: Stack) -> AsyncIterator[Database]:
    async with empty_database(stack, "statements") as database:
        yield database


async def kept(database: Database) -> Counter[str]:
    """Return how many statements that begin alike the connection keeps: of more than one, their text differs."""
    async with database.transaction() as session:
        statements = await session.scalars(text("SELECT statement FROM pg_prepared_statements"))
        return Counter(it[:200].partition("$")[0] for it in statements)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_a_connection_keeps_one_statement_for_any_number(
    database: Database, query: Callable[[AsyncSession, int], Awaitable[object]]
) -> None:
    async with database.transaction() as session:
        await query(session, 1)
    before = await kept(database)
    for count in (2, 3, MANY):
        async with database.transaction() as session:
            await query(session, count)
    assert not await kept(database) - before


async def test_messages_and_events_are_written_in_their_order_by_one_statement_each(database: Database) -> None:
    outbox = Outbox("test")
    sent = [f"iotdevice-lamp-{number:08}" for number in range(55)]
    left = iter(sent)
    for count in range(1, 11):
        async with database.transaction() as session:
            for _ in range(count):
                facts = events.OnlineFacts(reset_reason=None)
                outbox.emit(session, events.DEVICE_ONLINE, next(left), facts)
    statements = [it for it in await kept(database) if it.startswith("INSERT")]
    assert sorted(it.split()[2] for it in statements) == ["mdm.events", "mdm.outbox"]
    async with database.transaction() as session:
        rows = (await session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))).all()
        assert [events.DEVICE_ONLINE.topic.decode(row.payload).client_id for row in rows] == sent
        stored = await session.execute(text("SELECT client_id FROM mdm.events ORDER BY id"))
        assert [row[0] for row in stored] == sent
