"""Layers: the parts of configurations that all devices with a tag have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from services.registry import queries, rules
from services.registry.config import sealing, versions
from services.registry.context import Registry
from services.registry.validation import checker
from shared.database.tables import ConfigLayer
from shared.errors import NotFoundError
from shared.protocol import admin, events
from shared.protocol.events import FleetEvent, LayerFacts
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class LayerService:
    """The operations of admins on layers."""

    registry: Registry

    async def set(self, context: RequestContext, request: admin.LayerSet) -> admin.LayerResult:
        """Change a layer and the configurations of all devices with its tag, or nothing at all."""
        session = context.session
        await queries.lock_layers(session, exclusive=True)
        try:
            layer = await queries.layer(session, request.tag)
        except NotFoundError:
            layer = ConfigLayer(tag=request.tag, priority=0, document={}, author=context.account)
            before = None
            session.add(layer)
        else:
            before = _facts(layer)
        vault = self.registry.instance.vault
        seals = sealing.Seals(vault, sealing.of_layer(request.tag))
        seals.know(layer.document)
        document = seals.accept(request.document, layer.document, where="document")
        # A new layer is not merged: a null in it must remove values below it.
        if not request.replace and before is not None:
            document = rules.merge(layer.document, document)
        layer.document = seals.seal(document, await queries.sealed_places(session))
        checker.refuse_unstorable(sealing.opened(vault, layer.document, "").document, field="document")
        if request.priority is not None:
            layer.priority = request.priority
        if not rules.same(before, _facts(layer)):
            layer.author, layer.updated_at = context.account, datetime.now(UTC)
            await session.flush()
            context.audit("layer.set", request.tag, before=before, after=_facts(layer))
        devices = await self._refresh(context, request.tag)
        if not rules.same(before, _facts(layer)):
            self._emit(context, events.LAYER_CHANGED, request.tag, devices)
        return admin.LayerResult(tag=request.tag, layer=admin.LayerView.from_row(layer), devices=devices)

    async def remove(self, context: RequestContext, request: admin.LayerRef) -> admin.LayerResult:
        """Remove a layer and its values from all devices with its tag."""
        session = context.session
        await queries.lock_layers(session, exclusive=True)
        layer = await queries.layer(session, request.tag)
        context.audit("layer.remove", request.tag, before=_facts(layer))
        await session.delete(layer)
        await session.flush()
        devices = await self._refresh(context, request.tag)
        self._emit(context, events.LAYER_REMOVED, request.tag, devices)
        return admin.LayerResult(tag=request.tag, layer=None, devices=devices)

    async def show(self, context: RequestContext, request: admin.LayerRef) -> admin.LayerView:
        """Return one layer."""
        return admin.LayerView.from_row(await queries.layer(context.session, request.tag))

    async def list_all(self, context: RequestContext, _: admin.Nothing) -> admin.Layers:
        """Return all layers in the order in which they apply."""
        rows = await queries.layers(context.session)
        return admin.Layers(layers=[admin.LayerView.from_row(layer) for layer in rows])

    def _emit(self, context: RequestContext, event: FleetEvent[LayerFacts], tag: str, devices: list[str]) -> None:
        self.registry.outbox.emit(context.session, event, None, LayerFacts(tag=tag, devices=len(devices)))

    async def _refresh(self, context: RequestContext, tag: str) -> list[str]:
        rows = await queries.lock_tagged(context.session, tag)
        return await versions.refresh(context.session, self.registry, rows, author=context.account)


def _facts(layer: ConfigLayer) -> dict[str, object]:
    return {"priority": layer.priority, "document": layer.document}
