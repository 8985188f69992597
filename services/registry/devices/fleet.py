"""The summary of all devices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from services.registry.context import Registry
from services.registry.devices import fleet_queries
from shared.protocol import admin
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class FleetService:
    """The operation on all devices at once."""

    registry: Registry

    async def show(self, context: RequestContext, _: admin.Nothing) -> admin.FleetView:
        """Return the number of devices, by health and state."""
        groups = await fleet_queries.groups(
            context.session, now=datetime.now(UTC), thresholds=self.registry.thresholds
        )
        presence: Counter[admin.PresenceState] = Counter()
        health: Counter[admin.Health] = Counter()
        reasons: Counter[admin.HealthReasonName] = Counter()
        rotation: Counter[admin.RotationState] = Counter()
        versions: Counter[tuple[str, str | None]] = Counter()
        for group in groups:
            presence[group.presence] += group.devices
            health[group.health] += group.devices
            reasons.update(dict.fromkeys(group.reasons, group.devices))
            rotation[group.rotation_state] += group.devices
            versions[group.model, group.version] += group.devices
        return admin.FleetView(
            devices=sum(group.devices for group in groups),
            disabled=sum(group.devices for group in groups if not group.enabled),
            online=presence["online"],
            asleep=presence["asleep"],
            drifting=sum(group.devices for group in groups if group.drifts),
            without_key=sum(group.devices for group in groups if not group.has_key),
            health=dict(health),
            health_reasons=dict(reasons),
            rotation=dict(rotation),
            versions=[
                admin.RunningVersion(model=model, version=version, devices=count)
                for (model, version), count in sorted(
                    versions.items(), key=lambda item: (item[0][0], item[0][1] or "")
                )
            ],
        )
