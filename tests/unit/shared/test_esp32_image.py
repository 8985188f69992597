import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.esp32 import image
from shared.esp32.errors import ImageError
from shared.esp32.layout import Segment
from tests.unit.firmware import images

GOOD = images.build()
FIRST_SIZE = 24 + 4
"""Where the first segment's header says how long it is."""


def patched(offset: int, new: bytes) -> bytes:
    return GOOD[:offset] + new + GOOD[offset + len(new) :]


def with_descriptor(**fields: bytes | int) -> bytes:
    return images.build(segments=[images.descriptor(**fields)])  # type: ignore[arg-type]


@pytest.mark.parametrize("chip", images.CHIPS)
@pytest.mark.parametrize("hash_flag", [0, 1])
def test_a_valid_image_of_each_chip_is_read_in_full(chip: str, hash_flag: int) -> None:
    data = images.build(chip_id=images.CHIPS[chip], hash_flag=hash_flag)
    assert image.parse(data) == image.Image(
        chip=chip,
        chip_id=images.CHIPS[chip],
        embedded_version="1.2.3",
        project="sensor",
        secure_version=7,
        idf_version="v5.5.1",
        compile_date="Feb  1 2025",
        compile_time="12:34:56",
        elf_sha256=bytes(range(32)).hex(),
        app_sha256=data[-32:].hex() if hash_flag else None,
        min_chip_revision=0,
        max_chip_revision=399,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        segments=(
            Segment(offset=32, size_bytes=296, load_address=0x3F400020),
            Segment(offset=336, size_bytes=36, load_address=0x3F410020),
        ),
        entry_point=0x40081234,
        signatures=(),
    )


@pytest.mark.parametrize("rest", range(0, 64, 4))
def test_the_checksum_is_found_wherever_the_segments_end(rest: int) -> None:
    data = images.build(segments=[images.descriptor(), bytes(range(rest))])
    assert image.parse(data).segments[1].size_bytes == rest


def test_sixteen_segments_are_allowed() -> None:
    data = images.build(segments=[images.descriptor(), *[b"abcd"] * 15])
    assert len(image.parse(data).segments) == 16


