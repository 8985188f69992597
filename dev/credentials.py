"""Plain clients with given credentials, and checks of a device's credentials at Keycloak and the broker."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import aiomqtt
import httpx
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from dev.stack import Endpoints, Stack
from shared.protocol.admin import ClaimPackage, Package

CONTROL = "$CONTROL/dynamic-security/v1"
_TRUST: Final = ssl.create_default_context()
"""One for all: to read the usual authorities takes longer than a request."""
_PATIENCE_S: Final = 30.0
_REFUSED_HTTP = {400, 401}
_REFUSED_V5 = {0x86, 0x87}
_TAKEN_OVER_V5 = 0x8E


async def keycloak_accepts(package: Package, secret: str | None = None) -> bool:
    """Return whether Keycloak issues a token for this secret, by default the package's."""
    return await keycloak_token(package, secret) is not None


async def keycloak_token(package: Package, secret: str | None = None) -> str | None:
    """Return Keycloak's token for this secret, by default the package's; None if it refuses."""
    form = {
        "grant_type": "client_credentials",
        "client_id": package.client_id,
        "client_secret": secret or package.secret,
    }
    async with httpx.AsyncClient(timeout=_PATIENCE_S, verify=_TRUST) as client:
        response = await client.post(package.token_url, data=form)
    if response.status_code in _REFUSED_HTTP:
        return None
    return str(response.raise_for_status().json()["access_token"])


async def broker_accepts(package: Package, secret: str | None = None) -> bool:
    """Return whether the broker accepts the device; if so, this takes over the device's session."""
    try:
        async with device_client(package, secret):
            return True
    except aiomqtt.MqttError as error:
        code = getattr(getattr(error, "rc", None), "value", None)
        if code in _REFUSED_V5:
            return False
        if code == _TAKEN_OVER_V5:  # it was accepted, and the device has reconnected since
            return True
        raise


def device_client(
    package: Package,
    secret: str | None = None,
    *,
    session_s: int = 0,
    identifier: str | None = None,
    will: aiomqtt.Will | None = None,
) -> aiomqtt.Client:
    """Return a plain MQTT 5 client with a device's credentials, for misbehaving tests.

    With `session_s`, the broker keeps its session and queued messages for this time. `identifier` is the client id
    that it uses, by default its own.
    """
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_s
    return aiomqtt.Client(
        package.mqtt_host,
        package.mqtt_port,
        username=package.client_id,
        password=secret or package.secret,
        identifier=identifier or package.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=session_s == 0,
        properties=properties,
        will=will,
        tls_context=ssl.create_default_context(cadata=package.ca_certificate),
    )


def claim_client(claim: ClaimPackage, identifier: str, *, clean: bool = True) -> aiomqtt.Client:
    """Return a plain MQTT 5 client with a claim's account, under any client id, in a new session if `clean`."""
    return aiomqtt.Client(
        claim.mqtt_host,
        claim.mqtt_port,
        username=claim.account,
        password=claim.password,
        identifier=identifier,
        clean_start=clean,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=ssl.create_default_context(cadata=claim.ca_certificate),
    )


def account_client(endpoints: Endpoints, account: str) -> aiomqtt.Client:
    """Return a plain MQTT 5 client with a service's or an admin's account."""
    return aiomqtt.Client(
        endpoints.mqtt_host,
        endpoints.mqtt_port,
        username=account,
        password=endpoints.accounts[account],
        identifier=f"test-{uuid4().hex}",
        protocol=aiomqtt.ProtocolVersion.V5,
    )


async def broker_accounts(endpoints: Endpoints) -> list[str]:
    """Return the names of all accounts in the broker, as the broker reports them."""
    return list((await _control_broker(endpoints, "listClients"))["clients"])


async def account_label(endpoints: Endpoints, client_id: str) -> str | None:
    """Return the label of the secret of a device's account in the broker, or None if there is none."""
    client: dict[str, str] = (await _control_broker(endpoints, "getClient", username=client_id)).get("client", {})
    return client.get("textname")


async def _control_broker(endpoints: Endpoints, command: str, **arguments: str) -> dict[str, Any]:
    """Return the data of the broker's answer, without data if it refuses."""
    correlation = uuid4().hex
    body = {"commands": [{"command": command, "correlationData": correlation, **arguments}]}
    async with account_client(endpoints, "svc-accounts") as client, asyncio.timeout(_PATIENCE_S):
        await client.subscribe(f"{CONTROL}/response", qos=1)
        await client.publish(CONTROL, json.dumps(body), qos=1)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            for response in json.loads(message.payload)["responses"]:
                if response.get("correlationData") == correlation:
                    return dict(response.get("data", {}))
    raise AssertionError


@asynccontextmanager
async def keycloak_admin(endpoints: Endpoints) -> AsyncIterator[httpx.AsyncClient]:
    """Open Keycloak's admin interface, to read or change clients without the product."""
    form = {
        "grant_type": "client_credentials",
        "client_id": "mdm-registry",
        "client_secret": endpoints.keycloak_clients["mdm-registry"],
    }
    async with httpx.AsyncClient(base_url=endpoints.keycloak_url, timeout=_PATIENCE_S) as client:
        answer = await client.post(f"/realms/{endpoints.realm}/protocol/openid-connect/token", data=form)
        client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"
        yield client


@asynccontextmanager
async def client_in_keycloak(
    endpoints: Endpoints, package: Package
) -> AsyncIterator[tuple[httpx.AsyncClient, str, dict[str, Any]]]:
    """Open Keycloak's admin interface, and yield it with the path of a device's client and its representation."""
    async with keycloak_admin(endpoints) as http:
        clients = f"/admin/realms/{endpoints.realm}/clients"
        (found,) = (await http.get(clients, params={"clientId": package.client_id})).raise_for_status().json()
        yield http, f"{clients}/{found['id']}", found


async def behind_our_back(stack: Stack, command: str, client_id: str, **arguments: object) -> None:
    """Change an account of the broker with full rights."""
    body = {"commands": [{"command": command, "username": client_id, "correlationData": "x", **arguments}]}
    async with account_client(stack.endpoints, "svc-accounts") as client:
        await client.subscribe(f"{CONTROL}/response", qos=1)
        await client.publish(CONTROL, json.dumps(body), qos=1)
        await anext(client.messages)
