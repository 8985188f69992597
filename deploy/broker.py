"""The broker's files: configuration, ACL file, and the initial accounts of its plugin."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from string import Template
from typing import TYPE_CHECKING, Any, Final

from shared.broker.acl import CLAIM_ROLE, DEVICE_ROLE, GROUP_ROLES, OTHER_ROLE
from shared.protocol.topics import device_reads, device_writes

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNTS: Final = ("svc-registry", "svc-rotator", "svc-firmware", "svc-accounts", "admin")
OPTIONAL_ACCOUNTS: Final = ("homeassistant",)
"""Optional accounts, which exist only if somebody has created them."""
DEVICE_GROUP: Final = "devices"
CLAIM_GROUP: Final = "claims"
SHARING: Final = frozenset({"svc-registry", "svc-rotator", "svc-firmware"})
"""Accounts that may join shared subscriptions."""
# As in the plugin (plugins/dynamic-security/auth.c, 2.0.21): so few rounds protect random passwords only.
HASH_ITERATIONS: Final = 101
SALT_BYTES: Final = 12
_TEMPLATES: Final = Path(__file__).parent / "mosquitto"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """The broker's paths and listeners; an empty address means all interfaces."""

    plugin: PurePath
    certificate_file: PurePath
    key_file: PurePath
    acl_file: PurePath
    data_folder: PurePath
    services_port: int = 1883
    services_address: str = ""
    devices_port: int = 8883
    devices_address: str = ""
    claims_port: int = 8884
    claims_address: str = ""
    web_port: int = 8885
    web_address: str = ""
    user: str = ""

    @property
    def accounts_file(self) -> PurePath:
        """The plugin's file, in a folder that the broker may write: the plugin replaces it at each change."""
        return self.data_folder / "dynamic-security.json"


def render_configuration(settings: BrokerSettings) -> str:
    """Return the text of mosquitto.conf."""
    return Template((_TEMPLATES / "mosquitto.conf").read_text()).substitute(
        plugin=settings.plugin,
        accounts_file=settings.accounts_file,
        acl_file=settings.acl_file,
        data_folder=settings.data_folder,
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
        services_listener=f"{settings.services_port} {settings.services_address}".rstrip(),
        devices_listener=f"{settings.devices_port} {settings.devices_address}".rstrip(),
        claims_listener=f"{settings.claims_port} {settings.claims_address}".rstrip(),
        web_listener=f"{settings.web_port} {settings.web_address}".rstrip(),
        user_line=f"user {settings.user}" if settings.user else "",
    )


def render_acl() -> str:
    """Return the text of the ACL file, which is the same everywhere."""
    writes = [f"pattern write {topic}" for topic in device_writes("%u")]
    reads = [f"pattern read {topic}" for topic in device_reads("%u")]
    return (_TEMPLATES / "acl").read_text().replace("${device}", "\n".join([*writes, *reads]))


def render_accounts(passwords: Mapping[str, str], existing: str | None = None) -> str:
    """Return the text of dynamic-security.json in which these accounts have these passwords.

    Other accounts in the `existing` text, those of devices and claims, are unchanged; missing groups and roles are
    added, and to the roles that many accounts share what this version denies them. Every other account without
    role and group gets the role `other`.
    """
    fresh = _empty_document()
    document: dict[str, Any] = json.loads(existing) if existing else fresh
    for kind, name in (("groups", "groupname"), ("roles", "rolename")):
        there = {found[name] for found in document[kind]}
        document[kind] += [wanted for wanted in fresh[kind] if wanted[name] not in there]
    for role in document["roles"]:
        given = role.setdefault("acls", [])
        given += [acl for acl in map(asdict, GROUP_ROLES.get(role["rolename"], ())) if acl not in given]
    old = {client["username"]: client for client in document["clients"]}
    ours = [
        old[name] if name in old and has_password(old[name], password) else account(name, password)
        for name, password in passwords.items()
    ]
    document["clients"] = ours + [client for name, client in old.items() if name not in passwords]
    grouped = {member["username"] for group in document["groups"] for member in group["clients"]}
    for client in document["clients"]:
        if not client.get("roles") and client["username"] not in grouped | SHARING:
            client["roles"] = [{"rolename": OTHER_ROLE, "priority": 0}]
    return json.dumps(document, indent=1) + "\n"


def write_files(
    config_folder: Path, data_folder: Path, settings: BrokerSettings, passwords: Mapping[str, str]
) -> Path:
    """Write the three files and return mosquitto.conf; the broker must not run meanwhile.

    The folders are where the files are written; `settings` has their paths as seen by the broker.
    """
    config_folder.mkdir(parents=True, exist_ok=True)
    data_folder.mkdir(parents=True, exist_ok=True)
    configuration = config_folder / "mosquitto.conf"
    accounts = data_folder / settings.accounts_file.name
    existing = accounts.read_text() if accounts.exists() else None
    replace(configuration, render_configuration(settings), mode=0o644)
    replace(config_folder / settings.acl_file.name, render_acl(), mode=0o600)
    replace(accounts, render_accounts(passwords, existing), mode=0o600)
    return configuration


def _empty_document() -> dict[str, Any]:
    return {
        "clients": [],
        "groups": [_group(DEVICE_GROUP, DEVICE_ROLE), _group(CLAIM_GROUP, CLAIM_ROLE)],
        "roles": [{"rolename": name, "acls": list(map(asdict, acls))} for name, acls in GROUP_ROLES.items()],
        # False means "ask the ACL file"; the plugin's default publishClientReceive true would show devices each
        # other's messages.
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": False,
            "subscribe": False,
            "unsubscribe": False,
        },
    }


def _group(name: str, role: str) -> dict[str, Any]:
    return {"groupname": name, "roles": [{"rolename": role, "priority": 0}], "clients": []}


def _hash(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)


def account(name: str, password: str) -> dict[str, Any]:
    """Return an account in the format of the plugin's file, with a fresh salt and without roles."""
    salt = secrets.token_bytes(SALT_BYTES)
    return {
        "username": name,
        "roles": [],
        "password": base64.b64encode(_hash(password, salt, HASH_ITERATIONS)).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": HASH_ITERATIONS,
    }


def has_password(client: Mapping[str, Any], password: str) -> bool:
    """Return whether an account in the plugin's file has this password."""
    hashed = _hash(password, base64.b64decode(client["salt"]), client["iterations"])
    return hmac.compare_digest(hashed, base64.b64decode(client["password"]))


def replace(file: Path, text: str, *, mode: int) -> None:
    """Write a file atomically, with this mode."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    temporary.replace(file)
