"""Our verdict on images compared with those of Espressif's tools, on whole images of each chip and damaged ones.

esptool loads an image and finds out whether its checksum and its SHA-256 are right, espsecure whether its
signatures are. Where we are stricter on purpose is listed in `STRICTER`, with a test of each of these rules, and
where we are less strict in `LESS_STRICT`; everywhere else the verdicts must be the same.
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
from shared.esp32.errors import ImageError
from shared.esp32.image import Image
from tests.secure_boot import BLOCK_BYTES, SECTOR_BYTES, key_digest, listed, sign, verifies
from tests.unit.firmware import images

ROUNDS = 10
"""How often each kind of damage is done to an image of each chip."""

Damage = Callable[[random.Random, bytearray], None]

STRICTER = {
    "segment_count": "esptool loads an image without segments; 17 are too many for both",
    "a multiple of 4": "esptool pads a segment of another length; the bootloader refuses it",
    "runs from RAM alone": "esptool does not ask whether an image is a bootloader",
    "nothing may follow": "esptool reads no further than the image; we name images by the SHA-256 of the file",
    "signatures.1": "espsecure skips a broken block; a device that trusts only its key would not boot",
    "with signatures for Secure Boot V2 at": "espsecure reads the end of the file, a bootloader elsewhere",
}
LESS_STRICT = "a signature of version 1 can be verified only with its key, which is not in the file"


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


def ours(data: bytes) -> Image | ImageError:
    try:
        return esp32_image.parse(data)
    except ImageError as error:
        return error


def compare(data: bytes) -> str:
    """Return our verdict on an unsigned image; fail unless esptool agrees or we are stricter on purpose."""
    error, fault = ours(data), esptool_fault(data)
    if isinstance(error, Image):
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


def in_the_block(rng: random.Random, data: bytearray) -> None:
    data[len(data) - SECTOR_BYTES + rng.randrange(2 * BLOCK_BYTES)] ^= 1 << rng.randrange(8)


def in_the_padding(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(1024, len(data) - SECTOR_BYTES)] ^= 1 << rng.randrange(8)


def cut_a_sector(_: random.Random, data: bytearray) -> None:
    del data[-SECTOR_BYTES:]


def append_a_sector(rng: random.Random, data: bytearray) -> None:
    data += rng.choice([b"\xff", b"\x00"]) * SECTOR_BYTES


def swap_the_blocks(_: random.Random, data: bytearray) -> None:
    start, middle, end = (len(data) - SECTOR_BYTES + number * BLOCK_BYTES for number in range(3))
    data[start:end] = data[middle:end] + data[start:middle]


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
SIGNED_DAMAGES: list[Damage] = [
    *(flip, flip_behind_the_descriptor, cut, header, append),
    *(in_the_block, in_the_padding, cut_a_sector, append_a_sector, swap_the_blocks),
]


def compare_signed(data: bytes, names: tuple[str, ...]) -> str:
    """Return our verdict on an image that was signed with these keys; fail as `compare` does."""
    verdict, fault = ours(data), esptool_fault(data)
    keys = listed(data)
    verified = [key_digest(name) for name in names if verifies(data, name)]
    if isinstance(verdict, Image):
        assert fault is None
        assert [block.key_digest for block in verdict.signatures] == keys
        assert set(keys) <= set(verified)
        return "valid"
    if fault or verified != [key_digest(name) for name in names]:
        return str(verdict.details["field"])
    assert stricter(verdict), verdict.message
    return "stricter"


def compare_signed_v1(data: bytes) -> str:
    """Return our verdict on an image that was signed by version 1; fail as `compare` does."""
    verdict, fault = ours(data), esptool_fault(data)
    if isinstance(verdict, Image):
        assert fault is None
        if not verdict.signatures:
            return "unsigned"
        return "valid" if verifies(data, "p256", version=1) else "less strict"
    assert stricter(verdict) or fault or not verifies(data, "p256", version=1), verdict.message
    return "refused"


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


def test_espsecure_agrees_on_hundreds_of_damaged_signed_images() -> None:
    verdicts: Counter[str] = Counter()
    rng = random.Random(2)  # noqa: S311 - the same damage each time
    for names in (("p256", "p192"), ("p384",), ("rsa",)):
        whole = sign(image_builder.build(version="1.0.0", project="p", size_bytes=1024), *names)
        assert compare_signed(whole, names) == "valid"
        for damage in SIGNED_DAMAGES:
            for _ in range(2 * ROUNDS):
                data = bytearray(whole)
                damage(rng, data)
                verdicts[compare_signed(bytes(data), names)] += 1
    shared = verdicts.total() - verdicts["stricter"] - verdicts["valid"]
    assert shared >= 200
    assert min(verdicts[kind] for kind in ("valid", "signatures.0.crc", "appended_sha256", "size_bytes")) >= 3


def test_espsecure_agrees_on_damaged_images_signed_by_version_1() -> None:
    whole = sign(image_builder.build(version="1.0.0", project="p", size_bytes=1024), "p256", version=1)
    assert compare_signed_v1(whole) == "valid"
    verdicts: Counter[str] = Counter()
    rng = random.Random(1)  # noqa: S311 - the same damage each time
    for damage in (flip, cut, append, header):
        for _ in range(5 * ROUNDS):
            data = bytearray(whole)
            damage(rng, data)
            verdicts[compare_signed_v1(bytes(data))] += 1
    assert verdicts.keys() <= {"refused", "less strict", "unsigned", "valid"}
    assert verdicts["less strict"] >= 1, LESS_STRICT


PLAIN = image_builder.build(version="1.0.0", project="p", size_bytes=1024)
BROKEN_BLOCK = bytearray(sign(PLAIN, "p256", "p192"))
BROKEN_BLOCK[-SECTOR_BYTES + BLOCK_BYTES + 9] ^= 1


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (images.build(segments=[], segment_count=0) + bytes(288), "segment_count"),
        (images.build(segments=[images.descriptor() + b"ab"]), "a multiple of 4"),
        (images.build(segments=[bytes(264)], address=0x40080000), "runs from RAM alone"),
        (images.build(trailer=b"\xe7" + bytes(4095)), "nothing may follow"),
        (bytes(BROKEN_BLOCK), "signatures.1"),
        (sign(PLAIN, "p256", skip_padding=True), "with signatures for Secure Boot V2 at"),
    ],
    ids=STRICTER.keys(),
)
def test_what_only_we_refuse_esptool_takes(data: bytes, rule: str) -> None:
    error = ours(data)
    assert isinstance(error, ImageError)
    assert rule in error.message
    assert stricter(error)
    assert esptool_fault(data) is None


def test_a_checksum_that_is_right_by_our_builder_is_right_for_both() -> None:
    segments = [images.descriptor(), bytes(range(64))]
    right = reduce(xor, b"".join(segments), 0xEF)
    for value in range(256):
        verdict = compare(images.build(segments=segments, checksum=value))
        assert verdict == ("valid" if value == right else "checksum")
