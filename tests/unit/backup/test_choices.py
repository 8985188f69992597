"""Which of two secrets, and of two accounts, is the one that the device has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from backup.archive import RecordedDevice, Secret
from backup.broker_file import merge
from backup.identities import Choice, Settled, choose
from deploy import broker
from shared.auth.keycloak import Identity

NAME = "iotdevice-lamp-abcd1234"


def recorded(generation: int, *, enabled: bool = True) -> RecordedDevice:
    return RecordedDevice(client_id=NAME, key="abcd1234", enabled=enabled, generation=generation, rotating=False)


@pytest.mark.parametrize(
    ("confirmed", "saved", "live", "choice"),
    [
        (1, 1, None, Choice.MAKE),
        (1, None, None, Choice.LOST),
        (1, None, 1, Choice.KEEP),
        (1, 1, 1, Choice.KEEP),
        (1, 1, 2, Choice.KEEP),  # rotated since
        (1, 2, 1, Choice.KEEP),  # a rotation of then was taken back
        (2, 2, 1, Choice.REPLACE),  # Keycloak was put back to something older
        (2, 1, 1, Choice.KEEP),  # the backup is no newer
        (3, 2, 1, Choice.KEEP),  # neither is what the device has
        (2, 1, None, Choice.MAKE),
    ],
)
def test_what_keycloak_has_goes_before_the_backup_unless_the_device_has_confirmed_more(
    confirmed: int, saved: int | None, live: int | None, choice: Choice
) -> None:
    secret = None if saved is None else Secret(client_id=NAME, secret="s", generation=saved)
    identity = None if live is None else Identity(NAME, SecretStr("l"), live, enabled=True, ours=True)
    assert choose(recorded(confirmed), secret, identity) is choice


def settled(secret: str | None, *, from_backup: bool = True, enabled: bool = True) -> Settled:
    password = None if secret is None else SecretStr(secret)
    return Settled(recorded(1, enabled=enabled), password, 1, from_backup=from_backup, restored=from_backup)


def document(**passwords: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(broker.render_accounts({"svc-registry": "s"}))
    made["clients"] += [broker.account(name, password) for name, password in passwords.items()]
    return made


def passwords_in(text: str, **wanted: str) -> dict[str, bool]:
    clients = {client["username"]: client for client in json.loads(text)["clients"]}
    return {name: broker.has_password(clients[name], password) for name, password in wanted.items()}


def test_an_empty_accounts_file_gets_all_that_the_backup_has() -> None:
    saved = document(alice="a", **{NAME: "old"})
    saved["roles"].append({"rolename": "admin-alice", "acls": []})
    saved["groups"].append({"groupname": "others", "roles": [], "clients": [{"username": "alice"}]})
    text, kept = merge(json.dumps(saved), json.dumps(document()), [settled("new")])
    assert kept == []
    assert passwords_in(text, alice="a", **{NAME: "new"}) == {"alice": True, NAME: True}
    found = json.loads(text)
    assert "admin-alice" in [role["rolename"] for role in found["roles"]]
    groups = {group["groupname"]: [it["username"] for it in group["clients"]] for group in found["groups"]}
    assert groups == {"devices": [NAME], "claims": [], "others": ["alice"]}
    (client,) = (client for client in found["clients"] if client["username"] == NAME)
    assert (client["clientid"], client["disabled"]) == (NAME, False)


def test_what_the_existing_file_has_goes_before_the_backup() -> None:
    text, _ = merge(json.dumps(document(alice="old")), json.dumps(document(alice="new", bob="b")), [])
    assert passwords_in(text, alice="new", bob="b") == {"alice": True, "bob": True}


@pytest.mark.parametrize(("from_backup", "wins"), [(True, "there"), (False, "given")])
def test_a_device_that_the_broker_knows_with_another_secret_than_the_backups_keeps_it(
    from_backup: bool, wins: str
) -> None:
    there = document(**{NAME: "there"})
    text, kept = merge(json.dumps(document()), json.dumps(there), [settled("given", from_backup=from_backup)])
    assert passwords_in(text, **{NAME: wins}) == {NAME: True}
    assert kept == ([NAME] if from_backup else [])


def test_a_disabled_device_is_not_let_in() -> None:
    text, _ = merge(json.dumps(document()), None, [settled("s", enabled=False)])
    assert json.loads(text)["clients"][-1]["disabled"]


def test_a_device_without_a_secret_gets_no_account() -> None:
    text, kept = merge(json.dumps(document()), None, [settled(None)])
    assert NAME not in [client["username"] for client in json.loads(text)["clients"]]
    assert kept == []


def test_again_changes_nothing() -> None:
    once, _ = merge(json.dumps(document(alice="a")), None, [settled("s")])
    assert merge(json.dumps(document(alice="a")), once, [settled("s")]) == (once, [])
