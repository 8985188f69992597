"""The lines of devices' logs: written many at a time, kept for a while, and read by admins."""

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
"""A device's lines are trimmed whenever it has written a tenth of what it may have kept."""


@dataclass(slots=True)
class Logs:
    """Keeps lines: one writer, so that many devices at once cost few transactions."""

    firmware: Firmware
    _said: MicroBatcher[tuple[str, messages.Log], bool] = field(default_factory=MicroBatcher)
    _untrimmed: Counter[int] = field(default_factory=Counter)

    async def keep(self, client_id: str, said: messages.Log) -> None:
        """Store a device's lines; those that have come before count once. Return when they are durable."""
        if not await self._said.ask((client_id, said)):
            raise device_refs.unknown(client_id)

    async def run(self) -> None:
        """Write what has gathered since the last write, until cancelled."""
        await self._said.run(self._write)

    async def forget(self) -> None:
        """Delete the lines that have been kept long enough."""
        keep = timedelta(days=self.firmware.settings.log_keep_days)
        async with self.firmware.database.transaction() as session:
            await diagnostics_queries.forget_lines(session, before=datetime.now(UTC) - keep)

    async def list_lines(self, context: RequestContext, request: admin.LogList) -> admin.LogLines:
        """Return the lines that an admin asks for, as many as one answer can carry."""
        if request.device is not None:
            await diagnostics_queries.check_known(context.session, request.device)
        # Looked up first: what is written meanwhile comes with the next request.
        last = max(await diagnostics_queries.last_line(context.session), request.after or 0)
        rows = await diagnostics_queries.lines(context.session, request, until=last)
        page = fitting(admin.LogLineView.from_row(line, client_id=client_id) for line, client_id in rows)
        if request.after is None:
            page.reverse()
        elif len(page) == request.limit or len(page) < len(rows):
            last = rows[len(page) - 1][0].id
        return admin.LogLines(lines=page, next=last)

    async def _write(self, batch: Sequence[tuple[str, messages.Log]]) -> Sequence[bool]:
        """Write the lines of all devices that there are; return whether each device is known."""
        kept = self.firmware.settings.log_lines_kept
        async with self.firmware.database.transaction() as session:
            # One writer at a time, also between replicas: who has read up to an id has missed none below it.
            await diagnostics_queries.lock(session, "device_log")
            devices = await diagnostics_queries.device_ids(session, {client_id for client_id, _ in batch})
            rows = [
                row for client_id, said in batch if client_id in devices for row in _rows(devices[client_id], said)
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


def _rows(device_id: int, said: messages.Log) -> list[dict[str, Any]]:
    return [
        {"device_id": device_id, "boot": said.boot, "number": said.first + place, **line.model_dump()}
        for place, line in enumerate(said.lines)
    ]
