"""Merges the broker's accounts file of a backup with the existing one."""

from __future__ import annotations

import json
from typing import Any

from backup.identities import Settled
from deploy import broker
from shared.broker.mosquitto import MARK
from shared.crypto import Held

Document = dict[str, Any]


def merge(saved: str, existing: str | None, devices: list[Settled]) -> tuple[str, list[str]]:
    """Return the text of the accounts file, and the devices whose account keeps another secret than Keycloak's.

    The existing file takes precedence over the backup: its passwords are newer. Devices get the secrets that
    Keycloak has. The exception: if that secret comes from the backup and the existing account has another one, the
    device has been rotated since, and its account is kept, so that at least the broker accepts it.
    """
    new = json.loads(existing) if existing else None
    document: Document = json.loads(broker.render_accounts({}, json.dumps(_united(json.loads(saved), new))))
    clients = {client["username"]: client for client in document["clients"]}
    kept = [settled.device.client_id for settled in devices if _is_newer(clients, new, settled)]
    for settled in devices:
        if settled.secret is not None and settled.device.client_id not in kept:
            name, password = settled.device.client_id, settled.secret.get_secret_value()
            if name not in clients or not broker.has_password(clients[name], password):
                clients[name] = broker.account(name, password) | {"clientid": name}
            # The generation and fingerprint, in the services' format: here they are certain.
            clients[name]["textname"] = str(Held.of(settled.secret, settled.generation or 0))
            clients[name]["disabled"] = not settled.device.enabled
    document["clients"] = list(clients.values())
    # The registry marks the accounts again: the restored database has its own id.
    document["roles"] = [role for role in document["roles"] if role["rolename"] != MARK]
    (group,) = (group for group in document["groups"] if group["groupname"] == broker.DEVICE_GROUP)
    members = {member["username"] for member in group["clients"]}
    wanted = [settled.device.client_id for settled in devices if settled.device.client_id in clients]
    group["clients"] += [{"username": name} for name in wanted if name not in members]
    return json.dumps(document, indent=1) + "\n", kept


def _is_newer(clients: dict[str, Document], existing: Document | None, settled: Settled) -> bool:
    name = settled.device.client_id
    if existing is None or settled.secret is None or not settled.from_backup:
        return False
    here = any(client["username"] == name for client in existing["clients"])
    return here and not broker.has_password(clients[name], settled.secret.get_secret_value())


def _united(saved: Document, existing: Document | None) -> Document:
    """Return all accounts, groups and roles of both; of one that is in both, the existing one."""
    if existing is None:
        return saved
    united = dict(existing)
    for kind, name in (("clients", "username"), ("roles", "rolename"), ("groups", "groupname")):
        there = {found[name]: found for found in existing[kind]}
        united[kind] = [*existing[kind], *(found for found in saved[kind] if found[name] not in there)]
    for group in united["groups"]:
        members = {member["username"] for member in group["clients"]}
        for other in saved["groups"]:
            if other["groupname"] == group["groupname"]:
                group["clients"] += [it for it in other["clients"] if it["username"] not in members]
    return united
