from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.firmware import domain
from services.firmware.domain import Candidate, Running
from shared.errors import ConflictError, InvalidInputError
from shared.messages import FirmwareStage

NEW, OLD = "a" * 64, "b" * 64
CANDIDATE = Candidate(sha256=NEW, size_bytes=1000, chip="esp32", project="sensor", stage=None)
RUNNING = Running(sha256=OLD, chip="esp32", project="sensor", slot_size_bytes=1000)
STAGES = [None, domain.OFFERED, *FirmwareStage]


def refusal(candidate: Candidate, running: Running) -> str:
    with pytest.raises(ConflictError) as caught:
        domain.wants(candidate, running)
    return caught.value.message


@pytest.mark.parametrize("stage", [None, "offered", "downloading", "verifying", "rebooting", "confirmed"])
def test_a_device_that_runs_another_image_wants_the_one_of_its_model(stage: str | None) -> None:
    assert domain.wants(replace(CANDIDATE, stage=stage), RUNNING) is True


def test_a_device_that_has_said_nothing_wants_the_image() -> None:
    assert domain.wants(CANDIDATE, Running(None, None, None, None)) is True


@pytest.mark.parametrize("unknown", ["sha256", "chip", "project", "slot_size_bytes"])
def test_what_a_device_has_not_said_is_no_reason_against_an_image(unknown: str) -> None:
    unsaid: dict[str, Any] = {unknown: None}

    assert domain.wants(CANDIDATE, replace(RUNNING, **unsaid)) is True


@pytest.mark.parametrize("stage", STAGES)
def test_a_device_that_runs_the_image_is_up_to_date_whatever_it_said_before(stage: str | None) -> None:
    other = Running(sha256=NEW, chip="esp32c3", project="other", slot_size_bytes=1)

    assert domain.wants(replace(CANDIDATE, stage=stage), other) is False


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
    assert set(FirmwareStage) > domain.ENDS
    assert domain.REFUSED_BY_DEVICE < domain.ENDS
    assert domain.OFFERED not in set(FirmwareStage)


@pytest.mark.parametrize(("present", "reported"), list(product(STAGES, FirmwareStage)))
def test_a_late_report_of_progress_does_not_reopen_a_delivery_that_has_ended(
    present: str | None, reported: str
) -> None:
    late = present in {"confirmed", "failed", "rolled_back"} and reported in {
        "downloading",
        "verifying",
        "rebooting",
    }

    assert domain.counts(present, reported) is not late


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(0, []), (1, [0]), (4, [0]), (5, [0, 4]), (8, [0, 4]), (9, [0, 4, 8])]
)
def test_pieces_begin_where_the_one_before_ends(size_bytes: int, expected: list[int]) -> None:
    assert domain.offsets(size_bytes, 4) == expected


@given(data=st.binary(max_size=300), chunk_size_bytes=st.integers(1, 64))
def test_the_pieces_together_are_the_image(data: bytes, chunk_size_bytes: int) -> None:
    pieces = [data[at : at + chunk_size_bytes] for at in domain.offsets(len(data), chunk_size_bytes)]

    assert b"".join(pieces) == data
    assert all(pieces)


@pytest.mark.parametrize(("offset", "length"), [(0, 100), (100, 100), (200, 50)])
def test_a_piece_is_where_it_belongs(offset: int, length: int) -> None:
    domain.check_piece(offset, length, size_bytes=250, chunk_size_bytes=100)


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
        domain.check_piece(offset, length, size_bytes=250, chunk_size_bytes=100)
