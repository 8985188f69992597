"""A fair queue of chunk requests: devices take turns, however many requests each one has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from shared.protocol.messages import FirmwareChunkRequest


class Queued(StrEnum):
    """The outcome of a new request for a chunk."""

    WAITS = "waits"
    REPEATED = "repeated"
    """The same request is queued already, or its answer is in progress."""
    DISPLACED = "displaced"
    """Queued in place of the device's oldest request, which is not answered."""


@dataclass(slots=True)
class _DeviceQueue:
    """The requests of one device, oldest first."""

    waiting: dict[FirmwareChunkRequest, None] = field(default_factory=dict)
    under_way: set[FirmwareChunkRequest] = field(default_factory=set)
    is_ready: bool = False


class FairQueue:
    """Queued requests, at most `window` of a device; devices take turns, one chunk at a time.

    Of a device with more requests only the newest are answered, at most `window` of them at a time. A device
    without requests takes no memory.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._queues: dict[str, _DeviceQueue] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._queues)

    def put(self, client_id: str, request: FirmwareChunkRequest) -> Queued:
        """Queue a request."""
        queue = self._queues.setdefault(client_id, _DeviceQueue())
        if request in queue.waiting or request in queue.under_way:
            return Queued.REPEATED
        outcome = Queued.WAITS
        if len(queue.waiting) == self._window:
            del queue.waiting[next(iter(queue.waiting))]
            outcome = Queued.DISPLACED
        queue.waiting[request] = None
        self._make_ready(client_id, queue)
        return outcome

    @asynccontextmanager
    async def next_request(self) -> AsyncIterator[tuple[str, FirmwareChunkRequest]]:
        """Wait for the next request, and count it as in progress during the block: client id and request."""
        client_id = await self._ready.get()
        queue = self._queues[client_id]
        queue.is_ready = False
        request = next(iter(queue.waiting))
        del queue.waiting[request]
        queue.under_way.add(request)
        self._make_ready(client_id, queue)
        try:
            yield client_id, request
        finally:
            queue.under_way.discard(request)
            self._make_ready(client_id, queue)
            if not queue.waiting and not queue.under_way:
                del self._queues[client_id]

    def _make_ready(self, client_id: str, queue: _DeviceQueue) -> None:
        if queue.waiting and not queue.is_ready and len(queue.under_way) < self._window:
            queue.is_ready = True
            self._ready.put_nowait(client_id)
