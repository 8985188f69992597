"""Admins' accounts in the broker, each with a role of the same name (checked on Mosquitto 2.0.21).

The broker ends the sessions of an account when its role or password changes and when it is deleted.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from pydantic import SecretStr

from shared.broker.acl import Acl, acls
from shared.errors import ConflictError, NotFoundError
from shared.protocol.admin import BUILT_IN, Role

_ROLE_PREFIX: Final = "admin-"


class AccountCommands(Protocol):
    """The operations on any account, see mosquitto.BrokerAccounts."""

    async def command(self, command: str, **arguments: object) -> dict[str, Any]:
        """Execute a command of the plugin and return the data of its answer."""

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Enable an account, or disable it and drop its connections."""

    async def delete(self, client_id: str) -> None:
        """Delete an account; ignore one that does not exist."""


@dataclass(frozen=True, slots=True)
class AdminAccounts:
    """Creates, changes and deletes the accounts of admins, but never the built-in one."""

    accounts: AccountCommands

    async def put(self, name: str, role: Role, password: SecretStr) -> None:
        """Create an account, or give an existing one this role and password.

        Raise ConflictError if the name belongs to an account of another kind.
        """
        await self.set_role(name, role)
        secret = password.get_secret_value()
        roles = [{"rolename": _role_name(name)}]
        try:
            await self.accounts.command("createClient", username=name, password=secret, roles=roles)
        except ConflictError:
            client = (await self.accounts.command("getClient", username=name))["client"]
            if not _is_admin(client):
                await self._delete_role(name)
                raise ConflictError(f"name: the broker has an account {name} of another kind", name=name) from None
            await self.accounts.command("setClientPassword", username=name, password=secret)
            await self.accounts.enable(name, enabled=True)

    async def set_role(self, name: str, role: Role) -> None:
        """Put the rights of a role in force for an account."""
        lines = [asdict(acl) for acl in acls(name, role)]
        try:
            await self.accounts.command("createRole", rolename=_role_name(name), acls=lines)
        except ConflictError:
            await self.accounts.command("modifyRole", rolename=_role_name(name), acls=lines)

    async def delete(self, name: str) -> None:
        """Delete an account and end its sessions; ignore one that does not exist."""
        await self.accounts.delete(name)
        await self._delete_role(name)

    async def found(self) -> dict[str, frozenset[Acl]]:
        """Return the rights of each admin account; the built-in one, if present, has those of the ACL file."""
        roles = (await self.accounts.command("listRoles", verbose=True))["roles"]
        rights = {role["rolename"]: frozenset(Acl(**acl) for acl in role["acls"]) for role in roles}
        clients = (await self.accounts.command("listClients", verbose=True))["clients"]
        return {
            client["username"]: rights.get(_role_name(client["username"]), frozenset())
            for client in clients
            if not client.get("disabled", False) and (_is_admin(client) or client["username"] == BUILT_IN)
        }

    async def _delete_role(self, name: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self.accounts.command("deleteRole", rolename=_role_name(name))


def _role_name(account: str) -> str:
    return f"{_ROLE_PREFIX}{account}"


def _is_admin(client: dict[str, Any]) -> bool:
    return _role_name(client["username"]) in [role["rolename"] for role in client.get("roles", [])]
