"""Operations on device models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.registry import queries, rules
from services.registry.claims import queries as claim_queries
from services.registry.config import versions
from services.registry.context import Registry
from services.registry.validation.checker import ConfigCandidate
from shared.database.tables import DeviceModel
from shared.errors import ConflictError, NotFoundError
from shared.protocol import admin, events
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class ModelService:
    """The operations of admins on models."""

    registry: Registry

    async def add(self, context: RequestContext, request: admin.ModelAdd) -> admin.ModelView:
        """Add a model, or raise ConflictError if its code is taken."""
        await self._check(request.config_schema, request.config_defaults, new=True)
        try:
            await queries.model(context.session, request.code)
        except NotFoundError:
            pass
        else:
            raise ConflictError(f"code: the model {request.code} exists already", code=request.code)
        model = DeviceModel(**request.model_dump(exclude={"request_id"}))
        context.session.add(model)
        await context.session.flush()
        view = view_of(model, devices=0)
        context.audit("model.add", model.code, after=view.model_dump(mode="json"))
        self.registry.outbox.emit(context.session, events.MODEL_ADDED, None, events.ModelFacts(code=model.code))
        return view

    async def update(self, context: RequestContext, request: admin.ModelUpdate) -> admin.ModelChanged:
        """Change the given fields of a model, and with it the configurations of all its devices, or nothing."""
        configures = request.config_schema is not None or request.config_defaults is not None
        if configures:
            await queries.lock_layers(context.session, exclusive=True)
        model = await queries.model(context.session, request.code)
        wanted = request.model_dump(exclude={"request_id", "code"}, exclude_none=True)
        before = {name: getattr(model, name) for name in wanted}
        for name, value in wanted.items():
            setattr(model, name, value)
        changed = await self._refresh(context, model, new=request.config_schema is not None) if configures else []
        if not rules.same(before, wanted):
            context.audit("model.update", model.code, before=before, after=wanted)
            facts = events.ModelUpdateFacts(code=model.code, devices=len(changed))
            self.registry.outbox.emit(context.session, events.MODEL_UPDATED, None, facts)
        view = view_of(model, devices=await queries.devices_of(context.session, model))
        return admin.ModelChanged(**view.model_dump(), changed=changed)

    async def remove(self, context: RequestContext, request: admin.ModelRef) -> admin.Removed:
        """Remove a model without devices, images and live claims, or raise ConflictError with their numbers."""
        model = await queries.model(context.session, request.code)
        devices, images = (
            await queries.devices_of(context.session, model),
            await queries.images_of(context.session, model),
        )
        if devices or images:
            raise ConflictError(
                f"code: {model.code} has {devices} devices and {images} images; remove them first",
                devices=devices,
                images=images,
            )
        claims = await claim_queries.live_of(context.session, model, now=datetime.now(UTC))
        if claims:
            raise ConflictError(f"code: {model.code} has {claims} live claims; revoke them first", claims=claims)
        context.audit("model.remove", model.code, before=view_of(model, devices=0).model_dump(mode="json"))
        self.registry.outbox.emit(context.session, events.MODEL_REMOVED, None, events.ModelFacts(code=model.code))
        await context.session.delete(model)
        return admin.Removed(removed=model.code)

    async def _refresh(self, context: RequestContext, model: DeviceModel, *, new: bool) -> list[str]:
        await self._check(model.config_schema, model.config_defaults, new=new)
        rows = await queries.lock_of_model(context.session, model)
        return await versions.refresh(context.session, self.registry, rows, author=context.account)

    async def _check(self, schema: dict[str, Any] | None, defaults: dict[str, Any], *, new: bool) -> None:
        """Refuse an invalid schema or defaults; a schema that is not new may predate today's rules for schemas."""
        if schema is not None and new:
            await self.registry.checker.check_schema(schema)
        await self.registry.checker.check([ConfigCandidate(defaults, schema, "config_defaults")])

    async def list_all(self, context: RequestContext, _: admin.Nothing) -> admin.Models:
        """Return all models."""
        rows = await queries.models(context.session)
        return admin.Models(models=[view_of(model, devices=count) for model, count in rows])


def view_of(model: DeviceModel, *, devices: int) -> admin.ModelView:
    """Return the view of a model."""
    return admin.ModelView.from_row(model, devices=devices)
