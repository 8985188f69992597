"""Delivery of image chunks: fair among devices, with a limit on memory and a rate limit."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiolimiter import AsyncLimiter
from cachetools import TTLCache

from services.firmware import rules
from services.firmware.assignment.service import Assignment, ImageNotForDeviceError
from services.firmware.context import Firmware
from services.firmware.delivery.fair_queue import FairQueue
from shared.errors import FleetError
from shared.mqtt.connection import Connection
from shared.protocol import messages, topics
from shared.runtime import metrics

log = structlog.get_logger()

WORKERS: Final = 32
"""Chunks that one firmware service has in progress."""
ADMITTED_FOR_S: Final = 5.0
"""Lifetime of a cached permission: a device that was disabled, or lost its image, may continue until then."""
ADMITTED_MAX: Final = 10_000
EXPIRES_S: Final = 60.0
"""A chunk that waits in the broker for longer has been requested again."""


class Chunks:
    """Queues devices' requests, and answers them in fair order.

    At most WORKERS chunks are in memory. A request that cannot be answered now is dropped: the
    device repeats it.
    """

    def __init__(self, firmware: Firmware, connection: Connection) -> None:
        self._assignment = Assignment(firmware)
        self._connection = connection
        self._queue = FairQueue(rules.WINDOW)
        self._pace = _RateLimiter(firmware.settings.firmware_bytes_per_s)
        self._admitted: TTLCache[tuple[str, str], int] = TTLCache(ADMITTED_MAX, ADMITTED_FOR_S)
        self._is_down = False

    async def enqueue(self, client_id: str, request: messages.FirmwareChunkRequest) -> None:
        """Queue a request."""
        metrics.FIRMWARE_REQUESTS.labels(self._queue.put(client_id, request)).inc()

    async def run(self) -> None:
        """Answer requests until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"chunks-{number}")

    async def _work(self) -> None:
        while True:
            async with self._queue.next_request() as (client_id, request):
                try:
                    await self._answer(client_id, request)
                    self._is_down = False
                except FleetError as error:
                    metrics.FIRMWARE_ANSWERS.labels("failed").inc()
                    # One line for an outage, not one for each chunk in it.
                    if not self._is_down:
                        log.warning("firmware.deferred", client_id=client_id, reason=error.message)
                    self._is_down = True
                except Exception:
                    metrics.FIRMWARE_ANSWERS.labels("crashed").inc()
                    log.exception("firmware.crashed", client_id=client_id)

    async def _answer(self, client_id: str, request: messages.FirmwareChunkRequest) -> None:
        """Send a chunk, or the reason why the device will never get it."""
        await self._pace.wait(min(request.length, messages.MAX_CHUNK_BYTES))
        try:
            data = await self._read(client_id, request)
        except ImageNotForDeviceError as error:
            metrics.FIRMWARE_ANSWERS.labels("refused").inc()
            cancelled = messages.FirmwareCancelled(sha256=request.sha256, reason=error.message)
            await self._connection.send(topics.FIRMWARE_CANCELLED, cancelled, client_id=client_id)
            return
        topic = topics.FIRMWARE_CHUNK_DATA
        address = topic.of(client_id=client_id, sha256=request.sha256, offset=request.offset)
        await self._connection.publish(address, data, qos=topic.qos, expires_in_s=EXPIRES_S)
        metrics.FIRMWARE_ANSWERS.labels("sent").inc()
        metrics.FIRMWARE_BYTES.labels("mqtt").inc(len(data))

    async def _read(self, client_id: str, request: messages.FirmwareChunkRequest) -> bytes:
        size_bytes = await self._admit(client_id, request.sha256)
        fault = rules.piece_fault(request.offset, request.length, size_bytes)
        if fault is not None:
            raise ImageNotForDeviceError(fault)
        data = await self._assignment.read(request.sha256, request.offset, request.length)
        if len(data) != request.length:
            log.error("firmware.damaged", sha256=request.sha256, expected=size_bytes)
            raise ImageNotForDeviceError("the stored image is damaged")
        return data

    async def _admit(self, client_id: str, sha256: str) -> int:
        """Return the size in bytes of an image that the device may fetch, or raise ImageNotForDeviceError."""
        key = (client_id, sha256)
        size_bytes = self._admitted.get(key)
        if size_bytes is None:
            size_bytes = self._admitted[key] = await self._assignment.admit(client_id, sha256)
        return size_bytes


class _RateLimiter:
    """Limits the bytes per second, in the order of the requests; 0 sets no limit."""

    def __init__(self, bytes_per_s: int) -> None:
        # The bucket must be as large as the largest chunk.
        burst = max(bytes_per_s, messages.MAX_CHUNK_BYTES)
        self._bucket = AsyncLimiter(burst, burst / bytes_per_s) if bytes_per_s else None
        # The bucket alone would prefer small requests.
        self._order = asyncio.Lock()

    async def wait(self, size_bytes: int) -> None:
        """Wait until this number of bytes may be sent; MAX_CHUNK_BYTES at most."""
        if self._bucket is not None:
            async with self._order:
                await self._bucket.acquire(size_bytes)
