"""The firmware service's part of `mdm doctor`: images without bytes, devices that get none."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import queries
from services.firmware.assignment.prospects import prospects
from services.firmware.context import Firmware
from services.firmware.images import queries as image_queries
from shared.protocol import admin
from shared.server.rpc import RequestContext

_AT_ONCE: Final = 500
"""Devices in one query: PostgreSQL takes 32,767 parameters."""


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
            *await withheld(session, devices),
        ]
        return admin.Diagnosis(devices=len(devices), findings=findings)

    async def _images(self, session: AsyncSession) -> list[admin.Finding]:
        findings = []
        for image, code in await image_queries.all_with_models(session):
            fault = await self.firmware.store.fault(image.sha256)
            if fault is not None:
                version = shlex.quote(image.version)
                again = f"mdm firmware upload FILE --model {code} --version {version} --no-release"
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


async def withheld(session: AsyncSession, client_ids: Sequence[str]) -> list[admin.Finding]:
    """Return which of these devices do not get their image, each reason once: it may be that of a whole fleet."""
    found: dict[str, list[str]] = {}
    for first in range(0, len(client_ids), _AT_ONCE):
        for one in await prospects(session, client_ids[first : first + _AT_ONCE]):
            refusal = one.refusal
            if one.image is not None and refusal is not None:
                problem = f"does not get {one.image.version}: {refusal}"
                found.setdefault(problem, []).append(one.client_id)
    return [
        admin.Finding(
            subject=min(names),
            problem=f"{problem}; of {len(names)} devices" if len(names) > 1 else problem,
            remedy="release an image that the device takes, or change the device",
        )
        for problem, names in found.items()
    ]
