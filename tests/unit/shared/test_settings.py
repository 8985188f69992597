from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import InvalidInputError
from shared.runtime import environment, settings

KEY, OLD_KEY = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SERVICE = {"DATABASE_URL": "postgresql+asyncpg://u:hidden-1@host/db", "MQTT_PASSWORD": "hidden-2"}
IDENTITY = {
    **SERVICE,
    "ACCOUNTS_PASSWORD": "hidden-3",
    "KEYCLOAK_URL": "http://keycloak",
    "KEYCLOAK_CLIENT_ID": "registry",
    "KEYCLOAK_CLIENT_SECRET": "hidden-4",
}
REGISTRY = {**IDENTITY, "MASTER_KEYS": KEY}
ROTATOR = {**IDENTITY, "MASTER_KEYS": f"{KEY},{OLD_KEY}"}
FIRMWARE = {**SERVICE, "ASSETS_URL": "file:///images", "MASTER_KEYS": KEY}
SECRETS = [(name, ROTATOR[name]) for name in ROTATOR if name not in {"KEYCLOAK_URL", "KEYCLOAK_CLIENT_ID"}]
KINDS: list[tuple[type[settings.ServiceSettings], dict[str, str]]] = [
    (settings.ServiceSettings, SERVICE),
    (settings.IdentitySettings, IDENTITY),
    (settings.RegistrySettings, REGISTRY),
    (settings.RotatorSettings, ROTATOR),
    (settings.FirmwareSettings, FIRMWARE),
]


@pytest.fixture(autouse=True)
def only_the_tests_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MDM_"):
            monkeypatch.delenv(name)


def put(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MDM_{name}", value)


def refusal(kind: type[settings.ServiceSettings]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        environment.load(kind)
    return caught.value.message


@pytest.mark.parametrize(("kind", "variables"), KINDS)
def test_settings_are_read_from_the_environment(
    kind: type[settings.ServiceSettings], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, variables | {"INSTANCE": "green", "HOST": "is the tool's"})
    loaded = environment.load(kind)

    assert loaded.instance == "green"
    assert loaded.mqtt_password.get_secret_value() == "hidden-2"
    with pytest.raises(ValidationError, match="frozen"):
        loaded.instance = "blue"  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "variables"), KINDS)
