"""Devices' identities in Keycloak: one confidential client a device, made, changed and read here only.

Facts of Keycloak 26.7 relied upon: an update is partial; a new secret counts from the very next request, and
the old one is refused from then on; tokens that are already minted live until they expire.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
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

from shared import metrics
from shared.errors import ConflictError, FleetError, NotFoundError, UnavailableError
from shared.settings import KeycloakSettings
from shared.tokens import AUDIENCE

T = TypeVar("T")
_INSTANCE: Final = "mdm.instance"
_TIMEOUT_S: Final = 10
_PAGE: Final = 100
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_REFUSED: Final = (400, 401)


class CredentialsRefusedError(FleetError):
    """Keycloak refuses this client id and secret."""

    code = "credentials_refused"


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's client as Keycloak holds it."""

    client_id: str
    secret: SecretStr
    generation: int
    enabled: bool
    ours: bool


def _mappers(generation: int) -> list[dict[str, Any]]:
    """Return the claims of a device's tokens: for whom they are, and which secret minted them."""
    return [
        {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": AUDIENCE, "access.token.claim": "true"},
        },
        {
            "name": "secret_gen",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {
                "claim.name": "secret_gen",
                "claim.value": str(generation),
                "jsonType.label": "int",
                "access.token.claim": "true",
            },
        },
    ]


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
        """Where a device gets its tokens."""
        return self._token_url(self._public_url)

    def _token_url(self, url: str) -> str:
        return f"{url}/realms/{self._realm}/protocol/openid-connect/token"

    async def create(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Make a device's client, or raise ConflictError if there is one of this name."""
        payload = {
            "clientId": client_id,
            "enabled": True,
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
            "protocolMappers": _mappers(generation),
        }
        with _translated("create", client_id):
            await _twice(lambda: self._admin.a_create_client(payload))

    async def set_secret(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Put secret and generation in force, both in one update; doing it again changes nothing."""
        found = await self._find(client_id)
        with _translated("set_secret", client_id):
            await self._admin.a_update_client(
                found["id"], {"secret": secret.get_secret_value(), "protocolMappers": _mappers(generation)}
            )

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Give the device tokens, or refuse them from the next request on."""
        found = await self._find(client_id)
        with _translated("enable", client_id):
            await _twice(lambda: self._admin.a_update_client(found["id"], {"enabled": enabled}))

    async def get(self, client_id: str) -> Identity:
        """Return a device's client with its secret, or raise NotFoundError."""
        return self._identity(await self._find(client_id))

    async def ours(self) -> list[Identity]:
        """Return all clients of our instance; read in pages, since Keycloak takes a minute for 2,000 at once."""
        found: list[dict[str, Any]] = []
        page: list[dict[str, Any]] = []
        while not found or len(page) == _PAGE:
            with _translated("list", "all"):
                wanted = {"first": len(found), "max": _PAGE, "clientId": "iotdevice-", "search": "true"}
                path = f"admin/realms/{self._realm}/clients"
                response = await _twice(partial(self._connection.a_raw_get, path, **wanted))
                answer = raise_error_from_response(response, KeycloakGetError)
                page = answer if isinstance(answer, list) else []
            found += page
            if not page:
                break
        return [self._identity(client) for client in found if self._is_ours(client)]

    async def delete(self, client_id: str) -> None:
        """Remove a device's client; one that is gone already, or is not of our instance, is left alone."""
        try:
            found = await self._find(client_id)
            if not self._is_ours(found):
                return
            with _translated("delete", client_id):
                await self._admin.a_delete_client(found["id"])
        except NotFoundError:
            return

    async def claims(self, client_id: str, secret: SecretStr) -> dict[str, Any]:
        """Return the claims of a fresh token, or raise CredentialsRefusedError.

        The signature is not checked: the token comes straight from the endpoint that made it.
        """
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": secret.get_secret_value(),
        }
        status = "unavailable"
        try:
            response = await _twice(lambda: self._http.post(self._token_url(self._url), data=form))
            status = "ok" if response.is_success else "refused"
        except httpx.HTTPError as error:
            raise UnavailableError("Keycloak does not answer (token); try again") from error
        finally:
            metrics.KEYCLOAK_OPERATIONS.labels("token", status).inc()
        if response.status_code in _REFUSED:
            raise CredentialsRefusedError(f"Keycloak refuses the secret of {client_id}", client_id=client_id)
        if not response.is_success:
            raise UnavailableError(f"Keycloak answers {response.status_code} (token); try again")
        return unverified_claims(response.json()["access_token"])

    async def close(self) -> None:
        """Close the connections to Keycloak."""
        await self._connection.aclose()
        await self._connection.keycloak_openid.connection.aclose()
        await self._http.aclose()

    def _identity(self, client: Mapping[str, Any]) -> Identity:
        return Identity(
            client_id=client["clientId"],
            secret=SecretStr(client.get("secret", "")),
            generation=_generation(client),
            enabled=client.get("enabled", False),
            ours=self._is_ours(client),
        )

    def _is_ours(self, found: Mapping[str, Any]) -> bool:
        return bool(found.get("attributes", {}).get(_INSTANCE) == self._instance)

    async def _find(self, client_id: str) -> dict[str, Any]:
        with _translated("find", client_id):
            uuid = await _twice(lambda: self._admin.a_get_client_id(client_id))
            if uuid is None:
                raise NotFoundError(f"Keycloak knows no client {client_id}", client_id=client_id)
            return await _twice(lambda: self._admin.a_get_client(uuid))


async def _twice(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask once more when no answer came: after a restart of Keycloak, a connection that was kept is dead.

    Every request here may be made twice.
    """
    try:
        return await ask()
    except (KeycloakConnectionError, httpx.TransportError):
        return await ask()


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


def _generation(client: Mapping[str, Any]) -> int:
    for mapper in client.get("protocolMappers", []):
        if mapper["name"] == "secret_gen":
            return int(mapper["config"]["claim.value"])
    return 0


@contextmanager
def _translated(operation: str, client_id: str) -> Iterator[None]:
    """Count an operation and turn the library's errors into ours."""
    status = "ok"
    try:
        yield
    except NotFoundError:
        status = "not_found"
        raise
    except (KeycloakConnectionError, KeycloakAuthenticationError, KeycloakOperationError) as error:
        translated = _translate(error, operation, client_id)
        status = translated.code
        raise translated from error
    finally:
        metrics.KEYCLOAK_OPERATIONS.labels(operation, status).inc()


def _translate(error: KeycloakError, operation: str, client_id: str) -> FleetError:
    if error.response_code == _NOT_FOUND:
        return NotFoundError(f"Keycloak knows no client {client_id}", client_id=client_id)
    if error.response_code == _CONFLICT:
        return ConflictError(f"Keycloak has a client {client_id} already", client_id=client_id)
    return UnavailableError(f"Keycloak does not answer ({operation}); try again", operation=operation)


@asynccontextmanager
async def connected(settings: KeycloakSettings) -> AsyncIterator[Keycloak]:
    """Open Keycloak for the block."""
    keycloak = Keycloak(settings)
    try:
        yield keycloak
    finally:
        await keycloak.close()
