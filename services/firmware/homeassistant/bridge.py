"""Publishes devices to Home Assistant: their description, their running and desired firmware, and their state.

The published state is that of the row at the time: an event only names the device. Updates that were lost, in a
crash or by the broker, are repaired at the start and periodically, by a pass over all devices, which also
unpublishes devices that are gone.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import structlog
from aiolimiter import AsyncLimiter
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.assignment.prospects import prospects
from services.firmware.context import Firmware
from services.firmware.homeassistant import discovery
from services.firmware.homeassistant import queries as homeassistant_queries
from services.firmware.homeassistant.queries import KnownDevice
from shared.database import device_refs
from shared.errors import UnavailableError
from shared.mqtt import retained
from shared.mqtt.connection import Connection, Delivery, Route
from shared.protocol import events, topics
from shared.protocol.events import Facts, ModelFacts, ReleaseFacts, RolloutFacts
from shared.protocol.homeassistant import Update
from shared.protocol.topics import Topic
from shared.runtime.periodic import periodic

log = structlog.get_logger()

GROUP: Final = "firmware"
PAGE: Final = 100
PER_S: Final = 100
"""Limit of devices per second in a pass: each is three messages."""
RETRY_S: Final = 1.0
_ABOUT_MANY: Final = frozenset(
    {
        events.MODEL_UPDATED,
        events.FIRMWARE_RELEASED,
        events.FIRMWARE_WITHDRAWN,
        events.ROTATION_QUEUED,
        events.ROTATION_CANCELLED,
        events.ROTATION_SCHEDULED,
        *(event for event in events.EVENTS.values() if issubclass(event.facts, RolloutFacts)),
    }
)
"""Events that concern many devices if they name none."""
_DISCOVERY: Final = topics.HOMEASSISTANT_DISCOVERY
_UPDATE: Final = topics.HOMEASSISTANT_UPDATE
_DIAGNOSTICS: Final = topics.HOMEASSISTANT_DIAGNOSTICS
_TOPICS: Final[tuple[Topic[Any], ...]] = (_DISCOVERY, _UPDATE, _DIAGNOSTICS)
_CHANGED: Final[dict[str, tuple[Topic[Any], ...]]] = {
    "device": _TOPICS,
    "claim": _TOPICS,
    "config": (_DIAGNOSTICS,),
    "rotation": (_DIAGNOSTICS,),
    "firmware": (_UPDATE,),
}
"""The topics to update for the device in an event, by the event's noun; none for others."""
_ALL: Final = ""
"""Stands for all models, in place of a code."""