def test_every_missing_variable_is_named_at_once(
    kind: type[settings.ServiceSettings], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = re.findall(r"(MDM_\w+): must be given", refusal(kind))
    assert set(missing) == {f"MDM_{name}" for name in variables}

    put(monkeypatch, variables)
    monkeypatch.delenv("MDM_DATABASE_URL")
    assert refusal(kind) == "MDM_DATABASE_URL: must be given, or MDM_DATABASE_URL_FILE"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INSTANCE", "Blue"),
        ("INSTANCE", ""),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("METRICS_PORT", "65536"),
        ("METRICS_PORT", "-1"),
        ("MQTT_PORT", "0"),
        ("MQTT_PORT", "mqtt"),
        ("ROTATION_DEADLINE_S", "0"),
        ("ROTATION_DEADLINE_S", "nan"),
        ("ROTATION_RETRY_S", "-1"),
        ("ROTATION_SCHEDULE", "0 8 * *"),
        ("ROTATION_SCHEDULE", "0 8 * * 6#1 0"),
        ("ROTATION_SCHEDULE", "@daily"),
        ("ROTATION_SCHEDULE", "60 8 * * *"),
        ("ROTATION_SCHEDULE", "0 8 30 2 *"),
        ("ROTATION_SCHEDULE", "r 8 * * *"),
        ("ROTATION_SCHEDULE", "H 8 * * *"),
        ("ROTATION_TIME_ZONE", ""),
        ("ROTATION_TIME_ZONE", "Europe"),
        ("ROTATION_TIME_ZONE", "Europe/Bonn"),
        ("ROTATION_TIME_ZONE", "../etc/passwd"),
        ("ROTATION_GRACE_S", "59.9"),
        ("ROTATION_MAX_PARALLEL", "0"),
        ("SWEEP_S", "0"),
        ("LEADER_POLL_S", "0"),
        ("LEADER_LEASE_S", "0"),
        ("MASTER_KEYS", ""),
        ("MASTER_KEYS", ","),
        ("MASTER_KEYS", "short"),
        ("MQTT_PASSWORD", ""),
        ("DATABASE_URL", "somewhere"),
        ("DATABASE_URL", "postgresql://u:p@host/db"),
        ("DATABASE_URL", "postgresql+asyncpg://u:p@host"),
        ("DATABASE_URL", "postgresql+asyncpg://u:p@host:port/db"),
        ("KEYCLOAK_URL", "keycloak"),
        ("KEYCLOAK_REALM", ""),
        ("MQTT_HOST", ""),
        ("ROTATION_DEADLINE_S", "1e300"),
        ("ROTATION_RETRY_S", "inf"),
        ("MASTER_KEYS", f"{KEY},{KEY[:-2]}"),
        ("MASTER_KEYS", "\N{EURO SIGN}" * 44),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, ROTATOR | {name: value})
    message = refusal(settings.RotatorSettings)

    assert message.startswith(f"MDM_{name}: ")
    assert "; MDM_" not in message
    assert KEY not in message


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (settings.RegistrySettings, "DEVICE_MQTT_PORT", "0"),
        (settings.RegistrySettings, "DEVICE_MQTT_TLS", "perhaps"),
        (settings.RegistrySettings, "DEVICE_CA_FILE", "/nowhere/ca.crt"),
        (settings.RegistrySettings, "DEVICE_CA_FILE", "/"),
        (settings.FirmwareSettings, "CHUNK_SIZE_BYTES", "255"),
        (settings.FirmwareSettings, "CHUNK_SIZE_BYTES", "65537"),
        (settings.FirmwareSettings, "HTTP_PORT", "65536"),
        (settings.FirmwareSettings, "HTTP_URL", "ftp://images"),
        (settings.RegistrySettings, "TLS_SERVERS", "broker"),
        (settings.RegistrySettings, "TLS_SERVERS", "broker:8883,keycloak:8443"),
        (settings.FirmwareSettings, "HTTP_URL", "https://"),
        (settings.FirmwareSettings, "HTTP_URL", "https://images/?x"),
        (settings.FirmwareSettings, "HTTP_MAX_PARALLEL", "0"),
        (settings.FirmwareSettings, "HTTP_STALL_S", "0"),
    ],
)
def test_each_service_checks_its_own_variables(
    kind: type[settings.ServiceSettings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, IDENTITY | FIRMWARE | {name: value})

    assert refusal(kind).startswith(f"MDM_{name}: ")


def test_a_wrong_master_key_says_how_to_make_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, ROTATOR | {"MASTER_KEYS": f"{KEY},{OLD_KEY[:20]}"})

    assert "each key must be 32 bytes in base64url, as Fernet.generate_key() makes it" in refusal(
        settings.RotatorSettings
    )


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("ROTATION_SCHEDULE", "0 8 * *", "must be five fields of cron"),
        ("ROTATION_SCHEDULE", "0 8 30 2 *", "must be an expression of cron that has a next time"),
        ("ROTATION_TIME_ZONE", "Europe/Bonn", "must be the IANA name of a time zone"),
    ],
)
def test_a_wrong_schedule_says_what_a_right_one_is(
    name: str, value: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, ROTATOR | {name: value})
    assert rule in refusal(settings.RotatorSettings)


@pytest.mark.parametrize(
    ("given", "expression"), [(None, "0 8 * * 6#1"), ("", ""), (" ", ""), (" 0  8 * * mon ", "0 8 * * mon")]
)
def test_a_schedule_is_the_first_saturday_unless_it_is_said_otherwise(
    given: str | None, expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, ROTATOR if given is None else ROTATOR | {"ROTATION_SCHEDULE": given})
    assert environment.load(settings.RotatorSettings).rotation_schedule == expression


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"HTTP_PORT": "8443"}, "MDM_HTTP_PORT: needs MDM_KEYCLOAK_URL too"),
        ({"HTTP_CERTIFICATE_FILE": "/c"}, "MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE: must be given together"),
        ({"HTTP_KEY_FILE": "/k"}, "MDM_HTTP_CERTIFICATE_FILE, MDM_HTTP_KEY_FILE: must be given together"),
    ],
)
def test_images_over_http_need_all_that_belongs_to_it(
    given: dict[str, str], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, FIRMWARE | given)
    assert refusal(settings.FirmwareSettings) == rule


