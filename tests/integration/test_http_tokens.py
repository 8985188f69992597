"""Who may fetch over HTTP, with tokens of the real Keycloak: a device's own one, in time, of a secret in force."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from dev import http_helpers
from dev.credentials import client_in_keycloak, keycloak_admin
from dev.fleet import Fleet
from dev.servers.base import HOST
from dev.stack import Stack
from dev.system import System
from dev.uploads import upload
from device import image_builder
from shared import crypto
from shared.auth.keycloak import unverified_claims
from shared.auth.tokens import KEYS_FRESH_S, REFETCH_S, SigningKeys, TokenRefusedError, Tokens
from shared.errors import UnavailableError
from shared.protocol import admin, messages, topics
from shared.protocol.admin import ImageView, Package
from tests.raw import RawDevice


@dataclass(frozen=True, slots=True)
class Door:
    """An image, a device that may have it, and the way to knock with any token."""

    system: System
    package: Package
    view: ImageView
    token: str

    async def knock(self, token: str | None = None, **headers: str) -> httpx.Response:
        async with http_helpers.visiting(self.system) as client:
            given = headers or http_helpers.bearer(self.token if token is None else token)
            return await client.get(f"/firmware/{self.view.sha256}", headers=given)


@pytest.fixture
async def door(fleet: Fleet, system: System) -> Door:
    model = await fleet.model()
    package = await fleet.device(model)
    view = await upload(fleet, model, image_builder.build(version="1.1.0", project=model))
    return Door(system, package, view, await http_helpers.token(package))


def refused(answer: httpx.Response) -> bool:
    """Say whether it is a 401 that tells nothing about why."""
    assert answer.text in {"Unauthorized\n", "Forbidden\n"} or answer.status_code == 200
    return (
        answer.status_code == 401
        and answer.headers["www-authenticate"] == 'Bearer realm="firmware", error="invalid_token"'
    )


async def test_a_device_gets_in_with_its_own_token(door: Door) -> None:
    claims = unverified_claims(door.token)
    assert (claims["azp"], claims["aud"], claims["secret_gen"]) == (door.package.client_id, "mdm", 1)
    assert (await door.knock()).status_code == 200


async def test_without_a_token_it_is_asked_for_one(door: Door) -> None:
    answer = await door.knock(accept="*/*")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="firmware"')


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic {}",
        "{}",
        "Bearer {} {}",
        "Bearer {}.x",
        "Bearer a.b.c",
        'Bearer "{}"',
        "Bearer ..",
        "Bearer " + "a" * 8000,
    ],
)
async def test_a_header_that_carries_no_token_is_refused(door: Door, header: str) -> None:
    assert refused(await door.knock(Authorization=header.replace("{}", door.token)))


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, signature = token.split(".")
    return opened(header), opened(claims), signature


def opened(part: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(found, dict)
    return found


def closed(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


async def public_key(door: Door, kid: str) -> RSAKey:
    url = door.package.token_url.removesuffix("/token") + "/certs"
    async with httpx.AsyncClient() as client:
        [found] = [key for key in (await client.get(url)).json()["keys"] if key["kid"] == kid]
    return RSAKey.import_key({name: found[name] for name in ("kty", "n", "e")})


async def test_a_token_without_a_signature_is_refused(door: Door) -> None:
    header, claims, signature = parts(door.token)
    for algorithm in ("none", "None", "NONE", ""):
        unsigned = f"{closed({**header, 'alg': algorithm})}.{closed(claims)}."
        assert refused(await door.knock(unsigned))
        assert refused(await door.knock(unsigned + signature))
    assert refused(await door.knock(f"{closed(header)}.{closed(claims)}."))


async def test_a_token_that_was_changed_is_refused(door: Door) -> None:
    header, claims, signature = parts(door.token)
    for change in ({"secret_gen": 2}, {"exp": claims["exp"] + 1000}, {"azp": "iotdevice-x-aaaaaaaa"}):
        assert refused(await door.knock(f"{closed(header)}.{closed({**claims, **change})}.{signature}"))
    assert refused(await door.knock(door.token[:-5] + ("AAAAA" if door.token[-5:] != "AAAAA" else "BBBBB")))


async def test_the_public_key_is_no_password(door: Door) -> None:
    header, claims, _ = parts(door.token)
    key = await public_key(door, header["kid"])
    for secret in (key.as_pem(private=False), key.as_der(private=False), json.dumps(key.as_dict()).encode()):
        signed = f"{closed({**header, 'alg': 'HS256'})}.{closed(claims)}"
        signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=").decode()
        assert refused(await door.knock(f"{signed}.{signature}"))


async def test_a_foreign_key_is_refused_under_a_known_name_and_under_its_own(door: Door) -> None:
    header, claims, _ = parts(door.token)
    foreign = RSAKey.generate_key(2048)
    for kid in (header["kid"], "foreign", ""):
        assert refused(await door.knock(jwt.encode({**header, "kid": kid}, claims, foreign)))
    embedded = {"alg": "RS256", "jwk": foreign.as_dict(private=False), "kid": "foreign"}
    assert refused(await door.knock(jwt.encode(embedded, claims, foreign)))
    assert (await door.knock()).status_code == 200


async def test_another_issuer_is_refused(door: Door) -> None:
    port = httpx.URL(door.package.token_url).port
    foreign = await http_helpers.token(door.package, Host=f"localhost:{port}")
    assert unverified_claims(foreign)["iss"].startswith("http://localhost:")
    assert refused(await door.knock(foreign))


@asynccontextmanager
async def keycloak_client(
    stack: Stack, client_id: str, *, mappers: list[dict[str, Any]]
) -> AsyncIterator[Package]:
    """A client beside the product's, with the secret of a package."""
    package = Package(
        client_id=client_id,
        device_key="a" * 8,
        secret=uuid4().hex,
        secret_generation=1,
        token_url=f"{stack.endpoints.keycloak_url}/realms/{stack.endpoints.realm}/protocol/openid-connect/token",
        mqtt_host=HOST,
        mqtt_port=1,
        mqtt_tls=False,
        ca_certificate=None,
    )
    path = f"/admin/realms/{stack.endpoints.realm}/clients"
    client = {
        "clientId": client_id,
        "secret": package.secret,
        "serviceAccountsEnabled": True,
        "protocolMappers": mappers,
    }
    async with keycloak_admin(stack.endpoints) as keycloak:
        made = (await keycloak.post(path, json=client)).raise_for_status().headers["location"]
        try:
            yield package
        finally:
            (await keycloak.delete(made)).raise_for_status()


