"""The keys that a model trusts: with at least one, only images signed by one of them are stored and released."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from services.firmware import queries
from services.firmware.context import Firmware
from services.firmware.images import queries as image_queries
from shared.database.tables import DeviceModel, FirmwareKey
from shared.errors import ConflictError, NotFoundError
from shared.esp32 import signature as image_signature
from shared.protocol import admin, events
from shared.protocol.events import FleetEvent, SigningKeyFacts
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The operations of admins on keys."""

    firmware: Firmware

    async def add(self, context: RequestContext, request: admin.KeyAdd) -> admin.Keys:
        """Trust one more key."""
        model = await queries.model(context.session, request.model)
        fingerprint = image_signature.fingerprint(request.public_key)
        if await context.session.get(FirmwareKey, (model.id, fingerprint)) is not None:
            raise ConflictError(f"public_key: {model.code} already trusts {fingerprint}")
        context.session.add(
            FirmwareKey(
                model_id=model.id,
                fingerprint=fingerprint,
                public_key=request.public_key,
                author=context.account,
            )
        )
        await context.session.flush()
        self._record(context, model, events.FIRMWARE_KEY_ADDED, fingerprint)
        return await _view(context, model)

    async def remove(self, context: RequestContext, request: admin.KeyRef) -> admin.Keys:
        """Remove a trusted key; released images stay released."""
        model = await queries.model(context.session, request.model)
        key = await context.session.get(FirmwareKey, (model.id, request.fingerprint))
        if key is None:
            raise NotFoundError(
                f"fingerprint: {model.code} trusts no key {request.fingerprint}", fingerprint=request.fingerprint
            )
        await context.session.delete(key)
        await context.session.flush()
        self._record(context, model, events.FIRMWARE_KEY_REMOVED, request.fingerprint)
        return await _view(context, model)

    async def list_all(self, context: RequestContext, request: admin.KeyList) -> admin.Keys:
        """Return the keys of a model."""
        return await _view(context, await queries.model(context.session, request.model))

    def _record(
        self, context: RequestContext, model: DeviceModel, event: FleetEvent[SigningKeyFacts], fingerprint: str
    ) -> None:
        context.audit(f"firmware.{event.verb}", model.code, after={"fingerprint": fingerprint})
        facts = SigningKeyFacts(model=model.code, fingerprint=fingerprint)
        self.firmware.outbox.emit(context.session, event, None, facts)


async def _view(context: RequestContext, model: DeviceModel) -> admin.Keys:
    keys = (await image_queries.keys(context.session, [model.id])).get(model.id, [])
    return admin.Keys(
        model=model.code,
        keys=[admin.KeyView.from_row(key, public_key=base64.b64encode(key.public_key).decode()) for key in keys],
    )