@pytest.mark.parametrize("text", [f"{KEY}\n{OLD_KEY}\n", f"{KEY},{OLD_KEY}", f"\n {KEY} , {OLD_KEY}\r\n\n"])
def test_master_keys_are_read_from_a_file(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    put(monkeypatch, ROTATOR | {"MASTER_KEYS": "", "MASTER_KEYS_FILE": str(tmp_path / "keys")})
    loaded = environment.load(settings.RotatorSettings)

    assert [key.get_secret_value() for key in loaded.master_keys] == [KEY, OLD_KEY]
    assert KEY not in repr(loaded)


@pytest.mark.parametrize(("name", "value"), SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_each_secret_may_be_in_a_file(
    name: str, value: str, end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes((value + end).encode())
    put(monkeypatch, ROTATOR)
    as_variables = environment.load(settings.RotatorSettings)
    monkeypatch.delenv(f"MDM_{name}")
    put(monkeypatch, {f"{name}_FILE": str(tmp_path / "secret")})

    assert environment.load(settings.RotatorSettings) == as_variables


def test_only_one_newline_is_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" hidden-2 \n\n")
    put(monkeypatch, ROTATOR | {"MQTT_PASSWORD": "", "MQTT_PASSWORD_FILE": str(tmp_path / "secret")})

    assert environment.load(settings.RotatorSettings).mqtt_password.get_secret_value() == " hidden-2 \n"


@pytest.mark.parametrize(("name", "value"), SECRETS)
def test_a_secret_is_given_in_one_way_only(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, ROTATOR | {f"{name}_FILE": "/etc/hostname"})
    message = refusal(settings.RotatorSettings)

    assert message == f"MDM_{name}, MDM_{name}_FILE: only one of both may be given"
    assert value not in message


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "must be text in UTF-8"),
    ],
)
@pytest.mark.parametrize("name", [name for name, _ in SECRETS])
def test_a_wrong_file_of_a_secret_is_named(
    name: str, content: bytes | None, rule: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    put(monkeypatch, ROTATOR | {name: "", f"{name}_FILE": str(file)})

    assert refusal(settings.RotatorSettings) == f"MDM_{name}_FILE: {file} {rule}"


def test_a_wrong_key_in_a_file_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n{OLD_KEY[:-3]}")
    put(monkeypatch, ROTATOR | {"MASTER_KEYS": "", "MASTER_KEYS_FILE": str(tmp_path / "keys")})
    message = refusal(settings.RotatorSettings)

    assert "MDM_MASTER_KEYS: each key must be 32 bytes" in message
    assert KEY[:20] not in message
    assert OLD_KEY[:20] not in message


@pytest.mark.parametrize(
    ("slip", "near"),
    [
        ("ROTATION_DEADLNE_S", "ROTATION_DEADLINE_S"),
        ("MQTT_PASWORD_FILE", "MQTT_PASSWORD_FILE"),
        ("KEYCLOAK_REALM_FILE", "KEYCLOAK_REALM"),
        ("HTTP_PROT", "HTTP_PORT"),
    ],
)
@pytest.mark.parametrize(("kind", "variables"), KINDS)
def test_a_variable_that_nobody_knows_is_named_with_the_nearest_one(
    kind: type[settings.ServiceSettings],
    variables: dict[str, str],
    slip: str,
    near: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(monkeypatch, variables | {slip: "hidden-5"})
    assert refusal(kind) == f"MDM_{slip}: there is no such setting; did you mean MDM_{near}?"


def test_a_variable_that_is_near_to_none_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, SERVICE | {"QQQQQQQQQQQQQQQQQ": "1", "LOG_LEVEL": "loud"})
    message = refusal(settings.ServiceSettings)

    assert message.startswith("MDM_QQQQQQQQQQQQQQQQQ: there is no such setting; MDM_LOG_LEVEL: ")


def test_a_variable_that_was_removed_is_named_as_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, SERVICE | {"WINDOW": "8"})
    assert refusal(settings.ServiceSettings) == "MDM_WINDOW: this setting was removed; delete it"


def test_what_others_read_is_no_fault_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, FIRMWARE | {"SWEEP_S": "wrong, but not ours", "CACHE": "/tmp", "PASSWORD_FILE": "/secret"})  # noqa: S108
    assert environment.load(settings.FirmwareSettings).chunk_size_bytes == 16384


def test_master_keys_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, ROTATOR)
    keys = environment.load(settings.RotatorSettings).master_keys

    assert [key.get_secret_value() for key in keys] == [KEY, OLD_KEY]


@pytest.mark.parametrize(("kind", "variables"), KINDS)
def test_no_secret_is_in_the_text_of_the_settings(
    kind: type[settings.ServiceSettings], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, variables)
    loaded = environment.load(kind)

    for text in (repr(loaded), str(loaded), loaded.model_dump_json()):
        assert "hidden" not in text
        assert KEY not in text
        assert OLD_KEY not in text


def test_the_certificate_of_devices_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("PEM")
    put(monkeypatch, REGISTRY | {"DEVICE_CA_FILE": str(file)})

    assert environment.load(settings.RegistrySettings).device_ca_file == file


def test_as_many_core_dumps_are_kept_as_may_come_in_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, FIRMWARE | {"COREDUMPS_KEPT": "9", "COREDUMPS_PER_HOUR": "10"})
    assert refusal(settings.FirmwareSettings) == "MDM_COREDUMPS_KEPT: must be at least MDM_COREDUMPS_PER_HOUR"
    put(monkeypatch, {"COREDUMPS_KEPT": "10"})
    assert environment.load(settings.FirmwareSettings).coredumps_kept == 10
