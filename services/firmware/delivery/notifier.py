"""Notifies online devices of a released image; devices that miss the notice check when they connect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import structlog
from aiolimiter import AsyncLimiter

from services.firmware import queries
from services.firmware.assignment.service import Assignment
from services.firmware.context import Firmware
from shared.errors import NotFoundError, UnavailableError
from shared.mqtt.connection import Connection, Delivery
from shared.protocol import events, topics

log = structlog.get_logger()

PAGE: Final = 100
PER_S: Final = 100
"""Limit of notices per second: each causes a download."""
EXPIRES_S: Final = 60.0
RETRY_S: Final = 1.0
T = TypeVar("T")


class Notifier:
    """Notifies a model's devices, page by page, after its image was released.

    The event of the release triggers it: it is published after the commit. After a crash, the next start notifies
    the devices of all models.
    """

    def __init__(self, firmware: Firmware, connection: Connection) -> None:
        self._firmware = firmware
        self._assignment = Assignment(firmware)
        self._connection = connection
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._pace = AsyncLimiter(PER_S, 1)

    async def on_released(self, delivery: Delivery) -> None:
        """Queue a model whose devices are to be notified."""
        event = topics.EVENT.decode(delivery.payload)
        self._due.put_nowait(events.FIRMWARE_RELEASED.read(event).model)

    async def run(self) -> None:
        """Notify devices until cancelled."""
        for model in await self._patiently(self._models):
            self._due.put_nowait(model)
        while True:
            model, last = await self._due.get(), 0
            while (page := await self._patiently(partial(self._notify_page, model, after=last))) is not None:
                last = page

    async def _models(self) -> list[str]:
        async with self._firmware.database.transaction() as session:
            return await queries.models_with_image(session)

    async def _notify_page(self, model: str, *, after: int) -> int | None:
        """Notify the model's next devices; return the id of the last one, or None if there was none left."""
        await self._connection.ready()
        async with self._firmware.database.transaction() as session:
            page = await queries.online_after(session, model, after, limit=PAGE)
        for _, client_id in page:
            try:
                offer = await self._assignment.notice(client_id)
            except NotFoundError:
                continue  # removed or disabled in the meantime
            if offer is not None:
                await self._pace.acquire()
                await self._connection.send(
                    topics.FIRMWARE_OFFER, offer, client_id=client_id, expires_in_s=EXPIRES_S
                )
        return page[-1][0] if page else None

    async def _patiently(self, step: Callable[[], Awaitable[T]]) -> T:
        """Run a step, and retry it during an outage."""
        while True:
            try:
                return await step()
            except UnavailableError as error:
                log.warning("firmware.notices_deferred", reason=error.message)
                await asyncio.sleep(RETRY_S)