class HomeAssistant:
    """Decides what to publish, and when."""

    def __init__(self, firmware: Firmware, connection: Connection) -> None:
        self._firmware = firmware
        self._connection = connection
        self._pace = AsyncLimiter(PER_S, 1)
        self._due: set[str] = set()
        self._wake = asyncio.Event()

    def route(self) -> Route:
        """Return the route of the events that change published states."""
        return Route(topics.EVENT, self.on_event, GROUP)

    async def on_event(self, delivery: Delivery) -> None:
        """Update the device of an event, or queue a pass over a model's devices, or over all."""
        event, noun = topics.EVENT.decode(delivery.payload), delivery.names["noun"]
        if event.client_id is not None:
            if noun in _CHANGED:
                await self._refresh(event.client_id, _CHANGED[noun])
            return
        declared = events.EVENTS.get(f"{noun}/{delivery.names['verb']}")
        if declared is not None and declared in _ABOUT_MANY:
            await self._queue_pass(_model_in(declared.read(event)))

    async def run(self) -> None:
        """Run passes until cancelled: over all devices at the start and periodically, else as events demand."""
        refresh_s, on_outage = self._firmware.settings.homeassistant_refresh_s, "homeassistant.deferred"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(periodic(partial(self._queue_pass, _ALL), every_s=refresh_s, on_outage=on_outage))
            tasks.create_task(periodic(self._run_due, every_s=RETRY_S, wake=self._wake, on_outage=on_outage))

    async def _queue_pass(self, model: str) -> None:
        self._due.add(model)
        self._wake.set()

    async def _run_due(self) -> None:
        """Run the passes that are due; on an outage they stay due."""
        due, self._due = self._due, set()
        try:
            await self._pass_over({_ALL} if _ALL in due else due)
        except UnavailableError:
            self._due |= due
            raise

    async def unpublish_all(self) -> None:
        """Unpublish everything, once; for a service whose integration is switched off."""
        try:
            await self._connection.ready()
            for client_id in await self._published():
                async with self._firmware.database.transaction() as session:
                    await homeassistant_queries.lock(session, client_id)
                    self._unpublish(session, client_id)
        except UnavailableError as error:
            log.warning("homeassistant.unpublish_failed", reason=error.message)

    async def _pass_over(self, models: set[str]) -> None:
        await self._connection.ready()
        if _ALL in models:
            await self._unpublish_gone()
        for model in models:
            last = 0
            while page := await self._page(model or None, after=last):
                for device_id, client_id in page:
                    await self._pace.acquire()
                    await self._refresh(client_id)
                    last = device_id

    async def _page(self, model: str | None, *, after: int) -> list[tuple[int, str]]:
        async with self._firmware.database.transaction() as session:
            return await homeassistant_queries.page(session, model, after, limit=PAGE)

    async def _unpublish_gone(self) -> None:
        published = await self._published()
        async with self._firmware.database.transaction() as session:
            gone = published - await homeassistant_queries.all_client_ids(session)
        for client_id in gone:
            await self._refresh(client_id)

    async def _published(self) -> set[str]:
        """Return the client ids of devices that are published."""
        found: set[str] = set()
        for published in await retained.topics(self._connection, *(topic.filter for topic in _TOPICS)):
            for topic in _TOPICS:
                found.update((topic.match(published) or {}).values())
        return {client_id for client_id in found if device_refs.is_client_id(client_id)}

    async def _refresh(self, client_id: str, wanted: tuple[Topic[Any], ...] = _TOPICS) -> None:
        """Publish the topics `wanted` of a device, or unpublish it if it is gone."""
        outbox = self._firmware.outbox
        async with self._firmware.database.transaction() as session:
            await homeassistant_queries.lock(session, client_id)
            known = await homeassistant_queries.known(session, client_id)
            if known is None:
                self._unpublish(session, client_id)
                return
            if _DISCOVERY in wanted:
                message = discovery.discovery(client_id, known.device, known.model)
                outbox.put(session, _DISCOVERY, message, client_id=client_id)
            if _UPDATE in wanted:
                update = await self._update(session, client_id, known)
                outbox.put(session, _UPDATE, update, client_id=client_id)
            if _DIAGNOSTICS in wanted:
                diagnostics = discovery.diagnostics(known.device, known.presence, known.health)
                outbox.put(session, _DIAGNOSTICS, diagnostics, client_id=client_id)

    def _unpublish(self, session: AsyncSession, client_id: str) -> None:
        for topic in _TOPICS:
            self._firmware.outbox.clear(session, topic, client_id=client_id)

    async def _update(self, session: AsyncSession, client_id: str, known: KnownDevice) -> Update:
        found = await prospects(session, [client_id])
        if not found:  # it is disabled
            return discovery.update(running=known.presence.firmware_version, wanted=None, stage=None, percent=None)
        prospect = found[0]
        wanted = prospect.image if prospect.refusal is None and not prospect.runs_it else None
        return discovery.update(
            running=prospect.runs or known.presence.firmware_version,
            wanted=wanted.version if wanted else None,
            stage=prospect.stage,
            percent=prospect.delivery.percent if prospect.delivery else None,
        )


def _model_in(facts: Facts) -> str:
    match facts:
        case ModelFacts():
            return facts.code
        case ReleaseFacts() | RolloutFacts():
            return facts.model
        case _:
            return _ALL
