"""Devices' identities in Keycloak: one confidential client for each device. No other module changes them.

Properties of Keycloak 26.7 that this relies on: an update is partial; a new secret is in force from the very next
request, and the old one is refused from then on; issued tokens remain valid until they expire.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import httpx
from keycloak import KeycloakAdmin, KeycloakOpenIDConnection
from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakConnectionError,
    KeycloakError,
    KeycloakGetError,
    KeycloakOperationError,
    raise_error_from_response,
)
from pydantic import SecretStr

from shared.auth import client_token
from shared.auth.client_token import CredentialsRefusedError
from shared.auth.tokens import AUDIENCE
from shared.crypto import Held
from shared.errors import ConflictError, FleetError, NotFoundError, UnavailableError
from shared.protocol.topics import device_reads, device_writes
from shared.runtime import metrics
from shared.runtime.settings import KeycloakSettings

T = TypeVar("T")
_INSTANCE: Final = "mdm.instance"
_INSTALLATION: Final = "mdm.installation"
_TIMEOUT_S: Final = 10
_PAGE: Final = 100
_EVENTS: Final = 1000
_GENERATION: Final = re.compile("[0-9]{1,18}")
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's client in Keycloak."""

    client_id: str
    secret: SecretStr
    generation: int
    enabled: bool
    ours: bool
    has_claims: bool = True
    """Whether its tokens have all claims that a broker needs."""

    @property
    def held(self) -> Held:
        """The secret that Keycloak holds."""
        return Held.of(self.secret, self.generation)


def _mappers(client_id: str, generation: int) -> list[dict[str, Any]]:
    """Return the claims of a device's tokens: the client id, the generation of the secret, and the broker's ACL.

    `acl` and `mqtt_client_id` are for brokers that check tokens, in the form of RMQTT and EMQX.
    """
    acl = [
        *({"permission": "allow", "action": "publish", "topic": topic} for topic in device_writes(client_id)),
        *({"permission": "allow", "action": "subscribe", "topic": topic} for topic in device_reads(client_id)),
        {"permission": "deny", "action": "all", "topic": "#"},
    ]
    return [
        {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": AUDIENCE, "access.token.claim": "true"},
        },
        _claim("secret_gen", str(generation), "int"),
        _claim("mqtt_client_id", client_id, "String"),
        _claim("acl", json.dumps(acl), "JSON"),
    ]


def _claim(name: str, value: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-hardcoded-claim-mapper",
        "config": {
            "claim.name": name,
            "claim.value": value,
            "jsonType.label": kind,
            "access.token.claim": "true",
        },
    }


