"""The summary of all devices."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from services.registry.context import Registry
from services.registry.devices import fleet_queries
from shared.protocol import admin
from shared.server.rpc import RequestContext

MANY: Final = 10_000
KEPT_S: Final = 2e-5
"""Numbers of more devices than that are kept for so long per device: 2 s for 100,000, ten times their cost."""


@dataclass(slots=True)
class FleetService:
    """The operation on all devices at once."""

    registry: Registry
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _counted: admin.FleetView | None = None
    _until_s: float = 0

    async def show(self, context: RequestContext, _: admin.Nothing) -> admin.FleetView:
        """Return the number of devices, by health and state; of many devices, as they were a moment ago."""
        async with self._turn:
            now_s = asyncio.get_running_loop().time()
            if self._counted is None or now_s >= self._until_s:
                self._counted = await self._count(context)
                devices = self._counted.devices
                self._until_s = now_s + (devices * KEPT_S if devices > MANY else 0)
            return self._counted

    async def _count(self, context: RequestContext) -> admin.FleetView:
        groups = await fleet_queries.groups(
            context.session, now=datetime.now(UTC), thresholds=self.registry.thresholds
        )
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
