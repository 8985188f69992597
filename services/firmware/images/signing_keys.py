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
from shared.protocol import admin
from shared.server.rpc import Caller


@dataclass(frozen=True, slots=True)
class Trust:
    """What an admin does with keys."""

    firmware: Firmware

    async def add(self, caller: Caller, request: admin.KeyAdd) -> admin.Keys:
        """Trust one more key."""
        model = await queries.model(caller.session, request.model)
        fingerprint = image_signature.fingerprint(request.public_key)
        if await caller.session.get(FirmwareKey, (model.id, fingerprint)) is not None:
            raise ConflictError(f"public_key: {model.code} trusts {fingerprint} already")
        caller.session.add(
            FirmwareKey(
                model_id=model.id,
                fingerprint=fingerprint,
                public_key=request.public_key,
                author=caller.account,
            )
        )
        await caller.session.flush()
        self._note(caller, model, "added", fingerprint)
        return await _view(caller, model)

    async def remove(self, caller: Caller, request: admin.KeyRef) -> admin.Keys:
        """Trust a key no more; what is released already stays."""
        model = await queries.model(caller.session, request.model)
        key = await caller.session.get(FirmwareKey, (model.id, request.fingerprint))
        if key is None:
            raise NotFoundError(f"fingerprint: {model.code} trusts no key {request.fingerprint}")
        await caller.session.delete(key)
        await caller.session.flush()
        self._note(caller, model, "removed", request.fingerprint)
        return await _view(caller, model)

    async def list_all(self, caller: Caller, request: admin.KeyList) -> admin.Keys:
        """Return the keys of a model."""
        return await _view(caller, await queries.model(caller.session, request.model))

    def _note(self, caller: Caller, model: DeviceModel, deed: str, fingerprint: str) -> None:
        caller.audit(f"firmware.key_{deed}", model.code, after={"fingerprint": fingerprint})
        data = {"model": model.code, "fingerprint": fingerprint}
        self.firmware.outbox.tell(caller.session, f"firmware/key_{deed}", data=data)


async def _view(caller: Caller, model: DeviceModel) -> admin.Keys:
    keys = (await image_queries.keys(caller.session, [model.id])).get(model.id, [])
    return admin.Keys(
        model=model.code,
        keys=[
            admin.KeyView(
                fingerprint=key.fingerprint,
                public_key=base64.b64encode(key.public_key).decode(),
                author=key.author,
                created_at=key.created_at,
            )
            for key in keys
        ],
    )