class Keycloak:
    """The realm's device clients; every method raises UnavailableError when Keycloak does not answer."""

    def __init__(self, settings: KeycloakSettings) -> None:
        self._url = settings.keycloak_url
        self._public_url = settings.keycloak_public_url or settings.keycloak_url
        self._realm = settings.keycloak_realm
        self._instance = settings.instance
        self._connection = KeycloakOpenIDConnection(
            server_url=self._url,
            realm_name=self._realm,
            client_id=settings.keycloak_client_id,
            client_secret_key=settings.keycloak_client_secret.get_secret_value(),
            timeout=_TIMEOUT_S,
        )
        self._admin = KeycloakAdmin(connection=self._connection)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S)

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint for devices."""
        return self._token_url(self._public_url)

    def _token_url(self, url: str) -> str:
        return f"{url}/realms/{self._realm}/protocol/openid-connect/token"

    async def create(self, client_id: str, secret: SecretStr, generation: int, *, enabled: bool = True) -> None:
        """Create a device's client; raise ConflictError if the name is taken."""
        payload = {
            "clientId": client_id,
            "enabled": enabled,
            "protocol": "openid-connect",
            "publicClient": False,
            "clientAuthenticatorType": "client-secret",
            "secret": secret.get_secret_value(),
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "implicitFlowEnabled": False,
            "directAccessGrantsEnabled": False,
            "fullScopeAllowed": False,
            "attributes": {_INSTANCE: self._instance},
            "protocolMappers": _mappers(client_id, generation),
        }
        with _translated("create", client_id):
            await _twice(lambda: self._admin.a_create_client(payload))

    async def set_secret(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Put secret and generation in force, both in one update; idempotent."""
        changes = {"secret": secret.get_secret_value(), "protocolMappers": _mappers(client_id, generation)}
        found = await self._change("set_secret", client_id, changes)
        if (found.secret, found.generation) != (secret, generation):
            raise UnavailableError("Keycloak lost a change (set_secret); retry", client_id=client_id)

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Enable or disable a device's client; the next request for a token is answered accordingly."""
        found = await self._change("enable", client_id, {"enabled": enabled})
        if found.enabled != enabled:
            raise UnavailableError("Keycloak lost a change (enable); retry", client_id=client_id)

    async def _change(self, operation: str, client_id: str, changes: dict[str, Any]) -> Identity:
        """Update a client and return its new state: of two concurrent updates Keycloak keeps only parts."""
        found = await self._find(client_id)
        with _translated(operation, client_id):
            await _twice(lambda: self._admin.a_update_client(found["id"], changes))
        return await self.get(client_id)

    async def get(self, client_id: str) -> Identity:
        """Return a device's client with its secret, or raise NotFoundError."""
        return self._identity(await self._find(client_id))

    async def ours(self) -> list[Identity]:
        """Return all clients of our instance, page by page: Keycloak takes a minute for 2,000 at once."""
        found: list[dict[str, Any]] = []
        while True:
            with _translated("list", "all"):
                page = await self._clients(first=len(found), max=_PAGE, clientId="iotdevice-", search="true")
            found += page
            if len(page) < _PAGE:
                return [self._identity(client) for client in found if self._is_ours(client)]

    async def delete(self, client_id: str) -> None:
        """Delete a device's client; ignore one that does not exist or is not of our instance."""
        try:
            found = await self._find(client_id)
            if not self._is_ours(found):
                return
            with _translated("delete", client_id):
                await self._admin.a_delete_client(found["id"])
        except NotFoundError:
            return

    async def refusals(self) -> dict[str, datetime]:
        """Return when Keycloak last refused each device; empty if it stores no events or denies access to them."""
        path = f"admin/realms/{self._realm}/events"
        with _translated("list", "all"):
            response = await _twice(
                partial(self._connection.a_raw_get, path, type="CLIENT_LOGIN_ERROR", max=_EVENTS)
            )
            if response.status_code == _FORBIDDEN:
                return {}
            events = raise_error_from_response(response, KeycloakGetError)
        found: dict[str, datetime] = {}
        for event in events if isinstance(events, list) else []:
            at = datetime.fromtimestamp(event["time"] / 1000, UTC)
            client_id = event.get("clientId") or ""
            found[client_id] = max(at, found.get(client_id, at))
        return found

    async def mark(self) -> str | None:
        """Return the id of the installation that owns the clients, None if none has marked them."""
        try:
            return str((await self._find(self._mark_name)).get("attributes", {}).get(_INSTALLATION) or "") or None
        except NotFoundError:
            return None

    async def put_mark(self, installation: str) -> None:
        """Mark the clients as those of an installation, if none has: by a client that nobody can use."""
        attributes = {_INSTANCE: self._instance, _INSTALLATION: installation}
        payload = {"clientId": self._mark_name, "enabled": False, "attributes": attributes}
        with suppress(ConflictError), _translated("create", self._mark_name):
            await self._admin.a_create_client(payload)

    async def move_mark(self, installation: str) -> None:
        """Mark the clients as those of an installation, whoever owned them before."""
        await self.put_mark(installation)
        attributes = {_INSTANCE: self._instance, _INSTALLATION: installation}
        await self._change("mark", self._mark_name, {"attributes": attributes})

    @property
    def _mark_name(self) -> str:
        return f"mdm-instance-{self._instance}"

    async def claims(self, client_id: str, secret: SecretStr) -> dict[str, Any]:
        """Return the claims of a fresh token, or raise CredentialsRefusedError.

        The signature is not checked: the token comes straight from the endpoint that issued it.
        """
        status = "unavailable"
        try:
            url = self._token_url(self._url)
            token = await _twice(lambda: client_token.fetch(self._http, url, client_id, secret))
            status = "ok"
        except CredentialsRefusedError:
            status = "refused"
            raise
        finally:
            metrics.KEYCLOAK_OPERATIONS.labels("token", status).inc()
        return unverified_claims(token)

    async def close(self) -> None:
        """Close the connections to Keycloak."""
        await self._connection.aclose()
        await self._connection.keycloak_openid.connection.aclose()
        await self._http.aclose()

    def _identity(self, client: Mapping[str, Any]) -> Identity:
        values = _values(client.get("protocolMappers", []))
        # A person may have changed it; what is no generation is none of ours.
        client_id, written = client["clientId"], values.get("secret_gen", "")
        generation = int(written) if _GENERATION.fullmatch(written) else 0
        return Identity(
            client_id=client_id,
            secret=SecretStr(client.get("secret", "")),
            generation=generation,
            enabled=client.get("enabled", False),
            ours=self._is_ours(client),
            has_claims=values.items() >= _values(_mappers(client_id, generation)).items(),
        )

    def _is_ours(self, found: Mapping[str, Any]) -> bool:
        return bool(found.get("attributes", {}).get(_INSTANCE) == self._instance)

    async def _find(self, client_id: str) -> dict[str, Any]:
        """Return a client; raise NotFoundError only when the realm itself has none of this id."""
        with _translated("find", client_id):
            found = await self._clients(clientId=client_id)
            if not found:
                raise NotFoundError(f"Keycloak has no client {client_id}", client_id=client_id)
            return found[0]

    async def _clients(self, **wanted: object) -> list[dict[str, Any]]:
        """Return the matching clients; raise UnavailableError for an answer that is no list, as a proxy's."""
        path = f"admin/realms/{self._realm}/clients"
        response = await _twice(partial(self._connection.a_raw_get, path, **wanted))
        answer = raise_error_from_response(response, KeycloakGetError)
        if not isinstance(answer, list) or not all(isinstance(it, dict) and "clientId" in it for it in answer):
            raise UnavailableError("Keycloak's answer is no list of clients; is a proxy in between?")
        return answer


async def _twice(request: Callable[[], Awaitable[T]]) -> T:
    """Retry once when no answer came: after a restart of Keycloak, a kept-alive connection is dead.

    Every request of this module may be sent twice.
    """
    try:
        return await request()
    except (KeycloakConnectionError, UnavailableError):
        return await request()


def unverified_claims(token: str) -> dict[str, Any]:
    """Return a JWT's claims (RFC 7519), its signature unchecked, or raise CredentialsRefusedError."""
    try:
        _, body, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error):
        raise CredentialsRefusedError("token: is not a JWT") from None
    if not isinstance(claims, dict):
        raise CredentialsRefusedError("token: its claims are no object")
    return claims


