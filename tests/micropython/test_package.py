"""The package as files: what is installed, how it compiles, where records may be, and how much memory it takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.protocol.admin import Package
from tests.micropython.board import PROGRAMS, SDK, compiled, needs_micropython, run

MODULES = sorted((SDK / "mdm").glob("*.py"))
CODE_KIB = 72
"""On the unix port, where a pointer has 8 bytes; on a board it has 4."""


def test_what_mip_installs_is_all_there_is() -> None:
    package = json.loads((SDK / "package.json").read_text())
    assert package["urls"] == [[f"mdm/{file.name}", f"mdm/{file.name}"] for file in MODULES]


def test_each_file_compiles(tmp_path: Path) -> None:
    assert sorted(compiled(tmp_path).rglob("*.mpy")) == [
        tmp_path / file.relative_to(SDK).with_suffix(".mpy") for file in sorted([*MODULES, SDK / "main.py"])
    ]


@needs_micropython
async def test_its_code_takes_no_more_memory_than_is_said(tmp_path: Path) -> None:
    assert int(await run(PROGRAMS / "heap.py", str(compiled(tmp_path)))) <= CODE_KIB * 1024


@needs_micropython
async def test_records_survive_on_littlefs_and_in_nvs_and_are_not_put_on_fat(tmp_path: Path) -> None:
    output = await run(PROGRAMS / "records.py", str(SDK), str(tmp_path), FLASH=str(tmp_path))
    assert output.splitlines() == [
        "fat True False False",
        "relative True",
        "refused /card/mdm: is on FAT, which loses records at power cuts: use littlefs or Nvs",
        "full kept",
        "damaged config.json: is damaged: it must be JSON",
        "nvs no room for 20008 bytes",
        "cut [Errno 5] EIO",
    ]


@needs_micropython
async def test_a_board_starts_twice_with_what_mip_installs(tmp_path: Path) -> None:
    """A folder of records named as the package would be imported in its place."""
    package = tmp_path / "package.json"
    made = Package(
        client_id="iotdevice-blink-mw9agw5m",
        device_key="mw9agw5m",
        secret="s" * 43,
        secret_generation=1,
        token_url="http://127.0.0.1:1/token",
        mqtt_host="127.0.0.1",
        mqtt_port=1,
        mqtt_tls=False,
        ca_certificate=None,
    )
    package.write_text(made.model_dump_json())
    output = await run(PROGRAMS / "first_start.py", str(compiled(tmp_path / "compiled")), str(package))
    first, second, folders = output.splitlines()
    assert first == second
    assert folders == "['lib', 'mdm-records', 'package.json']"


@needs_micropython
async def test_parts_that_only_a_board_uses(tmp_path: Path) -> None:
    output = await run(PROGRAMS / "parts.py", str(SDK), str(tmp_path / "mdm"))
    alarm = "it is 61.3 degrees warning thermometer"
    refused = "wake_interval_s: must be 1 to 2592000"
    reading = "temperature {'celsius': 61.3}"
    assert output.splitlines() == ["networks", refused, "profiles", "clock", reading, alarm, "example"]


@needs_micropython
async def test_the_first_day_of_a_certificate_is_found(tmp_path: Path) -> None:
    """With it a board sets a clock that was never set."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker\x17\x0d")])
    begin = datetime(2026, 11, 30, 23, 59, 58, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 23)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    program = tmp_path / "days.py"
    program.write_text(f"""
import sys
sys.path[:0] = [{str(SDK)!r}]
from mdm import tls
for certificate in tls.certificates({pem + pem!r}):
    print(tls.first_day(certificate))
print(tls.first_day(b"no certificate"))
""")
    assert (await run(program)).split() == [str(int(begin.timestamp()))] * 2 + ["None"]
