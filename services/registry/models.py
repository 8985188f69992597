"""Operations on device models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.claims import queries as claim_queries
from services.registry.config import resealing, sealing, versions
from services.registry.context import Registry
from services.registry.validation import places
from services.registry.validation.places import Place
from shared.crypto import SecretUnreadableError
from shared.database import device_refs
from shared.database.tables import DeviceModel
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.protocol import admin, events
from shared.server.rpc import RequestContext

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelService:
    """The operations of admins on models."""

    registry: Registry

    async def add(self, context: RequestContext, request: admin.ModelAdd) -> admin.ModelView:
        """Add a model, or raise ConflictError if its code is taken."""
        try:
            await queries.model(context.session, request.code)
        except NotFoundError:
            pass
        else:
            raise ConflictError(f"code: the model {request.code} exists already", code=request.code)
        model = DeviceModel(**request.model_dump(exclude={"request_id"}))
        model.sealed = await self._places(model.config_schema)
        if model.sealed:
            await queries.lock_layers(context.session, exclusive=True)
        seals = sealing.Seals(self.registry.instance.vault, sealing.of_model(model.code))
        given = seals.accept(model.config_defaults, {}, where="config_defaults")
        model.config_defaults = seals.seal(given, model.sealed)
        await self._check(model)
        context.session.add(model)
        await context.session.flush()
        if model.sealed:
            await self._reseal(context.session, model, author=context.account)
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
        seals_more = request.config_schema is not None and await self._seal_more(model, request.config_schema)
        if request.config_defaults is not None:
            wanted["config_defaults"] = self._sealed_defaults(model, request.config_defaults)
        before = {name: getattr(model, name) for name in wanted}
        for name, value in wanted.items():
            setattr(model, name, value)
        changed: list[str] = []
        if configures:
            await self._check(model)
            if seals_more:
                changed = await self._reseal(context.session, model, author=context.account)
            else:
                rows = await queries.lock_of_model(context.session, model)
                changed = await versions.refresh(context.session, self.registry, rows, author=context.account)
        # The order of the keys is the model's too.
        if json.dumps(before) != json.dumps(wanted):
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

    async def seal_old(self) -> None:
        """Seal the settings of models whose schema has had a `writeOnly` since before it had an effect."""
        async with self.registry.database.transaction() as session:
            codes = await queries.unsealed_models(session)
        for code in codes:
            try:
                async with self.registry.database.transaction() as session:
                    await queries.lock_layers(session, exclusive=True)
                    model = await queries.model(session, code)
                    await self._seal_more(model, model.config_schema)
                    await self._reseal(session, model, author="registry")
            except (InvalidInputError, SecretUnreadableError) as error:
                log.warning("model.not_sealed", model=code, reason=error.message)
            else:
                log.info("model.sealed", model=code)

    async def _seal_more(self, model: DeviceModel, schema: dict[str, Any] | None) -> bool:
        """Find the places of a new schema, and seal the model's defaults; return whether they are other ones."""
        found = await self._places(schema)
        is_more, model.sealed = found != model.sealed, found
        seals = sealing.Seals(self.registry.instance.vault, sealing.of_model(model.code))
        model.config_defaults = seals.seal(model.config_defaults, found)
        return is_more

    def _sealed_defaults(self, model: DeviceModel, given: dict[str, Any]) -> dict[str, Any]:
        seals = sealing.Seals(self.registry.instance.vault, sealing.of_model(model.code))
        seals.know(model.config_defaults)
        accepted = seals.accept(given, model.config_defaults, where="config_defaults")
        return seals.seal(accepted, model.sealed or [])

    async def _reseal(self, session: AsyncSession, model: DeviceModel, *, author: str) -> list[str]:
        rows = await resealing.reseal(session, self.registry, model)
        return await versions.refresh(session, self.registry, rows, author=author)

    async def _places(self, schema: dict[str, Any] | None) -> list[Place]:
        """Return the places of a new schema that are `writeOnly`, or refuse it."""
        return await self.registry.checker.check_schema(schema) if schema is not None else []

    async def _check(self, model: DeviceModel) -> None:
        """Refuse defaults that break the schema; one that is not new may predate today's rules for schemas."""
        client_id = device_refs.client_id(model.code, "")
        defaults = versions.candidate(
            self.registry, model.config_defaults, model, client_id, field="config_defaults"
        )
        await self.registry.checker.check([defaults])

    async def list_all(self, context: RequestContext, _: admin.Nothing) -> admin.Models:
        """Return all models."""
        rows = await queries.models(context.session)
        return admin.Models(models=[view_of(model, devices=count) for model, count in rows])


def view_of(model: DeviceModel, *, devices: int) -> admin.ModelView:
    """Return the view of a model."""
    return admin.ModelView.from_row(
        model, devices=devices, sealed=[places.name_of(it) for it in model.sealed or []]
    )
