"""The leader's worker in a database of its own, with a Keycloak and a broker that are as slow as a test wants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from dev.database import empty_database
from dev.stack import Stack
from dev.waiting import until
from services.rotator.context import Rotator
from services.rotator.exchange import Exchange
from services.rotator.worker import RotationWorker
from shared import crypto
from shared.auth.keycloak import Identity
from shared.database import device_refs
from shared.database.engine import POOL_SIZE, Database
from shared.database.outbox import Outbox
from shared.database.tables import Device, DeviceConfig, DeviceModel, OutboxMessage, Presence, Rotation
from shared.errors import UnavailableError
from shared.mqtt import retained
from shared.protocol import messages, topics

MODEL: Final = "lamp"
SLOTS: Final = 2
KEYS: Final = tuple(f"worker{number:02}" for number in range(POOL_SIZE + 2))
CLIENT_IDS: Final = [device_refs.client_id(MODEL, key) for key in KEYS]
ONE, OTHER, THIRD = CLIENT_IDS[:3]


async def at_once(_: str) -> None:
    """Neither fail nor wait."""


@dataclass(slots=True)
class Places:
    """Stands in for Keycloak and the broker: the secrets of all devices, in both."""

    on_keycloak: Callable[[str], Awaitable[None]] = at_once
    on_broker: Callable[[str], Awaitable[None]] = at_once
    asked: Counter[str] = field(default_factory=Counter)
    secrets: dict[str, Identity] = field(default_factory=dict)
    drops: bool = False
    status: messages.Status | None = None
    """The retained status, of the one device whose rotation is not new."""

    async def get(self, client_id: str) -> Identity:
        first = Identity(client_id, SecretStr("first"), 1, enabled=True, ours=True)
        return self.secrets.setdefault(client_id, first)

    async def set_secret(self, client_id: str, secret: SecretStr, generation: int) -> None:
        self.asked[client_id] += 1
        await self.on_keycloak(client_id)
        self.secrets[client_id] = Identity(client_id, secret, generation, enabled=True, ours=True)

    async def claims(self, client_id: str, _: SecretStr) -> dict[str, Any]:
        return {"secret_gen": self.secrets[client_id].generation}

    async def device(self, client_id: str) -> SimpleNamespace:
        return SimpleNamespace(held=(await self.get(client_id)).held)

    async def put(self, client_id: str, _: SecretStr, __: int) -> None:
        await self.on_broker(client_id)

    async def send(self, _: object, status: messages.Status, **__: str) -> None:
        self.status = status


@dataclass(frozen=True, slots=True)
class Leader:
    """A leader, and the devices' side of each exchange."""

    database: Database
    rotator: Rotator
    places: Places

    @asynccontextmanager
    async def working(self, slots: int = SLOTS) -> AsyncIterator[None]:
        """Let the worker work until the block ends; without a wake-up it looks once."""
        settings: Any = SimpleNamespace(
            sweep_s=3600, rotation_max_parallel=slots, rotation_deadline_s=3600, rotation_retry_s=3600
        )
        places: Any = self.places
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(RotationWorker(settings, self.rotator, places, places, places, places).run())
            yield
            task.cancel()

    async def rotation(self, client_id: str) -> Rotation | None:
        """Return the rotation of a device."""
        _, _, key = client_id.rpartition("-")
        async with self.database.transaction() as session:
            return await session.scalar(
                select(Rotation).join(Device, Device.id == Rotation.device_id).where(Device.key == key)
            )

    async def until(self, client_id: str, holds: Callable[[Rotation], object]) -> Rotation:
        """Wait until a device has a rotation for which a condition holds."""
        found = await until(lambda: self.rotation(client_id), lambda it: it is not None and holds(it))
        assert found is not None
        return found

    async def store(self, client_id: str) -> Rotation:
        """Let a device fetch its new secret and report that it is stored."""
        offered = await self.until(client_id, lambda it: it.step == "OFFERED")
        exchange, secret = Exchange(self.rotator), self.rotator.vault.decrypt(offered.new_secret or b"")
        await exchange.deliver(client_id, messages.RotationRequest(rotation_id=offered.id))
        proof = crypto.proof(secret, "stored", offered.id)
        await exchange.accept_stored(client_id, messages.RotationStored(rotation_id=offered.id, proof=proof))
        return offered

    async def acknowledge(self, offered: Rotation, client_id: str) -> None:
        """Let a device report that it has logged in with its new secret."""
        proof = crypto.proof(self.rotator.vault.decrypt(offered.new_secret or b""), "ack", offered.id)
        await Exchange(self.rotator).accept_ack(
            client_id, messages.RotationAck(rotation_id=offered.id, proof=proof)
        )


@pytest.fixture
async def leader(stack: Stack) -> AsyncIterator[Leader]:
    """A leader of devices that are online and queued."""
    async with empty_database(stack, "worker") as database:
        async with database.transaction() as session:
            model = DeviceModel(code=MODEL, name="", chip="esp32", slot_size_bytes=1, config_defaults={})
            session.add(model)
            await session.flush()
            for key in KEYS:
                device = Device(
                    key=key,
                    model_id=model.id,
                    name="",
                    tags=[],
                    lifecycle="ACTIVE",
                    request_id=key,
                    config_version=1,
                    rotation_state="QUEUED",
                )
                session.add(device)
                await session.flush()
                session.add(DeviceConfig(device_id=device.id, version=1, overrides={}, document={}, author="a"))
                session.add(Presence(device_id=device.id, online=True, last_seen_at=datetime.now(UTC)))
        lock: Any = SimpleNamespace(transaction=database.transaction, check=database.answers)
        vault = crypto.Vault([SecretStr("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")])
        yield Leader(database, Rotator(lock, database, Outbox("rotator"), vault), Places())


