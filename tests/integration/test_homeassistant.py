"""What Home Assistant is told on the real stack, read with an account as operations.md makes it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiomqtt
import pytest

from dev.credentials import CONTROL, account_client
from dev.fleet import Fleet
from dev.stack import Endpoints, Stack
from dev.system import System
from dev.uploads import build, upload
from dev.waiting import PATIENCE_S
from shared.protocol import admin, events, topics
from shared.protocol.admin import Package
from shared.protocol.topics import PREFIX, Topic
from tests.raw import RawClient, RawDevice

ACCOUNT = "homeassistant"
DISCOVERY, UPDATE = topics.HOMEASSISTANT_DISCOVERY, topics.HOMEASSISTANT_UPDATE
DIAGNOSTICS = topics.HOMEASSISTANT_DIAGNOSTICS
TOPICS: tuple[Topic[Any], ...] = (DISCOVERY, UPDATE, DIAGNOSTICS)
READABLE = ("homeassistant/", f"{PREFIX}/homeassistant/", "app/")


class Home:
    """What Home Assistant hears, by topic."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self._heard: dict[str, list[bytes]] = {}
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        """Listen until cancelled."""
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            async with self._news:
                self._heard.setdefault(str(message.topic), []).append(message.payload)
                self._news.notify_all()

    def heard(self, topic: str) -> list[bytes]:
        """Return all that was said on a topic."""
        return self._heard.get(topic, [])

    def said(self, topic: Topic[Any], package: Package) -> dict[str, Any]:
        """Return what was said last of a device; an empty message is an empty object."""
        return dict(json.loads(self.heard(topic.of(client_id=package.client_id))[-1] or b"{}"))

    async def until(self, topic: Topic[Any], package: Package, holds: Callable[[dict[str, Any]], object]) -> None:
        """Wait until what was said last of a device holds."""
        place = topic.of(client_id=package.client_id)
        await self._wait(lambda: bool(self.heard(place) and holds(self.said(topic, package))), place)

    async def has_heard(self, topic: str, payload: bytes, *, times: int = 1) -> None:
        """Wait until something was said so many times on a topic."""
        await self._wait(lambda: self.heard(topic).count(payload) >= times, topic)

    async def _wait(self, holds: Callable[[], bool], place: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S), self._news:
                await self._news.wait_for(holds)
        except TimeoutError:
            pytest.fail(f"{place}: {self.heard(place)!r}")


@pytest.fixture(scope="module")
async def endpoints(stack: Stack) -> AsyncIterator[Endpoints]:
    """The stack's, with an account for Home Assistant made as operations.md says, by the plugin's own command."""
    password = secrets.token_urlsafe(24)
    commands = [{"command": "createClient", "username": ACCOUNT, "password": password}]
    async with account_client(stack.endpoints, "svc-accounts") as client:
        await client.publish(CONTROL, json.dumps({"commands": commands}), qos=1)
    yield replace(stack.endpoints, accounts={**stack.endpoints.accounts, ACCOUNT: password})
    async with account_client(stack.endpoints, "svc-accounts") as client:
        commands = [{"command": "deleteClient", "username": ACCOUNT}]
        await client.publish(CONTROL, json.dumps({"commands": commands}), qos=1)


@pytest.fixture
async def home(endpoints: Endpoints) -> AsyncIterator[Home]:
    async with watching(endpoints) as home:
        yield home


@asynccontextmanager
async def watching(endpoints: Endpoints) -> AsyncIterator[Home]:
    async with account_client(endpoints, ACCOUNT) as client:
        home = Home(client)
        listening = asyncio.create_task(home.listen())
        await client.subscribe([("homeassistant/#", 1), (f"{PREFIX}/homeassistant/#", 1)])
        yield home
        listening.cancel()


@pytest.fixture(scope="module", autouse=True)
async def telling(system: System) -> AsyncIterator[None]:
    async with system.altered("firmware", MDM_HOMEASSISTANT="true"):
        yield


