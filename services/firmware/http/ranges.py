"""Conditional and range requests for an image of a known size and tag, without I/O (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

# More digits than any size has: such a range is invalid.
_RANGE: Final = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Reply:
    """The response: its status and range of bytes (`end` is exclusive)."""

    status: HTTPStatus
    start: int = 0
    end: int = 0


def reply(headers: Mapping[str, str], *, etag: str, size_bytes: int, is_get: bool) -> Reply:
    """Return the response; the names in `headers` are in lower case, `etag` is a strong one, with its quotes."""
    if "if-match" in headers and not _names(headers["if-match"], etag):
        return Reply(HTTPStatus.PRECONDITION_FAILED)
    if "if-none-match" in headers and _names(headers["if-none-match"].replace("W/", ""), etag):
        return Reply(HTTPStatus.NOT_MODIFIED)
    whole = Reply(HTTPStatus.OK, 0, size_bytes)
    # Ranges are defined for GET only. A date in If-Range is never the tag.
    if not is_get or "range" not in headers or headers.get("if-range", etag).strip() != etag:
        return whole
    ranges = _ranges(headers["range"], size_bytes)
    if ranges is None:
        return whole
    satisfiable = [one for one in ranges if one.start < one.stop]
    if not satisfiable:
        return Reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
    # Several ranges would need multipart/byteranges, which no device requests: the whole image is allowed too.
    only = satisfiable[0]
    return whole if len(ranges) > 1 else Reply(HTTPStatus.PARTIAL_CONTENT, only.start, only.stop)


def _names(field: str, etag: str) -> bool:
    return field.strip() == "*" or etag in (tag.strip() for tag in field.split(","))


def _ranges(field: str, size_bytes: int) -> list[range] | None:
    """Return the ranges, empty if they have no byte, or None if the header is to be ignored."""
    unit, _, specs = field.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    found: list[range] = []
    for spec in filter(None, (part.strip() for part in specs.split(","))):
        match = _RANGE.fullmatch(spec)
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            found.append(range(max(0, size_bytes - int(suffix)), size_bytes))
        elif last and int(last) < int(first):
            return None
        else:
            found.append(range(int(first), min(int(last) + 1, size_bytes) if last else size_bytes))
    return found or None
