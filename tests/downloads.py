"""Images fetched over HTTP as a device does it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from shared.admin import Package
from tests.servers.base import HOST
from tests.system import System

PATIENCE_S: Final = 30


async def token(package: Package, **headers: str) -> str:
    """Return a fresh token of Keycloak for a device."""
    form = {
        "grant_type": "client_credentials",
        "client_id": package.client_id,
        "client_secret": package.secret,
    }
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.post(package.token_url, data=form, headers=headers)
    return str(answer.raise_for_status().json()["access_token"])


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def visiting(system: System, token: str = "", *, name: str = "firmware") -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of a firmware service, over TLS, with a token if one is given."""
    trust = ssl.create_default_context(cafile=system.stack.endpoints.ca_file)
    url = f"https://{HOST}:{system.http_ports[name]}"
    headers = bearer(token) if token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, verify=trust, timeout=PATIENCE_S) as client:
        yield client
