"""Our verdict on images compared with that of Espressif's esptool, on whole images of each chip and damaged ones.

esptool loads an image and says whether its checksum and its SHA-256 are right. Where we are stricter on purpose is
listed in `STRICTER`, with the test that each of these rules has; everywhere else both must say the same.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections import Counter
from collections.abc import Callable
from functools import reduce
from operator import xor

import pytest
from esptool.bin_image import LoadFirmwareImage
from esptool.targets import CHIP_DEFS
from esptool.util import FatalError

from device import image_builder
from shared.esp32 import image as esp32_image
from shared.esp32.chips import CHIP_IDS
from shared.esp32.image import ImageError
from tests.unit.firmware import images

ROUNDS = 10
"""How often each kind of damage is done to an image of each chip."""

Damage = Callable[[random.Random, bytearray], None]

STRICTER = {
    "descriptor.": "esptool loads an image without an application descriptor; we must know its version",
    "segments.0.size_bytes: expected at least": "the same: the descriptor must fit into the first segment",
    "segment_count": "esptool loads an image without segments; 17 are too many for both",
    "a multiple of 4": "esptool pads a segment of another length; the bootloader refuses it",
    "nothing may follow": "esptool reads no further than the image; we name images by the SHA-256 of the file",
    "size_bytes: expected at least 288": "shorter than a header, a segment and a descriptor",
    "chip_id": "esptool knows chips that no model may have",
}


def stricter(error: ImageError) -> bool:
    return any(rule in error.message for rule in STRICTER)


def esptool_fault(data: bytes) -> str | None:
    """Return what esptool holds against an image of the chip that it names, None if nothing."""
    if len(data) < 24:
        return "parse"
    (chip_id,) = struct.unpack_from("<H", data, 12)
    named = [name for name, rom in CHIP_DEFS.items() if name != "esp8266" and chip_id == rom.IMAGE_CHIP_ID]
    if not named:
        return "chip"
    try:
        loaded = LoadFirmwareImage(named[0], data)
    except (FatalError, RuntimeError, struct.error, TypeError):
        # The last two: the file ends within a header, or before the checksum.
        return "parse"
    if loaded.checksum != loaded.calculate_checksum():
        return "checksum"
    if loaded.append_digest and loaded.stored_digest != loaded.calc_digest:
        return "appended_sha256"
    return None


def our_error(data: bytes) -> ImageError | None:
    try:
        esp32_image.parse(data)
    except ImageError as error:
        return error
    return None


def compare(data: bytes) -> str:
    """Return our verdict; fail unless esptool agrees or we are stricter on purpose."""
    error, fault = our_error(data), esptool_fault(data)
    if error is None:
        assert fault is None
        return "valid"
    if stricter(error):
        return "stricter"
    field = error.details["field"]
    if field in {"checksum", "appended_sha256"}:
        assert fault == field
    else:
        assert fault in {"parse", "chip", "appended_sha256"}, error.message
    return str(field)


def flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_behind_the_descriptor(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(288, len(data))] ^= 1 << rng.randrange(8)


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def cut_in_the_digest(rng: random.Random, data: bytearray) -> None:
    del data[-rng.randrange(1, 32) :]


def append(rng: random.Random, data: bytearray) -> None:
    # As padding for flash encryption, or a block of signatures (4 KiB, begins with 0xE7).
    data += rng.choice([b"\x00", b"\xff" * 16, b"\xe7" + rng.randbytes(4095)])


def header(rng: random.Random, data: bytearray) -> None:
    data[rng.choice([0, 1, 12, 13, 23])] = rng.randrange(256)


def header_without_meaning(rng: random.Random, data: bytearray) -> None:
    """Change what neither checks, such as the flash mode, and make the SHA-256 right again."""
    data[rng.choice([2, 3, 4, 5, 8, 9, 14, 15])] = rng.randrange(256)
    data[-32:] = hashlib.sha256(data[:-32]).digest()


def segment_length(rng: random.Random, data: bytearray) -> None:
    (size_bytes,) = struct.unpack_from("<I", data, 28)
    struct.pack_into("<I", data, 28, max(0, size_bytes + rng.choice([-16, -4, 1, 4, 16, 1 << 20])))


def second_segment_length(rng: random.Random, data: bytearray) -> None:
    (first,) = struct.unpack_from("<I", data, 28)
    struct.pack_into("<I", data, 32 + first + 4, rng.choice([0, 4, 17, 1 << 16, 0xFFFFFFFC]))


def checksum(rng: random.Random, data: bytearray) -> None:
    """A wrong checksum below a SHA-256 that is right."""
    data[-33] ^= rng.randrange(1, 256)
    data[-32:] = hashlib.sha256(data[:-32]).digest()


def digest(rng: random.Random, data: bytearray) -> None:
    data[-rng.randrange(1, 33)] ^= rng.randrange(1, 256)


def swap_of_data(rng: random.Random, data: bytearray) -> None:
    """The checksum does not see two bytes that have changed places, the SHA-256 does."""
    (size_bytes,) = struct.unpack_from("<I", data, 28)
    one, other = rng.sample(range(288, 32 + size_bytes), 2)
    data[one], data[other] = data[other], data[one] ^ (data[one] == data[other])


def no_digest_announced(_: random.Random, data: bytearray) -> None:
    data[23] = 0


DAMAGES: list[Damage] = [
    flip,
    flip_behind_the_descriptor,
    cut,
    cut_in_the_digest,
    append,
    header,
    header_without_meaning,
    segment_length,
    second_segment_length,
    checksum,
    digest,
    swap_of_data,
    no_digest_announced,
]


def test_esptool_and_we_name_the_chips_alike() -> None:
    assert {name: CHIP_DEFS[name].IMAGE_CHIP_ID for name in CHIP_IDS} == CHIP_IDS


@pytest.mark.parametrize("chip", CHIP_IDS)
def test_esptool_agrees_on_whole_images_of_each_chip(chip: str) -> None:
    assert compare(images.build(chip_id=CHIP_IDS[chip])) == "valid"
    assert compare(images.build(chip_id=CHIP_IDS[chip], hash_flag=0)) == "valid"
    for size_bytes in (1024, 65536, 65552):
        built = image_builder.build(version="1.0.0", project="p", chip=chip, size_bytes=size_bytes)
        assert compare(built) == "valid"


def test_esptool_agrees_on_hundreds_of_damaged_images_of_each_chip() -> None:
    verdicts: Counter[str] = Counter()
    for chip in CHIP_IDS:
        rng = random.Random(chip)  # noqa: S311 - the same damage each time
        whole = image_builder.build(version="1.0.0", project="p", chip=chip, size_bytes=1024)
        for damage in DAMAGES:
            for _ in range(ROUNDS):
                data = bytearray(whole)
                damage(rng, data)
                verdicts[compare(bytes(data))] += 1
    # It is a comparison only if enough images were refused for reasons that both know.
    shared = verdicts.total() - verdicts["stricter"] - verdicts["valid"]
    assert shared >= 200
    assert min(verdicts[kind] for kind in ("valid", "stricter", "checksum", "appended_sha256", "size_bytes")) >= 8


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (images.build(segments=[b"\x00" * 264]), "descriptor.magic"),
        (images.build(segments=[images.descriptor()[:252], b"abcd"]), "segments.0.size_bytes: expected at least"),
        (images.build(segments=[], segment_count=0) + bytes(288), "segment_count"),
        (images.build(segments=[images.descriptor() + b"ab"]), "a multiple of 4"),
        (images.build(trailer=b"\xe7" + bytes(4095)), "nothing may follow"),
        (images.build(segments=[b"abcd"]), "size_bytes: expected at least 288"),
        (images.build(chip_id=CHIP_DEFS["esp32c5"].IMAGE_CHIP_ID), "chip_id"),
    ],
    ids=STRICTER.keys(),
)
def test_what_only_we_refuse_esptool_takes(data: bytes, rule: str) -> None:
    error = our_error(data)
    assert error is not None
    assert rule in error.message
    assert stricter(error)
    assert esptool_fault(data) is None


def test_a_checksum_that_is_right_by_our_builder_is_right_for_both() -> None:
    segments = [images.descriptor(), bytes(range(64))]
    right = reduce(xor, b"".join(segments), 0xEF)
    for value in range(256):
        verdict = compare(images.build(segments=segments, checksum=value))
        assert verdict == ("valid" if value == right else "checksum")
