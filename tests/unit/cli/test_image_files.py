"""`mdm firmware inspect` and `sign`: what works on files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.esp32 import CHIP_IDS
from tests.unit.cli.conftest import Run
from tests.unit.firmware import images


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the tool nothing to connect with."""
    for name in ("MDM_HOST", "MDM_ACCOUNT", "MDM_PASSWORD"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize("chip", CHIP_IDS)
def test_inspect_shows_what_an_image_says_of_itself(mdm: Run, tmp_path: Path, chip: str) -> None:
    file = tmp_path / "app.bin"
    file.write_bytes(images.build(chip_id=CHIP_IDS[chip]))
    shown = mdm("firmware", "inspect", str(file))
    assert shown.exit_code == 0
    facts = dict(line.split("  ", 1) for line in shown.stdout.splitlines())
    assert {name: value.strip() for name, value in facts.items()}.items() >= {
        "chip": chip,
        "version": "1.2.3",
        "project": "sensor",
        "entry point": "0x40081234",
        "segments": "296 bytes to 0x3f400020, 36 bytes to 0x3f410020",
    }.items()


def test_inspect_as_json_has_all_facts(mdm: Run, tmp_path: Path) -> None:
    file = tmp_path / "app.bin"
    file.write_bytes(images.build())
    facts = json.loads(mdm("--json", "firmware", "inspect", str(file)).stdout)
    assert (facts["chip"], facts["secure_version"], facts["hash_appended"]) == ("esp32", 7, True)
    assert facts["size_bytes"] == file.stat().st_size
    assert facts["segments"][0] == {"offset": 32, "size_bytes": 296, "load_address": 0x3F400020}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "error: size_bytes: expected at least 288, found 0\n"),
        (images.build(magic=0x7F), "error: magic: expected 0xE9, an ESP32 image, found 0x7F\n"),
        (images.build(chip_id=4711), "error: chip_id: expected one of 0 (esp32), 2 (esp32s2), "),
        (images.build(checksum=0), "error: checksum: expected 0x"),
    ],
)
def test_inspect_names_the_field_what_was_found_and_what_was_expected(
    mdm: Run, tmp_path: Path, data: bytes, line: str
) -> None:
    file = tmp_path / "app.bin"
    file.write_bytes(data)
    shown = mdm("firmware", "inspect", str(file))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(line)
    assert ", found " in shown.stderr
    assert shown.stderr.count("\n") == 1
