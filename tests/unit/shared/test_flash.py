"""Merged flash images: where their app is found, and that it is exactly what was merged."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest

from device import image_builder
from shared.esp32 import flash, image
from shared.esp32.errors import ImageError
from shared.esp32.flash import FlashApp
from tests.secure_boot import sign
from tests.unit.firmware import images

BOOTLOADER = images.build(segments=[bytes(64)], address=0x40080000)
APP = image_builder.build(version="1.0.0", project="wanted", size_bytes=8192 + 16)
OTHER = image_builder.build(version="1.0.0", project="other", size_bytes=4096)

Partition = tuple[str, int, int, int, int]
NVS: Partition = ("nvs", 1, 2, 0x9000, 0x5000)
OTADATA: Partition = ("otadata", 1, 0, 0xE000, 0x2000)
FACTORY: Partition = ("factory", 0, 0, 0x10000, 0x10000)
OTA = tuple[Partition, ...]([(f"ota_{n}", 0, 0x10 + n, 0x20000 + 0x10000 * n, 0x10000) for n in range(3)])


def table(*partitions: Partition, digest: bool = True) -> bytes:
    """Return a partition table, with its MD5 unless not wanted."""
    rows = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, offset, size, name.encode(), 0)
        for name, kind, subtype, offset, size in partitions
    )
    if digest:
        rows += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(rows, usedforsecurity=False).digest()
    return rows.ljust(0xC00, b"\xff")


def select(*numbers: int, state: int = 0xFFFFFFFF) -> bytes:
    """Return the content of otadata, one sector for each sequence number."""
    return b"".join(
        struct.pack(
            "<I20sII", number, b"\xff" * 20, state, zlib.crc32(number.to_bytes(4, "little"), 0xFFFFFFFF)
        ).ljust(0x1000, b"\xff")
        for number in numbers
    )


def merged(parts: dict[int, bytes], *, start: int = 0, size_bytes: int = 0) -> bytes:
    """Return a file that belongs at `start` in the flash, with these parts at their addresses."""
    data = bytearray()
    for address, part in sorted(parts.items()):
        data = data.ljust(address - start, b"\xff") + part
    return bytes(data.ljust(size_bytes, b"\xff"))


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("table_at", [0x8000, 0x9000, 0xF000])
@pytest.mark.parametrize("start", [0, 0x1000, 0x2000])
def test_the_app_is_found_wherever_file_and_table_begin(start: int, table_at: int, digest: bool) -> None:
    nvs = ("nvs", 1, 2, table_at + 0x1000, 0x4000)
    app_at = 0x20000
    data = merged(
        {start: BOOTLOADER, table_at: table(nvs, ("app", 0, 0, app_at, 0x10000), digest=digest), app_at: APP},
        start=start,
    )
    app = flash.app_in(data)
    assert app == FlashApp("app", app_at - start, len(APP))
    assert data[app.offset : app.offset + app.size_bytes] == APP


@pytest.mark.parametrize("signed", [sign(APP, "p256"), sign(APP, "p256", version=1)], ids=["V2", "V1"])
def test_the_signatures_belong_to_the_app(signed: bytes) -> None:
    data = merged({0: BOOTLOADER, 0x8000: table(NVS, FACTORY), 0x10000: signed}, size_bytes=1 << 20)
    app = flash.app_in(data)
    assert app is not None
    found = image.parse(data[app.offset : app.offset + app.size_bytes])
    assert found.sha256 == hashlib.sha256(signed).hexdigest()
    assert len(found.signatures) == 1


@pytest.mark.parametrize(
    ("parts", "partition"),
    [
        ({0x10000: APP}, "factory"),
        ({0x10000: OTHER, 0x20000: APP}, "factory"),
        ({0x20000: APP}, "ota_0"),
        ({0xE000: select(1), 0x10000: OTHER, 0x20000: APP}, "ota_0"),
        ({0xE000: select(2), 0x20000: OTHER, 0x30000: APP}, "ota_1"),
        ({0xE000: select(4, 5), 0x20000: OTHER, 0x30000: APP}, "ota_1"),
        ({0xE000: select(6, 5), 0x20000: OTHER, 0x30000: OTHER, 0x40000: APP}, "ota_2"),
        ({0xE000: select(2, state=3), 0x10000: APP, 0x30000: OTHER}, "factory"),
        ({0xE000: b"\x02" + select(1)[1:], 0x10000: APP, 0x30000: OTHER}, "factory"),
        ({0xE000: select(3), 0x20000: APP}, "ota_0"),
        ({0x30000: APP}, "ota_1"),
    ],
    ids=[
        *(
            "factory",
            "factory before ota_0",
            "no factory",
            "otadata as of Tasmota",
            "second slot",
            "higher of two",
        ),
        *("first is higher", "aborted", "wrong CRC", "chosen slot is empty", "only the second slot"),
    ],
)
def test_the_app_is_the_one_that_would_boot(parts: dict[int, bytes], partition: str) -> None:
    data = merged({0: BOOTLOADER, 0x8000: table(NVS, OTADATA, FACTORY, *OTA), **parts}, size_bytes=0x60000)
    app = flash.app_in(data)
    assert app is not None
    assert app.partition == partition


def test_the_error_says_where_the_app_begins_and_how_large_it_is() -> None:
    data = merged({0x1000: BOOTLOADER, 0x8000: table(NVS, FACTORY), 0x10000: APP}, start=0x1000)
    with pytest.raises(ImageError) as caught:
        image.parse(data)
    assert caught.value.message == (
        "file: expected an application image, found a merged flash image, "
        "whose app is 8208 bytes at offset 0xf000, in partition factory; "
        "`mdm firmware upload --extract-app` takes it out"
    )


@pytest.mark.parametrize(
    "data",
    [
        merged({0: BOOTLOADER, 0x8000: table(NVS, FACTORY)}, size_bytes=1 << 20),
        merged({0: BOOTLOADER, 0x8000: table(NVS), 0x10000: APP}),
    ],
    ids=["empty partition", "no app partition"],
)
def test_a_flash_image_without_an_app_is_named(data: bytes) -> None:
    assert flash.app_in(data) is None
    with pytest.raises(ImageError, match="found a flash image without an app"):
        image.parse(data)


@pytest.mark.parametrize(
    "broken",
    [
        table(NVS, FACTORY)[:64] + b"\xeb\xeb" + bytes(0xC00),
        table(NVS, FACTORY, digest=False)[:64].ljust(0xC00, b"\x00"),
        b"\xaa\x50" + b"\xff" * 100,
    ],
    ids=["MD5", "end", "magic alone"],
)
def test_what_only_looks_like_a_table_is_none(broken: bytes) -> None:
    data = merged({0: APP, 0x8000: broken, 0x10000: APP})
    assert flash.app_in(data) is None
    with pytest.raises(ImageError, match="nothing may follow"):
        image.parse(data)


def test_an_app_alone_is_no_flash_image() -> None:
    assert flash.app_in(APP) is None
    assert flash.app_in(b"") is None
