from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

from deploy import rmqtt
from deploy.broker import render_acl

NODES = tuple(rmqtt.Node(number, f"node-{number}", 1883, 8883, 6060, 5363) for number in (1, 2))


def cluster() -> rmqtt.Cluster:
    return rmqtt.Cluster(
        NODES,
        issuer="https://keycloak.example.org/realms/iot",
        realm_key=rmqtt.pem("QUJD" * 100),
        certificate_file=Path("/etc/mdm/server.crt"),
        key_file=Path("/etc/mdm/server.key"),
        api_token="hush",
    )


def read(path: Path) -> dict[str, Any]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return tomllib.loads(path.read_text())


def test_a_nodes_files_name_each_other_its_peers_and_itself(tmp_path: Path) -> None:
    written = read(rmqtt.write_files(tmp_path, NODES[1], cluster()))
    assert written["node"] == {"id": 2, "busy": {"check_enable": False}}
    assert written["plugins"]["dir"] == str(tmp_path / "plugins")
    for name in written["plugins"]["default_startups"]:
        assert (tmp_path / "plugins" / f"{name}.toml").exists()
    peers = read(tmp_path / "plugins" / "rmqtt-cluster-broadcast.toml")
    assert peers["node_grpc_addrs"] == ["1@node-1:5363", "2@node-2:5363"]
    assert written["listener"]["tls"]["devices"]["cert"] == "/etc/mdm/server.crt"
    assert read(tmp_path / "plugins/rmqtt-http-api.toml")["http_bearer_token"] == "hush"
    assert NODES[1].api_url == "http://node-2:6060/api/v1"


def test_no_listener_lets_anybody_in_without_a_token(tmp_path: Path) -> None:
    written = read(rmqtt.write_files(tmp_path, NODES[0], cluster()))
    listeners = [one for kind in written["listener"].values() for one in kind.values()]
    assert [one["allow_anonymous"] for one in listeners] == [False, False]
    checks = read(tmp_path / "plugins/rmqtt-auth-jwt.toml")
    assert checks["validate_claims"] == {
        "exp": True,
        "iss": ["https://keycloak.example.org/realms/iot"],
        "aud": ["mdm"],
        "azp": ["${username}"],
        "mqtt_client_id": ["${clientid}", "*"],
    }
    lines = Path(checks["public_key"]).read_text().splitlines()
    assert (lines[0], lines[-1]) == ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
    assert max(map(len, lines)) == 64


def test_named_accounts_may_do_what_mosquittos_acl_file_says_and_nobody_anything_else() -> None:
    found = rmqtt.rules(render_acl())
    assert found[-1] == ["deny", "all"]
    allowed = {(rule[1]["user"], rule[2], *rule[3]) for rule in found[:-1]}
    assert ("svc-registry", "pubsub", "mdm/v1/d/+/up/#") in allowed
    assert ("svc-rotator", "subscribe", "mdm/v1/d/+/up/#") in allowed
    assert ("admin", "publish", "mdm/v1/admin/admin/+/+/+") in allowed
    topics = [line for line in render_acl().splitlines() if line.startswith("topic") and "$CONTROL" not in line]
    assert len(allowed) == len(topics)
    # Those for all accounts are for devices, whose tokens say what they may do.
    assert not any("%" in rule[3][0] for rule in found[:-1])


def test_a_services_client_may_choose_its_mqtt_client_id() -> None:
    made = rmqtt.client("svc-registry", "hush", token_lifetime_s=60)
    values = {
        mapper["config"].get("claim.name"): mapper["config"].get("claim.value")
        for mapper in made["protocolMappers"]
    }
    assert values["mqtt_client_id"] == rmqtt.ANY_CLIENT
    assert made["attributes"] == {"access.token.lifespan": "60"}
    assert made["serviceAccountsEnabled"]


def test_a_consumer_has_the_devices_own_topics_and_no_others() -> None:
    made = rmqtt.consumer("nodered", "hush")
    claims = {one["config"].get("claim.name"): one["config"].get("claim.value") for one in made["protocolMappers"]}
    assert (made["clientId"], made["secret"], claims["mqtt_client_id"]) == ("nodered", "hush", "*")
    assert [(rule["permission"], rule["action"], rule["topic"]) for rule in json.loads(claims["acl"])] == [
        ("allow", "subscribe", "app/+/up/#"),
        ("allow", "publish", "app/+/down/#"),
        ("deny", "all", "#"),
    ]
