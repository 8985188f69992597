from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509

from deploy import broker, certificates
from shared.broker import acl
from shared.protocol import topics

SETTINGS = broker.BrokerSettings(
    plugin=PurePosixPath("/usr/lib/mosquitto_dynamic_security.so"),
    certificate_file=PurePosixPath("/certificates/server.crt"),
    key_file=PurePosixPath("/certificates/server.key"),
    acl_file=PurePosixPath("/config/acl"),
    data_folder=PurePosixPath("/data"),
)
OWN = ["app/%u/up/#", "homeassistant/+/%u/+/config"]
"""What a device may write for others than the services, under names that it chooses."""


def options(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_devices_are_heard_over_tls_and_named_by_their_account() -> None:
    lines = options(broker.render_configuration(SETTINGS))
    devices = lines[lines.index("listener 8883") : lines.index("listener 8884")]
    assert devices[1:] == [
        "certfile /certificates/server.crt",
        "keyfile /certificates/server.key",
        "use_username_as_clientid true",
    ]


def test_machines_of_a_claim_are_heard_over_tls_under_client_ids_of_their_own() -> None:
    lines = options(broker.render_configuration(SETTINGS))
    claims = lines[lines.index("listener 8884") : lines.index("listener 8885")]
    assert claims[1:] == [
        "max_connections 1000",
        "certfile /certificates/server.crt",
        "keyfile /certificates/server.key",
    ]


def test_pages_are_heard_over_websockets_with_tls() -> None:
    lines = options(broker.render_configuration(SETTINGS))
    assert lines[lines.index("listener 8885") + 1 :] == [
        "protocol websockets",
        "certfile /certificates/server.crt",
        "keyfile /certificates/server.key",
    ]


def test_services_are_heard_without_tls_where_told() -> None:
    settings = broker.BrokerSettings(
        plugin=SETTINGS.plugin,
        certificate_file=SETTINGS.certificate_file,
        key_file=SETTINGS.key_file,
        acl_file=SETTINGS.acl_file,
        data_folder=SETTINGS.data_folder,
        services_port=2000,
        services_address="127.0.0.1",
    )
    assert "listener 2000 127.0.0.1" in options(broker.render_configuration(settings))


def test_nobody_gets_in_without_an_account_and_nothing_is_dropped() -> None:
    lines = options(broker.render_configuration(SETTINGS))
    assert "allow_anonymous false" in lines
    assert "max_queued_messages 100000" in lines
    assert "max_queued_bytes 67108864" in lines
    assert "max_inflight_bytes 16777216" in lines
    assert "plugin_opt_config_file /data/dynamic-security.json" in lines
    assert "acl_file /config/acl" in lines


def test_the_broker_stays_the_user_it_is_told() -> None:
    assert not any(line.startswith("user") for line in options(broker.render_configuration(SETTINGS)))
    settings = broker.BrokerSettings(
        plugin=SETTINGS.plugin,
        certificate_file=SETTINGS.certificate_file,
        key_file=SETTINGS.key_file,
        acl_file=SETTINGS.acl_file,
        data_folder=SETTINGS.data_folder,
        user="someone",
    )
    assert "user someone" in options(broker.render_configuration(settings))


def test_the_plugin_decides_nothing_but_who_may_log_in() -> None:
    document = json.loads(broker.render_accounts({}))
    assert not any(document["defaultACLAccess"].values())
    assert len(document["defaultACLAccess"]) == 4


def test_passwords_are_stored_as_the_plugin_checks_them() -> None:
    (client,) = json.loads(broker.render_accounts({"admin": "secret"}))["clients"]
    hashed = hashlib.pbkdf2_hmac(
        "sha512", b"secret", base64.b64decode(client["salt"]), client["iterations"], dklen=64
    )
    assert base64.b64decode(client["password"]) == hashed


def test_the_same_passwords_change_nothing() -> None:
    first = broker.render_accounts({"admin": "secret", "svc-registry": "other"})
    assert broker.render_accounts({"admin": "secret", "svc-registry": "other"}, first) == first


def test_new_passwords_leave_the_devices_as_they_are() -> None:
    document = json.loads(broker.render_accounts({"admin": "old"}))
    device = {"username": "iotdevice-m-1", "password": "p", "salt": "s", "iterations": 101, "roles": []}
    document["clients"].append(device)
    document["groups"][0]["clients"].append({"username": "iotdevice-m-1"})
    after = json.loads(broker.render_accounts({"admin": "new"}, json.dumps(document)))
    assert after["clients"][0]["password"] != document["clients"][0]["password"]
    assert after["clients"][1] == device
    assert after["groups"] == document["groups"]


def test_an_accounts_file_of_an_older_version_gets_the_groups_and_roles_that_it_lacks() -> None:
    fresh = json.loads(broker.render_accounts({"admin": "secret"}))
    old = {**fresh, "groups": fresh["groups"][:1], "roles": fresh["roles"][:1]}
    old["groups"][0]["clients"].append({"username": "iotdevice-m-1"})
    after = json.loads(broker.render_accounts({"admin": "secret"}, json.dumps(old)))
    assert after["groups"] == old["groups"] + fresh["groups"][1:]
    assert after["roles"] == fresh["roles"]
    assert [group["groupname"] for group in after["groups"]] == ["devices", "claims"]


def test_no_account_but_the_services_may_join_a_shared_subscription() -> None:
    passwords = dict.fromkeys((*broker.ACCOUNTS, "svc-health", "homeassistant"), "secret")
    document = json.loads(broker.render_accounts(passwords))
    denied = {"acltype": "subscribePattern", "topic": "$share/#", "priority": 10, "allow": False}
    denying = {role["rolename"] for role in document["roles"] if denied in role["acls"]}
    assert denying == {role["rolename"] for role in document["roles"]}
    without = {client["username"] for client in document["clients"] if not client["roles"]}
    assert without == {"svc-registry", "svc-rotator", "svc-firmware"}


def test_an_accounts_file_of_an_older_version_lets_nobody_else_join_a_shared_subscription() -> None:
    old = json.loads(broker.render_accounts({"admin": "secret", "svc-registry": "secret"}))
    old["roles"] = [role for role in old["roles"] if role["rolename"] != acl.OTHER_ROLE]
    own = {"username": "alice", "roles": [{"rolename": "admin-alice"}]}
    device, by_hand = {"username": "iotdevice-m-1"}, {"username": "homeassistant"}
    for client in old["clients"]:
        client["roles"] = []
    old["clients"] += [own, device, by_hand]
    old["groups"][0]["clients"].append({"username": "iotdevice-m-1"})
    rendered = broker.render_accounts({"admin": "secret", "svc-registry": "secret"}, json.dumps(old))
    after = json.loads(rendered)
    roles = {client["username"]: client.get("roles") for client in after["clients"]}
    other = [{"rolename": "other", "priority": 0}]
    expected = {"admin": other, "svc-registry": [], "alice": own["roles"], "iotdevice-m-1": None}
    assert roles == {**expected, "homeassistant": other}
    assert "other" in {role["rolename"] for role in after["roles"]}
    assert broker.render_accounts({"admin": "secret", "svc-registry": "secret"}, rendered) == rendered


def test_written_secrets_are_for_the_owner_only(tmp_path: Path) -> None:
    configuration = broker.write_files(tmp_path / "config", tmp_path / "data", SETTINGS, {"admin": "secret"})
    assert configuration.read_text() == broker.render_configuration(SETTINGS)
    accounts = tmp_path / "data/dynamic-security.json"
    assert accounts.stat().st_mode & 0o077 == 0
    before = accounts.read_text()
    broker.write_files(tmp_path / "config", tmp_path / "data", SETTINGS, {"admin": "secret"})
    assert accounts.read_text() == before


@pytest.mark.parametrize("service", ["registry", "rotator", "firmware"])
def test_a_service_reads_only_its_own_requests(service: str) -> None:
    lines = broker.render_acl().split(f"user svc-{service}\n")[1].split("\n\n")[0].splitlines()
    admin = [line for line in lines if "/admin/" in line]
    assert admin == [f"topic read mdm/v1/admin/+/{service}/+/+"]


def test_a_device_may_write_on_what_is_declared_and_nothing_else() -> None:
    writes = [line.split(" ")[2] for line in broker.render_acl().splitlines() if line.startswith("pattern write")]
    declared = [topic.filter for topic in topics.TOPICS.values() if "/up/" in topic.template]
    others = ["mdm/v1/claim/%u/request", "mdm/v1/recover/%u/request", *OWN]
    assert sorted(writes) == sorted([*(it.replace("+", "%u", 1) for it in declared), *others])


def test_a_device_may_write_on_no_topic_of_the_protocol_that_it_names_itself() -> None:
    writes = [line.split(" ")[2] for line in broker.render_acl().splitlines() if line.startswith("pattern write")]
    assert [topic for topic in writes if "+" in topic or "#" in topic] == OWN


def test_a_device_has_its_own_traffic_below_its_own_name_and_of_others_nothing() -> None:
    rules = [line.split(" ") for line in broker.render_acl().splitlines() if line.startswith("pattern ")]
    own = [(access, topic) for _, access, topic in rules if not topic.startswith("mdm/")]
    assert own == [("write", "app/%u/up/#"), ("write", "homeassistant/+/%u/+/config"), ("read", "app/%u/down/#")]


def test_no_service_but_the_registry_which_clears_it_has_the_devices_own_traffic() -> None:
    users = {part.split("\n")[0]: part for part in broker.render_acl().split("user ")[1:]}
    having = {user for user, rules in users.items() if re.search(r"^topic \w+ app/", rules, re.MULTILINE)}
    assert having == {"svc-registry", "homeassistant"}


@pytest.mark.parametrize("kind", ["publishClientSend", "publishClientReceive"])
@pytest.mark.parametrize("prefix", ["mdm/v1/d/#", "app/#", "homeassistant/#"])
def test_the_accounts_of_claims_and_recovery_have_no_patterns_of_devices(prefix: str, kind: str) -> None:
    document = json.loads(broker.render_accounts({}))
    (claim,) = (role for role in document["roles"] if role["rolename"] == "claim")
    assert {"acltype": kind, "topic": prefix, "priority": 10, "allow": False} in claim["acls"]


def test_an_accounts_file_of_an_older_version_denies_claims_what_is_new_and_keeps_what_was_added_to_it() -> None:
    fresh = json.loads(broker.render_accounts({"admin": "secret"}))
    old = json.loads(json.dumps(fresh))
    added = {"acltype": "publishClientSend", "topic": "hand/made", "priority": 0, "allow": True}
    for role in old["roles"]:
        role["acls"] = [acl for acl in role["acls"] if not acl["topic"].startswith(("app", "homeassistant"))]
        role["acls"].append(added)
    rendered = broker.render_accounts({"admin": "secret"}, json.dumps(old))
    for role, wanted in zip(json.loads(rendered)["roles"], fresh["roles"], strict=True):
        assert all(acl in role["acls"] for acl in [*wanted["acls"], added])
        assert len(role["acls"]) == len(wanted["acls"]) + 1
    assert broker.render_accounts({"admin": "secret"}, rendered) == rendered


def test_every_account_has_rules() -> None:
    named = {line.removeprefix("user ") for line in broker.render_acl().splitlines() if line.startswith("user ")}
    assert named == {*broker.ACCOUNTS, *broker.OPTIONAL_ACCOUNTS}


def test_the_certificate_is_trusted_by_its_authority(tmp_path: Path) -> None:
    server = certificates.ensure_server_certificate(tmp_path, ["mqtt.example.org", "192.0.2.1"])
    authority = certificates.ensure_authority(tmp_path)
    ssl.create_default_context(cafile=str(authority.certificate))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server.certificate, server.key)
    certificate = x509.load_pem_x509_certificate(server.certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mqtt.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    assert server.key.stat().st_mode & 0o077 == 0


def test_certificates_are_kept_until_another_host_is_wanted(tmp_path: Path) -> None:
    first = certificates.ensure_server_certificate(tmp_path, ["one", "two"]).certificate.read_bytes()
    authority = certificates.ensure_authority(tmp_path).certificate.read_bytes()
    assert certificates.ensure_server_certificate(tmp_path, ["two"]).certificate.read_bytes() == first
    assert certificates.ensure_server_certificate(tmp_path, ["three"]).certificate.read_bytes() != first
    assert certificates.ensure_authority(tmp_path).certificate.read_bytes() == authority


@pytest.mark.parametrize("damage", ["cut off", "of another authority", "with another key"])
def test_a_certificate_that_does_not_fit_is_made_anew(tmp_path: Path, damage: str) -> None:
    server = certificates.ensure_server_certificate(tmp_path, ["one"])
    if damage == "cut off":
        server.certificate.write_bytes(server.certificate.read_bytes()[:100])
    elif damage == "with another key":
        server.key.write_bytes((tmp_path / "ca.key").read_bytes())
    else:
        (tmp_path / "ca.key").unlink()
    before = server.certificate.read_bytes()
    certificates.ensure_server_certificate(tmp_path, ["one"])
    assert server.certificate.read_bytes() != before
