"""Devices: made, shown, and handed out as packages."""

from __future__ import annotations

from dataclasses import dataclass

from services.registry import db, provisioning
from services.registry.service import Registry
from shared import admin, names
from shared.errors import ConflictError
from shared.requests import Caller
from shared.schema import Device, DeviceModel, Presence


@dataclass(frozen=True, slots=True)
class Devices:
    """What an admin does with devices."""

    registry: Registry

    async def add(self, caller: Caller, request: admin.DeviceAdd) -> admin.DeviceView:
        """Add a device with its identity, or leave nothing behind."""
        client_id = await self.registry.identities.create(caller, request)
        view = view_of(*await db.device(caller.session, client_id))
        caller.audit("device.add", client_id, after=view.model_dump(mode="json"))
        self.registry.outbox.tell(caller.session, "device/added", client_id)
        return view

    async def list_all(self, caller: Caller, _: admin.Nothing) -> admin.Devices:
        """Return all devices."""
        rows = await db.devices(caller.session)
        return admin.Devices(devices=[view_of(*row) for row in rows])

    async def show(self, caller: Caller, request: admin.DeviceRef) -> admin.DeviceView:
        """Return one device."""
        return view_of(*await db.device(caller.session, request.device))

    async def provision(self, caller: Caller, request: admin.DeviceRef) -> admin.Package:
        """Hand out a device's package, which holds its secret; not in a rotation, whose secret may yet die."""
        device, model, _ = await db.device(caller.session, request.device, lock=True)
        client_id = names.client_id(model.code, device.key)
        if device.rotation_state == "PENDING":
            raise ConflictError(f"a rotation of {client_id} is under way; try again when it has ended")
        identity = await self.registry.identities.keycloak.get(client_id)
        caller.audit("device.provision", client_id)
        self.registry.outbox.tell(caller.session, "device/provisioned", client_id)
        return provisioning.package(
            identity,
            device_key=device.key,
            token_url=self.registry.identities.keycloak.token_url,
            settings=self.registry.settings,
        )


def view_of(device: Device, model: DeviceModel, presence: Presence) -> admin.DeviceView:
    """Return a device as an admin sees it."""
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
