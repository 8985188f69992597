"""Devices' and claims' accounts in the broker, through Mosquitto's dynamic-security plugin (checked on 2.0.21).

This, and admin_accounts.py for those of admins, is the broker.Broker that makes accounts. Commands go to
`$CONTROL/dynamic-security/v1`, which only svc-accounts may use; answers of all sessions come on one topic and are
told apart by their correlationData.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from pydantic import SecretStr

from shared.admin_accounts import AdminAccounts
from shared.errors import ConflictError, FleetError, NotFoundError, UnavailableError
from shared.mqtt import Account, Connection, Delivery, Route
from shared.settings import PlaceSettings
from shared.topics import Topic

USERNAME: Final = "svc-accounts"
_CONTROL: Final = "$CONTROL/dynamic-security/v1"
_RESPONSE: Final = Topic("$CONTROL/dynamic-security/v1/response", bytes)
_TIMEOUT_S: Final = 10.0


class BrokerAccounts:
    """Makes, changes and removes accounts; a change of its password or its end drops whoever is connected."""

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
        """Wait until the broker can be reached."""
        await self._connection.ready()

    async def put(self, client_id: str, password: SecretStr) -> None:
        """Make a device's account with this password, or set the password of the one that is there."""
        await self._put(client_id, password, group="devices", clientid=client_id)

    async def put_claim(self, claim_id: str, password: SecretStr) -> None:
        """Make a claim's account, which many machines share, or set the password of the one that is there."""
        await self._put(claim_id, password, group="claims")

    async def set_password(self, client_id: str, password: SecretStr) -> None:
        """Put a password in force and drop the device's connection, or raise NotFoundError."""
        await self.command("setClientPassword", username=client_id, password=password.get_secret_value())

    async def enable(self, client_id: str, *, enabled: bool) -> None:
        """Let the device in, or drop it and keep it out; doing it again changes nothing."""
        await self.command("enableClient" if enabled else "disableClient", username=client_id)

    async def delete(self, client_id: str) -> None:
        """Remove an account; one that is gone already is no error."""
        with contextlib.suppress(NotFoundError):
            await self.command("deleteClient", username=client_id)

    async def devices(self) -> dict[str, bool]:
        """Return the devices' accounts, each with whether it is let in."""
        data = await self.command("listClients", verbose=True)
        return {
            client["username"]: not client.get("disabled", False)
            for client in data["clients"]
            if client["username"].startswith("iotdevice-")
        }

    async def claims(self) -> set[str]:
        """Return the names of the claims' accounts."""
        data = await self.command("listClients")
        return {name for name in data["clients"] if name.startswith("claim-")}

    async def _put(self, name: str, password: SecretStr, *, group: str, **binding: str) -> None:
        try:
            await self.command(
                "createClient",
                username=name,
                password=password.get_secret_value(),
                groups=[{"groupname": group}],
                **binding,
            )
        except ConflictError:
            await self.set_password(name, password)

    async def command(self, command: str, **arguments: object) -> dict[str, Any]:
        """Give the plugin one command and return the `data` of its answer; its refusals are raised."""
        correlation = uuid4().hex
        answer = self._waiting[correlation] = asyncio.get_running_loop().create_future()
        body = {"commands": [{"command": command, "correlationData": correlation, **arguments}]}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._connection.publish(_CONTROL, json.dumps(body).encode())
                response = await answer
        except TimeoutError:
            raise UnavailableError(f"the broker does not answer ({command}); try again") from None
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
