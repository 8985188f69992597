"""Admins' accounts in the broker, each with a role of its own, named after it (checked on Mosquitto 2.0.21).

Facts relied upon: a changed role ends the sessions of who has it, as does a changed password or the account's end.
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
    """What is needed of accounts in general, see mosquitto.BrokerAccounts."""

    async def command(self, command: str, **arguments: object) -> dict[str, Any]:
        """Have the plugin carry out a command, and return its data."""

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Let an account in, or drop it and keep it out."""

    async def delete(self, client_id: str) -> None:
        """Remove an account; one that is gone already is no error."""


@dataclass(frozen=True, slots=True)
class AdminAccounts:
    """Makes, changes and removes the accounts of admins, but never the built-in one."""

    accounts: AccountCommands

    async def put(self, name: str, role: Role, password: SecretStr) -> None:
        """Make an account, or give the one that is there this role and password.

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
                raise ConflictError(f"name: the broker has another kind of account {name}", name=name) from None
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
        """Remove an account, and end its sessions; one that is gone already is no error."""
        await self.accounts.delete(name)
        await self._delete_role(name)

    async def found(self) -> dict[str, frozenset[Acl]]:
        """Return what each account of an admin may do; the built-in one, if it is there, by the ACL file."""
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
