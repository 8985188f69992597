import contextlib
import getpass
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from esp_idf_nvs_partition_gen import nvs_partition_gen as generator  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli import main, package_options, passwords
from shared.errors import InvalidInputError
from shared.protocol import admin, nvs
from shared.protocol.messages import Recovery
from tests import nvs_reader
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run

SIZE = 0x6000
PASSWORD = "correct horse"
TERMINAL = SimpleNamespace(isatty=lambda: True)
BASE: dict[str, nvs_reader.Value] = {
    "device_key": "abcd1234",
    "client_id": "iotdevice-lamp-abcd1234",
    "secret": "s" * 43,
    "secret_gen": 1,
    "token_url": "https://keycloak.test/token",
    "mqtt_host": "broker.test",
    "mqtt_port": 8883,
    "mqtt_tls": 1,
}
AWKWARD = ['a,b"\nc', "=1+1", "#home", "a\n=b", '"', '""', " a ", "a\tb", "Küche 🙂", "\n", "'", ",", "\u2028"]
# Files are written for each example, and a fresh checkout first makes Hypothesis's table of Unicode.
patient = settings(suppress_health_check=[HealthCheck.too_slow])
characters = st.characters(codec="utf-8", exclude_characters="\0\r")
ssids = st.text(characters, min_size=1, max_size=32).filter(
    lambda text: len(text.encode()) <= 32 and "\n#" not in text
)
texts = (
    st.just("")
    | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=8, max_size=63)
    | st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)
)


def values(image: bytes) -> dict[str, dict[str, nvs_reader.Value]]:
    """Return what an image holds, without the blob of the libraries, which has the same facts."""
    found = nvs_reader.read(image)
    blob = found["mdm"].pop("package")
    assert isinstance(blob, bytes)
    whole = admin.Package.model_validate_json(blob)
    assert {name: found["mdm"][name] for name in ("client_id", "secret", "mqtt_host")} == {
        "client_id": whole.client_id,
        "secret": whole.secret,
        "mqtt_host": whole.mqtt_host,
    }
    return found


def package(**facts: object) -> admin.Package:
    return fakes.package().model_copy(update=facts)


def certificate(length: int) -> str:
    """Return a text of this many bytes that looks like a PEM file."""
    head, foot = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
    return head + ("A" * 64 + "\n").join([""] * 99)[: length - len(head) - len(foot)] + foot


