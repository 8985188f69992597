"""Operations that show connection profiles: what is wanted, and the history of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import connection_rules
from services.registry.connection_rules import ConnectionLayers, WantedProfile
from services.registry.connections import overview_queries
from services.registry.connections import queries as connection_queries
from services.registry.connections.queries import Reachable
from services.registry.connections.status import status, trusted
from services.registry.context import Registry
from shared.protocol import admin
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class ConnectionViews:
    """The operations of admins that read connection profiles."""

    registry: Registry

    async def show(self, context: RequestContext, request: admin.ConnectionShow) -> admin.ConnectionView:
        """Return the profile that is wanted for a device, or for one with a tag or without any."""
        session = context.session
        scope, client_id = await connection_queries.scope_of(session, request)
        layers = await connection_queries.in_force(session, self.registry.connection_base)
        tags, device = [] if scope.tag is None else [scope.tag], None
        if scope.device_id is not None:
            found = await connection_queries.device(session, scope.device_id)
            tags, device = found.tags, _device_view(found, layers)
        wanted = layers.wanted(scope.device_id, tags)
        return admin.ConnectionView(
            connection_id=wanted.connection_id,
            trial_seconds=wanted.trial_seconds,
            values=_values(wanted),
            authorities=trusted(wanted.document),
            client_id=client_id,
            device=device,
        )

    async def status(self, context: RequestContext, _: admin.Nothing) -> admin.ConnectionStatus:
        """Return which profiles and authorities are in use."""
        layers = await connection_queries.in_force(context.session, self.registry.connection_base)
        return await status(context.session, layers)

    async def history(
        self, context: RequestContext, request: admin.ConnectionHistory
    ) -> admin.ConnectionLayerViews:
        """Return a page of all layers that there ever were."""
        layers = await connection_queries.in_force(context.session, self.registry.connection_base)
        in_force = {it.number for it in layers.rows}
        rows = await overview_queries.history(context.session, before=request.before, limit=request.limit)
        return admin.ConnectionLayerViews(
            layers=[
                admin.ConnectionLayerView.from_row(layer, client_id=client_id, in_force=layer.number in in_force)
                for layer, client_id in rows
            ],
            next=rows[-1][0].number if len(rows) == request.limit else None,
        )


async def of_device(session: AsyncSession, registry: Registry, device_id: int) -> admin.DeviceConnectionView:
    """Return what a device has, and how far it is with the wanted profile."""
    layers = await connection_queries.in_force(session, registry.connection_base)
    return _device_view(await connection_queries.device(session, device_id), layers)


def _device_view(device: Reachable, layers: ConnectionLayers) -> admin.DeviceConnectionView:
    wanted = layers.wanted(device.device_id, device.tags).connection_id
    progress = connection_rules.progress(device.stored, wanted)
    return admin.DeviceConnectionView.from_row(device.stored, progress=progress, wanted=wanted)


def _values(wanted: WantedProfile) -> list[admin.ConnectionValue]:
    return [
        admin.ConnectionValue.model_validate(
            {
                "field": name,
                "value": _shown(name, value),
                "source": str(connection_rules.scope_of(wanted.sources[name])),
                "number": wanted.sources[name].number,
            }
        )
        for name, value in wanted.document.items()
    ]


def _shown(name: str, value: Any) -> object:  # noqa: ANN401 - of any field
    return [it["ssid"] for it in value] if name == "wifi" else value
