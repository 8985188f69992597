"""The effect of a change of layers: how many devices move, and what a person should judge before."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.connection_rules import ConnectionLayers
from services.registry.connections import overview_queries
from shared.protocol import admin

_TIMEOUT_S: Final = 5.0
_CHECKED: Final = 5
"""So many different profiles are tried at most."""


async def effect(
    session: AsyncSession,
    before: ConnectionLayers,
    after: ConnectionLayers,
    *,
    number: int | None,
    changed: bool,
    try_brokers: bool,
) -> admin.ConnectionEffect:
    """Return how many devices want another profile after a change, and, if asked, what speaks against it."""
    devices = moving = unable = 0
    profiles: dict[str, dict[str, Any]] = {}
    for group in await overview_queries.alike(session, {*before.of_devices, *after.of_devices}):
        wanted = after.wanted(group.device_id, group.tags)
        if before.wanted(group.device_id, group.tags).connection_id == wanted.connection_id:
            continue
        profiles[wanted.connection_id] = wanted.document
        devices += group.devices
        if not group.is_reported:
            unable += group.devices
        elif group.in_use != wanted.connection_id:
            moving += group.devices
    warnings = await _warnings(list(profiles.values())[:_CHECKED]) if try_brokers else []
    return admin.ConnectionEffect(
        number=number, changed=changed, devices=devices, moving=moving, unable=unable, warnings=warnings
    )


async def _warnings(profiles: Iterable[Mapping[str, Any]]) -> list[str]:
    found = await asyncio.gather(*map(_broker_fault, profiles))
    return sorted({it for it in found if it is not None})


async def _broker_fault(profile: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a profile's broker as seen from here, where its name may have another address."""
    host, port, pem = profile["mqtt_host"], profile["mqtt_port"], profile.get("ca_certificate")
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    context = ssl.create_default_context(cadata=pem) if profile["mqtt_tls"] else None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        whose = "the profile's authorities" if pem else "the public authorities"
        return f"{whose} do not verify the certificate of {place}: {error.verify_message}"
    except TimeoutError:
        return f"{place} was not checked: no answer within {_TIMEOUT_S:g} s"
    except (OSError, ValueError) as error:
        return f"{place} was not checked: {error}"
    writer.transport.abort()
    return None
