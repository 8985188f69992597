from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.firmware import rules
from services.firmware.rules import Candidate, Kept, Running, Uses
from shared.errors import ConflictError, InvalidInputError
from shared.protocol.messages import FirmwareStage

NEW, OLD = "a" * 64, "b" * 64
CANDIDATE = Candidate(sha256=NEW, size_bytes=1000, chip="esp32", project="sensor", stage=None)
RUNNING = Running(sha256=OLD, chip="esp32", project="sensor", slot_size_bytes=1000)
STAGES = [None, rules.OFFERED, *FirmwareStage]


def refusal(candidate: Candidate, running: Running) -> str:
    with pytest.raises(ConflictError) as caught:
        rules.wants(candidate, running)
    return caught.value.message


@pytest.mark.parametrize("stage", [None, "offered", "downloading", "verifying", "rebooting", "confirmed"])
def test_a_device_that_runs_another_image_wants_the_one_of_its_model(stage: str | None) -> None:
    assert rules.wants(replace(CANDIDATE, stage=stage), RUNNING) is True


def test_a_device_that_has_said_nothing_wants_the_image() -> None:
    assert rules.wants(CANDIDATE, Running(None, None, None, None)) is True


@pytest.mark.parametrize("unknown", ["sha256", "chip", "project", "slot_size_bytes"])
def test_what_a_device_has_not_said_is_no_reason_against_an_image(unknown: str) -> None:
    unsaid: dict[str, Any] = {unknown: None}

    assert rules.wants(CANDIDATE, replace(RUNNING, **unsaid)) is True


@pytest.mark.parametrize("name", ["ESP32-D0WD-V3", "ESP32", "esp32", "ESP32-PICO-D4", "a board of our own", ""])
def test_a_chip_is_compared_however_a_device_writes_its_name(name: str) -> None:
    assert rules.wants(CANDIDATE, replace(RUNNING, chip=name)) is True


@pytest.mark.parametrize("name", ["ESP32-S3", "ESP32-C3 (revision v0.4)", "esp32c6"])
def test_another_chip_is_recognized_however_a_device_writes_its_name(name: str) -> None:
    assert (
        refusal(CANDIDATE, replace(RUNNING, chip=name)) == f"chip: the image is for esp32, the device has {name}"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_device_that_runs_the_image_is_up_to_date_whatever_it_said_before(stage: str | None) -> None:
    other = Running(sha256=NEW, chip="esp32c3", project="other", slot_size_bytes=1)

    assert rules.wants(replace(CANDIDATE, stage=stage), other) is False


@pytest.mark.parametrize("stage", ["failed", "rolled_back"])
def test_an_image_that_a_device_could_not_run_is_not_offered_again(stage: str) -> None:
    assert refusal(replace(CANDIDATE, stage=stage), RUNNING) == f"the device has had this image before: {stage}"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"chip": "esp32c3"}, "chip: the image is for esp32, the device has esp32c3"),
        ({"project": "lamp"}, "project: the image is sensor, the device runs lamp"),
        ({"slot_size_bytes": 999}, "size_bytes: the image has 1000, the device's slot 999"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_with_the_reason(changed: dict[str, Any], reason: str) -> None:
    assert refusal(CANDIDATE, replace(RUNNING, **changed)) == reason


def test_the_stages_are_those_of_the_protocol() -> None:
    assert set(FirmwareStage) > rules.ENDS
    assert rules.REFUSED_BY_DEVICE < rules.ENDS
    assert rules.OFFERED not in set(FirmwareStage)


@pytest.mark.parametrize(("present", "reported"), list(product(STAGES, FirmwareStage)))
def test_a_late_report_of_progress_does_not_take_a_delivery_back(present: str | None, reported: str) -> None:
    ended = present in {"confirmed", "failed", "rolled_back"}
    late = (ended and reported in {"downloading", "verifying", "rebooting"}) or (
        present == "rebooting" and reported in {"downloading", "verifying"}
    )

    assert rules.counts(present, reported) is not late


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
    ("stage", "running", "came_back"),
    [
        ("rebooting", OLD, True),
        ("rebooting", NEW, False),
        ("rebooting", None, False),
        ("verifying", OLD, False),
        ("confirmed", OLD, False),
        (None, OLD, False),
    ],
)
def test_a_device_that_was_to_start_an_image_and_runs_another_one_did_not_keep_it(
    stage: str | None, running: str | None, *, came_back: bool
) -> None:
    assert rules.came_back(replace(CANDIDATE, stage=stage), replace(RUNNING, sha256=running)) is came_back


def test_a_confirmed_image_is_not_offered_to_a_device_that_says_its_version_and_another_sha256() -> None:
    confirmed = replace(CANDIDATE, stage="confirmed", version="1.1.0")

    assert "another sha256" in refusal(confirmed, replace(RUNNING, version="1.1.0"))
    assert rules.wants(confirmed, replace(RUNNING, version="1.0.0")) is True
    assert rules.wants(replace(confirmed, stage="offered"), replace(RUNNING, version="1.1.0")) is True


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
