"""What the registry does: models, devices, their configuration and their presence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from services.registry import configuration, db, domain, provisioning
from services.registry.identity import Identities
from shared import admin, messages, names, topics
from shared.errors import ConflictError, NotFoundError
from shared.outbox import Outbox
from shared.postgres import Database
from shared.requests import Caller
from shared.schema import Device, DeviceConfig, DeviceModel, Presence
from shared.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry's tools, and what it does with them."""

    settings: RegistrySettings
    database: Database
    identities: Identities
    outbox: Outbox

    async def add_model(self, caller: Caller, request: admin.ModelAdd) -> admin.ModelView:
        """Add a model, or raise ConflictError if its code is taken."""
        if request.config_schema is not None:
            configuration.check_schema(request.config_schema)
        configuration.check(request.config_defaults, request.config_schema, field="config_defaults")
        try:
            await db.model(caller.session, request.code)
        except NotFoundError:
            pass
        else:
            raise ConflictError(f"code: there is a model {request.code} already", code=request.code)
        model = DeviceModel(**request.model_dump(exclude={"request_id"}))
        caller.session.add(model)
        await caller.session.flush()
        view = _model_view(model, devices=0)
        caller.audit("model.add", model.code, after=view.model_dump(mode="json"))
        self.outbox.tell(caller.session, "model/added", data={"code": model.code})
        return view

    async def list_models(self, caller: Caller) -> admin.Models:
        """Return all models."""
        rows = await db.models(caller.session)
        return admin.Models(models=[_model_view(model, devices=count) for model, count in rows])

    async def add_device(self, caller: Caller, request: admin.DeviceAdd) -> admin.DeviceView:
        """Add a device with its identity, or leave nothing behind."""
        client_id = await self.identities.create(caller, request)
        view = await self.show_device(caller, client_id)
        caller.audit("device.add", client_id, after=view.model_dump(mode="json"))
        self.outbox.tell(caller.session, "device/added", client_id)
        return view

    async def list_devices(self, caller: Caller) -> admin.Devices:
        """Return all devices."""
        rows = await db.devices(caller.session)
        return admin.Devices(devices=[_device_view(*row) for row in rows])

    async def show_device(self, caller: Caller, name: str) -> admin.DeviceView:
        """Return one device."""
        return _device_view(*await db.device(caller.session, name))

    async def provision(self, caller: Caller, name: str) -> admin.Package:
        """Hand out a device's package, which holds its secret; not in a rotation, whose secret may yet die."""
        device, model, _ = await db.device(caller.session, name, lock=True)
        client_id = names.client_id(model.code, device.key)
        if device.rotation_state == "PENDING":
            raise ConflictError(f"a rotation of {client_id} is under way; try again when it has ended")
        identity = await self.identities.keycloak.get(client_id)
        caller.audit("device.provision", client_id)
        self.outbox.tell(caller.session, "device/provisioned", client_id)
        return provisioning.package(
            identity,
            device_key=device.key,
            token_url=self.identities.keycloak.token_url,
            settings=self.settings,
        )

    async def set_config(self, caller: Caller, request: admin.ConfigSet) -> admin.ConfigSetResult:
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
            self.outbox.put(
                caller.session, topics.CONFIG, _config(device, new, request_id=None), client_id=client_id
            )
            self.outbox.tell(caller.session, "config/changed", client_id, {"version": device.config_version})
        return admin.ConfigSetResult(
            client_id=client_id, version=device.config_version, changed=changed, document=document
        )

    async def answer_config(self, client_id: str, request: messages.ConfigGet) -> messages.Config:
        """Return the device's configuration, without the document if it has it already."""
        async with self.database.transaction() as session:
            device, _, _ = await db.device(session, client_id)
            return _config(
                device,
                await db.config(session, device),
                request_id=request.request_id,
                have=request.have_version,
            )

    async def record_status(self, client_id: str, status: messages.Status) -> None:
        """Store what a device says of itself; tell when it comes or goes."""
        async with self.database.transaction() as session:
            presence = await db.presence(session, client_id)
            if presence.online != status.online:
                self.outbox.tell(session, f"device/{'online' if status.online else 'offline'}", client_id)
            presence.online = status.online
            presence.last_seen_at = datetime.now(UTC)
            if status.online:
                presence.status = status.model_dump(mode="json", exclude_none=True)
                presence.firmware_version = status.firmware_version
                presence.firmware_sha256 = status.firmware_sha256
                presence.secret_generation = status.secret_generation

    async def record_config_report(self, client_id: str, report: messages.ConfigReport) -> None:
        """Store what a device did with a configuration."""
        async with self.database.transaction() as session:
            presence = await db.presence(session, client_id)
            presence.config_version = report.version
            presence.config_outcome = report.outcome
            presence.config_error = report.error
            presence.last_seen_at = datetime.now(UTC)
            self.outbox.tell(session, "config/reported", client_id, report.model_dump(mode="json"))


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


def _model_view(model: DeviceModel, *, devices: int) -> admin.ModelView:
    return admin.ModelView(
        code=model.code,
        name=model.name,
        chip=model.chip,
        slot_size_bytes=model.slot_size_bytes,
        config_schema=model.config_schema,
        config_defaults=model.config_defaults,
        devices=devices,
    )


def _device_view(device: Device, model: DeviceModel, presence: Presence) -> admin.DeviceView:
    return admin.DeviceView(
        client_id=names.client_id(model.code, device.key),
        key=device.key,
        model=model.code,
        name=device.name,
        tags=device.tags,
        enabled=device.enabled,
        online=presence.online,
        last_seen_at=presence.last_seen_at,
        firmware_version=presence.firmware_version,
        config_version=device.config_version,
        config_version_reported=presence.config_version,
        config_outcome=presence.config_outcome,
        config_error=presence.config_error,
        secret_generation=device.secret_generation,
        secret_created_at=device.secret_created_at,
        rotation_state=device.rotation_state,
    )
