"""What the deployment's `init` leaves in the volumes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization

from deploy import certificates
from deploy.homelab import authority, prepare, renew_authority, renewal, run
from shared import authorities
from shared.protocol import admin

WANTED = {
    "PUBLIC_HOST": "mdm.example.org",
    "DEVICES_PORT": "8883",
    "CLAIMS_PORT": "8884",
    "IMAGES_PORT": "8444",
    "KEYCLOAK_PORT": "8443",
}


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the files to whom the tests run as."""
    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, lambda *_: None)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    prepare.prepare(tmp_path, WANTED)
    return tmp_path


def contents(volumes: Path) -> dict[str, bytes]:
    return {str(file.relative_to(volumes)): file.read_bytes() for file in volumes.rglob("*") if file.is_file()}


def test_again_changes_nothing_and_remembers_the_host(volumes: Path) -> None:
    before = contents(volumes)
    published = prepare.prepare(volumes, {**WANTED, "PUBLIC_HOST": ""})
    assert published.host == "mdm.example.org"
    assert contents(volumes) == before


def test_the_authoritys_key_is_in_no_other_volume(volumes: Path) -> None:
    key = (volumes / "authority/ca.key").read_bytes()
    assert [name for name, content in contents(volumes).items() if key in content] == ["authority/ca.key"]


@pytest.mark.parametrize(
    ("secret", "holders"),
    [
        ("broker-admin", {"admin"}),
        ("broker-svc-registry", {"registry"}),
        ("broker-svc-accounts", {"registry", "rotator"}),
        ("database-mdm", {"migrate"}),
        ("database-mdm_registry", {"migrate", "registry"}),
        ("database-mdm_rotator", {"migrate", "rotator"}),
        ("database-mdm_firmware", {"migrate", "firmware"}),
        ("database-mdm_backup", {"migrate", "backup"}),
        ("keycloak-mdm-registry", {"keycloak", "registry", "backup"}),
        ("master-keys-registry", {"registry", "backup"}),
        ("master-keys-rotator", {"rotator"}),
        ("master-keys-firmware", {"firmware"}),
        ("database-superuser", {"postgres", "migrate"}),
        ("keycloak-admin", {"keycloak"}),
    ],
)
def test_each_volume_has_only_the_secrets_that_its_user_needs(
    volumes: Path, secret: str, holders: set[str]
) -> None:
    value = (volumes / "authority/secrets" / secret).read_bytes()
    found = {name.split("/")[0] for name, content in contents(volumes).items() if value in content}
    assert found - {"authority"} == holders


def test_what_the_common_master_keys_have_encrypted_stays_readable_to_those_who_had_them(tmp_path: Path) -> None:
    old = [Fernet.generate_key().decode() for _ in range(2)]
    secrets = tmp_path / "authority/secrets"
    secrets.mkdir(parents=True)
    (secrets / "master-keys").write_text("\n".join(old))
    for _ in range(2):  # again changes nothing
        prepare.prepare(tmp_path, WANTED)
    keys = {
        service: run.settings((tmp_path / service / "environment").read_text())["MDM_MASTER_KEYS"].split(",")
        for service in ("registry", "rotator", "firmware")
    }
    assert (keys["rotator"][1:], keys["firmware"][1:], keys["registry"][1:]) == (old, old, [])
    assert len({*old, *(own[0] for own in keys.values())}) == len(old) + len(keys)


def test_files_with_secrets_are_their_owners_only(volumes: Path) -> None:
    for name in ("registry/environment", "broker/server.key", "keycloak/keycloak.conf", "authority/secrets/hosts"):
        assert (volumes / name).stat().st_mode & 0o077 == 0, name


def test_the_accounts_of_a_running_broker_are_left_alone(volumes: Path) -> None:
    file = volumes / "broker-data/dynamic-security.json"
    document = json.loads(file.read_text())
    document["clients"] = [{"username": "iotdevice-blink-a1b2c3d4"}, *reversed(document["clients"])]
    document["groups"][0]["clients"].append({"username": "iotdevice-blink-a1b2c3d4"})
    file.write_text(json.dumps(document))
    before = file.stat()
    prepare.prepare(volumes, WANTED)
    assert file.stat() == before


