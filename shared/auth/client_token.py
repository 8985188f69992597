"""Access tokens for clients of Keycloak (client credentials grant, RFC 6749, 4.4)."""

from __future__ import annotations

from typing import Final

import httpx
from pydantic import SecretStr

from shared.errors import FleetError, UnavailableError

_REFUSED: Final = frozenset({"invalid_client", "unauthorized_client"})
"""Errors of RFC 6749, 5.2, that concern the client; a proxy's own 401 has none of them."""
_TIMEOUT_S: Final = 10.0


class CredentialsRefusedError(FleetError):
    """Keycloak refuses this client id and secret."""

    code = "credentials_refused"


async def fetch(client: httpx.AsyncClient, token_url: str, client_id: str, secret: SecretStr) -> str:
    """Return a new token; raise CredentialsRefusedError, or UnavailableError for every other failure."""
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret.get_secret_value(),
    }
    try:
        answer = await client.post(token_url, data=form)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError("Keycloak does not answer (token); retry") from error
    if _error(answer) in _REFUSED:
        raise CredentialsRefusedError(f"Keycloak refuses the secret of {client_id}", client_id=client_id)
    if not answer.is_success:
        raise UnavailableError(f"Keycloak answers {answer.status_code} (token); retry")
    try:
        return str(answer.json()["access_token"])
    except (ValueError, KeyError, TypeError):
        raise UnavailableError("Keycloak's answer has no token") from None


def _error(answer: httpx.Response) -> object:
    """Return the error code of an answer of the token endpoint; None for any other answer."""
    if not answer.is_client_error:
        return None
    try:
        body = answer.json()
    except ValueError:
        return None
    return body.get("error") if isinstance(body, dict) else None


async def password(token_url: str | None, account: str, secret: SecretStr) -> SecretStr:
    """Return the password for the broker: the secret itself, or with a `token_url` a new token, as `fetch`."""
    if token_url is None:
        return secret
    async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
        return SecretStr(await fetch(client, token_url, account, secret))
