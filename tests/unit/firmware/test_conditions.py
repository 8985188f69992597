from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.firmware.http.ranges import Reply, reply

ETAG = '"' + "a" * 64 + '"'
SIZE = 1000
OTHER = '"other"'
WHOLE = Reply(HTTPStatus.OK, 0, SIZE)
UNSATISFIABLE = Reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


def asked(*, is_get: bool = True, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return reply(named, etag=ETAG, size_bytes=SIZE, is_get=is_get)


def part(start: int, end: int) -> Reply:
    return Reply(HTTPStatus.PARTIAL_CONTENT, start, end)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-0", part(0, 1)),
        ("bytes=0-999", part(0, SIZE)),
        ("bytes=500-", part(500, SIZE)),
        ("bytes=500-5000", part(500, SIZE)),
        ("bytes=-1", part(999, SIZE)),
        ("bytes=-1000", part(0, SIZE)),
        ("bytes=-5000", part(0, SIZE)),
        ("Bytes = 1-2 ,", part(1, 3)),
        (f"bytes=0-{'9' * 18}", part(0, SIZE)),
        ("bytes=1000-", UNSATISFIABLE),
        ("bytes=1000-2000", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=1000-,-0", UNSATISFIABLE),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=0-1,5000-", WHOLE),
        ("bytes=2-1", WHOLE),
        ("bytes=", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=,", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=0-1-2", WHOLE),
        ("bytes=\N{ARABIC-INDIC DIGIT ONE}-", WHOLE),
        (f"bytes={'9' * 5000}-", WHOLE),
        ("bytes 0-1", WHOLE),
        ("chunks=0-1", WHOLE),
        ("", WHOLE),
    ],
)
def test_a_range_is_served_refused_or_ignored(field: str, expected: Reply) -> None:
    assert asked(range=field) == expected


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (ETAG, part(1, 2)),
        (f" {ETAG} ", part(1, 2)),
        (OTHER, WHOLE),
        (f"W/{ETAG}", WHOLE),
        ("Wed, 25 Nov 2026 22:06:03 GMT", WHOLE),
    ],
)
def test_a_part_is_only_for_who_has_the_same_image(validator: str, expected: Reply) -> None:
    assert asked(range="bytes=1-1", if_range=validator) == expected


def test_a_range_that_is_out_of_reach_of_another_image_gets_the_whole() -> None:
    assert asked(range="bytes=5000-", if_range=OTHER) == WHOLE


def test_a_head_has_no_ranges() -> None:
    assert asked(is_get=False, range="bytes=5000-") == WHOLE


@pytest.mark.parametrize("field", [ETAG, f"W/{ETAG}", f"{OTHER}, {ETAG}", "*"])
@pytest.mark.parametrize("is_get", [True, False])
def test_who_has_the_image_gets_nothing_again(field: str, *, is_get: bool) -> None:
    assert asked(is_get=is_get, if_none_match=field, range="bytes=0-1").status is HTTPStatus.NOT_MODIFIED


def test_who_has_another_image_gets_this_one() -> None:
    assert asked(if_none_match=OTHER) == WHOLE


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (ETAG, HTTPStatus.OK),
        ("*", HTTPStatus.OK),
        (f"{OTHER}, {ETAG}", HTTPStatus.OK),
        (OTHER, HTTPStatus.PRECONDITION_FAILED),
        (f"W/{ETAG}", HTTPStatus.PRECONDITION_FAILED),
    ],
)
def test_who_insists_on_an_image_gets_that_or_none(field: str, status: HTTPStatus) -> None:
    assert asked(if_match=field).status is status


@given(field=st.text(alphabet="bytes=0123456789-, ", max_size=30), size_bytes=st.integers(1, 100))
def test_what_is_served_always_lies_in_the_image(field: str, size_bytes: int) -> None:
    found = reply({"range": field}, etag=ETAG, size_bytes=size_bytes, is_get=True)
    if found != UNSATISFIABLE:
        assert 0 <= found.start < found.end <= size_bytes
