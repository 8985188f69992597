"""Operations on the diagnostics of devices: core dumps, lines of their logs, and vitals."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AwareDatetime, Field, PlainSerializer

from shared.protocol.admin.encoding import Base64
from shared.protocol.admin.names import DeviceName, ModelCode, PageSize, Selection
from shared.protocol.admin.operation import Nothing, Operation, Removed, Request, Result, Role
from shared.protocol.admin.secrets import SecretsRekeyed
from shared.protocol.messages import Count, LogLevel, VitalName

MAX_CORE_DUMP_BYTES: Final = 1024 * 1024
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
Age = Annotated[int, Field(ge=1, le=10 * 365 * _DAY_S)]
"""In seconds."""
_DECIMALS: Final = 4


class CoreDumpList(Request):
    """List the newest stored core dumps, optionally of one device; `before` is the `next` of the page before."""

    device: DeviceName | None = None
    before: Count | None = None
    limit: PageSize = 100


class CoreDumpView(Result):
    """A stored core dump. `reason` and `firmware_version` are reported by the device.

    The `image_*` are of the image whose ELF has the dump's `elf_sha256`: all None if there is no such image.
    """

    id: int
    client_id: str
    sha256: str
    size_bytes: int
    elf_sha256: str
    reason: str | None
    firmware_version: str | None
    image_model: str | None
    image_version: str | None
    image_sha256: str | None
    stored_at: AwareDatetime


class CoreDumps(Result):
    """Core dumps, newest first; `next` is None on the last page."""

    dumps: list[CoreDumpView]
    next: int | None = None


class CoreDumpRef(Request):
    """Reference to a stored core dump."""

    id: Count


class CoreDumpRead(CoreDumpRef):
    """Read bytes of a core dump from `offset`, the start of a chunk: 0, or the end of the last read."""

    offset: Count = 0


class CoreDumpBytes(Result):
    """Bytes of a core dump, at most 128 KiB."""

    data: Annotated[Base64, Field(repr=False)]


class LogList(Selection):
    """List lines of devices' logs: the newest, or with `after` those that were stored since.

    `level` is the lowest level, `since_s` the maximum age of a line, in seconds since it was received.
    """

    level: LogLevel = LogLevel.DEBUG
    since_s: Age | None = None
    after: Count | None = None
    limit: PageSize = 100


class LogLineView(Result):
    """A line of a device's log; all fields except `client_id` and `received_at` come from the device.

    `number` counts the lines since a start of the device (`boot`): a gap means a lost line.
    """

    client_id: str
    received_at: AwareDatetime
    level: LogLevel
    tag: str | None
    message: str
    time: AwareDatetime | None
    uptime_ms: int | None
    boot: int
    number: int


class LogLines(Result):
    """Lines in the order in which they were stored; `next` is the `after` of the next request."""

    lines: list[LogLineView]
    next: int


def _short(number: float) -> int | float:
    rounded = round(number, _DECIMALS)
    return int(rounded) if float(rounded).is_integer() else rounded


Measured = Annotated[float, PlainSerializer(_short)]
"""A number with few decimals, so that all programs write it in the same way."""


class VitalsShow(Request):
    """Show the vitals of a device in the last `since_s` seconds; with `name` also how that one went."""

    device: DeviceName
    name: VitalName | None = None
    since_s: Age = 7 * _DAY_S


class VitalView(Result):
    """A vital of a device: its last number, received at `at`, and lowest, mean and highest in the time asked."""

    name: str
    last: Measured
    at: AwareDatetime
    low: Measured
    mean: Measured
    high: Measured


class VitalPoint(Result):
    """A vital in the hour, or in one of equal parts of the time, that begins at `at`.

    `version` is the firmware that ran last in it, as far as is known.
    """

    at: AwareDatetime
    version: str | None
    low: Measured
    mean: Measured
    high: Measured


class DeviceVitals(Result):
    """The vitals of a device by name, and up to 400 points of the one asked for, oldest first."""

    client_id: str
    vitals: list[VitalView]
    points: list[VitalPoint]


class VitalsCompare(Request):
    """Compare the vitals of a model's devices, or one of them, by firmware, in the last `since_s` seconds."""

    model: ModelCode
    name: VitalName | None = None
    since_s: Age = 6 * _HOUR_S


class VitalOfVersion(Result):
    """A vital of those devices that ran one firmware; each counts with the mean of its numbers.

    `p5` and `p95` are what 5 and 95 percent of the devices are at most.
    """

    name: str
    version: str | None
    devices: int
    mean: Measured
    p5: Measured
    median: Measured
    p95: Measured


class VitalsCompared(Result):
    """The vitals of a model's devices by name, and each by firmware, what most devices ran first."""

    model: str
    vitals: list[VitalOfVersion]


COREDUMP_LIST = Operation("firmware", "coredump", "list", CoreDumpList, CoreDumps, once=False, role=Role.VIEWER)
COREDUMP_SHOW = Operation("firmware", "coredump", "show", CoreDumpRef, CoreDumpView, once=False, role=Role.VIEWER)
COREDUMP_READ = Operation("firmware", "coredump", "read", CoreDumpRead, CoreDumpBytes, once=False)
COREDUMP_DELETE = Operation("firmware", "coredump", "delete", CoreDumpRef, Removed)
COREDUMP_REKEY = Operation("firmware", "secrets", "rekey", Nothing, SecretsRekeyed)
LOG_LIST = Operation("firmware", "log", "list", LogList, LogLines, once=False, role=Role.VIEWER)
VITALS_SHOW = Operation("firmware", "vitals", "show", VitalsShow, DeviceVitals, once=False, role=Role.VIEWER)
VITALS_COMPARE = Operation(
    "firmware", "vitals", "compare", VitalsCompare, VitalsCompared, once=False, role=Role.VIEWER
)
