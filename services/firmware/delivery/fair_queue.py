"""A fair queue of chunk requests: devices take turns, however many requests each one has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from shared.protocol.messages import FirmwareChunkRequest


class Asked(StrEnum):
    """The outcome of a new request for a chunk."""

    WAITS = "waits"
    REPEATED = "repeated"
    """The same request is queued already, or its answer is under way."""
    DISPLACED = "displaced"
    """Queued in place of the device's oldest request, which is not answered."""


@dataclass(slots=True)
class _Line:
    """The requests of one device, oldest first."""

    waiting: dict[FirmwareChunkRequest, None] = field(default_factory=dict)
    under_way: set[FirmwareChunkRequest] = field(default_factory=set)
    in_turn: bool = False


class FairQueue:
    """Queued requests, at most `window` of a device; devices take turns, one chunk at a time.

    Of a device with more requests only the newest are answered, at most `window` of them at a time. A device
    without requests takes no memory.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._lines: dict[str, _Line] = {}
        self._round: asyncio.Queue[str] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._lines)

    def ask(self, client_id: str, request: FirmwareChunkRequest) -> Asked:
        """Queue a request."""
        line = self._lines.setdefault(client_id, _Line())
        if request in line.waiting or request in line.under_way:
            return Asked.REPEATED
        asked = Asked.WAITS
        if len(line.waiting) == self._window:
            del line.waiting[next(iter(line.waiting))]
            asked = Asked.DISPLACED
        line.waiting[request] = None
        self._line_up(client_id, line)
        return asked

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[tuple[str, FirmwareChunkRequest]]:
        """Wait for the next request, and count it as under way during the block: client id and request."""
        client_id = await self._round.get()
        line = self._lines[client_id]
        line.in_turn = False
        request = next(iter(line.waiting))
        del line.waiting[request]
        line.under_way.add(request)
        self._line_up(client_id, line)
        try:
            yield client_id, request
        finally:
            line.under_way.discard(request)
            self._line_up(client_id, line)
            if not line.waiting and not line.under_way:
                del self._lines[client_id]

    def _line_up(self, client_id: str, line: _Line) -> None:
        if line.waiting and not line.in_turn and len(line.under_way) < self._window:
            line.in_turn = True
            self._round.put_nowait(client_id)
