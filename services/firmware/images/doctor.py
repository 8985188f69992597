"""The firmware service's part of `mdm doctor`: images without bytes, devices that get none."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries
from services.firmware.assignment.prospects import prospects
from services.firmware.context import Firmware
from services.firmware.images import queries as image_queries
from shared.protocol import admin
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class FirmwareDoctor:
    """The operations of admins that compare images with the store."""

    firmware: Firmware

    async def run(self, context: RequestContext, _: admin.Nothing) -> admin.Diagnosis:
        """Return all findings."""
        return await self._diagnose(context.session, repair=False)

    async def repair(self, context: RequestContext, _: admin.Nothing) -> admin.Diagnosis:
        """Return all findings, and delete bytes that belong to no image."""
        self.firmware.prune_soon(context.session)
        return await self._diagnose(context.session, repair=True)

    async def _diagnose(self, session: AsyncSession, *, repair: bool) -> admin.Diagnosis:
        devices = await queries.devices_without_their_image(session)
        findings = [
            *await self._images(session),
            *await self._orphans(session, repair=repair),
            *await _devices(session, devices),
        ]
        return admin.Diagnosis(devices=len(devices), findings=findings)

    async def _images(self, session: AsyncSession) -> list[admin.Finding]:
        findings = []
        for image, code in await image_queries.all_with_models(session):
            fault = await self.firmware.store.fault(image.sha256)
            if fault is not None:
                again = f"mdm firmware upload FILE --model {code} --version {image.version} --no-release"
                findings.append(
                    admin.Finding(
                        subject=f"{code} {image.version}",
                        problem=f"the bytes of the image are {fault}",
                        remedy=f"upload the same file again: {again}",
                    )
                )
        return findings

    async def _orphans(self, session: AsyncSession, *, repair: bool) -> list[admin.Finding]:
        orphans = await image_queries.orphans(session, await self.firmware.store.names())
        if repair:
            for sha256 in orphans:
                await image_queries.record_leftover(session, sha256)
        return [
            admin.Finding(
                subject=f"{sha256[:12]}...",
                problem="stored bytes that belong to no image",
                remedy="they are deleted",
                repaired=repair,
            )
            for sha256 in orphans
        ]


async def _devices(session: AsyncSession, client_ids: list[str]) -> list[admin.Finding]:
    """Return the devices that do not get the image that they should have."""
    return [
        admin.Finding(
            subject=one.client_id,
            problem=f"does not get {one.image.version}: {one.refusal}",
            remedy="release an image that the device takes, or change the device",
        )
        for one in await prospects(session, client_ids)
        if one.image is not None and one.refusal is not None
    ]
