"""The lines of devices' logs: written in batches, kept for a while, and read by admins."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog

from services.firmware.context import Firmware
from services.firmware.diagnostics import queries as diagnostics_queries
from shared.database import device_refs
from shared.database.tables import DeviceLogLine
from shared.errors import FleetError, UnavailableError
from shared.protocol import admin, messages
from shared.server.rpc import RequestContext

log = structlog.get_logger()

_PAGE_BYTES: Final = 1024 * 1024
"""Limit of bytes of lines in one answer: the broker accepts twice as much."""
_TRIM_SHARE: Final = 10
"""A device's lines are trimmed whenever it has written this share of the lines that it may keep."""


class _Waiting(NamedTuple):
    """A message that is not written yet."""

    client_id: str
    log: messages.Log
    written: asyncio.Future[None]


@dataclass(slots=True)
class Logs:
    """Stores lines: one writer, so that many devices at once cost few transactions."""

    firmware: Firmware
    _waiting: list[_Waiting] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _untrimmed: Counter[int] = field(default_factory=Counter)

    async def store(self, client_id: str, message: messages.Log) -> None:
        """Store a device's lines, repeated ones only once. Return when they are durable."""
        waiting = _Waiting(client_id, message, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._news.set()
        await waiting.written

    async def run(self) -> None:
        """Write the lines that have gathered since the last write, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            batch, self._waiting = self._waiting, []
            failures: dict[str, FleetError] = {}
            try:
                failures = {client_id: device_refs.unknown(client_id) for client_id in await self._write(batch)}
            except UnavailableError as error:
                failures = {waiting.client_id: error for waiting in batch}
            except Exception:
                log.exception("log.lost", messages=len(batch))
            for waiting in batch:
                if waiting.written.done():
                    continue
                failure = failures.get(waiting.client_id)
                if failure is None:
                    waiting.written.set_result(None)
                else:
                    waiting.written.set_exception(failure)

    async def forget(self) -> None:
        """Delete lines past their retention."""
        keep = timedelta(days=self.firmware.settings.log_keep_days)
        async with self.firmware.database.transaction() as session:
            await diagnostics_queries.forget_lines(session, before=datetime.now(UTC) - keep)

    async def list_lines(self, context: RequestContext, request: admin.LogList) -> admin.LogLines:
        """Return the requested lines, as many as fit into one answer."""
        if request.device is not None:
            await diagnostics_queries.check_known(context.session, request.device)
        # The last id is looked up first: lines written in the meantime come with the next request.
        last = max(await diagnostics_queries.last_line(context.session), request.after or 0)
        rows = await diagnostics_queries.lines(context.session, request, until=last)
        page = _page(rows)
        if request.after is None:
            page.reverse()
        elif len(page) == request.limit or len(page) < len(rows):
            last = rows[len(page) - 1][0].id
        return admin.LogLines(lines=page, next=last)

    async def _write(self, batch: list[_Waiting]) -> set[str]:
        """Write the lines of all existing devices; return the client ids of the others."""
        kept = self.firmware.settings.log_lines_kept
        async with self.firmware.database.transaction() as session:
            # One writer at a time, also among replicas: a reader that has seen an id has missed none below it.
            await diagnostics_queries.lock(session, "device_log")
            devices = await diagnostics_queries.device_ids(session, {waiting.client_id for waiting in batch})
            rows = [
                row
                for waiting in batch
                if waiting.client_id in devices
                for row in _rows(devices[waiting.client_id], waiting.log)
            ]
            if rows:
                await diagnostics_queries.add_lines(session, rows)
            self._untrimmed.update(row["device_id"] for row in rows)
            full = [device_id for device_id, lines in self._untrimmed.items() if lines * _TRIM_SHARE >= kept]
            for device_id in full:
                await diagnostics_queries.trim_lines(session, device_id, kept=kept)
        for device_id in full:
            del self._untrimmed[device_id]
        return {waiting.client_id for waiting in batch} - devices.keys()


def _rows(device_id: int, message: messages.Log) -> list[dict[str, Any]]:
    return [
        {"device_id": device_id, "boot": message.boot, "number": message.first + place, **line.model_dump()}
        for place, line in enumerate(message.lines)
    ]


def _page(rows: Iterable[tuple[DeviceLogLine, str]]) -> list[admin.LogLineView]:
    """Return the first lines, as many as fit into one answer, but at least one if there is one."""
    page: list[admin.LogLineView] = []
    size_bytes = 0
    for line, client_id in rows:
        view = admin.LogLineView(
            client_id=client_id,
            received_at=line.received_at,
            level=messages.LogLevel(line.level),
            tag=line.tag,
            message=line.message,
            time=line.time,
            uptime_ms=line.uptime_ms,
            boot=line.boot,
            number=line.number,
        )
        size_bytes += len(view.model_dump_json().encode())
        if page and size_bytes > _PAGE_BYTES:
            break
        page.append(view)
    return page
