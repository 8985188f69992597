from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.firmware import rules
from services.firmware.rules import Candidate, ImageAttempt, Kept, ReportedRun, Running, Uses
from shared.errors import InvalidInputError
from shared.protocol.messages import FirmwareStage

NEW, OLD = "a" * 64, "b" * 64
APPENDED, ELF = "c" * 64, "d" * 64
CANDIDATE = Candidate(hashes=frozenset({NEW, APPENDED, ELF}), size_bytes=1000, chip="esp32", project="sensor")
RUNNING = Running(sha256=OLD, chip="esp32", project="sensor", slot_size_bytes=1000)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STAGES = [None, rules.WITHHELD, rules.OFFERED, *FirmwareStage, rules.FELL_BACK]


@pytest.mark.parametrize(
    "stage", [None, "withheld", "offered", "downloading", "verifying", "rebooting", "confirmed"]
)
def test_a_device_that_runs_another_image_may_have_the_one_of_its_model(stage: str | None) -> None:
    assert rules.refusal(replace(CANDIDATE, stage=stage), RUNNING) is None


def test_a_device_that_has_said_nothing_may_have_the_image() -> None:
    assert rules.refusal(CANDIDATE, Running()) is None


@pytest.mark.parametrize("unknown", ["sha256", "chip", "project", "slot_size_bytes"])
def test_what_a_device_has_not_said_is_no_reason_against_an_image(unknown: str) -> None:
    unsaid: dict[str, Any] = {unknown: None}

    assert rules.refusal(CANDIDATE, replace(RUNNING, **unsaid)) is None


@pytest.mark.parametrize("said", [NEW, APPENDED, ELF])
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_speaks_against_the_image_that_a_device_runs_by_whichever_hash(
    said: str, stage: str | None
) -> None:
    other = Running(sha256=said, chip="esp32c3", project="other", slot_size_bytes=1)

    assert rules.refusal(replace(CANDIDATE, stage=stage, fallbacks=9), other) is None


@pytest.mark.parametrize("stage", ["failed", "rolled_back"])
def test_an_image_that_a_device_could_not_run_is_not_offered_again(stage: str) -> None:
    reason = rules.refusal(replace(CANDIDATE, stage=stage), RUNNING)

    assert reason == f"the device has had this image before: {stage}"


KEY, OTHER_KEY = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    ("image", "device", "reason"),
    [
        ({}, {"chip": "esp32c3"}, "chip: the image is for esp32, the device has esp32c3"),
        ({}, {"project": "lamp"}, "project: the image is sensor, the device runs lamp"),
        ({}, {"slot_size_bytes": 999}, "size_bytes: the image has 1000, the device's slot 999"),
        ({"secure_version": 1}, {"secure_version": 1}, None),
        ({"secure_version": 1}, {"secure_version": 2}, "secure_version: the image has 1, the device requires 2"),
        ({"min_chip_revision": 300}, {"chip_revision": 300}, None),
        (
            {"min_chip_revision": 300},
            {"chip_revision": 199},
            "chip_revision: the image is for v3.0 or later, the device has v1.99",
        ),
        ({"max_chip_revision": 199}, {"chip_revision": 199}, None),
        (
            {"max_chip_revision": 199},
            {"chip_revision": 301},
            "chip_revision: the image is for v0.0 to v1.99, the device has v3.1",
        ),
        ({"secure_boot_keys": (KEY,)}, {}, None),
        ({"secure_boot_keys": (OTHER_KEY, KEY)}, {"secure_boot_keys": (KEY,)}, None),
        (
            {},
            {"secure_boot_keys": (KEY,)},
            f"secure_boot_keys: the device trusts {KEY}, the image has been signed by none",
        ),
        (
            {"secure_boot_keys": (OTHER_KEY,)},
            {"secure_boot_keys": (KEY,)},
            f"secure_boot_keys: the device trusts {KEY}, the image has been signed by {OTHER_KEY}",
        ),
    ],
)
def test_an_image_that_the_board_would_refuse_is_withheld_with_the_reason(
    image: dict[str, Any], device: dict[str, Any], reason: str | None
) -> None:
    assert rules.refusal(replace(CANDIDATE, **image), replace(RUNNING, **device)) == reason


def test_an_image_that_a_device_has_left_again_and_again_is_withheld() -> None:
    once = rules.refusal(replace(CANDIDATE, fallbacks=rules.MAX_FALLBACKS - 1), RUNNING)
    often = rules.refusal(replace(CANDIDATE, fallbacks=rules.MAX_FALLBACKS), RUNNING)

    assert once is None
    assert often == "the device has confirmed this image 3 times, and each time was back on another"


def attempts(*stages: str) -> list[ImageAttempt]:
    return [
        ImageAttempt(f"image {number}", frozenset({str(number)}), stage, NOON)
        for number, stage in enumerate(stages)
    ]


@pytest.mark.parametrize(
    ("newest_first", "running", "expected"),
    [
        ([], "9", None),
        (["rebooting"], "9", ("image 0", "rolled_back")),
        (["rebooting"], "0", None),
        (["confirmed"], "9", ("image 0", "fell_back")),
        (["confirmed"], "0", None),
        (["fell_back", "confirmed"], "9", ("image 1", "fell_back")),
        (["failed", "rolled_back", "fell_back"], "9", None),
        # It goes back to an older image when that is offered, also if its reports are lost.
        (["offered", "confirmed"], "0", None),
        (["offered", "confirmed"], "1", None),
        (["downloading", "confirmed"], "0", None),
        (["rebooting", "confirmed"], "1", ("image 0", "rolled_back")),
        (["confirmed", "confirmed"], "1", ("image 0", "fell_back")),
    ],
)
def test_a_device_that_does_not_run_what_it_was_to_start_or_had_confirmed_has_lost_it(
    newest_first: list[str], running: str, expected: tuple[str, str] | None
) -> None:
    assert rules.lost(attempts(*newest_first), ReportedRun(running, NOON + timedelta(seconds=1))) == expected