async def test_a_client_that_is_no_device_is_refused_also_with_the_claims_of_one(door: Door, stack: Stack) -> None:
    async with client_in_keycloak(stack.endpoints, door.package) as (_, _, found):
        mappers = [{name: it[name] for name in it if name != "id"} for it in found["protocolMappers"]]
    for client_id in (f"visitor-{uuid4().hex}", door.package.device_key, "iotdevice-nomodel-aaaaaaaa"):
        async with keycloak_client(stack, client_id, mappers=mappers) as visitor:
            token = await http_helpers.token(visitor)
            claims = unverified_claims(token)
            assert "mdm" in claims["aud"]
            assert claims["secret_gen"] == 1
            assert refused(await door.knock(token))


@pytest.mark.parametrize("missing", ["audience", "secret_gen"])
async def test_a_token_that_is_not_for_us_or_names_no_secret_is_refused(
    door: Door, stack: Stack, missing: str
) -> None:
    async with client_in_keycloak(stack.endpoints, door.package) as (http, path, found):
        [mapper] = [mapper for mapper in found["protocolMappers"] if mapper["name"] == missing]
        (await http.delete(f"{path}/protocol-mappers/models/{mapper['id']}")).raise_for_status()
    assert refused(await door.knock(await http_helpers.token(door.package)))


async def test_an_expired_token_is_refused(door: Door, stack: Stack) -> None:
    async with client_in_keycloak(stack.endpoints, door.package) as (http, path, found):
        lifespan = {"attributes": {**found["attributes"], "access.token.lifespan": "-60"}}
        (await http.put(path, json=found | lifespan)).raise_for_status()
    token = await http_helpers.token(door.package)
    assert unverified_claims(token)["exp"] < time.time()
    assert refused(await door.knock(token))


async def test_a_disabled_device_is_refused_at_once_and_let_in_again(fleet: Fleet, door: Door) -> None:
    await fleet.ask(admin.DEVICE_UPDATE, device=door.package.client_id, enabled=False)
    assert refused(await door.knock())
    await fleet.ask(admin.DEVICE_UPDATE, device=door.package.client_id, enabled=True)
    assert (await door.knock()).status_code == 200


async def test_a_removed_device_is_refused_at_once(fleet: Fleet, door: Door) -> None:
    await fleet.ask(admin.DEVICE_REMOVE, device=door.package.client_id)
    assert refused(await door.knock())


