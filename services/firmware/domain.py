"""Which image a device should have, and which of its reports count, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.errors import ConflictError, InvalidInputError

OFFERED: Final = "offered"
ENDS: Final = frozenset({"confirmed", "failed", "rolled_back"})
REFUSED_BY_DEVICE: Final = frozenset({"failed", "rolled_back"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """The image that a device's model wants it to have; `stage` is how an earlier delivery to it stands."""

    sha256: str
    size_bytes: int
    chip: str
    project: str
    stage: str | None


@dataclass(frozen=True, slots=True)
class Running:
    """What a device says of itself; None where it has not said."""

    sha256: str | None
    chip: str | None
    project: str | None
    slot_size_bytes: int | None


def wants(candidate: Candidate, running: Running) -> bool:
    """Return whether the device needs the image; raise ConflictError with the reason why it must not have it."""
    if candidate.sha256 == running.sha256:
        return False
    if candidate.stage in REFUSED_BY_DEVICE:
        raise ConflictError(f"the device has had this image before: {candidate.stage}")
    if running.chip is not None and candidate.chip != running.chip:
        raise ConflictError(f"chip: the image is for {candidate.chip}, the device has {running.chip}")
    if running.project is not None and candidate.project != running.project:
        raise ConflictError(f"project: the image is {candidate.project}, the device runs {running.project}")
    if running.slot_size_bytes is not None and candidate.size_bytes > running.slot_size_bytes:
        raise ConflictError(
            f"size_bytes: the image has {candidate.size_bytes}, the device's slot {running.slot_size_bytes}"
        )
    return True


def counts(present: str | None, reported: str) -> bool:
    """Say whether a report moves a delivery: once it has ended, only another end or a new offer does."""
    return present not in ENDS or reported in ENDS


def offsets(size_bytes: int, chunk_size_bytes: int) -> list[int]:
    """Return where the pieces of an image begin."""
    return list(range(0, size_bytes, chunk_size_bytes))


def check_piece(offset: int, length: int, *, size_bytes: int, chunk_size_bytes: int) -> None:
    """Raise InvalidInputError unless a piece of this length belongs at this offset."""
    if offset % chunk_size_bytes or offset >= size_bytes:
        raise InvalidInputError(
            f"offset: must be a multiple of {chunk_size_bytes} below {size_bytes}, is {offset}"
        )
    expected = min(chunk_size_bytes, size_bytes - offset)
    if length != expected:
        raise InvalidInputError(f"data: must be {expected} bytes at {offset}, is {length}")
