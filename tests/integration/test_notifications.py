"""Notifications on a real database, to receivers that answer, refuse, are slow, or are gone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, select, text, update

from dev.database import empty_database
from dev.servers.base import free_port
from dev.stack import Stack
from dev.waiting import until
from services.registry.context import Registry
from services.registry.notifications import delivery, senders
from services.registry.notifications.delivery import NotificationDelivery
from services.registry.notifications.service import NotificationService
from services.registry.notifications.watch import NotificationWatch
from shared.crypto import Vault
from shared.database import engine, grants
from shared.database.engine import Database
from shared.database.tables import (
    ClaimRequestRow,
    CoreDumpRow,
    Device,
    DeviceConfig,
    DeviceHealth,
    DeviceModel,
    FirmwareImage,
    NotificationRule,
    Presence,
    Rollout,
)
from shared.errors import ConflictError, InvalidInputError
from shared.protocol import admin
from shared.server.rpc import RequestContext

NAME: Final = "notifications"
KEYS: Final = SecretStr(base64.urlsafe_b64encode(bytes(32)).decode())


@dataclass
class Receiver:
    """An HTTP server that remembers what it was sent, and answers with `status`, or not while it is `stuck`."""

    port: int = 0
    status: int = 204
    stuck: bool = False
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/token"

    @property
    def taken(self) -> list[str]:
        return [body["state"] for _, body in self.requests]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append(({**headers, "raw": body.decode()}, json.loads(body)))
            if self.stuck:
                await reader.read()  # until the other side is gone
            writer.write(f"HTTP/1.1 {self.status} OK\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def receiver(**how: Any) -> AsyncIterator[Receiver]:  # noqa: ANN401
    made = Receiver(**how)
    server = await asyncio.start_server(made.answer, "127.0.0.1", made.port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@dataclass
class Office:
    """The registry's part in notifications, with the rights of its user."""

    database: Database
    registry: Registry

    async def ask(self, handler: str, request: type[admin.Request], **facts: object) -> Any:  # noqa: ANN401
        async with self.database.transaction() as session:
            context = RequestContext("admin", "x", session)
            made = request.model_validate({"request_id": "x", **facts})
            return await getattr(NotificationService(self.registry), handler)(context, made)

    async def add(self, name: str, url: str, condition: str = "silent", **facts: object) -> Any:  # noqa: ANN401
        given = {"name": name, "url": url, "condition": condition, "hold_s": 0, **facts}
        return await self.ask("add", admin.NotificationAdd, **given)

    async def history(self, name: str | None = None) -> list[admin.NotificationView]:
        found: admin.Notifications = await self.ask("history", admin.NotificationHistory, name=name)
        return found.notifications

    async def look(self) -> None:
        await NotificationWatch(self.registry).look()

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        task = asyncio.create_task(NotificationDelivery(self.registry).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
async def fresh(stack: Stack) -> AsyncIterator[Database]:
    async with empty_database(stack, NAME) as database:
        yield database


@pytest.fixture
async def office(stack: Stack, fresh: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    monkeypatch.setattr(delivery, "LOOK_S", 0.05)
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", timedelta(milliseconds=50))
    monkeypatch.setattr(delivery, "LEASE", timedelta(seconds=3))
    url = stack.endpoints.database_users[grants.USERS["registry"]].rpartition("/")[0] + f"/{NAME}"
    async with engine.connected(SecretStr(url)) as database:
        instance = SimpleNamespace(vault=Vault([KEYS]))
        parts = SimpleNamespace(database=database, instance=instance, certificates=None)
        yield Office(database, cast("Registry", parts))
    async with fresh.transaction() as session:
        for table in (NotificationRule, Rollout, ClaimRequestRow, Device):
            await session.execute(delete(table))
        for name in ("claims", "firmware_images", "device_models"):
            await session.execute(text(f"DELETE FROM mdm.{name}"))  # noqa: S608 - names of tables


@pytest.fixture
async def device(fresh: Database, office: Office) -> int:
    """A device with a tag that went offline an hour ago."""
    assert office.database is not fresh
    async with fresh.transaction() as session:
        model = DeviceModel(code="lamp", name="", chip="esp32", slot_size_bytes=1, config_defaults={})
        session.add(model)
        await session.flush()
        return await add_device(session, model.id, "notify01", online=False)


async def add_device(session: Any, model_id: int, key: str, *, online: bool) -> int:  # noqa: ANN401
    row = Device(
        key=key,
        model_id=model_id,
        name="Hall",
        tags=["attic"],
        lifecycle="ACTIVE",
        request_id=key,
        config_version=1,
    )
    session.add(row)
    await session.flush()
    seen_at = datetime.now(UTC) - timedelta(hours=1)
    session.add(Presence(device_id=row.id, online=online, last_seen_at=seen_at))
    session.add(DeviceConfig(device_id=row.id, version=1, overrides={}, document={}, author="test"))
    return row.id


async def back(fresh: Database, *, online: bool = True) -> None:
    async with fresh.transaction() as session:
        await session.execute(update(Presence).values(online=online))


async def reached(look: Callable[[], object]) -> None:
    async def checked() -> object:
        return look()

    await until(checked)


async def test_a_rule_tells_of_a_silent_device_and_of_its_return_signed_and_in_order(
    office: Office, fresh: Database, device: int
) -> None:
    assert device
    async with receiver() as hook, office.delivering():
        added = await office.add("night", hook.url, tag="attic")
        await office.look()
        await office.look()
        await back(fresh)
        await office.look()
        await until(office.history, lambda found: [it.delivery for it in found] == ["delivered"] * 2)
        assert hook.taken == ["firing", "resolved"]
        headers, body = hook.requests[0]
    assert body["subjects"][0]["subject"] == "iotdevice-lamp-notify01"
    assert body["text"].startswith("iotdevice-lamp-notify01 (Hall) is offline since 20")
    assert (body["rule"], body["condition"], body["count"]) == ("night", "silent", 1)
    assert headers["webhook-id"] == body["id"]
    signed = f"{body['id']}.{headers['webhook-timestamp']}.{headers['raw']}".encode()
    expected = hmac.digest(base64.b64decode(added.key.removeprefix("whsec_")), signed, hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    history = await office.history("night")
    assert [(it.state, it.delivery, it.attempts) for it in history] == [
        ("resolved", "delivered", 1),
        ("firing", "delivered", 1),
    ]
    rules: admin.NotificationRules = await office.ask("list_all", admin.Nothing)
    assert [(it.target, it.tag, it.firing, it.waiting, it.last_error) for it in rules.rules] == [
        (f"http://127.0.0.1:{hook.port}/...", "attic", 0, 0, None)
    ]


async def test_a_refused_message_is_repeated_with_its_id_before_the_next_of_the_rule(
    office: Office, fresh: Database, device: int
) -> None:
    assert device
    async with receiver(status=500) as hook, office.delivering():
        await office.add("night", hook.url)
        await office.look()
        await reached(lambda: len(hook.requests) >= 3)
        await back(fresh)
        await office.look()
        waiting = await until(office.history, lambda found: len(found) == 2 and found[1].error)
        assert [(it.state, it.delivery) for it in waiting] == [("resolved", "waiting"), ("firing", "waiting")]
        assert waiting[1].error == "the receiver answered 500"
        assert set(hook.taken) == {"firing"}
        hook.status = 200
        await until(office.history, lambda found: all(it.delivery == "delivered" for it in found))
    assert hook.taken == ["firing"] * (len(hook.taken) - 1) + ["resolved"]
    assert len({body["id"] for _, body in hook.requests}) == 2
    assert [it.error for it in await office.history()] == [None, None]


async def test_nothing_waits_for_a_receiver_that_does_not_answer_or_is_gone(
    office: Office, device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device
    monkeypatch.setattr(senders, "TIMEOUT_S", 1.0)
    gone = Receiver(port=free_port())
    async with receiver(stuck=True) as slow, receiver() as quick, office.delivering():
        for name, url in (("slow", slow.url), ("gone", gone.url), ("quick", quick.url)):
            await office.add(name, url)
        await office.look()
        await reached(lambda: quick.taken == ["firing"] and slow.requests)
        await until(
            lambda: office.history("slow"),
            lambda found: found[0].error == "no answer within 1 s" and found[0].attempts,
        )
        [lost] = await until(partial(office.history, "gone"), lambda found: found[0].error)
        assert lost.error == "no connection, or no answer: ConnectError"
        slow.stuck = False
        await until(lambda: office.history("slow"), lambda found: found[0].delivery == "delivered")


async def test_what_a_registry_had_begun_to_send_when_it_ended_is_sent_again_by_the_next(
    office: Office, device: int
) -> None:
    assert device
    async with receiver(stuck=True) as hook:
        await office.add("night", hook.url)
        await office.look()
        async with office.delivering():
            await reached(lambda: hook.requests)
        hook.stuck = False
        async with office.delivering():
            await until(office.history, lambda found: found[0].delivery == "delivered")
        assert [body["id"] for _, body in hook.requests] == [hook.requests[0][1]["id"]] * 2
        assert (await office.history())[0].attempts == 2


async def test_a_message_that_nobody_takes_for_days_is_given_up_and_shown(
    office: Office, fresh: Database, device: int
) -> None:
    assert device
    async with receiver(status=410) as hook:
        await office.add("night", hook.url)
        await office.look()
        async with fresh.transaction() as session:
            await session.execute(text("UPDATE mdm.notifications SET created_at = now() - interval '4 days'"))
        await office.ask("test", admin.NotificationRef, name="night")
        async with office.delivering():
            await until(office.history, lambda found: found[0].error)
    [test, given_up] = await office.history()
    assert (given_up.delivery, given_up.error) == ("failed", "the receiver answered 410")
    assert (test.state, test.delivery) == ("test", "waiting")


async def test_a_message_through_apprise_arrives(office: Office, device: int) -> None:
    assert device
    async with receiver(status=200) as hook, office.delivering():
        added = await office.add("phone", f"json://127.0.0.1:{hook.port}/token")
        assert (added.key, added.target) == (None, "json://...")

        async def delivered(view: str) -> None:
            await until(lambda: office.history("phone"), lambda found: found and found[0].delivery == view)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Receiver, "taken", property(lambda self: [body["title"] for _, body in self.requests]))
            await office.ask("test", admin.NotificationRef, name="phone")
            await delivered("delivered")
            assert hook.taken == ["phone: test"]
        hook.status = 503
        await office.ask("test", admin.NotificationRef, name="phone")
        found = await until(lambda: office.history("phone"), lambda found: found[0].error)
        assert str(found[0].error).startswith("Apprise could not deliver it: Failed to send JSON")
        assert "token" not in str(found[0].error)


async def test_a_service_of_apprise_that_fails_in_its_own_way_ends_nothing(
    office: Office, device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device

    def fail(*_: object, **__: object) -> None:
        raise LookupError("a secret")

    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.send", fail)
    async with receiver() as hook, office.delivering():
        await office.add("phone", "json://127.0.0.1:9/token")
        await office.add("hook", hook.url)
        await office.ask("test", admin.NotificationRef, name="phone")
        [failed] = await until(partial(office.history, "phone"), lambda found: found[0].error)
        assert failed.error == "Apprise could not deliver it: LookupError"
        await office.ask("test", admin.NotificationRef, name="hook")
        await until(partial(office.history, "hook"), lambda found: found[0].delivery == "delivered")


async def holding(office: Office, condition: str, **facts: object) -> list[str]:
    """Return what a new rule notifies of."""
    name = f"rule-{condition.replace('_', '-')}"
    await office.add(name, "http://127.0.0.1:9/", condition, **facts)
    await office.look()
    return [line for it in await office.history(name) for line in it.text.splitlines()]


async def test_each_condition_finds_what_it_is_about(office: Office, fresh: Database, device: int) -> None:
    title = "iotdevice-lamp-notify01 (Hall)"
    async with fresh.transaction() as session:
        model_id = (await session.get_one(Device, device)).model_id
        await add_device(session, model_id, "notify02", online=True)
        session.add(DeviceHealth(device_id=device, health="critical", reasons=["clash", "core_dump"]))
        old = datetime.now(UTC) - timedelta(days=200)
        (await session.get_one(Device, device)).secret_created_at = old
        image: dict[str, Any] = {"project": "", "chip": "esp32", "size_bytes": 1, "secure_version": 0}
        session.add(
            FirmwareImage(
                model_id=model_id, sha256="d" * 64, version="1.2", idf_version="", uploaded_by="test", **image
            )
        )
        await session.flush()
        rollout = Rollout(
            model_id=model_id, sha256="d" * 64, version="1.2", tags=[], percent=100, plan={}, waves=1
        )
        rollout.state, rollout.author, rollout.reason = "HALTED", "x", "too many"
        session.add(rollout)
        await session.execute(
            text(
                "INSERT INTO mdm.claims "
                "(id, model_id, tags, uses, needs_approval, expires_at, request_id, author) VALUES "
                "('claim-aaaaaaaa', :model, '{}', 1, true, now() + interval '1 day', 'x', 'x')"
            ),
            {"model": model_id},
        )
        session.add(
            ClaimRequestRow(uid="a0b765010203", claim_id="claim-aaaaaaaa", public_key="x", state="pending")
        )
    assert await holding(office, "share_silent", tag="attic", percent=51) == []
    await office.ask("remove", admin.NotificationRef, name="rule-share-silent")
    assert await holding(office, "share_silent", tag="attic", percent=50) == ["1 of 2 devices are offline"]
    assert await holding(office, "silent", device="notify02") == []
    assert await holding(office, "unhealthy") == [f"{title} is critical: clash, core dump"]
    assert await holding(office, "critical", model="lamp") == [f"{title} is critical: clash, core dump"]
    assert await holding(office, "secret_old") == [f"{title} has a secret of {old:%Y-%m-%d %H:%M} UTC"]
    assert await holding(office, "rollout_halted") == [f"rollout {rollout.id} of 1.2 has halted: too many"]
    assert await holding(office, "claim_waits") == ["machine a0b765010203 of claim-aaaaaaaa waits for approval"]
    # What is not known yet is neither told nor over.
    assert await holding(office, "certificate_ends") == []
    office.registry.certificates = {"broker:8883": "broker:8883: its certificate ends in 3 days"}
    await office.look()
    [told] = await office.history("rule-certificate-ends")
    assert told.text == "broker:8883: its certificate ends in 3 days"
    assert await holding(office, "core_dump") == []
    async with fresh.transaction() as session:
        dump = CoreDumpRow(device_id=device, sha256="c" * 64, size_bytes=1, elf_sha256="", data_key=b"")
        dump.stored_at, dump.reason = datetime.now(UTC), "panic"
        session.add(dump)
    await office.look()
    [told] = await office.history("rule-core-dump")
    assert told.text == f"{title} has crashed: panic; core dump {dump.id}"


async def test_many_that_are_silent_at_once_are_one_message(office: Office, fresh: Database, device: int) -> None:
    async with fresh.transaction() as session:
        model_id = (await session.get_one(Device, device)).model_id
        for number in range(120):
            await add_device(session, model_id, f"many{number:04}", online=False)
    lines = await holding(office, "silent")
    assert len(lines) == 11
    assert lines[-1] == "and 111 more"
    [found] = await office.history()
    assert found.count == 121


async def test_what_cannot_be_a_rule_is_refused(office: Office) -> None:
    with pytest.raises(InvalidInputError, match="Apprise does not know"):
        await office.add("odd", "nosuchservice://x")
    for url in ("http://[::1/x", "https://:443/x", "http://host:port/x"):
        with pytest.raises(InvalidInputError, match="url: "):
            await office.add("odd", url)
    await office.add("one", "https://example.org/x")
    with pytest.raises(ConflictError, match="there is a rule one"):
        await office.add("one", "https://example.org/x")
    with pytest.raises(ValueError, match="rollout_halted is not about devices"):
        await office.add("two", "https://example.org/x", "rollout_halted", tag="attic")
    async with office.database.transaction() as session:
        stored = (await session.scalars(select(NotificationRule))).one()
    assert b"example" not in stored.url
