"""Configurations: merged, checked, numbered, pushed and asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from services.registry import configuration, db, domain
from services.registry.service import Registry
from shared import admin, messages, names, topics
from shared.requests import Caller
from shared.schema import Device, DeviceConfig


@dataclass(frozen=True, slots=True)
class Configs:
    """What an admin wants of devices, and what devices ask for and do with it."""

    registry: Registry

    async def set(self, caller: Caller, request: admin.ConfigSet) -> admin.ConfigSetResult:
        """Make a new version of a device's configuration and push it, unless nothing changes."""
        device, model, _ = await db.device(caller.session, request.device, lock=True)
        client_id = names.client_id(model.code, device.key)
        old = await db.config(caller.session, device)
        overrides = request.overrides if request.replace else domain.merge(old.overrides, request.overrides)
        document = domain.merge(model.config_defaults, overrides)
        configuration.check(document, model.config_schema, field="configuration")
        changed = document != old.document or overrides != old.overrides
        if changed:
            device.config_version += 1
            new = DeviceConfig(
                device_id=device.id,
                version=device.config_version,
                overrides=overrides,
                document=document,
                author=caller.account,
            )
            caller.session.add(new)
            caller.audit("config.set", client_id, before=old.overrides, after=overrides)
            self.registry.outbox.put(
                caller.session, topics.CONFIG, _config(device, new, request_id=None), client_id=client_id
            )
            self.registry.outbox.tell(
                caller.session, "config/changed", client_id, {"version": device.config_version}
            )
        return admin.ConfigSetResult(
            client_id=client_id, version=device.config_version, changed=changed, document=document
        )

    async def answer(self, client_id: str, request: messages.ConfigGet) -> messages.Config:
        """Return the device's configuration, without the document if it has it already."""
        async with self.registry.database.transaction() as session:
            device, _, _ = await db.device(session, client_id)
            return _config(
                device,
                await db.config(session, device),
                request_id=request.request_id,
                have=request.have_version,
            )

    async def record_report(self, client_id: str, report: messages.ConfigReport) -> None:
        """Store what a device did with a configuration."""
        async with self.registry.database.transaction() as session:
            presence = await db.presence(session, client_id)
            presence.config_version = report.version
            presence.config_outcome = report.outcome
            presence.config_error = report.error
            presence.last_seen_at = datetime.now(UTC)
            self.registry.outbox.tell(session, "config/reported", client_id, report.model_dump(mode="json"))


def _config(
    device: Device, config: DeviceConfig, *, request_id: str | None, have: int | None = None
) -> messages.Config:
    unchanged = have == config.version
    return messages.Config(
        request_id=request_id,
        version=config.version,
        unchanged=unchanged,
        document=None if unchanged else config.document,
        secret_generation=device.secret_generation,
    )
