"""Operations on devices: add, show, update, provision and remove."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import clashes, health, queries, rules
from services.registry.config import versions
from services.registry.connections import layers as connection_layers
from services.registry.connections import queries as connection_queries
from services.registry.connections import views as connection_views
from services.registry.context import Registry
from services.registry.credentials import service as credentials
from services.registry.devices import fault_queries, name_queries, provisioning, reported, views
from shared import crypto
from shared.auth.keycloak import Identity
from shared.crypto import Held
from shared.database import device_refs, engine
from shared.database.tables import VERIFY_AFTER, Device
from shared.errors import ConflictError
from shared.protocol import admin, events, nvs
from shared.server.rpc import RequestContext

_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class DeviceService:
    """The operations of admins on devices."""

    registry: Registry

    async def add(self, context: RequestContext, request: admin.DeviceAdd) -> admin.DeviceView:
        """Add a device with its identity, or leave nothing behind."""
        # Checked before anything is created: a layer that does not fit this model must not undo an identity.
        model = await queries.model(context.session, request.model)
        if request.unique_name:
            known = await queries.lock_name(context.session, model, request.name)
            if known is not None:
                client_id = device_refs.client_id(model.code, known)
                raise ConflictError(f"name: {client_id} has this name", client_id=client_id)
        layers = await queries.layers(context.session)
        await versions.document_of(self.registry, model, request.tags, {}, layers=layers)
        client_id = await self.registry.identities.create(context, request)
        await queries.lock_layers(context.session)
        row = await queries.device(context.session, client_id, lock=True)
        await versions.refresh(context.session, self.registry, [row], author=context.account)
        view = await views.of_row(context.session, self.registry, row)
        context.audit("device.add", client_id, after=view.model_dump(mode="json"))
        self.registry.outbox.emit(context.session, events.DEVICE_ADDED, client_id, events.NoFacts())
        return view

    async def list_page(self, context: RequestContext, request: admin.DeviceList) -> admin.Devices:
        """Return a page of the matching devices."""
        alike = None
        if request.health is not None:
            states = health.states(datetime.now(UTC), self.registry.thresholds)
            alike = Device.id.in_(select(states.c.device_id).where(states.c.health == request.health))
        rows = await queries.devices(context.session, request, alike=alike)
        following = rows[-1][0].id if len(rows) == request.limit else None
        found = await views.of_rows(context.session, self.registry, rows)
        return admin.Devices(devices=found, next=following)

    async def find(self, context: RequestContext, request: admin.DeviceFind) -> admin.DevicesFound:
        """Return the devices that a text names, all in the same way."""
        rows = await name_queries.named(context.session, request.text, limit=_CANDIDATES + 1)
        found = [admin.DeviceMatch(client_id=client_id, name=name) for client_id, name in rows]
        return admin.DevicesFound(devices=found[:_CANDIDATES], is_cut=len(found) > _CANDIDATES)

    async def show(self, context: RequestContext, request: admin.DeviceRef) -> admin.DeviceDetails:
        """Return one device."""
        row = await queries.device(context.session, request.device)
        flaws = await fault_queries.of_device(context.session, row[0].id)
        clashed_at = row[2].clashed_at
        return admin.DeviceDetails(
            **dict(await views.of_row(context.session, self.registry, row)),
            **reported.facts(row[2], await reported.uptime(context.session, row[0].id)),
            flaws=[admin.FlawView.from_row(flaw) for flaw in flaws],
            clashed_at=clashed_at if clashes.is_recent(clashed_at, datetime.now(UTC)) else None,
            connection=await connection_views.of_device(context.session, self.registry, row[0].id),
        )

    async def update(self, context: RequestContext, request: admin.DeviceUpdate) -> admin.DeviceView:
        """Change a device; the desired state is stored before Keycloak and the broker are changed."""
        identities = self.registry.identities
        async with self.registry.database.transaction() as session:
            await queries.lock_layers(session)
            row = await queries.device(session, request.device, lock=True)
            device, model, _ = row
            client_id = device_refs.client_id(model.code, device.key)
            if request.enabled is not None:
                device.verify_at = datetime.now(UTC) + VERIFY_AFTER
            wanted = request.model_dump(exclude={"request_id", "device"}, exclude_none=True)
            before = {name: getattr(device, name) for name in wanted}
            for name, value in wanted.items():
                setattr(device, name, value)
            if before != wanted:
                context.on(session).audit("device.update", client_id, before=before, after=wanted)
                facts = events.DeviceUpdateFacts(name=request.name, tags=request.tags, enabled=request.enabled)
                self.registry.outbox.emit(session, events.DEVICE_UPDATED, client_id, facts)
            if before.get("tags") != wanted.get("tags"):
                await versions.refresh(session, self.registry, [row], author=context.account)
            view = await views.of_row(session, self.registry, row)
        if request.enabled is not None:
            await engine.lock_identity(context.session, client_id)
            await identities.enable(client_id, enabled=request.enabled)
        return view

    async def remove(self, context: RequestContext, request: admin.DeviceRef) -> admin.Removed:
        """Remove a device: client, account, retained messages and row."""
        row = await queries.device(context.session, request.device)
        client_id = device_refs.client_id(row[1].code, row[0].key)
        before = await views.of_row(context.session, self.registry, row)
        await self.registry.identities.remove(context, client_id)
        context.audit("device.remove", client_id, before=before.model_dump(mode="json"))
        self.registry.outbox.emit(context.session, events.DEVICE_REMOVED, client_id, events.NoFacts())
        return admin.Removed(removed=client_id)

    async def reissue(self, context: RequestContext, request: admin.DeviceRef) -> admin.Package:
        """Give a device a new secret in a new package; the old secret, and so any lost package, becomes invalid.

        Its key is deleted: the board that gets the package registers its own.
        """
        identities = self.registry.identities
        async with self.registry.database.transaction() as session:
            device, model, _ = await queries.device(session, request.device, lock=True)
            client_id = device_refs.client_id(model.code, device.key)
            rules.refuse_in_rotation(client_id, device.rotation_state)
            # Counted first: if a later step fails, this generation is still never issued again.
            device.last_generation += 1
            generation = device.last_generation
            device.verify_at = datetime.now(UTC) + VERIFY_AFTER
        await engine.lock_identity(context.session, client_id)
        device, model, _ = await queries.device(context.session, client_id, lock=True)
        await context.session.refresh(device)
        rules.refuse_in_rotation(client_id, device.rotation_state)
        secret = crypto.new_secret()
        await identities.replace_secret(client_id, secret, generation)
        credentials.record(device, Held.of(secret, generation))
        device.secret_created_at = datetime.now(UTC)
        # The package may be for another board: it has a key of its own, or none.
        device.public_key = None
        await connection_queries.forget(context.session, device.id)
        context.audit("device.reissue", client_id)
        self.registry.outbox.emit(context.session, events.DEVICE_REISSUED, client_id, events.NoFacts())
        identity = Identity(client_id, secret, generation, enabled=device.enabled, ours=True)
        return await self.package(context.session, device, identity)

    async def nvs_image(self, context: RequestContext, request: admin.DeviceNvs) -> admin.NvsImage:
        """Return a device's package as an NVS image, with a Wi-Fi network if one is given."""
        wifi = provisioning.wifi(request)
        package = await self.provision(context, request)
        image = await asyncio.to_thread(nvs.image, nvs.rows(package, wifi), size_bytes=request.size_bytes)
        return admin.NvsImage(
            client_id=package.client_id,
            secret_generation=package.secret_generation,
            data=base64.b64encode(image),
        )

    async def provision(self, context: RequestContext, request: admin.DeviceRef) -> admin.Package:
        """Return a device's package, which has its secret; not in a rotation, whose secret may become invalid."""
        device, model, _ = await queries.device(context.session, request.device, lock=True)
        client_id = device_refs.client_id(model.code, device.key)
        rules.refuse_in_rotation(client_id, device.rotation_state)
        identity = await self.registry.identities.keycloak.get(client_id)
        context.audit("device.provision", client_id)
        self.registry.outbox.emit(context.session, events.DEVICE_PROVISIONED, client_id, events.NoFacts())
        return await self.package(context.session, device, identity)

    async def package(self, session: AsyncSession, device: Device, identity: Identity) -> admin.Package:
        """Return a device's package, which has its secret and its connection profile."""
        layers = await connection_queries.in_force(session, self.registry.connection_base)
        wanted = layers.wanted(device.id, device.tags)
        await connection_queries.note_package(session, device.id, wanted)
        return provisioning.package(
            identity,
            device_key=device.key,
            connection_id=wanted.connection_id,
            profile=connection_layers.opened(self.registry.instance.vault, wanted),
            recovery=await self.registry.instance.recovery(session, identity.client_id),
        )