async def test_a_device_is_discovered_when_it_is_added_and_forgotten_when_it_is_removed(
    fleet: Fleet, home: Home
) -> None:
    package = await fleet.device()
    await home.until(
        topics.HOMEASSISTANT_DISCOVERY, package, lambda said: said["device"]["name"] == package.client_id
    )
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="kitchen light")
    await home.until(
        topics.HOMEASSISTANT_DISCOVERY, package, lambda said: said["device"]["name"] == "kitchen light"
    )
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    for topic in TOPICS:
        await home.until(topic, package, lambda said: said == {})


async def test_a_new_name_of_the_model_reaches_each_of_its_devices(fleet: Fleet, home: Home) -> None:
    model = await fleet.model()
    packages = [await fleet.device(model) for _ in range(2)]
    await fleet.ask(admin.MODEL_UPDATE, code=model, name="Blink")
    for package in packages:
        await home.until(DISCOVERY, package, lambda said: said["device"]["model"] == "Blink")


async def test_an_update_is_seen_from_the_release_to_the_end(fleet: Fleet, home: Home) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    async with fleet.powered(package):
        await home.until(UPDATE, package, lambda said: said.get("installed_version") == "1.0.0")
        assert home.said(UPDATE, package)["latest_version"] == "1.0.0"
        await upload(fleet, model, build(model, "2.0.0"))
        await home.until(UPDATE, package, lambda said: said["latest_version"] == "2.0.0")
        await home.until(UPDATE, package, lambda said: said["installed_version"] == "2.0.0")
        await home.until(UPDATE, package, lambda said: not said["in_progress"])


async def test_an_image_that_waits_for_a_device_is_shown_until_it_is_withdrawn(fleet: Fleet, home: Home) -> None:
    model = await fleet.model()
    package = await fleet.device(model)
    await upload(fleet, model, build(model, "2.0.0"))
    await home.until(UPDATE, package, lambda said: said.get("latest_version") == "2.0.0")
    assert "installed_version" not in home.said(UPDATE, package)
    await fleet.ask(admin.IMAGE_WITHDRAW, model=model)
    await home.until(UPDATE, package, lambda said: "latest_version" not in said)


async def test_it_is_seen_how_a_device_does(fleet: Fleet, home: Home) -> None:
    package = await fleet.device()
    await home.until(DIAGNOSTICS, package, lambda said: not said["present"] and not said["config_problem"])
    async with fleet.powered(package):
        await home.until(DIAGNOSTICS, package, lambda said: said["present"] and not said["config_problem"])
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await home.until(DIAGNOSTICS, package, lambda said: said["secret_generation"] == 2)
        assert home.said(DIAGNOSTICS, package)["rotation_state"] == "OK"
        await home.until(
            DIAGNOSTICS, package, lambda said: (said["health"], said["problem"]) == ("healthy", False)
        )
    await home.until(DIAGNOSTICS, package, lambda said: not said["present"])


async def test_what_the_broker_has_lost_is_told_again_by_the_timer(
    fleet: Fleet, home: Home, system: System, stack: Stack
) -> None:
    package = await fleet.device()
    await home.until(DIAGNOSTICS, package, lambda said: said)
    async with another(system, MDM_HOMEASSISTANT="true", MDM_HOMEASSISTANT_REFRESH_S="0.5"):
        # The first time it may have been the service's start.
        for times in (1, 2):
            await lose(stack, home, package, times=times)
            for topic in TOPICS:
                await home.until(topic, package, lambda said: said)


async def test_what_was_lost_while_the_service_was_down_is_made_up_for_at_its_start(
    fleet: Fleet, home: Home, system: System
) -> None:
    gone, stays = await fleet.device(), await fleet.device()
    for package in (gone, stays):
        await home.until(DIAGNOSTICS, package, lambda said: said)
    await asyncio.to_thread(system.services["firmware"].kill)
    await fleet.ask(admin.DEVICE_REMOVE, device=gone.client_id)
    await fleet.ask(admin.DEVICE_UPDATE, device=stays.client_id, name="moved")
    await asyncio.to_thread(system.services["firmware"].start)
    await home.until(DISCOVERY, stays, lambda said: said["device"]["name"] == "moved")
    for topic in TOPICS:
        await home.until(topic, gone, lambda said: said == {})


