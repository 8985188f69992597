"""Downloads of images over HTTP, as devices do them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from dev.servers.base import HOST
from dev.system import System
from dev.waiting import until
from shared.protocol.admin import Package

PATIENCE_S: Final = 30


async def token(package: Package, **headers: str) -> str:
    """Return a new token from Keycloak for a device."""
    form = {
        "grant_type": "client_credentials",
        "client_id": package.client_id,
        "client_secret": package.secret,
    }
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.post(package.token_url, data=form, headers=headers)
    return str(answer.raise_for_status().json()["access_token"])


def bearer(token: str) -> dict[str, str]:
    """Return the header with a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def visiting(system: System, token: str = "", *, name: str = "firmware") -> AsyncIterator[httpx.AsyncClient]:
    """Open a TLS client of a firmware service, with a token if one is given."""
    trust = ssl.create_default_context(cafile=system.stack.endpoints.ca_file)
    url = f"https://{HOST}:{system.http_ports[name]}"
    headers = bearer(token) if token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, verify=trust, timeout=PATIENCE_S) as client:
        yield client


async def served(system: System, package: Package, *, least: int) -> list[dict[str, Any]]:
    """Wait for this number of log lines about a device's requests, and return all."""

    def found() -> list[dict[str, Any]]:
        log = system.services["firmware"].log_file.read_bytes().splitlines()
        lines = [json.loads(line) for line in log if b'"http.answered"' in line]
        return [line for line in lines if line.get("client_id") == package.client_id]

    return await until(lambda: asyncio.to_thread(found), lambda lines: len(lines) >= least)
