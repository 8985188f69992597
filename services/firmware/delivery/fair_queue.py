"""Whose turn it is to get a piece of an image: each device in its turn, whatever the others ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from shared.protocol.messages import FirmwareChunkRequest


class Asked(StrEnum):
    """What becomes of a request for a piece."""

    WAITS = "waits"
    REPEATED = "repeated"
    """The same one waits already, or its answer is under way."""
    DISPLACED = "displaced"
    """It waits, in place of the device's oldest one, which is not answered."""


@dataclass(slots=True)
class _DeviceQueue:
    """The requests of one device, oldest first."""

    waiting: dict[FirmwareChunkRequest, None] = field(default_factory=dict)
    under_way: set[FirmwareChunkRequest] = field(default_factory=set)
    in_turn: bool = False


class FairQueue:
    """The requests that wait, `window` of a device at most; whose turn it is goes round, one piece a turn.

    A device that asks for more has only its newest requests answered, at most `window` of them at a time.
    Nothing is kept of a device that has no requests.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._lines: dict[str, _DeviceQueue] = {}
        self._round: asyncio.Queue[str] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._lines)

    def ask(self, client_id: str, request: FirmwareChunkRequest) -> Asked:
        """Let a request wait for its device's turn."""
        line = self._lines.setdefault(client_id, _DeviceQueue())
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
        """Wait for the next request, and hold it under way for the block: client id and request."""
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

    def _line_up(self, client_id: str, line: _DeviceQueue) -> None:
        if line.waiting and not line.in_turn and len(line.under_way) < self._window:
            line.in_turn = True
            self._round.put_nowait(client_id)
