"""Brokers without accounts of devices, which check the tokens that Keycloak issues for their secrets.

A device without a token is refused. A broker does not notice that the device of a session would get no token any
more: it ends the session when its token expires, or at once through the API of its nodes, if they have one.
`DELETE {url}/clients/{id}` is that of RMQTT (checked on 0.24.0: a node knows its own clients only) and, according
to its documentation, of EMQX.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import httpx
import structlog
from pydantic import SecretStr

from shared.broker.acl import Acl
from shared.errors import ConflictError
from shared.protocol.admin import Role

log = structlog.get_logger()
_TIMEOUT_S: Final = 10.0


class TokenBroker:
    """Ends sessions through the API of each node, if there is one; everything else is up to Keycloak."""

    def __init__(self, nodes: Sequence[str], api_token: SecretStr | None) -> None:
        self._nodes = nodes
        headers = {"Authorization": f"Bearer {api_token.get_secret_value()}"} if api_token else {}
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers)
        self.admins = NoAdmins()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    keeps_accounts: Final = False

    @property
    def drops(self) -> bool:
        """Whether a device is disconnected at once; else it may stay until its token expires."""
        return bool(self._nodes)

    async def ready(self) -> None:
        """Return: no connection is kept open."""

    async def put(self, client_id: str, password: SecretStr, generation: int) -> None:  # noqa: ARG002 - Keycloak has it
        """End the session that was begun with another secret."""
        await self._drop(client_id)

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """End the session of a device that is disabled."""
        if not enabled:
            await self._drop(client_id)

    async def delete(self, client_id: str) -> None:
        """End the session of a device that is deleted."""
        await self._drop(client_id)

    async def devices(self) -> None:
        """Return None: there are no accounts."""

    async def device(self, client_id: str) -> None:
        """Return None: there is no account."""

    async def accepts(self, client_id: str, password: SecretStr) -> bool:  # noqa: ARG002
        """Return True: the broker accepts every device that has a token."""
        return True

    async def ensure_roles(self) -> None:
        """Return: it has no roles."""

    async def ensure_public(self, accounts: Collection[str]) -> None:
        """Return: it has no accounts."""

    async def mark(self) -> None:
        """Return None: there are no accounts that could belong to another installation."""

    async def put_mark(self, instance: str) -> None:
        """Return: there are no accounts."""

    async def put_claim(self, claim_id: str, password: SecretStr) -> None:  # noqa: ARG002
        """Raise ConflictError: a machine without an identity gets no token."""
        raise ConflictError("claims need a broker with accounts of its own; this one checks tokens")

    async def claims(self) -> set[str]:
        """Return no names."""
        return set()

    async def _drop(self, client_id: str) -> None:
        """End the session on all nodes; one that does not answer is most likely down, and its clients are gone."""
        async with asyncio.TaskGroup() as tasks:
            for node in self._nodes:
                tasks.create_task(self._drop_at(node, client_id))

    async def _drop_at(self, node: str, client_id: str) -> None:
        try:
            answer = await self._http.delete(f"{node}/clients/{quote(client_id, safe='')}")
            if answer.status_code != HTTPStatus.NOT_FOUND:
                answer.raise_for_status()
        except httpx.HTTPError as error:
            log.warning(
                "broker.disconnect_failed",
                node=node,
                client_id=client_id,
                error=f"{type(error).__name__}: {error}",
            )


class NoAdmins:
    """Admins are clients of Keycloak too, and created there; the services create none."""

    async def put(self, name: str, role: Role, password: SecretStr) -> None:  # noqa: ARG002
        """Raise ConflictError."""
        raise ConflictError(f"name: this broker keeps no accounts; create a client {name} in Keycloak", name=name)

    async def set_role(self, name: str, role: Role) -> None:  # noqa: ARG002
        """Raise ConflictError."""
        raise ConflictError(f"name: this broker keeps no accounts, so {name} has no role in it", name=name)

    async def delete(self, name: str) -> None:
        """Return: there is none."""

    async def found(self) -> dict[str, frozenset[Acl]]:
        """Return no accounts."""
        return {}
