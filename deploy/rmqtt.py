"""The files of a node of an RMQTT cluster that checks Keycloak's tokens, and its clients in Keycloak.

Written for rmqttd 0.24.0. The rights of services and admins are those of deploy/mosquitto/acl; the rights of a
device are in its token (shared/auth/keycloak.py).
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.broker import render_acl, replace
from shared.protocol import topics

AUDIENCE: Final = "mdm"
ANY_CLIENT: Final = "*"
"""In the claim `mqtt_client_id`: the holder may choose its MQTT client id, as services do."""
_ACTIONS: Final = {"read": "subscribe", "write": "publish", "readwrite": "pubsub"}
_SESSION: Final = "7d"


@dataclass(frozen=True, slots=True)
class Node:
    """A node and its ports: MQTT without TLS for services, MQTT for devices, its API, and one for its peers."""

    id: int
    host: str
    services_port: int
    devices_port: int
    api_port: int
    peers_port: int

    @property
    def api_url(self) -> str:
        """The node's URL for `MDM_BROKER_API_URLS`."""
        return f"http://{self.host}:{self.api_port}/api/v1"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The settings that all nodes have in common."""

    nodes: tuple[Node, ...]
    issuer: str
    realm_key: str
    """The realm's public key for RS256, as PEM."""
    certificate_file: Path
    key_file: Path
    api_token: str


def pem(public_key: str) -> str:
    """Return a realm's `public_key`, as in `{keycloak}/realms/{realm}`, in PEM."""
    return "\n".join(
        ["-----BEGIN PUBLIC KEY-----", *textwrap.wrap(public_key, 64), "-----END PUBLIC KEY-----", ""]
    )


def client(name: str, secret: str, *, token_lifetime_s: int = 86_400) -> dict[str, Any]:
    """Return the client in Keycloak by which a service, or the tool, gets its tokens for the broker."""
    return {
        "clientId": name,
        "secret": secret,
        "protocol": "openid-connect",
        "publicClient": False,
        "standardFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": True,
        "fullScopeAllowed": False,
        "attributes": {"access.token.lifespan": str(token_lifetime_s)},
        "protocolMappers": [
            _mapper("oidc-audience-mapper", "audience", **{"included.custom.audience": AUDIENCE}),
            _claim("mqtt_client_id", ANY_CLIENT, "String"),
        ],
    }


def consumer(name: str, secret: str) -> dict[str, Any]:
    """Return the client in Keycloak of a program that has the devices' own topics, and no others."""
    found = client(name, secret)
    rights = [
        {"permission": "allow", "action": "subscribe", "topic": topics.APP_UP.filter},
        {"permission": "allow", "action": "publish", "topic": topics.APP_DOWN.filter},
        {"permission": "deny", "action": "all", "topic": "#"},
    ]
    found["protocolMappers"].append(_claim("acl", json.dumps(rights), "JSON"))
    return found


def _claim(name: str, value: str, kind: str) -> dict[str, Any]:
    facts = {"claim.name": name, "claim.value": value, "jsonType.label": kind}
    return _mapper("oidc-hardcoded-claim-mapper", name, **facts)


def _mapper(mapper: str, name: str, **config: str) -> dict[str, Any]:
    config["access.token.claim"] = "true"
    return {"name": name, "protocol": "openid-connect", "protocolMapper": mapper, "config": config}


def rules(acl: str) -> list[list[Any]]:
    """Return the rules of Mosquitto's ACL file for named accounts in RMQTT's format; all else is denied."""
    found: list[list[Any]] = []
    user = ""
    for line in acl.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "user":
            user = rest
        elif kind == "topic" and user and "$CONTROL" not in rest:
            access, topic = rest.split(" ", 1)
            found.append(["allow", {"user": user}, _ACTIONS[access], [topic]])
    return [*found, ["deny", "all"]]


def write_files(folder: Path, node: Node, cluster: Cluster) -> Path:
    """Write all files of a node and return its `rmqtt.toml`, for `rmqttd -f`."""
    plugins = folder / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    key_file = folder / "realm.pem"
    replace(key_file, cluster.realm_key, mode=0o644)
    files: dict[str, dict[str, Any]] = {
        "rmqtt-auth-jwt": {
            "from": "password",
            "encrypt": "public-key",
            "hmac_base64": False,
            "public_key": str(key_file),
            "disconnect_if_expiry": True,
            "disconnect_if_pub_rejected": False,
            "validate_claims": {
                "exp": True,
                "iss": [cluster.issuer],
                "aud": [AUDIENCE],
                "azp": ["${username}"],
                "mqtt_client_id": ["${clientid}", ANY_CLIENT],
            },
        },
        "rmqtt-acl": {"disconnect_if_pub_rejected": False, "rules": rules(render_acl())},
        "rmqtt-retainer": {"storage": {"type": "ram"}, "retained_message_ttl": "0s"},
        "rmqtt-http-api": {
            "http_laddr": f"{node.host}:{node.api_port}",
            "http_bearer_token": cluster.api_token,
        },
        # Messages of one device go to the same replica of a service.
        "rmqtt-shared-subscription": {"strategy": "hash_clientid"},
        # Not raft, of which two nodes stop working when one of them is down.
        "rmqtt-cluster-broadcast": {
            "node_grpc_addrs": [f"{peer.id}@{peer.host}:{peer.peers_port}" for peer in cluster.nodes],
            # The default is 60 s, for which all publications wait for a node that is down.
            "node_grpc_client_timeout": "2s",
        },
    }
    for name, facts in files.items():
        replace(plugins / f"{name}.toml", _toml(facts), mode=0o600)
    configuration = folder / "rmqtt.toml"
    replace(configuration, _configuration(node, cluster, plugins, list(files)), mode=0o600)
    return configuration


def _configuration(node: Node, cluster: Cluster, folder: Path, plugins: list[str]) -> str:
    limits: dict[str, Any] = {
        "allow_anonymous": False,
        "nodelay": True,
        "max_packet_size": "2M",
        # With the default, 16, a service can deadlock with itself.
        "max_inflight": 1000,
        "max_mqueue_len": 100_000,
        "session_expiry_interval": _SESSION,
        "message_expiry_interval": _SESSION,
    }
    tls = {"cert": str(cluster.certificate_file), "key": str(cluster.key_file)}
    tables: dict[str, dict[str, Any]] = {
        # Otherwise it refuses logins while the machine's processors are busy.
        "node": {"id": node.id, "busy.check_enable": False},
        "rpc": {"server_addr": f"{node.host}:{node.peers_port}"},
        # At "warn" it logs the tokens that it refuses.
        "log": {"to": "console", "level": "error"},
        "plugins": {
            "dir": str(folder),
            "default_startups": plugins,
        },
        "listener.tcp.services": {"addr": f"{node.host}:{node.services_port}", **limits},
        "listener.tls.devices": {"addr": f"{node.host}:{node.devices_port}", **tls, **limits},
    }
    return "\n".join(f"[{name}]\n{_toml(facts)}" for name, facts in tables.items())


def _toml(facts: dict[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in facts.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return json.dumps(value)
