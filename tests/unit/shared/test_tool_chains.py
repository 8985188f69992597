"""Images as tool chains lay them out whose images no package has, built from their descriptions or by esptool."""

from __future__ import annotations

import pytest
from esptool.bin_image import ELFSection
from esptool.targets import CHIP_DEFS

from shared.esp32 import image
from shared.esp32.chips import CHIP_IDS
from shared.esp32.errors import ImageError
from tests.secure_boot import sign, verifies
from tests.unit.firmware import images


def elf2image(chip: str, *, secure_pad: str | None = None, pad_to_size: int = 0) -> bytes:
    """Return an image as `esptool elf2image` makes it, with a segment of data and one of code in flash."""
    rom = CHIP_DEFS[chip]
    made = rom.BOOTLOADER_IMAGE()
    made.ROM_LOADER, made.secure_pad, made.pad_to_size, made.entrypoint = rom, secure_pad, pad_to_size, 0x40080000
    code = rom.IROM_MAP_START + (0x10020 if rom.IROM_MAP_START == rom.DROM_MAP_START else 0x20)
    made.segments = [
        ELFSection(b".flash.appdesc", rom.DROM_MAP_START + 0x20, images.descriptor() + bytes(range(256)), 0),
        ELFSection(b".flash.text", code, bytes(range(256)) * 8, 0),
    ]
    return bytes(made.save(None))


@pytest.mark.parametrize("chip", CHIP_IDS)
def test_what_esptool_makes_of_an_elf_file_is_taken(chip: str) -> None:
    parsed = image.parse(elf2image(chip))
    assert (parsed.chip, parsed.project, parsed.embedded_version) == (chip, "sensor", "1.2.3")


def test_an_image_padded_to_whole_blocks_is_taken() -> None:
    padded = elf2image("esp32", pad_to_size=1 << 20)
    assert image.parse(padded).size_bytes == 1 << 20
    assert image.parse(padded).app_sha256 == image.parse(elf2image("esp32")).app_sha256


@pytest.mark.parametrize(("secure_pad", "version"), [("1", 1), ("2", 2)])
def test_an_image_that_esp_idf_pads_for_secure_boot_is_taken_signed_and_not(secure_pad: str, version: int) -> None:
    padded = elf2image("esp32", secure_pad=secure_pad)
    signed = sign(padded, "p256", version=version)
    assert image.parse(padded).signatures == ()
    assert [block.version for block in image.parse(signed).signatures] == [version]
    assert verifies(signed, "p256", version=version)


def test_a_program_of_tinygo_that_replaces_the_bootloader_is_named() -> None:
    # builder/esp.go for the ESP32: all segments in RAM, no digest, no revisions.
    tinygo = images.build(segments=[bytes(64), bytes(128)], address=0x3FFB0000, hash_flag=0, revisions=(0, 0))
    with pytest.raises(ImageError, match="another program that runs from RAM alone"):
        image.parse(tinygo)


def test_an_application_without_descriptor_is_taken_under_a_label() -> None:
    # builder/esp.go for the ESP32-C3, and esp-hal without esp-bootloader-esp-idf.
    data = images.build(chip_id=CHIP_IDS["esp32c3"], segments=[bytes(64)], address=0x3C000020, hash_flag=0)
    parsed = image.parse(data)
    assert (parsed.embedded_version, parsed.project, parsed.elf_sha256, parsed.app_sha256) == ("", "", None, None)
    image.check_for(parsed, chip="esp32c3", slot_size_bytes=1 << 20)
    assert image.label(parsed, "blinky 3") == "blinky 3"


def test_the_descriptor_of_esp_rs_has_no_digest_of_the_elf_file() -> None:
    # The macro esp_app_desc! of esp-bootloader-esp-idf fills in the package's name and version, and zeros.
    descriptor = images.descriptor(version=b"0.1.0", project=b"blinky", elf_sha256=bytes(32), secure_version=0)
    data = images.build(
        chip_id=CHIP_IDS["esp32c6"], segments=[descriptor], address=0x42000020, revisions=(0, 65535)
    )
    parsed = image.parse(data)
    assert (parsed.project, parsed.embedded_version, parsed.elf_sha256) == ("blinky", "0.1.0", None)
    assert parsed.max_chip_revision is None


def test_the_name_of_a_node_of_esphome_may_have_any_letters() -> None:
    data = images.build(segments=[images.descriptor(project="küche-licht".encode(), version=b"2026.10.0")])
    assert image.parse(data).project == "küche-licht"
