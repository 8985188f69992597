"""Files that are no application image: each is named for what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from esptool import merge_bin
from esptool.bin_image import ESP8266ROMFirmwareImage, ESP8266V2FirmwareImage, ImageSegment

from device import image_builder
from shared.esp32 import file_kinds, image
from shared.esp32.errors import ImageError
from shared.protocol import nvs
from tests.unit.firmware import images
from tests.unit.shared.test_flash import FACTORY, NVS, select, table

APP = image_builder.build(version="1.0.0", project="p", size_bytes=4096)


def esp8266(version: int) -> bytes:
    made = ESP8266ROMFirmwareImage() if version == 1 else ESP8266V2FirmwareImage()
    made.flash_mode = made.flash_size_freq = made.entrypoint = 0
    made.segments = [ImageSegment(0x40100000, bytes(range(64))), ImageSegment(0x3FFE8000, bytes(64))]
    if version == 1:
        return bytes(made.save(None)[1])
    made.segments.append(ImageSegment(0x40210010, bytes(64)))
    return bytes(made.save(None))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("firmware.bin", APP)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("firmware.bin")
        member.size = len(APP)
        archive.addfile(member, io.BytesIO(APP))
    return buffer.getvalue()


def made_by_esptool(kind: str, folder: Path) -> bytes:
    output = folder / f"merged.{kind}"
    merge_bin([(0x10000, APP)], "esp32", str(output), format=kind)
    return output.read_bytes()


def spiffs(*, with_length: bool) -> bytes:
    """Return the first block's lookup page of SPIFFS as ESP-IDF's spiffsgen.py writes it, in 16 blocks."""
    magic = 0x20140529 ^ 256 ^ (16 if with_length else 0)
    return (b"\xff" * 252 + struct.pack("<H", magic & 0xFFFF)).ljust(16 * 4096, b"\xff")


def littlefs(block: int) -> bytes:
    """Return the superblock of LittleFS: revision, tag, magic, as in its SPEC.md; in one of two blocks."""
    superblock = struct.pack("<I", 1) + b"\xf0\x0f\xff\xf7" + b"littlefs" + bytes(64)
    return (b"\xff" * (4096 * block) + superblock).ljust(4 * 4096, b"\xff")


def fat(offset: int, name: bytes) -> bytes:
    sector = bytearray(512)
    sector[:3] = b"\xeb\x58\x90"
    sector[offset : offset + len(name)] = name
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


KINDS = {
    "ELF": (b"\x7fELF\x01\x01\x01" + bytes(100), "an ELF file"),
    "gzip": (gzip.compress(APP), "a file compressed with gzip"),
    "zip": (zipped(), "a ZIP archive"),
    "xz": (lzma.compress(APP), "a file compressed with xz"),
    "bzip2": (bz2.compress(APP), "a file compressed with bzip2"),
    "tar": (tarred(), "a tar archive"),
    "MCUboot": (struct.pack("<I", 0x96F3B83D) + bytes(28) + APP, "an image for MCUboot"),
    "ESP8266": (esp8266(1), "an image for the ESP8266"),
    "ESP8266, second kind": (esp8266(2), "an image for the ESP8266"),
    "bootloader": (images.build(segments=[bytes(64)] * 3, address=0x40080000), "a bootloader, or another"),
    "partition table": (table(NVS, FACTORY), "a partition table"),
    "otadata": (select(1, 2), "the content of the partition otadata"),
    "SPIFFS": (spiffs(with_length=True), "a SPIFFS file system"),
    "SPIFFS without its length": (spiffs(with_length=False), "a SPIFFS file system"),
    "LittleFS": (littlefs(0), "a LittleFS file system"),
    "LittleFS, second block": (littlefs(1), "a LittleFS file system"),
    "FAT12": (fat(54, b"FAT12   "), "a FAT file system"),
    "FAT32": (fat(82, b"FAT32   "), "a FAT file system"),
    "erased": (b"\xff" * 4096, "erased flash"),
    "HTML": (b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title>", "text"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "text"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named(name: str) -> None:
    data, kind = KINDS[name]
    with pytest.raises(ImageError, match=f"^file: expected an application image, found {kind}"):
        image.parse(data)


@pytest.mark.parametrize(("form", "kind"), [("uf2", "a UF2 file"), ("hex", "an Intel HEX file")])
def test_other_forms_of_esptool_are_named(form: str, kind: str, tmp_path: Path) -> None:
    assert file_kinds.describe(made_by_esptool(form, tmp_path)) == kind


def test_an_nvs_partition_is_named() -> None:
    content = nvs.image([nvs.NvsRow("name", "string", "lamp")], size_bytes=0x3000)
    assert file_kinds.describe(content) == "an NVS partition"


def test_an_application_and_a_damaged_one_are_of_no_other_kind() -> None:
    rng = random.Random(1)  # noqa: S311 - the same damage each time
    assert file_kinds.describe(APP) is None
    for _ in range(2000):
        damaged = bytearray(APP)
        damaged[rng.randrange(1, 300)] = rng.randrange(256)
        assert file_kinds.describe(bytes(damaged)) is None


def test_what_follows_an_image_is_named_too() -> None:
    for behind, kind in (
        (select(1), "the content of the partition otadata"),
        (zlib.compress(APP), "data that begins with 789c"),
    ):
        with pytest.raises(ImageError, match=f"with {kind}.* at {len(APP)}$"):
            image.parse(APP + behind)
