"""Layers of connection profiles: added, each as a row that never changes, and Wi-Fi networks encrypted."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any, Final

import structlog
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.connection_rules import WantedProfile
from services.registry.context import Registry
from shared.crypto import Vault
from shared.database.tables import ConnectionLayer
from shared.protocol import events
from shared.protocol.messages import ConnectionProfile, WifiNetwork

log = structlog.get_logger()
_NETWORK_ID_BYTES: Final = 8


async def add(
    session: AsyncSession, registry: Registry, layer: ConnectionLayer, client_id: str | None = None
) -> ConnectionLayer:
    """Store a layer, for the device `client_id` or for many; the caller has locked the layers.

    It is in force from the commit on, and devices are sent what they want then.
    """
    session.add(layer)
    await session.flush()
    facts = events.ConnectionChangeFacts(
        number=layer.number, scope=layer.scope, tag=layer.tag, removed=layer.removed or False
    )
    registry.outbox.emit(session, events.CONNECTION_CHANGED, client_id, facts)
    log.info("connection.changed", layer=layer.number, scope=layer.scope, tag=layer.tag, client_id=client_id)
    push_after_commit(session, registry)
    return layer


def push_after_commit(session: AsyncSession, registry: Registry) -> None:
    """Look for devices that want another profile as soon as this transaction has committed."""

    def wake(_: object) -> None:
        registry.push_connections.set()

    event.listen(session.sync_session, "after_commit", wake, once=True)


def networks(vault: Vault, ciphertext: bytes | None) -> list[WifiNetwork]:
    """Return the Wi-Fi networks in a layer's ciphertext, or raise SecretUnreadableError."""
    if ciphertext is None:
        return []
    return [WifiNetwork.model_validate(it) for it in json.loads(vault.decrypt(ciphertext).get_secret_value())]


def encrypted(vault: Vault, wifi: Sequence[WifiNetwork]) -> bytes:
    """Return the Wi-Fi networks as ciphertext."""
    return vault.encrypt(SecretStr(json.dumps([it.model_dump() for it in wifi])))


def named(
    wifi: Sequence[WifiNetwork], known: Sequence[WifiNetwork], names: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the networks as they are in a document: each with its name and an id.

    A network that is `known` with the same password keeps its id from `names`; any other gets a random one.
    """
    ids = {(it.ssid, it.password): name["id"] for it, name in zip(known, names, strict=True)}
    return [
        {"ssid": it.ssid, "id": ids.get((it.ssid, it.password)) or secrets.token_hex(_NETWORK_ID_BYTES)}
        for it in wifi
    ]


def opened(vault: Vault, wanted: WantedProfile) -> ConnectionProfile:
    """Return a profile with the passwords of its networks, for a device."""
    wifi = networks(vault, wanted.wifi) or None
    return ConnectionProfile.model_validate({**wanted.document, "wifi": wifi})