@pytest.mark.parametrize("late", [timedelta(0), timedelta(minutes=2)])
def test_what_was_said_before_an_image_was_confirmed_is_no_fallback_from_it(late: timedelta) -> None:
    assert rules.lost(attempts("confirmed", "confirmed"), ReportedRun("1", NOON - late)) is None


def test_the_stages_are_those_of_the_protocol() -> None:
    assert set(FirmwareStage) > rules.ENDS - {rules.FELL_BACK}
    assert rules.REFUSED_BY_DEVICE < rules.ENDS
    assert not {rules.WITHHELD, rules.OFFERED, rules.FELL_BACK} & set(FirmwareStage)


@pytest.mark.parametrize(("present", "reported"), list(product(STAGES, FirmwareStage)))
def test_a_late_report_of_progress_does_not_take_a_delivery_back(present: str | None, reported: str) -> None:
    ended = present in {"confirmed", "failed", "rolled_back", "fell_back"}
    late = (ended and reported in {"downloading", "verifying", "rebooting"}) or (
        present == "rebooting" and reported in {"downloading", "verifying"}
    )

    assert rules.counts(present, reported) is not late


@pytest.mark.parametrize("present", STAGES)
def test_only_an_image_that_is_confirmed_can_be_fallen_back_from(present: str | None) -> None:
    assert rules.counts(present, rules.FELL_BACK) is (present == "confirmed")


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(0, []), (1, [0]), (4, [0]), (5, [0, 4]), (8, [0, 4]), (9, [0, 4, 8])]
)
def test_pieces_begin_where_the_one_before_ends(size_bytes: int, expected: list[int]) -> None:
    assert rules.offsets(size_bytes, 4) == expected


@given(data=st.binary(max_size=300), chunk_size_bytes=st.integers(1, 64))
def test_the_pieces_together_are_the_image(data: bytes, chunk_size_bytes: int) -> None:
    pieces = [data[at : at + chunk_size_bytes] for at in rules.offsets(len(data), chunk_size_bytes)]

    assert b"".join(pieces) == data
    assert all(pieces)


@pytest.mark.parametrize(
    ("keep", "used", "going"),
    [
        (0, "", ""),
        (1, "", "ce"),
        (2, "", "ce"),
        (3, "", "e"),
        (4, "", "e"),
        (5, "", ""),
        (9, "", ""),
        (1, "c", "e"),
        (1, "ce", ""),
        (1, "a", "ce"),
    ],
)
def test_what_is_neither_new_nor_pinned_nor_used_goes(keep: int, used: str, going: str) -> None:
    images = [Kept("a", pinned=False), Kept("b", pinned=True), Kept("c", pinned=False)]
    images += [Kept("d", pinned=True), Kept("e", pinned=False)]

    assert rules.superfluous(images, used, keep=keep) == list(going)


@pytest.mark.parametrize(
    ("uses", "reasons"),
    [
        (Uses(), []),
        (Uses(current=True), ["it is its model's image"]),
        (Uses(running=1), ["1 device runs it"]),
        (Uses(running=2, delivering=1), ["2 devices run it", "it is being delivered to 1 device"]),
        (Uses(delivering=7), ["it is being delivered to 7 devices"]),
        (Uses(rollout=3), ["rollout 3 needs it"]),
    ],
)
def test_who_uses_an_image_is_said_with_numbers(uses: Uses, reasons: list[str]) -> None:
    assert uses.reasons() == reasons


@pytest.mark.parametrize(
    ("offset", "length", "rule"),
    [
        (0, 0, "length: must be 1 to 65536"),
        (0, 65537, "length: must be 1 to 65536"),
        (1000, 100, "offset: must be less than the image's 1000 bytes"),
        (2**63 - 1, 100, "offset: must be less than the image's 1000 bytes"),
        (900, 101, "length: must be at most 100 at 900"),
        (0, 1001, "length: must be at most 1000 at 0"),
        (50, 100, "offset: must be a multiple of the length 100"),
    ],
)
def test_a_piece_that_an_image_does_not_have_is_refused_with_the_rule(offset: int, length: int, rule: str) -> None:
    assert (rules.piece_fault(offset, length, 1000) or "").startswith(rule)


@given(size_bytes=st.integers(1, 300_000), chunk_size_bytes=st.integers(1, 65536))
def test_every_piece_of_an_image_is_given_for_any_length(size_bytes: int, chunk_size_bytes: int) -> None:
    for offset in rules.offsets(size_bytes, chunk_size_bytes)[-2:]:
        assert rules.piece_fault(offset, min(chunk_size_bytes, size_bytes - offset), size_bytes) is None


@pytest.mark.parametrize(("offset", "length"), [(0, 100), (100, 100), (200, 50)])
def test_a_piece_is_where_it_belongs(offset: int, length: int) -> None:
    rules.check_piece(offset, length, size_bytes=250, chunk_size_bytes=100)


@pytest.mark.parametrize(
    ("offset", "length", "field"),
    [
        (50, 100, "offset"),
        (300, 1, "offset"),
        (0, 99, "data"),
        (0, 101, "data"),
        (200, 100, "data"),
        (100, 0, "data"),
    ],
)
def test_a_piece_of_another_place_or_length_is_refused(offset: int, length: int, field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        rules.check_piece(offset, length, size_bytes=250, chunk_size_bytes=100)
