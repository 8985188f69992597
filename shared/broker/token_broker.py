"""Brokers that keep no accounts of devices, but check the tokens that Keycloak gives for their secrets.

Who gets no token is not let in. A broker does not see that the device of a session would get none any more: it
ends the session when its token expires, or at once if its nodes have an API to be told by. `DELETE
{url}/clients/{id}` is that of RMQTT (checked on 0.24.0: a node knows its own clients only) and, by its documents,
of EMQX.
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
    """Ends sessions by the API of each of its nodes, if there are any; all else is Keycloak's."""

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
        """Whether a device is cut off at once: else it may stay until its token expires."""
        return bool(self._nodes)

    async def ready(self) -> None:
        """Return: nothing is kept open."""

    async def put(self, client_id: str, password: SecretStr, generation: int) -> None:  # noqa: ARG002 - Keycloak has it
        """End the session that another secret began."""
        await self._drop(client_id)

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """End the session of a device that gets no more tokens."""
        if not enabled:
            await self._drop(client_id)

    async def delete(self, client_id: str) -> None:
        """End the session of a device that gets no more tokens."""
        await self._drop(client_id)

    async def devices(self) -> None:
        """Return None: there are no accounts."""

    async def device(self, client_id: str) -> None:
        """Return None: there is no account."""

    async def accepts(self, client_id: str, password: SecretStr) -> bool:  # noqa: ARG002
        """Return True: it lets in whom Keycloak gives a token."""
        return True

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
        """Tell all nodes; one that does not answer is most likely down, and its clients are gone."""
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
                "broker.not_told", node=node, client_id=client_id, error=f"{type(error).__name__}: {error}"
            )


class NoAdmins:
    """Admins are clients of Keycloak too, and made there; the services make none."""

    async def put(self, name: str, role: Role, password: SecretStr) -> None:  # noqa: ARG002
        """Raise ConflictError."""
        raise ConflictError(f"name: this broker keeps no accounts; make a client {name} in Keycloak", name=name)

    async def set_role(self, name: str, role: Role) -> None:  # noqa: ARG002
        """Raise ConflictError."""
        raise ConflictError(f"name: this broker keeps no accounts, so {name} has no role in it", name=name)

    async def delete(self, name: str) -> None:
        """Return: there is none."""

    async def found(self) -> dict[str, frozenset[Acl]]:
        """Return no accounts."""
        return {}
