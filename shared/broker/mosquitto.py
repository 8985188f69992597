"""Devices' and claims' accounts in the broker, through Mosquitto's dynamic-security plugin (checked on 2.0.21).

This module, with admin_accounts.py for those of admins, implements api.Broker for a broker with accounts. Commands
go to `$CONTROL/dynamic-security/v1`, which only svc-accounts may use; answers of all sessions come on one topic
and are distinguished by their correlationData.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import uuid4

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from pydantic import SecretStr

from shared.broker.acl import GROUP_ROLES, Acl
from shared.broker.admin_accounts import AdminAccounts
from shared.crypto import Held
from shared.database import device_refs
from shared.errors import ConflictError, FleetError, NotFoundError, UnavailableError
from shared.mqtt.client import Client, entered
from shared.mqtt.connection import Account, Connection, Delivery, Route
from shared.protocol.topics import Topic
from shared.runtime.settings import PlaceSettings

USERNAME: Final = "svc-accounts"
_CONTROL: Final = "$CONTROL/dynamic-security/v1"
_RESPONSE: Final = Topic("$CONTROL/dynamic-security/v1/response", bytes)
_TIMEOUT_S: Final = 10.0
_PAGE: Final = 1000
_REFUSED: Final = (0x86, 0x87)
"""Bad user name or password, not authorized: paho has the codes of MQTT 5 for those of 3.1.1, too."""
MARK: Final = "mdm-instance"
"""A role that no account has; its text name is the installation's id."""


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """A device's account: whether it is enabled, and the secret that it holds, None if not recorded."""

    enabled: bool
    held: Held | None


