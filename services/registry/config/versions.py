"""Versions of a configuration: merged, checked, numbered and pushed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from services.registry.batch_queries import Desired
from services.registry.context import Registry
from services.registry.validation.checker import Checker, ConfigCandidate
from shared.database import device_refs
from shared.database.outbox import Outbox
from shared.database.tables import ConfigLayer, Device, DeviceConfig, DeviceModel, Presence
from shared.errors import InvalidInputError
from shared.protocol import events, messages, topics

Row = tuple[Device, DeviceModel, Presence]


async def document_of(
    checker: Checker,
    model: DeviceModel,
    tags: Iterable[str],
    overrides: dict[str, Any],
    *,
    layers: Iterable[ConfigLayer],
    field: str = "configuration",
) -> dict[str, Any]:
    """Return the merged document; raise InvalidInputError naming `field` and the path if it breaks the schema."""
    document = _merged(model, tags, overrides, layers)
    await checker.check([ConfigCandidate(document, model.config_schema, field)])
    return document


def _merged(
    model: DeviceModel, tags: Iterable[str], overrides: dict[str, Any], layers: Iterable[ConfigLayer]
) -> dict[str, Any]:
    tags = set(tags)
    documents = (layer.document for layer in layers if layer.tag in tags)
    return rules.layered(model.config_defaults, documents, overrides)


async def write(
    session: AsyncSession,
    outbox: Outbox,
    device: Device,
    client_id: str,
    *,
    overrides: dict[str, Any],
    document: dict[str, Any],
    author: str,
    trial_seconds: int | None = None,
    anew: bool = False,
) -> bool:
    """Make and push a new version of a locked device's configuration; return whether it was made.

    Unless `anew`, it is not made if the desired version is the same.
    """
    old = await queries.config(session, device)
    if not anew and rules.same(document, old.document) and rules.same(overrides, old.overrides):
        return False
    device.config_version += 1
    new = DeviceConfig(
        device_id=device.id,
        version=device.config_version,
        overrides=overrides,
        document=document,
        author=author,
        trial_seconds=trial_seconds,
    )
    session.add(new)
    desired = Desired(new.version, document, trial_seconds, new.outcome, device.secret_generation)
    outbox.put(session, topics.CONFIG, message(desired, request_id=None), client_id=client_id)
    facts = events.ConfigFacts(version=device.config_version)
    outbox.emit(session, events.CONFIG_CHANGED, client_id, facts)
    return True


async def refresh(session: AsyncSession, registry: Registry, rows: Iterable[Row], *, author: str) -> list[str]:
    """Merge locked devices' documents again; return the client ids of those that got a new version.

    Raise InvalidInputError naming the first device whose document would violate its schema: then none gets one.
    """
    layers = await queries.layers(session)
    merged: list[tuple[Device, str, DeviceConfig, ConfigCandidate]] = []
    for device, model, _ in rows:
        client_id = device_refs.client_id(model.code, device.key)
        old = await queries.config(session, device)
        document = _merged(model, device.tags, old.overrides, layers)
        candidate = ConfigCandidate(document, model.config_schema, f"{client_id}: configuration")
        merged.append((device, client_id, old, candidate))
    await registry.checker.check(candidate for *_, candidate in merged)
    changed = []
    for device, client_id, old, candidate in merged:
        made = await write(
            session,
            registry.outbox,
            device,
            client_id,
            overrides=old.overrides,
            document=candidate.document,
            author=author,
            trial_seconds=open_trial(old),
        )
        if made:
            changed.append(client_id)
    return changed


async def restore(session: AsyncSession, registry: Registry, row: Row, bad: DeviceConfig) -> int | None:
    """Make a locked device's last good configuration the desired one again; return its version.

    A newer schema does not refuse it: the device runs it now.
    """
    device, model, _ = row
    client_id = device_refs.client_id(model.code, device.key)
    good = await queries.last_good_config(session, bad)
    overrides = good.overrides if good is not None else {}
    try:
        document = await document_of(
            registry.checker, model, device.tags, overrides, layers=await queries.layers(session)
        )
    except InvalidInputError:
        document = good.document if good is not None else model.config_defaults
    await write(
        session, registry.outbox, device, client_id, overrides=overrides, document=document, author=client_id
    )
    return good.version if good is not None else None


def open_trial(config: DeviceConfig) -> int | None:
    """Return the trial's seconds if the device has not reported yet: a version on top of it is on trial too."""
    return config.trial_seconds if config.outcome is None else None


def message(desired: Desired, *, request_id: str | None, have: int | None = None) -> messages.Config:
    """Return the message with the configuration; without the document if the device has this version."""
    unchanged = have == desired.version
    # Not validated again: that would take as long as the rest of the answer.
    return messages.Config.model_construct(
        request_id=request_id,
        version=desired.version,
        unchanged=unchanged,
        document=None if unchanged else desired.document,
        trial_seconds=None if unchanged or desired.outcome == "applied" else desired.trial_seconds,
        secret_generation=desired.secret_generation,
        time=messages.server_time(datetime.now(UTC)),
    )
