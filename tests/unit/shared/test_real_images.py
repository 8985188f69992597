"""Images as tool chains make them: our verdict and facts against those of esptool's image-info."""

from __future__ import annotations

import hashlib
from unittest import mock

import esptool
import pytest
from esptool.logger import log
from esptool.util import FatalError

from shared.esp32 import flash, image
from shared.esp32.errors import ImageError
from shared.esp32.image import Image
from tests import real_images
from tests.secure_boot import key_digest, sign

APPS = {
    "Arduino, ESP32": ("arduino", "esp32_arduino/firmware/firmware.bin"),
    "PlatformIO, ESP32-CAM": ("platformio", "ivh/firmware/esp32cam/firmware.bin"),
    "PlatformIO, NodeMCU-32S": ("platformio", "ivh/firmware/nodemcu-32s/firmware.bin"),
    "PlatformIO, ESP32-S3": ("platformio", "ivh/firmware/esp32-s3-n16r8v/firmware.bin"),
    "ESP-IDF 4.1, ESP32": ("esp-idf 4", "esp32_deauth/firmware/esp32-wifi-penetration-tool.bin"),
    "ESP-IDF 5.3, ESP32-S3": ("esp-idf 5", "firmware/mxdbg.bin"),
}
MERGED = {
    "MicroPython, from 0x1000": (
        ("micropython", "mp_image_tool_esp32-0.1.1/tests/data/ESP32_GENERIC-20240602-v1.23.0.bin"),
        (0xF000, "factory"),
    ),
    "Arduino, 4 MiB from 0": (("merged", "esplink/firmware/bridge.esp32.huge_app.bin"), (0x10000, "app0")),
}
OTHERS = {
    **{
        f"bootloader of {name}": ((package, member), "a bootloader, or another program that runs from RAM alone")
        for name, package, member in (
            ("Arduino, ESP32", "arduino", "esp32_arduino/firmware/bootloader.bin"),
            ("Arduino, ESP32-S3", "platformio", "ivh/firmware/esp32-s3-n16r8v/bootloader.bin"),
            ("ESP-IDF 4.1, ESP32", "esp-idf 4", "esp32_deauth/firmware/bootloader.bin"),
            ("ESP-IDF 5.3, ESP32-S3", "esp-idf 5", "firmware/bootloader.bin"),
        )
    },
    "partition table of Arduino": (("arduino", "esp32_arduino/firmware/partitions.bin"), "a partition table"),
    "partition table of ESP-IDF": (("esp-idf 5", "firmware/partition-table.bin"), "a partition table"),
    "boot_app0.bin": (
        ("platformio", "ivh/firmware/esp32cam/boot_app0.bin"),
        "the content of the partition otadata",
    ),
}


def image_info(data: bytes) -> dict[str, str]:
    """Return what `esptool image-info` prints as names and values; raise FatalError for what it refuses."""
    with mock.patch.object(log, "print") as printed:
        esptool.image_info(data)
    lines = [str(call.args[0]) for call in printed.call_args_list if call.args]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def assert_same(parsed: Image, info: dict[str, str]) -> None:
    """Assert that our facts are those of esptool."""
    assert info["Checksum"].endswith("(valid)")
    assert info["Validation hash"] == f"{parsed.app_sha256} (valid)"
    assert info["Chip ID"].startswith(f"{parsed.chip_id} (")
    assert info["Project name"] == parsed.project
    assert info["App version"] == parsed.embedded_version
    assert info["ESP-IDF"] == parsed.idf_version
    assert info["Compile time"] == f"{parsed.compile_date} {parsed.compile_time}"
    assert info["ELF file SHA256"] == parsed.elf_sha256
    assert info["Secure version"] == str(parsed.secure_version)
    assert info["Segments"] == str(len(parsed.segments))
    assert info["Minimal chip revision"].startswith(f"{image.revision(parsed.min_chip_revision)},")
    if parsed.max_chip_revision is None:
        assert info["Maximal chip revision"] in {"v0.0", "v655.35"}
    else:
        assert info["Maximal chip revision"] == image.revision(parsed.max_chip_revision)


@pytest.mark.parametrize("name", APPS)
def test_an_application_has_the_facts_that_esptool_shows(name: str) -> None:
    data = real_images.read(*APPS[name])
    assert_same(image.parse(data), image_info(data))


@pytest.mark.parametrize("name", MERGED)
def test_the_app_of_a_merged_image_is_cut_out_exactly(name: str) -> None:
    source, (offset, partition) = MERGED[name]
    data = real_images.read(*source)
    app = flash.app_in(data)
    assert app is not None
    assert (app.offset, app.partition) == (offset, partition)
    cut = data[app.offset : app.offset + app.size_bytes]
    assert_same(image.parse(cut), image_info(cut))
    with pytest.raises(ImageError, match=f"whose app is {app.size_bytes} bytes at offset 0x{offset:x}"):
        image.parse(data)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_application_is_named(name: str) -> None:
    source, kind = OTHERS[name]
    with pytest.raises(ImageError, match=f"^file: expected an application image, found {kind}$"):
        image.parse(real_images.read(*source))


@pytest.mark.parametrize(("board", "chip"), [("esp32cam", "esp32"), ("esp32-s3-n16r8v", "esp32s3")])
@pytest.mark.parametrize("start", [0, None], ids=["from 0", "from the bootloader"])
def test_the_parts_of_a_board_merged_by_esptool_give_its_app_back(
    board: str, chip: str, start: int | None
) -> None:
    def part(name: str) -> bytes:
        return real_images.read("platformio", f"ivh/firmware/{board}/{name}.bin")

    bootloader_at = esptool.CHIP_DEFS[chip].BOOTLOADER_FLASH_OFFSET
    parts = [(bootloader_at, part("bootloader")), (0x8000, part("partitions")), (0xE000, part("boot_app0"))]
    parts.append((0x10000, part("firmware")))
    data = esptool.merge_bin(parts, chip, target_offset=bootloader_at if start is None else start)
    app = flash.app_in(data)
    assert app is not None
    assert data[app.offset : app.offset + app.size_bytes] == part("firmware")


def test_a_signed_one_stays_the_image_that_it_was() -> None:
    data = real_images.read(*APPS["ESP-IDF 5.3, ESP32-S3"])
    plain, signed = image.parse(data), image.parse(sign(data, "p256", "p256/2"))
    assert [block.key_digest for block in signed.signatures] == [key_digest("p256"), key_digest("p256/2")]
    assert (signed.app_sha256, signed.elf_sha256) == (plain.app_sha256, plain.elf_sha256)
    assert signed.sha256 != plain.sha256 == hashlib.sha256(data).hexdigest()


def test_a_damaged_one_is_refused_as_by_esptool() -> None:
    data = bytearray(real_images.read(*APPS["ESP-IDF 5.3, ESP32-S3"]))
    data[100_000] ^= 1
    assert "invalid" in image_info(bytes(data))["Checksum"]
    with pytest.raises(ImageError, match=r"^checksum: "):
        image.parse(bytes(data))
    with pytest.raises(FatalError):
        image_info(bytes(data[:100_000]))
    with pytest.raises(ImageError, match=r"^segments\.\d\.size_bytes: expected at most"):
        image.parse(bytes(data[:100_000]))
