from __future__ import annotations

import hashlib
import struct
from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from device import image, image_builder
from device.image import ImageInvalidError
from shared.errors import InvalidInputError
from shared.esp32.chips import CHIP_IDS


@pytest.mark.parametrize("chip", CHIP_IDS)
def test_an_image_says_what_it_was_built_from(chip: str) -> None:
    built = image_builder.build(
        version="1.2.3", project="blink", chip=chip, secure_version=4, elf_sha256=b"e" * 32
    )

    assert image.read(built) == image.ImageDescription("1.2.3", "blink", chip, 4, "65" * 32)


@pytest.mark.parametrize("payload", [0, 1, 15, 16, 4095, b"abc"])
def test_checksum_and_digest_hold(payload: bytes | int) -> None:
    built = image_builder.build(version="1", project="p", payload=payload)

    offset, checksum = 24, 0xEF
    for _ in range(built[1]):
        _, length = struct.unpack_from("<II", built, offset)
        assert length % 4 == 0
        checksum = reduce(xor, built[offset + 8 : offset + 8 + length], checksum)
        offset += 8 + length
    end = (offset // 16 + 1) * 16
    assert built[end - 1] == checksum
    assert len(built) == end + 32
    assert built[23] == 1
    assert built[end:] == hashlib.sha256(built[:end]).digest()


@pytest.mark.parametrize("size_bytes", [image_builder.MIN_IMAGE_BYTES, 16384, 65536 + 16])
def test_an_image_can_be_built_to_size(size_bytes: int) -> None:
    assert len(image_builder.build(version="1", project="p", size_bytes=size_bytes)) == size_bytes


def test_the_same_arguments_give_the_same_bytes_and_others_give_others() -> None:
    one = image_builder.build(version="1", project="p")

    assert image_builder.build(version="1", project="p") == one
    assert image_builder.build(version="2", project="p") != one


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": ""}, "version"),
        ({"version": "v" * 32}, "version"),
        ({"project": "ä"}, "project"),
        ({"chip": "esp8266"}, "chip"),
        ({"size_bytes": 1000}, "size_bytes"),
        ({"size_bytes": 16}, "size_bytes"),
        ({"elf_sha256": b"short"}, "elf_sha256"),
    ],
)
def test_a_bad_argument_is_named(change: dict[str, object], field: str) -> None:
    arguments: dict[str, object] = {"version": "1", "project": "p"} | change

    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        image_builder.build(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("offset", "value", "rule"),
    [
        (0, b"\x00", "0xE9"),
        (12, b"\xff\xff", "chip id"),
    ],
)
def test_what_is_no_image_is_refused(offset: int, value: bytes, rule: str) -> None:
    built = bytearray(image_builder.build(version="1", project="p"))
    built[offset : offset + len(value)] = value

    with pytest.raises(ImageInvalidError, match=rule):
        image.read(bytes(built))


@pytest.mark.parametrize(
    ("offset", "value", "texts"),
    [
        (48, b"\x00", ("", "p")),
        (80, "ä".encode(), ("1", "ä")),
        (80, b"\n", ("1", "\ufffd")),
        (32, b"\x00", ("", "")),
    ],
)
def test_an_image_may_have_no_version_any_project_or_no_descriptor(
    offset: int, value: bytes, texts: tuple[str, str]
) -> None:
    built = bytearray(image_builder.build(version="1", project="p"))
    built[offset : offset + len(value)] = value

    found = image.read(bytes(built))

    assert (found.version, found.project) == texts


def test_a_stump_is_refused() -> None:
    with pytest.raises(ImageInvalidError, match="at least 208 bytes"):
        image.read(b"\xe9")


def test_the_command_line_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "blink.bin"
    arguments = ["--version", "1.1.0", "--project", "blink", "--chip", "esp32c3", "--output", str(output)]

    assert image_builder.main(arguments) == 0

    assert image.read(output.read_bytes()).chip == "esp32c3"
    assert hashlib.sha256(output.read_bytes()).hexdigest() in capsys.readouterr().out


def test_the_command_line_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--version", "1", "--project", "p", "--size-bytes", "7", "--output", str(tmp_path / "x")]

    with pytest.raises(SystemExit, match="2"):
        image_builder.main(arguments)
    assert "size_bytes: must be a multiple of 16" in capsys.readouterr().err
