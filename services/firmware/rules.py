"""Rules of images, without I/O: which one a device should have, and which reports count."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from shared.errors import ConflictError, InvalidInputError
from shared.esp32.chips import normalise
from shared.protocol.messages import MAX_CHUNK_BYTES

WINDOW: Final = 4
"""Chunks of an image that a device may have in progress."""
OFFERED: Final = "offered"
REBOOTING: Final = "rebooting"
CONFIRMED: Final = "confirmed"
ROLLED_BACK: Final = "rolled_back"
ENDS: Final = frozenset({CONFIRMED, "failed", ROLLED_BACK})
REFUSED_BY_DEVICE: Final = frozenset({"failed", ROLLED_BACK})
NOT_NOTIFIED: Final = frozenset({None, OFFERED, CONFIRMED})
"""The stages at which a device is notified of an image: it is not known to have begun fetching."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The image intended for a device; `stage` is that of its earlier delivery."""

    sha256: str
    size_bytes: int
    chip: str
    project: str
    stage: str | None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A device's reported firmware and limits; None if not reported."""

    sha256: str | None
    chip: str | None
    project: str | None
    slot_size_bytes: int | None
    version: str | None = None


def came_back(candidate: Candidate, running: Running) -> bool:
    """Return whether a device that was about to start the image runs another one: it was rolled back."""
    return candidate.stage == REBOOTING and running.sha256 not in (None, candidate.sha256)


@dataclass(frozen=True, slots=True)
class Uses:
    """The uses of an image: its model, devices that run it or are fetching it, and a rollout."""

    current: bool = False
    running: int = 0
    delivering: int = 0
    rollout: int | None = None

    def reasons(self) -> list[str]:
        """Return the reasons to keep the image, as sentences; empty if it is not in use."""
        reasons = ["it is its model's image"] if self.current else []
        if self.running:
            reasons.append(f"{_devices(self.running)} run{'s' * (self.running == 1)} it")
        if self.delivering:
            reasons.append(f"it is being delivered to {_devices(self.delivering)}")
        if self.rollout is not None:
            reasons.append(f"rollout {self.rollout} needs it")
        return reasons


@dataclass(frozen=True, slots=True)
class Kept:
    """An image as input of retention."""

    sha256: str
    pinned: bool


def superfluous(newest_first: Iterable[Kept], used: Container[str], *, keep: int) -> list[str]:
    """Return the images to delete: not among the `keep` newest, not pinned, not used; with 0 none."""
    if keep == 0:
        return []
    older = list(newest_first)[keep:]
    return [image.sha256 for image in older if not image.pinned and image.sha256 not in used]


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def wants(candidate: Candidate, running: Running) -> bool:
    """Return whether the device needs the image; raise ConflictError with the reason if it must not have it."""
    if candidate.sha256 == running.sha256:
        return False
    if candidate.stage in REFUSED_BY_DEVICE:
        raise ConflictError(f"the device has had this image before: {candidate.stage}")
    if candidate.stage == CONFIRMED and candidate.version is not None and candidate.version == running.version:
        # Offered again, it would be fetched, confirmed and not recognized forever.
        raise ConflictError(
            "sha256: the device has confirmed this image and reports its version with another sha256"
        )
    if normalise(running.chip or "") not in (None, candidate.chip):
        raise ConflictError(f"chip: the image is for {candidate.chip}, the device has {running.chip}")
    if running.project is not None and candidate.project != running.project:
        raise ConflictError(f"project: the image is {candidate.project}, the device runs {running.project}")
    if running.slot_size_bytes is not None and candidate.size_bytes > running.slot_size_bytes:
        raise ConflictError(
            f"size_bytes: the image has {candidate.size_bytes}, the device's slot {running.slot_size_bytes}"
        )
    return True


def counts(present: str | None, reported: str) -> bool:
    """Return whether a report advances a delivery: one from before the end or the reboot is late.

    Replicas share the reports of a device, so that reports may be handled out of order.
    """
    return present not in ENDS | {REBOOTING} or reported in ENDS or reported == present


def offsets(size_bytes: int, chunk_size_bytes: int) -> list[int]:
    """Return the offsets of an image's chunks."""
    return list(range(0, size_bytes, chunk_size_bytes))


def piece_fault(offset: int, length: int, size_bytes: int) -> str | None:
    """Return the rule that a requested chunk of an image of `size_bytes` violates, or None.

    A chunk begins at a multiple of its length, or ends the image. So the length that was offered to a device is
    valid until it has the whole image, even if the service's setting changes in between.
    """
    if not 1 <= length <= MAX_CHUNK_BYTES:
        return f"length: must be 1 to {MAX_CHUNK_BYTES}, is {length}"
    if offset >= size_bytes:
        return f"offset: must be less than the image's {size_bytes} bytes, is {offset}"
    if offset + length > size_bytes:
        return f"length: must be at most {size_bytes - offset} at {offset}, where the image ends, is {length}"
    if offset % length and offset + length != size_bytes:
        return f"offset: must be a multiple of the length {length}, is {offset}"
    return None


def check_piece(offset: int, length: int, *, size_bytes: int, chunk_size_bytes: int) -> None:
    """Raise InvalidInputError unless a chunk of this length belongs at this offset."""
    if offset % chunk_size_bytes or offset >= size_bytes:
        raise InvalidInputError(
            f"offset: must be a multiple of {chunk_size_bytes} below {size_bytes}, is {offset}"
        )
    expected = min(chunk_size_bytes, size_bytes - offset)
    if length != expected:
        raise InvalidInputError(f"data: must be {expected} bytes at {offset}, is {length}")