def _values(mappers: list[dict[str, Any]]) -> dict[str, str]:
    """Return the values of hard-coded claims by the names of their mappers."""
    return {it["name"]: it["config"]["claim.value"] for it in mappers if "claim.value" in it["config"]}


@contextmanager
def _translated(operation: str, client_id: str) -> Iterator[None]:
    """Count an operation and translate the library's errors into ours."""
    status = "ok"
    try:
        yield
    except NotFoundError:
        status = "not_found"
        raise
    except UnavailableError as error:
        status = error.code
        raise
    except (KeycloakConnectionError, KeycloakAuthenticationError, KeycloakOperationError) as error:
        translated = _translate(error, operation, client_id)
        status = translated.code
        raise translated from error
    finally:
        metrics.KEYCLOAK_OPERATIONS.labels(operation, status).inc()


def _translate(error: KeycloakError, operation: str, client_id: str) -> FleetError:
    """Return our error. A 404 is not about a client: a proxy or a missing realm answers it for every address."""
    if error.response_code == _CONFLICT:
        return ConflictError(f"Keycloak already has a client {client_id}", client_id=client_id)
    status = f"answers {error.response_code}" if error.response_code else "does not answer"
    return UnavailableError(f"Keycloak {status} ({operation}); retry", operation=operation)


@asynccontextmanager
async def connected(settings: KeycloakSettings) -> AsyncIterator[Keycloak]:
    """Open Keycloak for the block."""
    keycloak = Keycloak(settings)
    try:
        yield keycloak
    finally:
        await keycloak.close()
