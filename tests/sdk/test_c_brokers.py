"""The device in C at a broker that wants tokens, and asleep between two connections, on the real services."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from pathlib import Path

from dev.devices import c_device
from dev.fleet import Fleet
from dev.stack import Stack
from dev.waiting import until
from shared.protocol import admin, events
from tests import token_door
from tests.sdk.test_c_device import rotated

UNHURRIED = ("--hurry", "1")


async def test_it_logs_in_with_tokens_and_a_secret_without_one_is_refused(
    fleet: Fleet, stack: Stack, tmp_path: Path
) -> None:
    package = await fleet.device()
    endpoints = stack.endpoints
    realm_url = f"{endpoints.keycloak_url}/realms/{endpoints.realm}"
    log = tmp_path / "log"
    async with token_door.opened(endpoints.mqtt_port, realm_url, lambda _name: package.secret) as port:
        moved = package.model_copy(update={"mqtt_port": port, "mqtt_tls": False, "mqtt_auth": "token"})
        async with c_device(moved, tmp_path / "board"):
            await fleet.until(package, lambda view: view.online and view.has_key)
        for changes, said in (
            ({"secret": secrets.token_urlsafe(32)}, "the secret is refused: the token URL"),
            ({"token_url": f"{endpoints.keycloak_url}/nothing"}, "connection lost: the answer of the token URL"),
            ({"token_url": "keycloak"}, "connection lost: token_url: must be http(s)://host[:port]/path"),
        ):
            log.write_text("")
            wrong = moved.model_copy(update={"recovery": None, **changes})
            async with c_device(wrong, tmp_path / secrets.token_hex(4), log=log):
                await until(partial(asyncio.to_thread, log.read_text), lambda text, said=said: said in text)  # type: ignore[misc]


async def test_it_logs_in_at_both_kinds_of_broker(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device()
    log = tmp_path / "log"
    async with c_device(package, tmp_path / "board", options=("--mqtt-auth", "either"), log=log):
        await fleet.until(package, lambda view: view.online and view.has_key)
        assert "the secret is refused: the broker" in log.read_text()  # Mosquitto knows no tokens
        await rotated(fleet, package)


async def test_it_sleeps_wakes_for_its_commands_and_rotates(fleet: Fleet, tmp_path: Path) -> None:
    package = await fleet.device(await fleet.model(commands=["echo"]))
    options = (*UNHURRIED, "--wake-interval-s", "1")
    async with c_device(package, tmp_path / package.client_id, options=options):
        asleep = await fleet.until(package, lambda view: view.presence == "asleep")
        assert (asleep.wake_interval_s, asleep.has_key, asleep.flaws) == (1, True, [])
        await fleet.seen(package, events.DEVICE_ASLEEP)
        await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="echo", arguments={}, expires_in_s=600)
        assert (await fleet.seen(package, "command/answered")).data["ok"]
        await rotated(fleet, package)
        await fleet.until(package, lambda view: view.presence == "asleep")
