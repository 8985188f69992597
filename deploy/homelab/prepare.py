"""Prepares the volumes of the containers: `python -m deploy.homelab.prepare`; idempotent."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from deploy import broker
from deploy.homelab import renewal
from deploy.homelab.files import (
    GRAFANA,
    KEYCLOAK,
    MDM,
    MOSQUITTO,
    POSTGRES,
    ROOT,
    Owner,
    SecretFiles,
    environment,
    give,
)
from shared.database.grants import BACKUP_USER, USERS

VOLUMES: Final = Path("/volumes")
HEALTH_ACCOUNT: Final = "svc-health"
REALM: Final = Path(__file__).parents[1] / "keycloak/realm-iot.json"
_CONFIG: Final = PurePosixPath("/mosquitto/config")
_BROKER: Final = broker.BrokerSettings(
    plugin=PurePosixPath("/usr/lib/mosquitto_dynamic_security.so"),
    certificate_file=_CONFIG / "server.crt",
    key_file=_CONFIG / "server.key",
    acl_file=_CONFIG / "acl",
    data_folder=PurePosixPath("/mosquitto/data"),
)


@dataclass(frozen=True, slots=True)
class Published:
    """The addresses at which devices reach this machine."""

    host: str
    devices_port: int
    claims_port: int
    images_port: int
    keycloak_port: int

    @property
    def keycloak_url(self) -> str:
        """Keycloak's base URL for devices."""
        return f"https://{_in_url(self.host)}:{self.keycloak_port}"

    @property
    def images_url(self) -> str:
        """The base URL of images for devices."""
        return f"https://{_in_url(self.host)}:{self.images_port}"


def prepare(volumes: Path, wanted: Mapping[str, str]) -> Published:
    """Fill the volumes; `wanted` has the host, which may be empty, and the ports."""
    vault = SecretFiles(volumes / "authority" / "secrets")
    hosts = vault.hosts(wanted["PUBLIC_HOST"], own_address)
    published = Published(
        hosts[0],
        *(int(wanted[name]) for name in ("DEVICES_PORT", "CLAIMS_PORT", "IMAGES_PORT", "KEYCLOAK_PORT")),
    )
    _databases(volumes, vault)
    _broker(volumes, vault)
    _keycloak(volumes, vault, published)
    _services(volumes, vault, published)
    give(volumes / "grafana/password", vault.password("grafana"), GRAFANA)
    renewal.renew(volumes, hosts)
    return published


def own_address() -> str:
    """Return this machine's address on its network, or localhost if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only selects the route
        except OSError:
            return "localhost"
        return str(probe.getsockname()[0])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def database_url(vault: SecretFiles, user: str) -> str:
    """Return a user's URL of our database."""
    return f"postgresql+asyncpg://{user}:{vault.password(f'database-{user}')}@postgres/mdm"


def _databases(volumes: Path, vault: SecretFiles) -> None:
    superuser = vault.password("database-superuser")
    give(volumes / "postgres/password", superuser, POSTGRES)
    wanted = {
        "superuser": superuser,
        "databases": {name: vault.password(f"database-{name}") for name in ("mdm", "keycloak")},
        "users": {name: vault.password(f"database-{name}") for name in (*USERS.values(), BACKUP_USER)},
    }
    give(volumes / "migrate/databases.json", json.dumps(wanted), MDM)
    give(volumes / "migrate/environment", environment({"MDM_DATABASE_URL": database_url(vault, "mdm")}), MDM)


def _broker(volumes: Path, vault: SecretFiles) -> None:
    config, data = volumes / "broker", volumes / "broker-data"
    passwords = {name: vault.password(f"broker-{name}") for name in (*broker.ACCOUNTS, HEALTH_ACCOUNT)}
    give(config / "mosquitto.conf", broker.render_configuration(_BROKER), MOSQUITTO)
    give(config / "acl", broker.render_acl(), MOSQUITTO)
    give(config / "broker.sh", Path(__file__).with_name("broker.sh").read_bytes(), MOSQUITTO)
    # Options of mosquitto_pub, which the health check runs as a device would: its password is on no command line.
    # --insecure skips the check of the name only, not of the authority: the certificate is not for localhost.
    options = (
        "--insecure",
        "-h localhost",
        "-p 8883",
        f"--cafile {_CONFIG}/ca.crt",
        "-t health",
        "-n",
        f"-u {HEALTH_ACCOUNT}",
    )
    lines = (*options, f"-P {passwords[HEALTH_ACCOUNT]}")
    give(config / "health/mosquitto_pub", "\n".join(lines) + "\n", MOSQUITTO)
    accounts = data / _BROKER.accounts_file.name
    existing = accounts.read_text() if accounts.exists() else None
    rendered = broker.render_accounts(passwords, existing)
    # A running broker owns this file: it is changed only if something is missing from it.
    if existing is None or _canonical(rendered) != _canonical(existing):
        give(accounts, rendered, MOSQUITTO)
        accounts.chmod(0o600)
    _belongs(MOSQUITTO, config, config / "health", data)