def test_what_the_accounts_file_lacks_is_added_and_devices_stay(volumes: Path) -> None:
    file = volumes / "broker-data/dynamic-security.json"
    document = json.loads(file.read_text())
    document["clients"] = [{"username": "iotdevice-blink-a1b2c3d4"}]
    document["roles"] = []
    file.write_text(json.dumps(document))
    prepare.prepare(volumes, WANTED)
    after = json.loads(file.read_text())
    names = {client["username"] for client in after["clients"]}
    assert {"iotdevice-blink-a1b2c3d4", "svc-registry", prepare.HEALTH_ACCOUNT} <= names
    assert after["roles"]


def test_a_new_certificate_goes_to_all_servers(volumes: Path, tmp_path: Path) -> None:
    no_own = tmp_path / "none"
    assert not renewal.renew(volumes, ["mdm.example.org"], own=no_own)
    before = (volumes / "broker/server.crt").read_bytes()
    assert renewal.renew(volumes, ["mdm.example.org"], own=no_own, now=True)
    seen = {(volumes / name / "server.crt").read_bytes() for name in ("broker", "keycloak", "firmware")}
    assert len(seen) == 1
    assert before not in seen
    authority = x509.load_pem_x509_certificate((volumes / "registry/ca.crt").read_bytes())
    x509.load_pem_x509_certificate(seen.pop()).verify_directly_issued_by(authority)


