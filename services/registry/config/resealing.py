"""Sealing of what is stored already, when a model's schema seals more than before."""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries
from services.registry.config import sealing
from services.registry.config.versions import Row
from services.registry.context import Registry
from shared.database import device_refs
from shared.database.tables import DeviceModel

_AT_ONCE: Final = 50


async def reseal(session: AsyncSession, registry: Registry, model: DeviceModel) -> list[Row]:
    """Seal what is at a model's places, in all layers and all versions; return the locked devices to merge again.

    These are the model's, or all if a layer was changed: a layer's value may be in the document of any. The layers
    must be locked exclusively.
    """
    vault, places = registry.instance.vault, model.sealed or []
    changed = False
    for layer in await queries.layers(session):
        seals = sealing.Seals(vault, sealing.of_layer(layer.tag))
        document = seals.seal(layer.document, places)
        changed = changed or document != layer.document
        layer.document = document
    rows = await (queries.lock_all(session) if changed else queries.lock_of_model(session, model))
    for start in range(0, len(rows), _AT_ONCE):
        await _reseal(session, registry, rows[start : start + _AT_ONCE], model)
    return rows


async def _reseal(session: AsyncSession, registry: Registry, rows: list[Row], changed: DeviceModel) -> None:
    """Seal all versions of these devices; one value has one seal in all of them."""
    models = {device.id: model for device, model, _ in rows}
    seals = {
        device.id: sealing.Seals(registry.instance.vault, device_refs.client_id(model.code, device.key))
        for device, model, _ in rows
    }
    for config in await queries.all_versions(session, seals):
        own = models[config.device_id].sealed or []
        config.overrides = seals[config.device_id].seal(config.overrides, own)
        config.document = seals[config.device_id].seal(config.document, [*own, *(changed.sealed or [])])
    await session.flush()