def _canonical(accounts: str) -> object:
    """Return the contents of an accounts file, independent of the order in which the plugin wrote it."""
    document = json.loads(accounts)
    return {
        name: sorted(json.dumps(one, sort_keys=True) for one in value) if isinstance(value, list) else value
        for name, value in document.items()
    }


def _keycloak(volumes: Path, vault: SecretFiles, published: Published) -> None:
    realm = json.loads(REALM.read_text())
    realm["sslRequired"] = "external"
    for client in realm["clients"]:
        client["secret"] = vault.password(f"keycloak-{client['clientId']}")
    give(volumes / "keycloak/realm-iot.json", json.dumps(realm), KEYCLOAK)
    options = {
        "db": "postgres",
        "db-url": "jdbc:postgresql://postgres:5432/keycloak",
        "db-username": "keycloak",
        "db-password": vault.password("database-keycloak"),
        "bootstrap-admin-username": "admin",
        "bootstrap-admin-password": vault.password("keycloak-admin"),
        # One issuer for all: devices use the public URL, services the internal network.
        "hostname": published.keycloak_url,
        "hostname-backchannel-dynamic": "true",
        "http-enabled": "true",
        "https-certificate-file": "/run/mdm/server.crt",
        "https-certificate-key-file": "/run/mdm/server.key",
        "https-certificates-reload-period": "1m",
        "health-enabled": "true",
        "metrics-enabled": "true",
        "http-management-scheme": "http",
        "cache": "local",
    }
    give(volumes / "keycloak/keycloak.conf", environment(options), KEYCLOAK)


def _services(volumes: Path, vault: SecretFiles, published: Published) -> None:
    accounts_password = vault.password("broker-svc-accounts")
    in_keycloak = {
        "registry": {"MDM_KEYCLOAK_CLIENT_SECRET": vault.password("keycloak-mdm-registry")},
        "rotator": {"MDM_KEYCLOAK_CLIENT_SECRET": vault.password("keycloak-mdm-rotator")},
    }
    for service, user in USERS.items():
        values: dict[str, object] = {
            "MDM_DATABASE_URL": database_url(vault, user),
            "MDM_MASTER_KEYS": vault.master_keys(service, inherits=service != "registry"),
            "MDM_MQTT_PASSWORD": vault.password(f"broker-svc-{service}"),
            "MDM_KEYCLOAK_PUBLIC_URL": published.keycloak_url,
        }
        if service in in_keycloak:
            values |= {"MDM_ACCOUNTS_PASSWORD": accounts_password, **in_keycloak[service]}
        if service == "registry":
            values["MDM_DEVICE_MQTT_HOST"] = published.host
            values["MDM_DEVICE_MQTT_PORT"] = published.devices_port
            values["MDM_CLAIM_MQTT_PORT"] = published.claims_port
            # By the names of the inner network, as the public one may not lead back here.
            values["MDM_TLS_SERVERS"] = "broker:8883 keycloak:8443 firmware:8444"
        if service == "firmware":
            values["MDM_HTTP_URL"] = published.images_url
        give(volumes / service / "environment", environment(values), MDM)
    backup = {
        "MDM_DATABASE_URL": database_url(vault, BACKUP_USER),
        "MDM_KEYCLOAK_PUBLIC_URL": published.keycloak_url,
        "MDM_MASTER_KEYS": vault.master_keys("registry", inherits=False),
        **in_keycloak["registry"],
    }
    give(volumes / "backup/environment", environment(backup), ROOT)
    admin = {"MDM_HOST": "broker", "MDM_ACCOUNT": "admin", "MDM_PASSWORD": vault.password("broker-admin")}
    give(volumes / "admin/environment", environment(admin), ROOT)
    _belongs(MDM, volumes / "images", volumes / "demo")


def _belongs(owner: Owner, *folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, owner.user, owner.group)


def main() -> None:
    """Prepare, and print the name under which devices reach this machine."""
    published = prepare(VOLUMES, os.environ)
    sys.stdout.write(f"devices reach this machine as {published.host}; Keycloak: {published.keycloak_url}\n")


if __name__ == "__main__":
    main()
