"""The most frequent queries with 100,000 and with 1,000,000 devices, and how large their tables are.

In a database of its own on the same server, which no service uses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from dev.bench import population
from dev.bench.measure import timed
from dev.bench.population import PopulationDevice
from dev.bench.report import Report
from dev.database import empty_database
from dev.system import System
from services.firmware.assignment.prospects import prospects
from services.registry import batch_queries, queries
from services.registry.devices import fleet_queries, views
from services.registry.health import HealthThresholds
from services.rotator import queries as rotator_queries
from shared.database.engine import Database
from shared.protocol import admin

NAME: Final = "million"
SIZES: Final = (100_000, 1_000_000)
LOOKS: Final = 5
BATCH: Final = 50
THRESHOLDS: Final = HealthThresholds(*[timedelta(days=days) for days in (1, 7, 30)])
# One device in a hundred is online, one in ten thousand drifts, each has rotated twice.
_STATES: Final = (
    """
    UPDATE mdm.device_presence SET online = device_id % 100 = 1, last_seen_at = now(),
        config_outcome = CASE WHEN device_id % 10000 = 0 THEN 'rejected' ELSE 'applied' END
    """,
    "UPDATE mdm.devices SET rotation_state = 'QUEUED' WHERE id % 2 = 0 AND rotation_state = 'OK'",
    """
    INSERT INTO mdm.rotations
        (id, device_id, generation, old_generation, step, outcome, started_at, deadline_at, ended_at)
    SELECT gen_random_uuid(), id, number, number - 1, 'SWITCHED', 'DONE', now(), now(), now()
    FROM mdm.devices, generate_series(2, 3) number ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO mdm.device_health (device_id, health, reasons) SELECT id, 'healthy', '{}' FROM mdm.devices
    ON CONFLICT DO NOTHING
    """,
    "VACUUM FULL mdm.device_presence",
    "VACUUM ANALYZE",
)
_TABLES: Final = ("devices", "device_configs", "device_presence", "device_health", "rotations")

Query = Callable[[AsyncSession, list[int]], Awaitable[object]]
QUERIES: Final[dict[str, Query]] = {
    "50 devices request their configuration": lambda session, some: batch_queries.asking(session, _names(some)),
    "50 devices report their status": lambda session, some: batch_queries.presences(session, _names(some)),
    "what 50 devices should run": lambda session, some: prospects(session, _names(some)),
    "one device": lambda session, some: queries.device(session, _names(some)[0]),
    "a page of 500": lambda session, _: queries.devices(session, _listed()),
    "a page from the middle": lambda session, some: queries.devices(session, _listed(after=some[-1] // 2)),
    "500 with a tag": lambda session, _: queries.devices(session, _listed(tag="room-7")),
    "500 that are online": lambda session, _: queries.devices(session, _listed(online=True)),
    "10 that drift": lambda session, _: queries.devices(session, _listed(drift=True, limit=10)),
    "the health of 50": lambda session, some: views.states_of(session, THRESHOLDS, some, datetime.now(UTC)),
    "the next to rotate, while none of half of them is online": lambda session, _: rotator_queries.due(
        session, [0], now=datetime.now(UTC), beginning=()
    ),
    "all in numbers": lambda session, _: fleet_queries.groups(
        session, now=datetime.now(UTC), thresholds=THRESHOLDS
    ),
}


def _names(numbers: list[int]) -> list[str]:
    return [PopulationDevice(number).client_id for number in numbers]


def _listed(**wanted: object) -> admin.DeviceList:
    return admin.DeviceList.model_validate({"request_id": "x", **wanted})


async def run(system: System) -> Report:
    """Insert devices by SQL, and measure; sizes include indexes."""
    found: dict[str, dict[str, Any]] = {}
    there = 0
    async with empty_database(system.stack, NAME) as million:
        url = million.engine.url.render_as_string(hide_password=False)
        for size in SIZES:
            await population.insert(url, there, size)
            there = size
            for name, figure in (await _figures(million, size)).items():
                found.setdefault(name, {})[f"{size}_devices"] = figure
    return Report(
        "the database alone: milliseconds, and MiB with indexes",
        [{"what": name, **figures} for name, figures in found.items()],
    )


async def _figures(million: Database, size: int) -> dict[str, float]:
    async with million.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in _STATES:
            await autocommit.execute(text(statement))
    some = list(range(7, size, size // BATCH))
    figures = {name: await _latency_ms(million, query, some) for name, query in QUERIES.items()}
    async with million.transaction() as session:
        for table in _TABLES:
            size_bytes = await session.scalar(text(f"SELECT pg_total_relation_size('mdm.{table}')"))
            figures[f"{table}, MiB"] = round((size_bytes or 0) / 1024**2)
    return figures


async def _latency_ms(million: Database, query: Query, some: list[int]) -> float:
    """Return the time of a query in milliseconds, with what PostgreSQL has cached by then."""
    async with million.transaction() as session:
        took = [await timed(lambda: query(session, some)) for _ in range(LOOKS)]
        await session.rollback()
    return round(1000 * median(took), 1)
