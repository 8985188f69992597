"""The interface of a broker for the services, besides messages, and the choice of the implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from pydantic import SecretStr

from shared.broker import mosquitto as broker_accounts
from shared.broker.acl import Acl
from shared.broker.mosquitto import DeviceAccount
from shared.broker.token_broker import TokenBroker
from shared.protocol.admin import Role
from shared.runtime.settings import IdentitySettings


class Admins(Protocol):
    """The accounts of admins, each with the rights of a role."""

    async def put(self, name: str, role: Role, password: SecretStr) -> None:
        """Create an account, or give an existing one this role and password."""

    async def set_role(self, name: str, role: Role) -> None:
        """Put the rights of a role in force for an account."""

    async def delete(self, name: str) -> None:
        """Delete an account and end its sessions; ignore one that does not exist."""

    async def found(self) -> dict[str, frozenset[Acl]]:
        """Return the rights of each admin account."""


class Broker(Protocol):
    """Who may log in; every method raises UnavailableError when the broker does not answer."""

    @property
    def admins(self) -> Admins:
        """The accounts of admins."""

    @property
    def drops(self) -> bool:
        """Whether a device is disconnected at once, without its will, when its secret changes or it is refused."""

    @property
    def keeps_accounts(self) -> bool:
        """Whether the broker itself refuses a device; else Keycloak does, by issuing no token."""

    async def ready(self) -> None:
        """Wait until the broker is reachable."""

    async def put(self, client_id: str, password: SecretStr, generation: int) -> None:
        """Accept the device with this secret and no other; create its account if necessary."""

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Accept or refuse the device."""

    async def delete(self, client_id: str) -> None:
        """Refuse a device or a claim's machines from now on; idempotent."""

    async def devices(self) -> dict[str, DeviceAccount] | None:
        """Return the devices' accounts; None if the broker has no accounts."""

    async def device(self, client_id: str) -> DeviceAccount | None:
        """Return a device's account; None if it has none."""

    async def accepts(self, client_id: str, password: SecretStr) -> bool:
        """Return whether the broker accepts a device with this secret; call only while the device is offline."""

    async def ensure_roles(self) -> None:
        """Put the rights of this version in force for the roles that many accounts share."""

    async def ensure_public(self, accounts: Collection[str]) -> None:
        """Accept everybody who uses one of these names as user name, password and MQTT client id."""

    async def mark(self) -> str | None:
        """Return the id of the installation that owns the accounts; None if none is stored."""

    async def put_mark(self, instance: str) -> None:
        """Store the id of the installation, if there is none yet."""

    async def put_claim(self, claim_id: str, password: SecretStr) -> None:
        """Accept machines with a claim; raise ConflictError if the broker has no accounts."""

    async def claims(self) -> set[str]:
        """Return the names of the claims' accounts."""


@asynccontextmanager
async def connected(
    settings: IdentitySettings,
    *,
    identifier: str,
    nodes: Sequence[str] = (),
    api_token: SecretStr | None = None,
) -> AsyncIterator[Broker]:
    """Open the broker's API for the block; `nodes` are the URLs of the API of each node of a token broker."""
    if settings.broker_auth == "token" or settings.accounts_password is None:
        async with TokenBroker(nodes, api_token) as broker:
            yield broker
        return
    async with broker_accounts.connected(settings, settings.accounts_password, identifier=identifier) as broker:
        yield broker
