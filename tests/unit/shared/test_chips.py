"""Chips and their names, compared with those of esptool."""

from __future__ import annotations

import pytest
from esptool.targets import CHIP_DEFS

from shared.esp32 import chips
from shared.protocol import admin
from tests.unit.firmware import images

ROMS = {name: rom for name, rom in CHIP_DEFS.items() if name != "esp8266"}


def test_the_chips_are_those_of_esptool() -> None:
    assert {name: rom.IMAGE_CHIP_ID for name, rom in ROMS.items()} == chips.CHIP_IDS
    assert chips.CHIP_IDS == images.CHIPS
    for kind in chips.CHIPS.values():
        rom = ROMS[kind.name]
        assert kind.flash_data == range(rom.DROM_MAP_START, rom.DROM_MAP_END)
        assert kind.flash_code == range(rom.IROM_MAP_START, rom.IROM_MAP_END)


@pytest.mark.parametrize("name", ROMS)
def test_no_address_of_ram_is_taken_for_one_of_flash(name: str) -> None:
    kind = chips.CHIPS[chips.CHIP_IDS[name]]
    ram = [start for start, _, memory in ROMS[name].MEMORY_MAP if memory in {"IRAM", "DRAM", "CACHE_APP"}]
    assert ram
    assert not any(kind.maps_flash_at(address) for address in ram)


@pytest.mark.parametrize("name", ROMS)
@pytest.mark.parametrize("written", ["{}", "{} ", "Unknown {}", "{} (revision v0.2)", "{} v3.1", "Board with {}"])
def test_the_names_of_esptool_are_understood(name: str, written: str) -> None:
    for spelling in (name, name.upper(), ROMS[name].CHIP_NAME, ROMS[name].CHIP_NAME.replace("-", "_")):
        assert chips.normalise(written.format(spelling)) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        # esptool's descriptions and Arduino's ESP.getChipModel()
        ("ESP32-D0WD", "esp32"),
        ("ESP32-D0WD-V3", "esp32"),
        ("ESP32-D0WDQ6-V3", "esp32"),
        ("ESP32-D0WDR2-V3", "esp32"),
        ("ESP32-D2WD", "esp32"),
        ("ESP32-S0WD", "esp32"),
        ("ESP32-S0WDQ6", "esp32"),
        ("ESP32-U4WDH", "esp32"),
        ("ESP32-PICO-D4", "esp32"),
        ("ESP32-PICO-V3-02", "esp32"),
        ("ESP32-S2FNR2", "esp32s2"),
        ("ESP32-S3 (QFN56)", "esp32s3"),
        ("ESP32-S3-PICO-1 (LGA56)", "esp32s3"),
        ("ESP8684H", "esp32c2"),
        ("ESP32-C3 AZ (QFN32)", "esp32c3"),
        ("ESP8685 (QFN28)", "esp32c3"),
        ("ESP32-C6FH4 (QFN32)", "esp32c6"),
        ("ESP32-C61HF4R2", "esp32c61"),
        ("ESP32-H2FH4S", "esp32h2"),
        ("ESP32-P4NRW32", "esp32p4"),
        # MicroPython's os.uname().machine
        ("Generic ESP32 module with ESP32", "esp32"),
        ("Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", "esp32s3"),
        ("LOLIN_C3_MINI with ESP32-C3FH4", "esp32c3"),
        # modules
        ("ESP-WROOM-32", "esp32"),
        ("ESP32-WROOM-32E", "esp32"),
        ("ESP32-WROVER-E", "esp32"),
        ("ESP32-SOLO-1", "esp32"),
        ("ESP32-MINI-1", "esp32"),
        ("ESP32-C3-MINI-1", "esp32c3"),
        ("ESP32-S3-WROOM-1", "esp32s3"),
        # neither chips nor ours
        ("", None),
        ("ESP32-C7", None),
        ("ESP32-C62", None),
        ("ESP32-C6beta", None),
        ("ESP32-S3(beta2)", None),
        ("esp32h2beta1", None),
        ("ESP8266EX", None),
        ("ESP32-FOO", None),
        ("STM32F4", None),
        ("my esp32", None),
    ],
)
def test_chips_are_known_by_all_their_names(written: str, name: str | None) -> None:
    assert chips.normalise(written) == name
    assert chips.normalise(written.lower()) == name


def test_a_model_may_be_added_with_any_spelling_of_its_chip() -> None:
    assert admin.ModelAdd(request_id="1" * 8, code="lamp", chip="ESP32-S3 (QFN56)").chip == "esp32s3"
    with pytest.raises(ValueError, match=r"must be one of esp32, esp32s2, .* or another name of one of them"):
        admin.ModelAdd(request_id="1" * 8, code="lamp", chip="ESP8266")
