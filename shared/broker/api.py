"""What the services need of a broker beside its messages, and which broker it is."""

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
        """Make an account, or give the one that is there this role and password."""

    async def set_role(self, name: str, role: Role) -> None:
        """Put the rights of a role in force for an account."""

    async def delete(self, name: str) -> None:
        """Remove an account, and end its sessions; one that is gone already is no error."""

    async def found(self) -> dict[str, frozenset[Acl]]:
        """Return what each account of an admin may do."""


class Broker(Protocol):
    """Who may log in; every method raises UnavailableError when the broker does not answer."""

    @property
    def admins(self) -> Admins:
        """The accounts of admins."""

    @property
    def drops(self) -> bool:
        """Whether a device is cut off at once when its secret is changed or it is refused, without its will."""

    @property
    def keeps_accounts(self) -> bool:
        """Whether it refuses a device by itself; else Keycloak does, by giving it no token."""

    async def ready(self) -> None:
        """Wait until the broker can be reached."""

    async def put(self, client_id: str, password: SecretStr, generation: int) -> None:
        """Let a device in with this secret and no other, whether it was known before or not."""

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Let the device in, or keep it out."""

    async def delete(self, client_id: str) -> None:
        """Let a device or a claim's machines in no more; again is no error."""

    async def devices(self) -> dict[str, DeviceAccount] | None:
        """Return the devices' accounts; None if it keeps none."""

    async def device(self, client_id: str) -> DeviceAccount | None:
        """Return a device's account; None if it has none."""

    async def accepts(self, client_id: str, password: SecretStr) -> bool:
        """Say whether it lets a device in with this secret; to be asked only while the device is not connected."""

    async def ensure_public(self, accounts: Collection[str]) -> None:
        """Let everybody in who gives one of these names as user name, password and MQTT client id."""

    async def mark(self) -> str | None:
        """Return the id of the installation whose accounts it keeps; None if it keeps no id."""

    async def put_mark(self, instance: str) -> None:
        """Keep the id of the installation, if there is none yet."""

    async def put_claim(self, claim_id: str, password: SecretStr) -> None:
        """Let machines with a claim in, or raise ConflictError if it cannot."""

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
    """Open what the settings say for the block; `nodes` are the URLs of the API of each node of a token broker."""
    if settings.broker_auth == "token" or settings.accounts_password is None:
        async with TokenBroker(nodes, api_token) as broker:
            yield broker
        return
    async with broker_accounts.connected(settings, settings.accounts_password, identifier=identifier) as broker:
        yield broker