async def test_a_token_of_a_secret_that_was_given_anew_is_refused(fleet: Fleet, door: Door) -> None:
    renewed = await fleet.ask(admin.DEVICE_REISSUE, device=door.package.client_id)
    assert refused(await door.knock())
    assert (await door.knock(await http_helpers.token(renewed))).status_code == 200


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("ends", ["done", "cancelled"])
async def test_a_device_is_let_in_all_through_a_rotation_and_afterwards_with_the_secret_in_force_only(
    fleet: Fleet, door: Door, ends: str
) -> None:
    package, old = door.package, door.token
    async with RawDevice(package, online=True) as device:
        await fleet.ask(admin.ROTATION_START, device=package.client_id)
        await fleet.seen(package, "rotation/offered")
        assert (await door.knock(old)).status_code == 200
        rotation_id, secret = await device.fetch_secret()
        proof = crypto.proof(secret, "stored", rotation_id)
        await device.send(topics.ROTATION_STORED, messages.RotationStored(rotation_id=rotation_id, proof=proof))
        await fleet.seen(package, "rotation/switched")
    switched = package.model_copy(update={"secret": secret.get_secret_value()})
    new = await http_helpers.token(switched)
    assert unverified_claims(new)["secret_gen"] == 2
    assert (await door.knock(new)).status_code == 200
    assert (await door.knock(old)).status_code == 200
    if ends == "done":
        async with RawDevice(switched) as device:
            proof = crypto.proof(secret, "ack", rotation_id)
            await device.send(topics.ROTATION_ACK, messages.RotationAck(rotation_id=rotation_id, proof=proof))
            await fleet.seen(package, "rotation/completed")
        assert refused(await door.knock(old))
        assert (await door.knock(new)).status_code == 200
    else:
        await fleet.ask(admin.ROTATION_CANCEL, device=package.client_id)
        await fleet.seen(package, "rotation/timed_out")
        assert refused(await door.knock(new))
        assert (await door.knock(old)).status_code == 200


async def test_while_keycloak_is_away_known_keys_count_and_others_are_to_be_asked_for_later(
    system: System, stack: Stack, door: Door
) -> None:
    assert (await door.knock()).status_code == 200
    await asyncio.to_thread(lambda: system.start("firmware", name="ignorant"))
    stack.keycloak.send_signal(signal.SIGSTOP)
    try:
        async with http_helpers.visiting(system, door.token, name="ignorant") as client:
            answer = await client.get(f"/firmware/{door.view.sha256}")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert (await door.knock()).status_code == 200
    finally:
        stack.keycloak.send_signal(signal.SIGCONT)
        await asyncio.to_thread(system.stop, "ignorant")


class Gauge:
    """A way to Keycloak that counts connections, and may be closed."""

    def __init__(self, stack: Stack) -> None:
        self._url = httpx.URL(stack.endpoints.keycloak_url)
        self.realm = stack.endpoints.realm
        self.count = 0
        self.is_open = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lead, HOST, 0)
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/realms/{self.realm}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        if self.is_open:
            to_reader, to_writer = await asyncio.open_connection(self._url.host, self._url.port)
            to_writer.write((await reader.readuntil(b"\r\n\r\n")).replace(b"keep-alive", b"close"))
            writer.write(await to_reader.read())
            to_writer.close()
        writer.close()


async def test_invented_keys_do_not_become_requests_to_keycloak(stack: Stack, door: Door) -> None:
    kid = parts(door.token)[0]["kid"]
    now = 0.0
    async with Gauge(stack) as way:
        keys = SigningKeys(way.url, clock=lambda: now)
        assert await asyncio.gather(*(keys.get(f"invented-{number}") for number in range(50))) == [None] * 50
        assert await keys.get(kid) is not None
        assert way.count == 1
        now += REFETCH_S
        assert await asyncio.gather(*(keys.get(f"invented-{number}") for number in range(50))) == [None] * 50
        assert way.count == 2
        now += KEYS_FRESH_S
        assert await keys.get(kid) is not None
        assert way.count == 3
        way.is_open = False
        now += KEYS_FRESH_S
        assert await keys.get(kid) is not None
        with pytest.raises(UnavailableError):
            await keys.get("invented")
        assert way.count == 4
        way.is_open = True
        now += REFETCH_S
        assert await keys.get("invented") is None


async def test_a_token_that_no_key_is_known_for_costs_one_request_and_is_refused(stack: Stack, door: Door) -> None:
    header, claims, signature = parts(door.token)
    issuer = door.package.token_url.partition("/protocol/")[0]
    async with Gauge(stack) as way:
        tokens = Tokens(SigningKeys(way.url), issuer=issuer)
        for number in range(20):
            forged = f"{closed({**header, 'kid': str(number)})}.{closed(claims)}.{signature}"
            with pytest.raises(TokenRefusedError):
                await tokens.holder(forged)
        assert (await tokens.holder(door.token)).client_id == door.package.client_id
        assert way.count == 1
