"""The summary of all devices: for whoever asks, and for the gauges."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.context import Registry
from services.registry.devices import fleet_metrics, fleet_queries
from services.registry.devices.fleet_queries import Group
from shared.database.tables import DeviceModel
from shared.errors import UnavailableError
from shared.protocol import admin
from shared.runtime.metrics import Samples
from shared.server.rpc import RequestContext

MANY: Final = 10_000
"""Of more devices the numbers are those of the last look for the gauges."""


@dataclass(slots=True)
class FleetService:
    """Counts all devices, by health and state."""

    registry: Registry
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _kept: list[Group] = field(default_factory=list)

    async def look(self) -> list[Samples]:
        """Return the samples of all gauges (`fleet_metrics.GAUGES`)."""
        try:
            async with self.registry.database.transaction() as session:
                models = list(await session.scalars(select(DeviceModel.code)))
                groups = await self._count(session)
        except UnavailableError:
            self._kept = []
            raise
        self._kept = groups if sum(group.devices for group in groups) > MANY else []
        return fleet_metrics.samples(models, groups)

    async def _count(self, session: AsyncSession) -> list[Group]:
        return await fleet_queries.groups(session, now=datetime.now(UTC), thresholds=self.registry.thresholds)

    async def show(self, context: RequestContext, _: admin.Nothing) -> admin.FleetView:
        """Return the number of devices, by health and state; of many devices, as they were a moment ago."""
        async with self._turn:
            groups = self._kept or await self._count(context.session)
        health: Counter[admin.Health] = Counter()
        reasons: Counter[admin.HealthReasonName] = Counter()
        rotation: Counter[admin.RotationState] = Counter()
        for group in groups:
            health.update(group.health)
            reasons.update(group.reasons)
            rotation.update(group.rotation)
        versions = sorted(groups, key=lambda group: (group.model, group.version or ""))
        return admin.FleetView(
            devices=sum(group.devices for group in groups),
            disabled=sum(group.disabled for group in groups),
            online=sum(group.online for group in groups),
            asleep=sum(group.asleep for group in groups),
            drifting=sum(group.drifting for group in groups),
            without_key=sum(group.without_key for group in groups),
            # Without those that no device has.
            health=dict(+health),
            health_reasons=dict(+reasons),
            rotation=dict(+rotation),
            versions=[
                admin.RunningVersion(model=group.model, version=group.version, devices=group.devices)
                for group in versions
            ],
        )