BROKEN = {
    "nothing": (b"", "size_bytes", "at least 24"),
    "too short": (GOOD[:23], "size_bytes", "at least 24"),
    "magic": (images.build(magic=0xEA), "magic", "0xE9"),
    "no segment": (images.build(segment_count=0), "segment_count", "1 to 16"),
    "17 segments": (
        images.build(segments=[images.descriptor(), *[b"abcd"] * 16]),
        "segment_count",
        "1 to 16",
    ),
    "chip id": (images.build(chip_id=99), "chip_id", "13 (esp32c6)"),
    "hash flag": (images.build(hash_flag=2), "hash_appended", "0 or 1"),
    "more segments announced than there are": (
        images.build(segment_count=4, digest=b"\xfc" * 32),
        "segments.3.size_bytes",
        "the rest",
    ),
    "segment header cut off": (GOOD[: 24 + 8 + 296 + 4], "segments.1", "a header at 328"),
    "segment data behind the end": (
        patched(FIRST_SIZE, (0x00FFFFFC).to_bytes(4, "little")),
        "segments.0.size_bytes",
        "at most",
    ),
    "segment length": (patched(FIRST_SIZE, b"\x29"), "segments.0.size_bytes", "a multiple of 4"),
    "checksum": (images.build(checksum=0x11), "checksum", "0x"),
    "appended hash": (images.build(digest=bytes(32)), "appended_sha256", ""),
    "hash missing": (images.build(digest=b""), "size_bytes", "cut short"),
    "checksum missing": (images.build(hash_flag=0)[:-1], "size_bytes", "cut short"),
    "trailing byte": (images.build(trailer=b"\x00"), "size_bytes", "nothing may follow"),
    "trailing byte without hash": (
        images.build(hash_flag=0, trailer=b"\xff\x00"),
        "size_bytes",
        "nothing may follow",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_broken_rule_is_named(case: str) -> None:
    data, field, expected = BROKEN[case]
    with pytest.raises(ImageError) as caught:
        image.parse(data)
    assert caught.value.details["field"] == field
    assert expected in str(caught.value.details["expected"])
    assert caught.value.message == (
        f"{field}: expected {caught.value.details['expected']}, found {caught.value.details['found']}"
    )
    assert isinstance(caught.value, InvalidInputError)


@given(st.binary(max_size=1024))
def test_any_bytes_are_an_image_or_an_image_error(data: bytes) -> None:
    try:
        image.parse(data)
    except ImageError as error:
        assert error.details.keys() == {"field", "found", "expected"}  # noqa: PT017 - either end is right


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_image_is_never_taken_for_the_good_one(mutations: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for offset, value in mutations:
        data[offset] = value
    if bytes(data) == GOOD:
        return
    with pytest.raises(ImageError):
        image.parse(bytes(data))


@given(st.integers(0, len(GOOD) - 1))
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(ImageError):
        image.parse(GOOD[:length])


@given(st.binary(min_size=1, max_size=64), st.booleans())
def test_nothing_but_padding_may_follow_an_image(trailer: bytes, hashed: bool) -> None:
    assume(trailer.strip(b"\xff"))
    with pytest.raises(ImageError):
        image.parse(images.build(hash_flag=int(hashed), trailer=trailer))


@given(
    st.sampled_from(sorted(images.CHIPS)),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=31),
    st.lists(st.binary(max_size=400), max_size=15),
    st.booleans(),
)
def test_what_the_builder_writes_the_parser_reads(
    chip: str, version: str, pieces: list[bytes], hashed: bool
) -> None:
    segments = [piece[: len(piece) // 4 * 4] for piece in pieces]
    data = images.build(
        chip_id=images.CHIPS[chip],
        segments=[images.descriptor(version=version.encode()), *segments],
        hash_flag=int(hashed),
    )
    parsed = image.parse(data)
    assert (parsed.chip, parsed.embedded_version, parsed.app_sha256 is not None) == (chip, version, hashed)
    assert [data[s.offset : s.offset + s.size_bytes] for s in parsed.segments[1:]] == segments


def test_an_image_that_just_fits_its_model_passes() -> None:
    parsed = image.parse(GOOD)
    image.check_for(parsed, chip="esp32", slot_size_bytes=len(GOOD))


@pytest.mark.parametrize(
    ("given", "label"), [(None, "1.2.3"), ("1.2.3", "1.2.3"), ("kitchen 7", "kitchen 7"), (" 7 ", "7")]
)
def test_the_label_is_the_given_one_else_the_embedded_version(given: str | None, label: str) -> None:
    assert image.label(image.parse(GOOD), given) == label


@pytest.mark.parametrize("version", [b"", b"  ", "größer".encode(), b"\x1b[0m", b"\xff\xfe"])
def test_an_image_without_a_version_that_could_be_sent_needs_a_label(version: bytes) -> None:
    parsed = image.parse(with_descriptor(version=version))
    assert image.label(parsed, "1.0") == "1.0"
    with pytest.raises(ImageError, match=r"^version: expected a label given at the upload"):
        image.label(parsed, None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"v" * 32, "v" * 32),
        ("Pumpenwächter".encode(), "Pumpenwächter"),
        (b"a\xe9\x00behind", "a\ufffd"),
        (b"1.\x1b[0m\n", "1.\ufffd[0m\ufffd"),
    ],
)
def test_texts_are_taken_as_they_are_except_what_would_harm_a_terminal(raw: bytes, text: str) -> None:
    parsed = image.parse(with_descriptor(project=raw, version=raw))
    assert (parsed.project, parsed.embedded_version) == (text, text)


def test_an_image_without_a_descriptor_has_empty_texts() -> None:
    parsed = image.parse(images.build(segments=[bytes(264)]))
    assert (parsed.embedded_version, parsed.project, parsed.idf_version, parsed.secure_version) == ("", "", "", 0)
    assert parsed.elf_sha256 is None


def test_the_descriptor_may_begin_another_segment() -> None:
    assert image.parse(images.build(segments=[b"abcd", images.descriptor()])).project == "sensor"


def test_a_digest_of_the_elf_file_that_the_builder_left_out_is_none() -> None:
    assert image.parse(images.build(segments=[images.descriptor(elf_sha256=bytes(32))])).elf_sha256 is None


@pytest.mark.parametrize(
    ("header", "parsed", "written"), [(399, 399, "v3.99"), (301, 301, "v3.1"), (0, None, ""), (65535, None, "")]
)
def test_the_chip_revisions_are_those_of_the_header(header: int, parsed: int | None, written: str) -> None:
    found = image.parse(images.build(revisions=(301, header)))
    assert (found.min_chip_revision, found.max_chip_revision) == (301, parsed)
    assert parsed is None or image.revision(parsed) == written


@pytest.mark.parametrize("padding", [1, 16, 4096, 100_000])
def test_padding_as_of_erased_flash_may_follow_an_image(padding: int) -> None:
    data = images.build(trailer=b"\xff" * padding)
    assert image.parse(data).size_bytes == len(data)


@pytest.mark.parametrize(
    ("chip", "slot_size_bytes", "message"),
    [
        ("esp32c3", len(GOOD), "chip: expected the chip of model lamp, esp32c3, found esp32"),
        (
            "esp32",
            len(GOOD) - 1,
            f"size_bytes: expected at most the slot of model lamp, {len(GOOD) - 1} bytes, found {len(GOOD)}",
        ),
    ],
)
def test_an_image_that_does_not_suit_its_model_is_refused(chip: str, slot_size_bytes: int, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        image.check_for(
            image.parse(GOOD),
            chip=chip,
            slot_size_bytes=slot_size_bytes,
            model_code="lamp",
        )
    assert caught.value.message == message


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 64),
    st.binary(max_size=64),
    st.lists(st.tuples(st.integers(0, 36), st.integers(0, 255)), max_size=3),
)
def test_a_fuzzed_image_is_read_or_refused_with_a_clear_error(
    at: int, removed: int, inserted: bytes, headers: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD[:at] + inserted + GOOD[at + removed :])
    for offset, value in headers:
        if offset < len(data):
            data[offset] = value
    try:
        image.parse(bytes(data))
    except ImageError as error:
        assert error.message.isprintable()  # noqa: PT017 - either end is right
        assert all(str(error.details[part]) for part in ("field", "found", "expected"))  # noqa: PT017 - as above
