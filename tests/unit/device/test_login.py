"""How a device logs in with tokens: a Keycloak and a broker of a few lines, which say what they were shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from pydantic import SecretStr

from device.agent import Agent
from device.link import LinkLostError, LoginRefusedError
from device.login import connect
from device.options import Auth, Hooks, Options
from device.rotation import Slot
from device.slots import SlotStore
from shared.protocol.admin import Package
from tests.unit.device.kit import CLIENT_ID, package

ACCEPTED, BAD_PASSWORD = 0, 4


@dataclass
class World:
    """Keycloak gives tokens for `secrets`, `status` for all else; the broker takes `passwords`, or any token."""

    secrets: set[str] = field(default_factory=set)
    passwords: set[str] = field(default_factory=set)
    takes_tokens: bool = True
    status: str = "401 Unauthorized"
    body: bytes | None = None
    refusal: bytes = b'{"error":"invalid_client"}'
    asked: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    package: Package = field(default_factory=package)

    async def give_token(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.splitlines() if line.startswith("content-length"))
        form = parse_qs((await reader.readexactly(int(length.split(":")[1]))).decode())
        [secret] = form["client_secret"]
        assert (form["client_id"], form["grant_type"]) == ([CLIENT_ID], ["client_credentials"])
        self.asked.append(secret)
        known = secret in self.secrets
        token = json.dumps({"access_token": f"token-{len(self.asked)}-{secret}"}).encode()
        body = self.body or (token if known else self.refusal)
        status = "200 OK" if known else self.status
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async def let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(1)) == b"\x10"
        length = shift = 0
        while True:
            [digit] = await reader.readexactly(1)
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                break
        rest = (await reader.readexactly(length))[10:]  # behind protocol, flags and keepalive
        texts = []
        while rest:
            size = int.from_bytes(rest[:2], "big")
            texts.append(rest[2 : 2 + size].decode())
            rest = rest[2 + size :]
        identifier, _, _, username, password = texts
        assert identifier == username == CLIENT_ID
        self.shown.append(password)
        known = password in self.passwords or (self.takes_tokens and password.startswith("token-"))
        writer.write(bytes([0x20, 2, 0, ACCEPTED if known else BAD_PASSWORD]))
        await writer.drain()
        if known:
            await reader.read(1)
        writer.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    keycloak = await asyncio.start_server(found.give_token, "127.0.0.1", 0)
    broker = await asyncio.start_server(found.let_in, "127.0.0.1", 0)
    token_url = f"http://127.0.0.1:{keycloak.sockets[0].getsockname()[1]}/token"
    found.package = package(token_url=token_url, mqtt_port=broker.sockets[0].getsockname()[1])
    yield found
    keycloak.close()
    broker.close()


async def log_in(world: World, auth: Auth | None) -> None:
    options = Options(mqtt_auth=auth, answer_timeout_s=5)
    link = await connect(world.package, Slot(SecretStr("s"), 1), options, tls=None)
    await link.close()


async def test_the_password_is_a_token_for_the_secret_and_new_at_each_login(world: World) -> None:
    world.secrets = {"s"}
    await log_in(world, "token")
    await log_in(world, "token")
    assert world.shown == ["token-1-s", "token-2-s"]


@pytest.mark.parametrize("auth", ["password", "token"])
async def test_the_package_says_what_the_broker_wants_unless_an_option_does(world: World, auth: Auth) -> None:
    world.secrets = world.passwords = {"s"}
    world.package = world.package.model_copy(update={"mqtt_auth": auth})
    await log_in(world, None)
    await log_in(world, "password")
    assert world.shown == ["token-1-s" if auth == "token" else "s", "s"]


async def test_a_secret_that_keycloak_refuses_is_refused(world: World) -> None:
    with pytest.raises(LoginRefusedError):
        await log_in(world, "token")
    assert world.shown == []


async def test_a_token_that_the_broker_refuses_is_refused_and_the_secret_is_not_shown_to_it(world: World) -> None:
    world.secrets, world.takes_tokens = {"s"}, False
    with pytest.raises(LoginRefusedError):
        await log_in(world, "token")
    assert world.shown == ["token-1-s"]


@pytest.mark.parametrize("body", [b"", b"<html>who are you?</html>", b'{"error":"server_error"}', b"[]"])
async def test_a_401_of_somebody_else_is_no_refusal(world: World, body: bytes) -> None:
    world.refusal = body
    with pytest.raises(LinkLostError, match="401"):
        await log_in(world, "token")


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests", "404 Not Found"])
async def test_a_keycloak_that_is_not_ready_is_no_refusal(world: World, status: str) -> None:
    world.status, world.refusal = status, b""
    with pytest.raises(LinkLostError):
        await log_in(world, "token")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"not json"])
async def test_an_answer_without_a_token_is_no_refusal(world: World, body: bytes) -> None:
    world.secrets, world.body = {"s"}, body
    with pytest.raises(LinkLostError):
        await log_in(world, "token")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/token", "http://[", "no url"])
async def test_a_keycloak_that_cannot_be_reached_is_no_refusal(world: World, url: str) -> None:
    world.package = world.package.model_copy(update={"token_url": url})
    with pytest.raises(LinkLostError):
        await log_in(world, "token")


async def test_with_either_a_broker_that_takes_tokens_is_not_shown_the_secret(world: World) -> None:
    world.secrets = {"s"}
    await log_in(world, "either")
    assert world.shown == ["token-1-s"]


async def test_with_either_the_secret_follows_a_token_that_is_refused(world: World) -> None:
    world.secrets, world.passwords, world.takes_tokens = {"s"}, {"s"}, False
    await log_in(world, "either")
    assert world.shown == ["token-1-s", "s"]


@pytest.mark.parametrize("status", ["401 Unauthorized", "503 Service Unavailable"])
async def test_with_either_the_secret_is_enough_without_keycloak(world: World, status: str) -> None:
    world.status, world.passwords = status, {"s"}
    await log_in(world, "either")
    assert world.shown == ["s"]


async def first_login(world: World, folder: Path) -> list[int]:
    """Run a device with a secret on trial until it is in; return the generations that were refused before."""
    store = SlotStore(folder, Slot(SecretStr("old"), 1), fault=lambda _: None)
    store.fill_second(Slot(SecretStr("new"), 2, uuid4()))
    refused: list[int] = []

    def on_event(name: str, facts: object) -> None:
        assert isinstance(facts, dict)
        if name == "login.refused":
            refused.append(facts["generation"])
        if name == "login.accepted":
            agent.stop()

    options = Options(mqtt_auth="token", answer_timeout_s=5)
    agent = Agent(world.package, folder, options=options, hooks=Hooks(on_event=on_event))
    async with asyncio.timeout(10):
        await agent.run()
    return refused


async def test_a_secret_on_trial_is_proven_by_a_token_for_it(world: World, tmp_path: Path) -> None:
    world.secrets = {"new"}
    assert await first_login(world, tmp_path) == []
    assert world.shown == ["token-1-new"]


async def test_a_secret_on_trial_that_gets_no_token_is_followed_by_the_first(world: World, tmp_path: Path) -> None:
    world.secrets = {"old"}
    assert await first_login(world, tmp_path) == [2]
    assert (world.asked[:2], world.shown[0]) == (["new", "old"], "token-2-old")