def test_devices_that_know_the_machine_by_an_earlier_name_still_find_it(volumes: Path) -> None:
    published = prepare.prepare(volumes, {**WANTED, "PUBLIC_HOST": "192.0.2.7"})
    assert published.host == "192.0.2.7"
    certificate = x509.load_pem_x509_certificate((volumes / "broker/server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mdm.example.org", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "127.0.0.1"]


def names_of(pem: bytes) -> list[bytes]:
    return [one.public_bytes(serialization.Encoding.DER) for one in x509.load_pem_x509_certificates(pem)]


def signed_by(volumes: Path) -> list[bool]:
    """Tell of each authority that devices trust whether it has signed the server's certificate."""
    server = x509.load_pem_x509_certificate((volumes / "broker/server.crt").read_bytes())

    def signs(one: x509.Certificate) -> bool:
        try:
            server.verify_directly_issued_by(one)
        except InvalidSignature:
            return False
        return True

    return [signs(one) for one in x509.load_pem_x509_certificates((volumes / "registry/ca.crt").read_bytes())]


def test_the_authority_changes_in_steps_each_of_which_can_be_taken_back(volumes: Path, tmp_path: Path) -> None:
    folder = volumes / "authority"

    def renewed() -> list[bytes]:
        renewal.renew(volumes, ["mdm.example.org"], own=tmp_path / "none")
        return names_of((volumes / "registry/ca.crt").read_bytes())

    (old,) = renewed()
    authority.begin(folder)
    assert authority.stage(folder) == "begun"
    first, new = renewed()
    assert (first, signed_by(volumes)) == (old, [True, False])
    authority.switch(folder)
    assert authority.stage(folder) == "switched"
    assert (renewed(), signed_by(volumes)) == ([new, old], [True, False])
    authority.back(folder)
    assert authority.stage(folder) == "begun"
    assert (renewed(), signed_by(volumes)) == ([old, new], [True, False])
    authority.back(folder)
    assert authority.stage(folder) == "settled"
    assert renewed() == [old]
    authority.begin(folder)
    authority.switch(folder)
    authority.finish(folder)
    assert authority.stage(folder) == "settled"
    assert len(renewed()) == 1
    assert (old not in renewed(), signed_by(volumes)) == (True, [True])


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("change", [authority.switch, authority.back])
def test_an_interrupted_change_of_the_authority_continues(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], writes: int
) -> None:
    folder = volumes / "authority"
    authority.begin(folder)
    if change is authority.back:
        authority.switch(folder)
    before = authority.stage(folder)
    old, new = names_of(authority.trusted(folder))
    replace, left = Path.replace, writes

    def dies(source: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        change(folder)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    assert set(names_of(authority.trusted(folder))) == {old, new}
    if authority.stage(folder) == before:
        change(folder)
    renewal.renew(volumes, ["mdm.example.org"])
    assert names_of(authority.trusted(folder)) == [new, old]
    assert signed_by(volumes) == [True, False]


def test_ones_own_certificate_is_taken_as_it_is(volumes: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    certificates.ensure_server_certificate(own, ["mdm.example.org"])
    assert renewal.renew(volumes, ["mdm.example.org"], own=own)
    assert (volumes / "broker/server.crt").read_bytes() == (own / "server.crt").read_bytes()
    assert (volumes / "registry/ca.crt").read_bytes() == (own / "ca.crt").read_bytes()


def test_settings_are_read_as_they_were_written(volumes: Path) -> None:
    values = run.settings((volumes / "registry/environment").read_text())
    assert values["MDM_DEVICE_MQTT_HOST"] == "mdm.example.org"
    assert values["MDM_KEYCLOAK_PUBLIC_URL"] == "https://mdm.example.org:8443"
    assert values["MDM_DATABASE_URL"].startswith("postgresql+asyncpg://mdm_registry:")


def test_the_realms_file_holds_no_secret() -> None:
    realm = json.loads(prepare.REALM.read_text())
    assert [client["clientId"] for client in realm["clients"]] == ["mdm-registry", "mdm-rotator"]

    def fields(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            yield from part
        for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from fields(child)

    telling = re.compile("secret$|password|credential|key", re.IGNORECASE)
    assert [name for name in fields(realm) if telling.search(name)] == []


def test_the_realm_has_secrets_that_were_made_here(volumes: Path) -> None:
    realm = json.loads((volumes / "keycloak/realm-iot.json").read_text())
    for client in realm["clients"]:
        kept = volumes / "authority/secrets" / f"keycloak-{client['clientId']}"
        assert client["secret"] == kept.read_text()
        assert len(client["secret"]) >= 32
    assert realm["sslRequired"] == "external"


def connections(*authorities_: admin.AuthorityUse, without_package: int = 0) -> admin.ConnectionStatus:
    return admin.ConnectionStatus(
        profiles=[],
        more=0,
        authorities=list(authorities_),
        as_provisioned=0,
        without_package=without_package,
        on_fallback=0,
    )


def test_the_next_authority_signs_only_when_nobody_trusts_the_present_one_alone(volumes: Path) -> None:
    folder = volumes / "authority"
    (old,) = authorities.read(authority.trusted(folder).decode(), field="ca")

    def used(alone: int = 0, claims: tuple[str, ...] = ()) -> admin.AuthorityUse:
        return admin.AuthorityUse(
            subject=authorities.subject(old),
            fingerprint=authorities.fingerprint(old),
            ends_at=old.not_valid_after_utc,
            devices=7,
            alone=alone,
            claims=list(claims),
        )

    assert "There is a next authority" in renew_authority.advance(folder, connections(used(7)), force=False)
    for status, reason in [
        (connections(used(1)), "trust only the present authority: 1"),
        (connections(used(), without_package=2), "nothing is known: 2"),
        (connections(used(claims=("claim-a1b2c3d4",))), "claim-a1b2c3d4"),
    ]:
        assert reason in renew_authority.advance(folder, status, force=False)
        assert authority.stage(folder) == "begun"
    assert "signs from now on" in renew_authority.advance(folder, connections(used()), force=False)
    assert authority.stage(folder) == "switched"
    renew_authority.advance(folder, connections(), force=False)
    assert authority.stage(folder) == "settled"
    (new,) = authorities.read(authority.trusted(folder).decode(), field="ca")
    assert new != old


def test_a_forced_step_locks_out_whom_it_names(volumes: Path) -> None:
    folder = volumes / "authority"
    renew_authority.advance(folder, connections(), force=False)
    renew_authority.advance(folder, connections(without_package=1), force=True)
    assert authority.stage(folder) == "switched"