class BrokerAccounts:
    """Creates, changes and deletes accounts; a new password or a deletion drops the account's connections."""

    drops: Final = True
    keeps_accounts: Final = True

    def __init__(self, connection: Connection) -> None:
        self.admins = AdminAccounts(self)
        self._connection = connection
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Subscribe to the plugin's answers."""
        await self._connection.listen(Route(_RESPONSE, self._on_response))

    async def ready(self) -> None:
        """Wait until the broker is reachable."""
        await self._connection.ready()

    async def put(self, client_id: str, password: SecretStr, generation: int) -> None:
        """Create a device's account with this password, or set that of an existing one and drop its sessions.

        The account's text name records the secret's generation and fingerprint, in the same step.
        """
        held = str(Held.of(password, generation))
        await self._put(client_id, password, group="devices", clientid=client_id, textname=held)

    async def put_claim(self, claim_id: str, password: SecretStr) -> None:
        """Create a claim's account, which many machines share, or set the password of an existing one."""
        await self._put(claim_id, password, group="claims")

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Enable the device's account, or disable it and drop its connections; idempotent."""
        await self.command("enableClient" if enabled else "disableClient", username=client_id)

    async def delete(self, client_id: str) -> None:
        """Delete an account; ignore one that does not exist."""
        with contextlib.suppress(NotFoundError):
            await self.command("deleteClient", username=client_id)

    async def devices(self) -> dict[str, DeviceAccount]:
        """Return the devices' accounts by client id."""
        clients = await self._clients()
        return {name: _account(it) for name, it in clients.items() if name.startswith(device_refs.PREFIX)}

    async def device(self, client_id: str) -> DeviceAccount | None:
        """Return a device's account, or None if it has none."""
        try:
            return _account((await self.command("getClient", username=client_id))["client"])
        except NotFoundError:
            return None

    async def accepts(self, client_id: str, password: SecretStr) -> bool:
        """Return whether the broker accepts a device with this password; only call it while the device is offline.

        It logs in as the device: the session is kept, and messages that wait in it are not acknowledged.
        """
        account = self._connection.account
        client = Client(
            account.host,
            account.port,
            username=client_id,
            password=password.get_secret_value(),
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=False,
        )
        try:
            async with entered(client, timeout_s=_TIMEOUT_S):
                return True
        except MqttConnectError as error:
            if error.rc in _REFUSED:
                return False
            raise UnavailableError(f"the broker is not ready: {error}; retry") from error
        except (aiomqtt.MqttError, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer: {error}; retry") from error

    async def ensure_roles(self) -> None:
        """Add what the roles that many accounts share lack; the broker then ends the sessions of these accounts.

        Only those of claims and recovery ever lack something, after an update: what this version denies them.
        """
        roles = (await self.command("listRoles", verbose=True))["roles"]
        for role in roles:
            there = {Acl(**acl) for acl in role.get("acls", [])}
            for acl in GROUP_ROLES.get(role["rolename"], ()):
                if acl not in there:
                    await self.command("addRoleACL", rolename=role["rolename"], **asdict(acl))

    async def ensure_public(self, accounts: Collection[str]) -> None:
        """Create accounts whose password and MQTT client id are their names, where missing.

        They belong to the group of claims: the ACL file's patterns for devices do not apply to them.
        """
        there = await self._clients()
        for name in accounts:
            if name not in there:
                with contextlib.suppress(ConflictError):
                    groups = [{"groupname": "claims"}]
                    await self.command("createClient", username=name, password=name, clientid=name, groups=groups)

    async def claims(self) -> set[str]:
        """Return the names of the claims' accounts."""
        return {name for name in await self._clients() if name.startswith("claim-")}

    async def mark(self) -> str | None:
        """Return the id of the installation that owns the accounts, None if none has marked them."""
        try:
            return str((await self.command("getRole", rolename=MARK))["role"].get("textname", "")) or None
        except NotFoundError:
            return None

    async def put_mark(self, instance: str) -> None:
        """Mark the accounts as those of an installation, if none has."""
        with contextlib.suppress(ConflictError):
            await self.command("createRole", rolename=MARK, textname=instance)

    async def _clients(self) -> dict[str, dict[str, Any]]:
        """Return all accounts by name; in pages, as one packet with all of them could be too large."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            page = await self.command("listClients", verbose=True, count=_PAGE, offset=len(found))
            found |= {client["username"]: client for client in page["clients"]}
            if len(page["clients"]) < _PAGE:
                return found

    async def _put(self, name: str, password: SecretStr, *, group: str, **facts: str) -> None:
        account = {
            "username": name,
            "password": password.get_secret_value(),
            "groups": [{"groupname": group}],
            **facts,
        }
        try:
            await self.command("modifyClient", **account)
        except NotFoundError:
            await self.command("createClient", **account)

    async def command(self, command: str, **arguments: object) -> dict[str, Any]:
        """Execute one command of the plugin and return the `data` of its answer; raise if it is refused."""
        correlation = uuid4().hex
        answer = self._waiting[correlation] = asyncio.get_running_loop().create_future()
        body = {"commands": [{"command": command, "correlationData": correlation, **arguments}]}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._connection.publish(_CONTROL, json.dumps(body).encode())
                response = await answer
        except TimeoutError:
            raise UnavailableError(f"the broker does not answer ({command}); retry") from None
        finally:
            del self._waiting[correlation]
        if "error" in response:
            raise _error(command, response["error"])
        data = response.get("data", {})
        return data if isinstance(data, dict) else {}

    async def _on_response(self, delivery: Delivery) -> None:
        for response in json.loads(delivery.payload)["responses"]:
            answer = self._waiting.get(response.get("correlationData"))
            if answer is not None and not answer.done():
                answer.set_result(response)


def _account(client: dict[str, Any]) -> DeviceAccount:
    return DeviceAccount(not client.get("disabled", False), Held.parse(client.get("textname")))


def _error(command: str, text: str) -> FleetError:
    if text in {"Client already exists", "Role already exists"}:
        return ConflictError(f"the broker refuses {command}: {text}")
    if text in {"Client not found", "Role not found", "Role does not exist"}:
        return NotFoundError(f"the broker refuses {command}: {text}")
    return UnavailableError(f"the broker refuses {command}: {text}")


@asynccontextmanager
async def connected(
    settings: PlaceSettings, password: SecretStr, *, identifier: str
) -> AsyncIterator[BrokerAccounts]:
    """Open a connection as svc-accounts for the block."""
    account = Account(settings.mqtt_host, settings.mqtt_port, USERNAME, password)
    connection = Connection(account, f"{identifier}-accounts")
    accounts = BrokerAccounts(connection)
    await accounts.listen()
    async with connection.running():
        yield accounts
