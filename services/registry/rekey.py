"""Change of the master key, for data of the registry encrypted at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, cast, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from services.registry import queries
from services.registry.config import sealing
from services.registry.context import Registry
from shared.crypto import SecretUnreadableError
from shared.database import device_refs
from shared.database.tables import ConfigLayer, Device, DeviceConfig, DeviceModel, NotificationRule
from shared.protocol import admin
from shared.server.rpc import RequestContext

_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class RekeyOfRegistry:
    """The operation of admins on what the registry encrypts."""

    registry: Registry

    async def rekey(self, context: RequestContext, _: admin.Nothing) -> admin.SecretsRekeyed:
        """Encrypt what the registry keeps secret with the first master key; idempotent."""
        session = context.session
        done, unreadable = await self.registry.instance.rekey(session)
        for rule in await session.scalars(select(NotificationRule)):
            try:
                rule.url = self.registry.instance.vault.reencrypt(rule.url)
                rule.key = rule.key and self.registry.instance.vault.reencrypt(rule.key)
                done += 1
            except SecretUnreadableError:
                unreadable.append(f"notification {rule.name}")
        await queries.lock_layers(session, exclusive=True)
        async for name, row, columns in _with_sealed(session):
            try:
                for column in columns:
                    again = sealing.reencrypted(self.registry.instance.vault, getattr(row, column))
                    setattr(row, column, again)
                done += 1
            except SecretUnreadableError:
                unreadable.append(name)
        facts = {"reencrypted": done, "unreadable": len(unreadable)}
        context.audit("secrets.rekey", "secrets", after=facts)
        return admin.SecretsRekeyed(reencrypted=done, unreadable=admin.Named.of(unreadable))


async def _with_sealed(session: AsyncSession) -> AsyncIterator[tuple[str, object, tuple[str, ...]]]:
    """Yield each row that has sealed values, its name for people, and the columns with documents."""
    for model in await session.scalars(select(DeviceModel).where(_has(DeviceModel.config_defaults))):
        yield f"defaults of {model.code}", model, ("config_defaults",)
    for layer in await session.scalars(select(ConfigLayer).where(_has(ConfigLayer.document))):
        yield f"layer {layer.tag}", layer, ("document",)
    owners = await session.execute(
        select(Device.id, DeviceModel.code, Device.key)
        .join(DeviceModel, DeviceModel.id == Device.model_id)
        .where(
            Device.id.in_(
                select(DeviceConfig.device_id).where(
                    or_(_has(DeviceConfig.overrides), _has(DeviceConfig.document))
                )
            )
        )
    )
    names = {device_id: device_refs.client_id(code, key) for device_id, code, key in owners}
    ids = sorted(names)
    for start in range(0, len(ids), _AT_ONCE):
        for config in await queries.all_versions(session, ids[start : start + _AT_ONCE]):
            yield f"{names[config.device_id]} version {config.version}", config, ("overrides", "document")
        await session.flush()


def _has(column: InstrumentedAttribute[dict[str, Any]]) -> ColumnElement[bool]:
    return cast(column, Text).contains('"(sealed ')