def by_generator(text: str, *, size_bytes: int = SIZE) -> bytes:
    """Return the image that Espressif's own command makes of a CSV file."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.csv").write_text(text, "utf-8")
        names = SimpleNamespace(
            input=[str(Path(folder) / "in.csv")], output="out.bin", size=hex(size_bytes), version=2, outdir=folder
        )
        generator.generate(names)
        return (Path(folder) / "out.bin").read_bytes()


def test_the_size_that_the_help_names_is_that_of_the_protocol() -> None:
    assert nvs.size_bytes(package_options.NVS_SIZE) == admin.DEFAULT_NVS_BYTES


def test_an_image_holds_how_to_recover() -> None:
    recovery = Recovery(port=8884, account="recover", password="recover", server_key="A" * 43)
    facts = {"rec_port": 8884, "rec_account": "recover", "rec_pass": "recover", "rec_key": "A" * 43}
    image = nvs.image(nvs.rows(package(recovery=recovery), None), size_bytes=SIZE)
    assert values(image) == {"mdm": BASE | facts}


def test_an_image_holds_the_package_in_one_namespace() -> None:
    image = nvs.image(nvs.rows(package(), None), size_bytes=SIZE)
    assert len(image) == SIZE
    assert values(image) == {"mdm": BASE}


def test_a_device_that_logs_in_with_tokens_finds_that_too() -> None:
    image = nvs.image(nvs.rows(package(mqtt_auth="token"), None), size_bytes=SIZE)
    assert values(image) == {"mdm": {**BASE, "mqtt_auth": "token"}}


def test_an_image_of_the_least_size_holds_wifi_and_a_certificate() -> None:
    entries = nvs.rows(package(ca_certificate=certificate(2000)), nvs.network("home", PASSWORD))
    image = nvs.image(entries, size_bytes=admin.MIN_NVS_BYTES)
    wifi = {"wifi_ssid": "home", "wifi_pass": PASSWORD}
    assert values(image)["mdm"] == {**BASE, **wifi, "ca_cert": certificate(2000)}


def test_keys_are_short_enough_for_nvs() -> None:
    entries = nvs.rows(package(ca_certificate="x"), nvs.network("home"))
    assert max(len(row.key) for row in entries) <= 15


@patient
@given(ssid=ssids, password=texts)
def test_each_name_and_password_comes_back_by_image_and_by_csv(ssid: str, password: str) -> None:
    entries = nvs.rows(package(), nvs.network(ssid, password))
    image = nvs.image(entries, size_bytes=SIZE)
    assert values(image) == {"mdm": {**BASE, "wifi_ssid": ssid, "wifi_pass": password}}
    assert by_generator(nvs.csv_text(entries)) == image


@pytest.mark.parametrize("ssid", AWKWARD)
def test_an_awkward_name_is_a_value_and_nothing_else(ssid: str) -> None:
    image = by_generator(nvs.csv_text(nvs.rows(package(), nvs.network(ssid, '=,"12345'))))
    assert values(image) == {"mdm": {**BASE, "wifi_ssid": ssid, "wifi_pass": '=,"12345'}}


@patient
@given(
    generation=st.integers(0, 2**32 - 1),
    port=st.integers(0, 2**16 - 1),
    tls=st.booleans(),
    length=st.integers(100, nvs.MAX_STRING_BYTES),
)
def test_each_package_comes_back_by_image_and_by_csv(generation: int, port: int, tls: bool, length: int) -> None:
    facts = {"secret_generation": generation, "mqtt_port": port, "mqtt_tls": tls}
    entries = nvs.rows(package(**facts, ca_certificate=certificate(length)), None)
    image = nvs.image(entries, size_bytes=SIZE)
    found = values(image)["mdm"]
    assert (found["secret_gen"], found["mqtt_port"], found["mqtt_tls"]) == (generation, port, int(tls))
    assert found["ca_cert"] == certificate(length)
    assert by_generator(nvs.csv_text(entries)) == image


@pytest.mark.parametrize(
    ("ssid", "password", "rule"),
    [
        ("", "", "wifi_ssid: must be 1 to 32 bytes of UTF-8"),
        ("ü" * 17, "", "wifi_ssid: must be 1 to 32 bytes of UTF-8"),
        ("a\0b", "", "wifi_ssid: must not hold a NUL, which ends a string in NVS"),
        ("a\rb", "", "wifi_ssid: must hold neither a carriage return nor"),
        ("a\n#b", "", "wifi_ssid: must hold neither a carriage return nor"),
        ("\udcff", "", "wifi_ssid: must be UTF-8"),
        ("home", "1234567", "wifi_password: must be empty, 8 to 63 printable ASCII characters, or a key of 64"),
        ("home", "x" * 64, "wifi_password: must be empty, 8 to 63 printable ASCII characters, or a key of 64"),
        ("home", "a" * 65, "wifi_password: .* hexadecimal digits; has 65 characters"),
        ("home", "٣" * 64, "wifi_password: .* hexadecimal digits; has 64 characters"),
        ("home", "passwörter", "wifi_password: .* printable ASCII characters"),
        ("home", "pass\nword", "wifi_password: .* printable ASCII characters"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_field_and_rule(ssid: str, password: str, rule: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{rule}"):
        nvs.network(ssid, password)


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"secret_generation": 2**32}, "secret_gen: must be 0 to 4294967295 .u32., is 4294967296"),
        ({"mqtt_port": 65536}, "mqtt_port: must be 0 to 65535"),
        ({"ca_certificate": "x" * 3968}, "ca_cert: must be at most 3967 bytes for NVS, is 3968"),
        ({"mqtt_host": "a\0"}, "mqtt_host: must not hold a NUL"),
    ],
)
def test_a_package_that_nvs_cannot_carry_is_refused(facts: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{rule}"):
        nvs.rows(package(**facts), None)


def test_the_longest_string_is_what_the_generator_can_do_and_no_more() -> None:
    longest = nvs.NvsRow("ca_cert", "string", "x" * nvs.MAX_STRING_BYTES)
    assert nvs_reader.read(nvs.image([longest], size_bytes=SIZE)) == {"mdm": {"ca_cert": longest.value}}
    with pytest.raises(generator.PageFullError):
        nvs.image([longest._replace(value=f"{longest.value}x")], size_bytes=SIZE)


def test_a_package_larger_than_its_partition_is_refused() -> None:
    entries = [nvs.NvsRow(f"key{number}", "string", "x" * 3000) for number in range(3)]
    with pytest.raises(InvalidInputError, match=r"^size: 0x3000 bytes are too few for this package$"):
        nvs.image(entries, size_bytes=0x3000)


def test_a_certificate_loses_its_comments_and_carriage_returns_only() -> None:
    entries = nvs.rows(package(ca_certificate="# Issuer: a\r\nBEGIN\r\n# b\r\nEND\r\n"), None)
    assert nvs.NvsRow("ca_cert", "string", "BEGIN\nEND\n") in entries


@pytest.mark.parametrize(("text", "size"), [("0x3000", 0x3000), ("24576", 0x6000), ("0x1000000", 0x1000000)])
def test_a_size_is_decimal_or_hexadecimal(text: str, size: int) -> None:
    assert nvs.size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "0x2000", "0x6001", "-0x6000", "0x1001000", "1e5"])
def test_a_size_that_no_partition_has_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^size: must be a multiple of 0x1000 from 0x3000 to 0x1000000$"):
        nvs.size_bytes(text)


def test_a_network_does_not_show_its_password() -> None:
    assert PASSWORD not in repr(nvs.network("home", PASSWORD))


IMAGE = nvs.image(nvs.rows(package(ca_certificate=certificate(3900)), nvs.network("home")), size_bytes=0x4000)


@patient
@given(place=st.integers(0, len(IMAGE) * 8 - 1))
def test_the_reader_sees_each_flipped_bit_that_changes_a_value(place: int) -> None:
    broken = bytearray(IMAGE)
    broken[place // 8] ^= 1 << place % 8
    with contextlib.suppress(nvs_reader.BrokenImageError):
        assert nvs_reader.read(bytes(broken)) == nvs_reader.read(IMAGE)


def test_provision_writes_a_private_image(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    path = tmp_path / "out" / "nvs.bin"
    path.parent.mkdir()
    words = (
        *("device", "provision", "x", "--format", "nvs", "--output", str(path), "--size", "0x4000"),
        *("--wifi-ssid", 'a,b"\nc', "--wifi-password-file", str(tmp_path / "password")),
    )
    result = mdm(*words)
    assert result.exit_code == 0
    wifi = {"wifi_ssid": 'a,b"\nc', "wifi_pass": PASSWORD}
    assert values(path.read_bytes()) == {"mdm": {**BASE, **wifi}}
    assert len(path.read_bytes()) == 0x4000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result.output.splitlines() == ["device   iotdevice-lamp-abcd1234", f"package  {path}"]
    path.write_text("old")
    path.chmod(0o644)
    assert mdm(*words).exit_code == 1
    assert mdm(*words, "--force").exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert values(path.read_bytes())["mdm"]["wifi_pass"] == PASSWORD
    assert list(path.parent.iterdir()) == [path]


def test_provision_writes_a_private_csv(fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    path = tmp_path / "nvs.csv"
    result = mdm("device", "provision", "x", "--format", "csv", "--output", str(path), "--wifi-ssid", "=a")
    assert result.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    wifi = {"wifi_ssid": "=a", "wifi_pass": ""}
    assert values(by_generator(path.read_text("utf-8"))) == {"mdm": {**BASE, **wifi}}


def test_provision_prints_an_image_byte_by_byte(fake: fakes.FakeAdmin, mdm: Run) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    image = mdm("device", "provision", "x", "--format", "nvs", "--output", "-").stdout_bytes
    assert values(image) == {"mdm": BASE}
    text = mdm("device", "provision", "x", "--format", "csv", "--output", "-").stdout
    assert by_generator(text) == image


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--wifi-ssid", "a"), "--wifi-ssid, --wifi-password-file: require --format nvs or csv"),
        (("--size", "0x6000"), "--size: requires --format nvs"),
        (("--format", "csv", "--size", "0x6000"), "--size: requires --format nvs"),
        (("--format", "nvs", "--size", "5"), "--size: must be a multiple of 0x1000 from 0x3000 to 0x1000000"),
        (("--format", "nvs", "--wifi-ssid", ""), "--wifi-ssid: must be 1 to 32 bytes of UTF-8, without NUL"),
        (("--format", "nvs", "--wifi-password-file", "p"), "--wifi-password-file: requires --wifi-ssid"),
        (
            ("--format", "nvs", "--wifi-ssid", "a", "--wifi-password-file", "missing"),
            "--wifi-password-file: missing cannot be read: No such file or directory",
        ),
    ],
)
def test_provision_requests_no_secret_when_an_option_is_invalid(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, words: tuple[str, ...], error: str
) -> None:
    result = mdm("device", "provision", "x", "--output", str(tmp_path / "out"), *words)
    assert (result.exit_code, result.stderr) == (2, f"error: {error}\n")
    assert (fake.requests, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("content", [b"short", b"\xff" * 10, b"x" * 2000])
def test_a_password_that_is_refused_is_not_shown(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "password").write_bytes(content)
    words = ("--wifi-ssid", "a", "--wifi-password-file", str(tmp_path / "password"))
    result = mdm("device", "provision", "x", "--format", "nvs", "--output", str(tmp_path / "out"), *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --wifi-password-file: must be ")
    assert "short" not in result.output
    assert fake.requests == []


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_password_file_is_refused_and_makes_no_open_network(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "password").write_bytes(content)
    words = ("--wifi-ssid", "a", "--wifi-password-file", str(tmp_path / "password"))
    result = mdm("device", "provision", "x", "--format", "nvs", "--output", str(tmp_path / "out"), *words)
    error = "--wifi-password-file: is empty; for an open network leave out --wifi-password-file"
    assert (result.exit_code, result.stderr, fake.requests) == (2, f"error: {error}\n", [])


def test_a_terminal_is_prompted_for_the_password_without_echo(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    monkeypatch.setattr(package_options, "sys", SimpleNamespace(stdin=TERMINAL, stdout=TERMINAL))
    monkeypatch.setattr(passwords, "is_terminal", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda _: PASSWORD)
    path = tmp_path / "nvs.bin"
    words = ("--output", str(path), "--wifi-ssid", "a", "--wifi-password-file", "-")
    assert mdm("device", "provision", "x", "--format", "nvs", *words).exit_code == 0
    assert values(path.read_bytes())["mdm"]["wifi_pass"] == PASSWORD


def test_an_image_is_not_printed_on_a_terminal(
    fake: fakes.FakeAdmin, mdm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_options, "sys", SimpleNamespace(stdin=TERMINAL, stdout=TERMINAL))
    result = mdm("device", "provision", "x", "--format", "nvs", "--output", "-")
    assert result.exit_code == 2
    assert "--output: cannot write an image to a terminal; name a file" in result.stderr
    assert fake.requests == []


def test_a_full_disk_leaves_the_old_image_and_nothing_else(
    fake: fakes.FakeAdmin, mdm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    path = tmp_path / "nvs.bin"
    path.write_text("old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = mdm("device", "provision", "x", "--format", "nvs", "--output", str(path), "--force")
    assert result.stderr == f"error: --output: {path} cannot be written: No space left on device\n"
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


@pytest.mark.usefixtures("mdm")
def test_a_password_may_come_by_a_pipe(fake: fakes.FakeAdmin, tmp_path: Path) -> None:
    fake.answers["registry.device.provision"] = fakes.package()
    path = tmp_path / "nvs.bin"
    words = ["device", "provision", "x", "--format", "nvs", "--output", str(path)]
    words += ["--wifi-ssid", "a", "--wifi-password-file", "-"]
    assert CliRunner().invoke(main.app, words, input=f"{PASSWORD}\r\n").exit_code == 0
    assert values(path.read_bytes())["mdm"]["wifi_pass"] == PASSWORD
