"""Rules of images, without I/O: which one a device should have, and which reports count."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple, TypeAlias

from shared.errors import InvalidInputError
from shared.esp32.image import revision
from shared.protocol.messages import MAX_CHUNK_BYTES, FirmwareStage

WINDOW: Final = 4
"""Chunks of an image that a device may have in progress."""
WITHHELD: Final = "withheld"
OFFERED: Final = "offered"
REBOOTING: Final = "rebooting"
CONFIRMED: Final = "confirmed"
FELL_BACK: Final = "fell_back"
"""The device had confirmed the image, and was then back on another one."""
Stage: TypeAlias = FirmwareStage | Literal["fell_back"]
ENDS: Final = frozenset({CONFIRMED, "failed", "rolled_back", FELL_BACK})
REFUSED_BY_DEVICE: Final = frozenset({"failed", "rolled_back"})
NOT_BEGUN: Final = frozenset({None, WITHHELD, OFFERED, CONFIRMED, FELL_BACK})
"""The stages at which a device is notified of an image: it is not known to have begun fetching."""
MAX_FALLBACKS: Final = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """The image intended for a device; `stage` and `fallbacks` are of its earlier delivery.

    `hashes` are those by which a device may say that it runs the image. Revisions are major * 100 + minor.
    """

    hashes: frozenset[str]
    size_bytes: int
    chip: str
    project: str
    secure_version: int = 0
    min_chip_revision: int = 0
    max_chip_revision: int | None = None
    secure_boot_keys: tuple[str, ...] = ()
    stage: str | None = None
    fallbacks: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A device's reported firmware and limits; None if not reported.

    `secure_version` is the lowest that its bootloader still starts, and `secure_boot_keys` the digests of the keys
    that it trusts; with none, it starts every image.
    """

    sha256: str | None = None
    chip: str | None = None
    project: str | None = None
    slot_size_bytes: int | None = None
    secure_version: int | None = None
    chip_revision: int | None = None
    secure_boot_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageAttempt:
    """A device's progress with an image, as input of `lost`; `since` is when its stage was recorded (UTC)."""

    sha256: str
    hashes: frozenset[str]
    stage: str
    since: datetime


class ReportedRun(NamedTuple):
    """The hash of what a device runs, as in a message that was received at `at` (UTC)."""

    sha256: str
    at: datetime


def lost(newest_first: Iterable[ImageAttempt], reported: ReportedRun) -> tuple[str, Stage] | None:
    """Return the image that a device no longer runs although it should, and the stage that this is.

    It should run the last one that it was about to start or has confirmed. One that it was offered later may have
    been started without a report.

    What was received before it confirmed an image is no fallback from it: a message may have waited, also in
    another replica. A rollback may be recorded by mistake: the device's own report, still to come, counts more.
    """
    for attempt in newest_first:
        if reported.sha256 in attempt.hashes:
            return None
        if attempt.stage == REBOOTING:
            return attempt.sha256, FirmwareStage.ROLLED_BACK
        if attempt.stage == CONFIRMED:
            return (attempt.sha256, FELL_BACK) if reported.at > attempt.since else None
    return None


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


def refusal(candidate: Candidate, running: Running) -> str | None:
    """Return the reason why a device must not have an image that it does not run, if there is one."""
    return None if running.sha256 in candidate.hashes else next(_refusals(candidate, running), None)


def _refusals(candidate: Candidate, running: Running) -> Iterator[str]:
    if candidate.stage in REFUSED_BY_DEVICE:
        yield f"the device has had this image before: {candidate.stage}"
    if candidate.fallbacks >= MAX_FALLBACKS:
        yield f"the device has confirmed this image {candidate.fallbacks} times, and each time was back on another"
    if running.chip is not None and candidate.chip != running.chip:
        yield f"chip: the image is for {candidate.chip}, the device has {running.chip}"
    if running.project is not None and candidate.project != running.project:
        yield f"project: the image is {candidate.project}, the device runs {running.project}"
    if running.slot_size_bytes is not None and candidate.size_bytes > running.slot_size_bytes:
        yield f"size_bytes: the image has {candidate.size_bytes}, the device's slot {running.slot_size_bytes}"
    if running.secure_version is not None and candidate.secure_version < running.secure_version:
        found = candidate.secure_version
        yield f"secure_version: the image has {found}, the device requires {running.secure_version}"
    chip, least, most = running.chip_revision, candidate.min_chip_revision, candidate.max_chip_revision
    if chip is not None and (chip < least or (most is not None and chip > most)):
        expected = f"{revision(least)} or later" if most is None else f"{revision(least)} to {revision(most)}"
        yield f"chip_revision: the image is for {expected}, the device has {revision(chip)}"
    if running.secure_boot_keys and not set(running.secure_boot_keys).intersection(candidate.secure_boot_keys):
        trusted, signers = ", ".join(running.secure_boot_keys), ", ".join(candidate.secure_boot_keys) or "none"
        yield f"secure_boot_keys: the device trusts {trusted}, the image has been signed by {signers}"


def counts(present: str | None, reported: str) -> bool:
    """Return whether a report advances a delivery: one from before the end or the reboot is late.

    Replicas share the reports of a device, so that reports may be handled out of order.
    """
    if reported == FELL_BACK:
        return present == CONFIRMED
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
