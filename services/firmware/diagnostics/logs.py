"""The lines of devices' logs: written in batches, kept for a while, and read by admins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.firmware.context import Firmware
from services.firmware.diagnostics import queries as diagnostics_queries
from shared.database import device_refs
from shared.protocol import admin, messages
from shared.runtime.microbatch import MicroBatcher
from shared.server.rpc import RequestContext, fitting

_TRIM_SHARE: Final = 10
"""A device's lines are trimmed whenever it has written this share of the lines that it may keep."""


@dataclass(slots=True)
class Logs:
    """Stores lines: one writer, so that many devices at once cost few transactions."""

    firmware: Firmware
    _lines: MicroBatcher[tuple[str, messages.Log], bool] = field(default_factory=MicroBatcher)
    _untrimmed: Counter[int] = field(default_factory=Counter)

    async def store(self, client_id: str, message: messages.Log) -> None:
        """Store a device's lines, repeated ones only once. Return when they are durable."""
        if not await self._lines.submit((client_id, message)):
            raise device_refs.unknown(client_id)

    async def run(self) -> None:
        """Write the lines that have gathered since the last write, until cancelled."""
        await self._lines.run(self._write)

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
        page = fitting(admin.LogLineView.from_row(line, client_id=client_id) for line, client_id in rows)
        if request.after is None:
            page.reverse()
        elif len(page) == request.limit or len(page) < len(rows):
            last = rows[len(page) - 1][0].id
        return admin.LogLines(lines=page, next=last)

    async def _write(self, batch: Sequence[tuple[str, messages.Log]]) -> Sequence[bool]:
        """Write the lines of all existing devices; return for each message whether its device exists."""
        kept = self.firmware.settings.log_lines_kept
        async with self.firmware.database.transaction() as session:
            # One writer at a time, also among replicas: a reader that has seen an id has missed none below it.
            await diagnostics_queries.lock(session, "device_log")
            devices = await diagnostics_queries.device_ids(session, {client_id for client_id, _ in batch})
            rows = [
                row
                for client_id, message in batch
                if client_id in devices
                for row in _rows(devices[client_id], message)
            ]
            if rows:
                await diagnostics_queries.add_lines(session, rows)
            self._untrimmed.update(row["device_id"] for row in rows)
            full = [device_id for device_id, lines in self._untrimmed.items() if lines * _TRIM_SHARE >= kept]
            for device_id in full:
                await diagnostics_queries.trim_lines(session, device_id, kept=kept)
        for device_id in full:
            del self._untrimmed[device_id]
        return [client_id in devices for client_id, _ in batch]


def _rows(device_id: int, message: messages.Log) -> list[dict[str, Any]]:
    return [
        {"device_id": device_id, "boot": message.boot, "number": message.first + place, **line.model_dump()}
        for place, line in enumerate(message.lines)
    ]