async def test_a_service_that_is_to_tell_nothing_takes_all_back_that_is_its_own(
    fleet: Fleet, home: Home, system: System, stack: Stack
) -> None:
    package = await fleet.device()
    await home.until(DISCOVERY, package, lambda said: said)
    foreign = DISCOVERY.of(client_id="of-another-program")
    async with account_client(stack.endpoints, "svc-firmware") as client:
        await client.publish(foreign, b'{"not":"ours"}', qos=1, retain=True)
        async with another(system, MDM_HOMEASSISTANT="false"):
            for topic in TOPICS:
                await home.until(topic, package, lambda said: said == {})
        await client.publish(foreign, b"", qos=1, retain=True)
        await home.has_heard(foreign, b"")
    assert home.heard(foreign) == [b'{"not":"ours"}', b""]
    await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="told again")
    await home.until(DISCOVERY, package, lambda said: said)


async def test_all_that_is_told_is_retained_and_nothing_else_is(
    fleet: Fleet, home: Home, endpoints: Endpoints
) -> None:
    package = await fleet.device()
    await home.until(DIAGNOSTICS, package, lambda said: said)
    async with watching(endpoints) as later:
        for topic in TOPICS:
            await later.until(topic, package, lambda said: said)
    await fleet.ask(admin.DEVICE_REMOVE, device=package.client_id)
    await home.until(DIAGNOSTICS, package, lambda said: said == {})


async def test_home_assistant_reads_and_writes_nothing_else(
    fleet: Fleet, stack: Stack, endpoints: Endpoints
) -> None:
    package = await fleet.device()
    forged = [
        topics.STATUS.of(client_id=package.client_id),
        topics.CONFIG.of(client_id=package.client_id),
        DISCOVERY.of(client_id=package.client_id),
        DIAGNOSTICS.of(client_id=package.client_id),
        topics.EVENT.of(noun="forged", verb="it"),
        admin.MODEL_LIST.topic.of(account="admin"),
        admin.MODEL_LIST.topic.of(account=ACCOUNT),
    ]
    async with (
        RawDevice(package) as device,
        RawClient(account_client(stack.endpoints, "svc-registry"), "#") as registry,
        RawClient(account_client(endpoints, ACCOUNT), "#") as home,
    ):
        for topic in forged:
            await home.client.publish(topic, b"{}", qos=1)
        # Each hears of the change, behind all that must not have come.
        await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"x": 1})
        await device.receive(topics.CONFIG)
        await registry.receive(events.CONFIG_CHANGED.topic)
        await home.client.publish("homeassistant/status", b"online", qos=1)
        await home.receive(Topic("homeassistant/status", bytes))
    assert not {*forged} & (device.addresses | registry.addresses)
    assert {address for address in home.addresses if not address.startswith(READABLE)} == set()


async def test_a_device_says_nothing_to_home_assistant(fleet: Fleet, home: Home) -> None:
    package = await fleet.device()
    await home.until(DISCOVERY, package, lambda said: said)
    async with RawDevice(package) as device:
        for topic in TOPICS:
            await device.client.publish(
                topic.of(client_id=package.client_id), b'{"forged":true}', qos=1, retain=True
            )
        await fleet.ask(admin.DEVICE_UPDATE, device=package.client_id, name="renamed")
        await home.until(DISCOVERY, package, lambda said: said["device"]["name"] == "renamed")
    for topic in TOPICS:
        assert b'{"forged":true}' not in home.heard(topic.of(client_id=package.client_id))


async def lose(stack: Stack, home: Home, package: Package, *, times: int) -> None:
    """Have the broker forget, for so many times now, what it holds of a device for Home Assistant."""
    async with account_client(stack.endpoints, "svc-firmware") as client:
        for topic in TOPICS:
            await client.publish(topic.of(client_id=package.client_id), b"", qos=1, retain=True)
    for topic in TOPICS:
        await home.has_heard(topic.of(client_id=package.client_id), b"", times=times)


@asynccontextmanager
async def another(system: System, **settings: str) -> AsyncIterator[None]:
    """Run one more firmware service until the block ends."""
    name = "firmware-another"
    await asyncio.to_thread(lambda: system.start("firmware", name=name, fate=None, **settings))
    try:
        yield
    finally:
        await asyncio.to_thread(system.stop, name)
