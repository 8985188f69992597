"""Operations on the diagnostics of devices: core dumps, and lines of their logs."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AwareDatetime, Field

from shared.protocol.admin.encoding import Base64
from shared.protocol.admin.names import DeviceName, PageSize, Selection
from shared.protocol.admin.operation import Nothing, Operation, Removed, Request, Result, Role
from shared.protocol.admin.secrets import SecretsRekeyed
from shared.protocol.messages import Count, LogLevel

MAX_CORE_DUMP_BYTES: Final = 1024 * 1024


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
    since_s: Annotated[int, Field(ge=1, le=10 * 365 * 24 * 3600)] | None = None
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


COREDUMP_LIST = Operation("firmware", "coredump", "list", CoreDumpList, CoreDumps, once=False, role=Role.VIEWER)
COREDUMP_SHOW = Operation("firmware", "coredump", "show", CoreDumpRef, CoreDumpView, once=False, role=Role.VIEWER)
COREDUMP_READ = Operation("firmware", "coredump", "read", CoreDumpRead, CoreDumpBytes, once=False)
COREDUMP_DELETE = Operation("firmware", "coredump", "delete", CoreDumpRef, Removed)
COREDUMP_REKEY = Operation("firmware", "secrets", "rekey", Nothing, SecretsRekeyed)
LOG_LIST = Operation("firmware", "log", "list", LogList, LogLines, once=False, role=Role.VIEWER)
