"""The health of a device by what is in the database: one rule for lists, numbers and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, select, text

from backup import tables
from dev.database import empty_database
from dev.stack import Stack
from dev.waiting import PATIENCE_S
from services.registry.context import Registry
from services.registry.devices import fleet_queries, views
from services.registry.devices.health_watch import HealthWatch
from services.registry.health import HealthThresholds
from services.rotator import queries as rotator_queries
from shared.database import engine, grants
from shared.database.engine import Database
from shared.database.outbox import Outbox
from shared.database.tables import (
    CoreDumpRow,
    Device,
    DeviceConfig,
    DeviceConnection,
    DeviceFlaw,
    DeviceModel,
    FirmwareDelivery,
    FirmwareImage,
    OutboxMessage,
    Presence,
    Rollout,
    RolloutDevice,
    Rotation,
)
from shared.protocol import messages

NOW: Final = datetime.now(UTC)
"""When all cases are looked at, however long after these tests were collected they run."""
THRESHOLDS: Final = HealthThresholds(timedelta(minutes=5), timedelta(days=1), timedelta(days=30))
NAME: Final = "health"
WANTED, OTHER = "a" * 64, "b" * 64
KEY: Final = "health01"
CLIENT_ID: Final = f"iotdevice-lamp-{KEY}"


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


@pytest.fixture(scope="module")
async def fresh(stack: Stack) -> AsyncIterator[Database]:
    async with empty_database(stack, NAME) as database:
        yield database


@pytest.fixture(scope="module")
async def services(stack: Stack, fresh: Database) -> AsyncIterator[Database]:
    """The same database with the rights of the registry."""
    assert await fresh.answers()
    url = stack.endpoints.database_users[grants.USERS["registry"]].rpartition("/")[0] + f"/{NAME}"
    async with engine.connected(SecretStr(url)) as connected:
        yield connected


@pytest.fixture
async def database(fresh: Database) -> AsyncIterator[Database]:
    """One device that is online and has done all that it should."""
    async with fresh.transaction() as session:
        model = DeviceModel(
            code="lamp", name="", chip="esp32", slot_size_bytes=1, config_defaults={}, image_sha256=None
        )
        session.add(model)
        await session.flush()
        for sha256, version in ((WANTED, "2.0"), (OTHER, "1.0")):
            image: dict[str, Any] = {
                "project": "",
                "chip": "esp32",
                "size_bytes": 1,
                "secure_version": 0,
                "idf_version": "",
            }
            session.add(
                FirmwareImage(model_id=model.id, sha256=sha256, version=version, uploaded_by="test", **image)
            )
        device = Device(
            key=KEY, model_id=model.id, name="", tags=[], lifecycle="ACTIVE", request_id="test", config_version=2
        )
        session.add(device)
        await session.flush()
        session.add(
            Presence(
                device_id=device.id,
                online=True,
                last_seen_at=ago(minutes=51),
                firmware_sha256=OTHER,
                config_version=2,
                config_outcome="applied",
            )
        )
        for number in (1, 2):
            row = DeviceConfig(device_id=device.id, version=number, overrides={}, document={}, author="admin")
            session.add(row)
        await session.flush()
        model.image_sha256 = WANTED
    yield fresh
    async with fresh.transaction() as session:
        await session.execute(text("UPDATE mdm.device_models SET image_sha256 = NULL"))
        for table in (Device, Rollout, FirmwareImage, DeviceModel, OutboxMessage):
            await session.execute(delete(table))


def registry(database: Database) -> Registry:
    parts = SimpleNamespace(database=database, thresholds=THRESHOLDS, outbox=Outbox("registry"))
    return cast("Registry", parts)


async def change(database: Database, **changes: Any) -> None:  # noqa: ANN401
    """Change columns of the device, of its presence or of its desired configuration, or add a row of it."""
    async with database.transaction() as session:
        device = (await session.scalars(select(Device))).one()
        presence = await session.get_one(Presence, device.id)
        config = await session.get_one(DeviceConfig, (device.id, device.config_version))
        for name, value in changes.items():
            if name == "row":
                value.device_id = device.id
                session.add(value)
                continue
            for row in (device, presence, config):
                if name in type(row).__table__.columns:
                    setattr(row, name, value)


async def state(database: Database) -> tuple[str, list[tuple[str, datetime, str | None]]]:
    """Return the health in the list, which is also the one in the numbers."""
    async with database.transaction() as session:
        rows = list(
            await session.execute(
                select(Device, DeviceModel, Presence)
                .join(DeviceModel, DeviceModel.id == Device.model_id)
                .join(Presence, Presence.device_id == Device.id)
            )
        )
        found = [(row[0], row[1], row[2]) for row in rows]
        [view] = await views.of_rows(session, registry(database), found, now=NOW)
        [group] = await fleet_queries.groups(session, now=NOW, thresholds=THRESHOLDS)
    reasons: list[tuple[str, datetime, str | None]] = [
        (it.reason, it.since, it.detail) for it in view.health_reasons
    ]
    assert {name for name, count in group.health.items() if count} == {view.health}
    assert {name for name, count in group.reasons.items() if count} == {name for name, _, _ in reasons}
    return view.health, reasons


def delivery(stage: str, sha256: str = WANTED) -> FirmwareDelivery:
    return FirmwareDelivery(sha256=sha256, stage=stage, error="why", updated_at=ago(hours=3))


def gone(**time: float) -> dict[str, Any]:
    return {"online": False, "last_seen_at": ago(days=90), "left_at": ago(**time)}


HOUR: Final = ago(hours=1)
CASES: Final[dict[str, tuple[dict[str, Any], str, list[tuple[str, datetime, str | None]]]]] = {
    "online": ({}, "healthy", []),
    "just gone": (gone(minutes=3), "healthy", []),
    "gone for 23 hours": (gone(hours=23), "warning", [("offline", ago(hours=23), None)]),
    "gone for days": (gone(days=2), "critical", [("offline", ago(days=2), None)]),
    "gone for months": (gone(days=60), "inactive", [("offline", ago(days=60), None)]),
    "asleep": ({**gone(hours=2), "wake_interval_s": 9000, "asleep_until": ago(hours=-1)}, "healthy", []),
    "overdue": ({**gone(hours=3), "wake_interval_s": 7200}, "warning", [("offline", HOUR, None)]),
    "never seen": (
        {"online": False, "last_seen_at": None, "config_version": 1, "firmware_sha256": None},
        "never_seen",
        [],
    ),
    "never seen, and refused": (
        {"online": False, "last_seen_at": None, "refused_at": HOUR},
        "critical",
        [("refused", HOUR, None)],
    ),
    "refused since it left": ({**gone(minutes=2), "refused_at": HOUR}, "critical", [("refused", HOUR, None)]),
    "refused between two secrets": ({**gone(seconds=5), "refused_at": ago(seconds=4)}, "healthy", []),
    "refused and back": ({"refused_at": ago(minutes=52)}, "healthy", []),
    "clash": ({"clashed_at": ago(minutes=2)}, "critical", [("clash", ago(minutes=2), None)]),
    "clash that is over": ({"clashed_at": ago(minutes=11)}, "healthy", []),
    "rejected": (
        {"config_outcome": "rejected", "config_error": "no", "outcome": "rejected", "reported_at": HOUR},
        "warning",
        [("config_rejected", HOUR, "no")],
    ),
    "reverted": ({"author": CLIENT_ID, "created_at": HOUR}, "warning", [("config_reverted", HOUR, "version 1")]),
    "profile refused": (
        {
            "row": DeviceConnection(
                refused_id="0" * 16, sent_id="0" * 16, refused_outcome="reverted", refused_at=HOUR
            )
        },
        "warning",
        [("connection_refused", HOUR, None)],
    ),
    "withheld": ({"row": delivery("withheld")}, "warning", [("firmware_withheld", ago(hours=3), "2.0: why")]),
    "failed": ({"row": delivery("failed")}, "warning", [("firmware_failed", ago(hours=3), "2.0: why")]),
    "rolled back": (
        {"row": delivery("rolled_back")},
        "warning",
        [("firmware_rolled_back", ago(hours=3), "2.0: why")],
    ),
    "fell back": ({"row": delivery("fell_back")}, "warning", [("firmware_rolled_back", ago(hours=3), "2.0: why")]),
    "failed, but runs it": ({"row": delivery("failed"), "firmware_sha256": WANTED}, "healthy", []),
    "failed, and runs nothing known": (
        {"row": delivery("failed"), "firmware_sha256": None},
        "warning",
        [("firmware_failed", ago(hours=3), "2.0: why")],
    ),
    "failed with an image that is not wanted": ({"row": delivery("failed", OTHER)}, "healthy", []),
    "confirmed": ({"row": delivery("confirmed")}, "healthy", []),
    "rotation": (
        {"rotation_state": "TIMEOUT", "rotation_retry_at": HOUR},
        "warning",
        [("rotation_timeout", HOUR, None)],
    ),
    "core dump": (
        {"row": CoreDumpRow(sha256="c" * 64, size_bytes=1, elf_sha256="", data_key=b"", stored_at=HOUR)},
        "warning",
        [("core_dump", HOUR, "1 stored")],
    ),
    "old core dump": (
        {"row": CoreDumpRow(sha256="d" * 64, size_bytes=1, elf_sha256="", data_key=b"", stored_at=ago(days=8))},
        "healthy",
        [],
    ),
    "flaw": (
        {"row": DeviceFlaw(topic="up/status", field="rssi_dbm", rule="a number", at=HOUR)},
        "warning",
        [("flaws", HOUR, "up/status rssi_dbm")],
    ),
    "worst first": (
        {**gone(days=2), "clashed_at": HOUR, "rotation_state": "TIMEOUT", "rotation_retry_at": HOUR},
        "critical",
        [("offline", ago(days=2), None), ("rotation_timeout", HOUR, None)],
    ),
    "disabled": ({**gone(days=60), "enabled": False}, "disabled", []),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_device_is_as_healthy_as_the_worst_that_is_wrong_with_it(
    database: Database, services: Database, name: str
) -> None:
    changes, health, reasons = CASES[name]
    await change(database, **changes)
    assert await state(services) == (health, reasons)


@pytest.mark.parametrize(
    ("rollout", "status", "counts"),
    [
        ("HALTED", "ROLLED_BACK", True),
        ("COMPLETED", "FAILED", True),
        ("ABORTED", "ROLLED_BACK", False),
        ("RUNNING", "SKIPPED", False),
    ],
)
async def test_an_image_of_a_rollout_is_wanted_until_it_is_aborted(
    database: Database, services: Database, rollout: str, status: str, counts: bool
) -> None:
    await change(database, row=delivery("rolled_back", OTHER), firmware_sha256="e" * 64)
    async with database.transaction() as session:
        model = (await session.scalars(select(DeviceModel))).one()
        ended_at = NOW if rollout in {"COMPLETED", "ABORTED"} else None
        row = Rollout(model_id=model.id, sha256=OTHER, version="1.0", tags=[], percent=100, plan={}, waves=1)
        row.state, row.author, row.ended_at, row.reason = rollout, "test", ended_at, "why"
        session.add(row)
        await session.flush()
        device_id = (await session.scalars(select(Device.id))).one()
        live = status != "SKIPPED"
        session.add(RolloutDevice(rollout_id=row.id, device_id=device_id, wave=1, state=status, live=live))
    assert (await state(services))[0] == ("warning" if counts else "healthy")


async def told(services: Database) -> list[dict[str, Any]]:
    """Look, and return the data of the events since the last look."""
    await HealthWatch(registry(services)).look()
    async with services.transaction() as session:
        rows = (await session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))).all()
        await session.execute(delete(OutboxMessage))
    assert {row.topic for row in rows} <= {"mdm/v1/events/device/health_changed"}
    return [messages.Event.model_validate_json(row.payload).data for row in rows]


async def test_a_change_is_announced_once(database: Database, services: Database) -> None:
    assert await told(services) == [{"health": "healthy"}]
    await change(database, **gone(hours=23))
    assert await told(services) == [{"health": "warning", "reasons": ["offline"], "before": "healthy"}]
    assert await told(services) == []
    await change(database, rotation_state="TIMEOUT", rotation_retry_at=NOW)
    both = {"health": "warning", "reasons": ["offline", "rotation_timeout"], "before": "warning"}
    assert await told(services) == [both]
    await change(database, online=True, rotation_state="OK", rotation_retry_at=None)
    assert await told(services) == [{"health": "healthy", "before": "warning"}]


async def test_a_device_that_is_being_removed_is_left_out(database: Database, services: Database) -> None:
    async with database.transaction() as session:
        await session.execute(delete(Device))
        async with asyncio.timeout(PATIENCE_S):
            assert await told(services) == []


async def test_that_a_new_device_was_not_seen_yet_is_not_announced(database: Database, services: Database) -> None:
    await change(database, online=False, last_seen_at=None)
    assert await told(services) == []
    await change(database, online=True, last_seen_at=NOW)
    assert await told(services) == [{"health": "healthy", "before": "never_seen"}]


async def test_a_device_that_was_connected_for_months_has_its_time_to_come_back(
    database: Database, services: Database
) -> None:
    await change(database, online=True, last_seen_at=ago(days=90))
    async with database.transaction() as session:
        device_id = (await session.scalars(select(Device.id))).one()
        rotation = Rotation(id=uuid4(), device_id=device_id, generation=2, old_generation=1, step="OFFERED")
        rotation.new_secret, rotation.started_at, rotation.deadline_at = b"x", NOW, NOW
        session.add(rotation)
    await change(database, **gone(seconds=1))
    async with database.transaction() as session:
        assert await rotator_queries.left(session, now=NOW) == set()
        assert await rotator_queries.left(session, now=NOW + timedelta(seconds=10)) == {rotation.id}
    await change(database, online=True, left_at=None)
    async with database.transaction() as session:
        raw = await (await session.connection()).get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.execute(tables._SETTLE)
    assert await state(services) == ("healthy", [])