async def test_a_device_that_logs_in_before_the_leader_has_recorded_the_switch_is_done_at_once(
    leader: Leader,
) -> None:
    async def log_in(client_id: str) -> None:
        await leader.acknowledge(offered, client_id)

    leader.places.on_broker = log_in
    async with leader.working():
        offered = await leader.store(ONE)
        done = await leader.until(ONE, lambda it: it.outcome)
    assert done.outcome == "DONE"
    async with leader.database.transaction() as session:
        sent = set(await session.scalars(select(OutboxMessage.topic)))
    assert f"mdm/v1/d/{ONE}/down/rotation/done" in sent
    assert not leader.rotator.proven


async def test_a_device_that_keycloak_is_slow_with_holds_up_no_other(leader: Leader) -> None:
    released = asyncio.Event()

    async def hold_one(client_id: str) -> None:
        if client_id == ONE:
            await released.wait()

    leader.places.on_keycloak = hold_one
    async with leader.working():
        await leader.store(ONE)
        await until(lambda: asyncio.sleep(0, leader.places.asked[ONE]))
        offered = await leader.store(OTHER)
        await leader.until(OTHER, lambda it: it.step == "SWITCHED")
        await leader.acknowledge(offered, OTHER)
        await leader.store(THIRD)
        await leader.until(THIRD, lambda it: it.step == "SWITCHED")
        stuck = await leader.rotation(ONE)
        assert stuck is not None
        assert stuck.step == "SWITCHING"
        released.set()
        await leader.until(ONE, lambda it: it.step == "SWITCHED")
    assert leader.places.asked == Counter([ONE, OTHER, THIRD])


async def test_while_keycloak_is_unavailable_the_leader_does_not_ask_it_all_the_time(leader: Leader) -> None:
    async def fail(_: str) -> None:
        await asyncio.sleep(0.1)  # meanwhile the other one begins
        raise UnavailableError("Keycloak does not answer")

    leader.places.on_keycloak = fail
    async with leader.working():
        for client_id in (ONE, OTHER):
            await leader.store(client_id)
        await until(lambda: asyncio.sleep(0, leader.places.asked.total()), lambda asked: asked >= SLOTS)
        await asyncio.sleep(1)
    assert leader.places.asked.total() <= 2 * SLOTS


async def test_a_slow_keycloak_leaves_connections_to_the_database_for_others(leader: Leader) -> None:
    released = asyncio.Event()

    async def hold(_: str) -> None:
        await released.wait()

    leader.places.on_keycloak = hold
    async with leader.working(slots=len(CLIENT_IDS)):
        for client_id in CLIENT_IDS:
            await leader.store(client_id)
        await until(lambda: asyncio.sleep(0, leader.places.asked.total()), lambda asked: asked >= POOL_SIZE // 2)
        assert await leader.database.answers()
        # Who waits for Keycloak has not begun yet, and may still be left as it is.
        steps = Counter([(await leader.until(it, lambda found: found)).step for it in CLIENT_IDS])
        assert steps == {"SWITCHING": POOL_SIZE // 2, "STORED": len(CLIENT_IDS) - POOL_SIZE // 2}
        released.set()
        for client_id in CLIENT_IDS:
            await leader.until(client_id, lambda it: it.step == "SWITCHED")


async def test_a_device_that_has_proven_its_login_keeps_the_new_secret_though_its_time_is_up(
    leader: Leader,
) -> None:
    """The switch could not be recorded, and what the device reported is not to be found anywhere else."""

    async def log_in(client_id: str) -> None:
        await leader.acknowledge(offered, client_id)
        leader.places.on_broker = at_once
        raise UnavailableError("the broker does not answer")

    leader.places.on_broker = log_in
    async with leader.working():
        offered = await leader.store(ONE)
        await until(lambda: asyncio.sleep(0, leader.rotator.proven), lambda proven: (offered.id, "ack") in proven)
    async with leader.database.transaction() as session:
        row = await session.get_one(Rotation, offered.id)
        row.deadline_at = datetime.now(UTC)
    async with leader.working():
        assert (await leader.until(ONE, lambda it: it.outcome)).outcome == "DONE"


async def test_what_a_device_reported_outlasts_the_status_that_the_leader_puts_in_its_place(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is an earlier copy: the device has completed, and no secret but the new one."""
    places = leader.places

    async def read(_: object, __: str) -> bytes | None:
        return None if places.status is None else topics.STATUS.encode(places.status)

    async def fail(_: str) -> None:
        raise UnavailableError("the broker does not answer")

    monkeypatch.setattr(retained, "message", read)
    async with leader.working():
        offered = await leader.store(ONE)
        await leader.until(ONE, lambda it: it.step == "SWITCHED")
    places.status = messages.Status(online=True, secret_generation=offered.generation)
    places.drops, places.on_broker = True, fail
    async with leader.database.transaction() as session:
        row = await session.get_one(Rotation, offered.id)
        row.step, row.deadline_at = "SWITCHING", datetime.now(UTC)
    async with leader.working():
        await until(lambda: asyncio.sleep(0, places.status), lambda status: status is None or not status.online)
    leader.rotator.proven.clear()  # the next leader is a new one
    places.on_broker = at_once
    async with leader.working():
        assert (await leader.until(ONE, lambda it: it.outcome)).outcome == "DONE"
