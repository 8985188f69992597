"""Versions of a configuration: merged, checked, numbered and pushed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from services.registry.batch_queries import Desired
from services.registry.config import sealing
from services.registry.context import Registry
from services.registry.validation.checker import ConfigCandidate
from shared.crypto import Vault
from shared.database import device_refs
from shared.database.tables import ConfigLayer, Device, DeviceConfig, DeviceModel, Presence
from shared.errors import InvalidInputError
from shared.protocol import events, messages, topics
from shared.protocol.topics import Topic

Row = tuple[Device, DeviceModel, Presence]
_UNKEPT: Final = replace(topics.CONFIG, qos=0)
"""For a message with sealed values: with QoS 0 the broker does not keep it for a device that is offline."""


async def document_of(
    registry: Registry,
    model: DeviceModel,
    tags: Iterable[str],
    overrides: dict[str, Any],
    *,
    layers: Iterable[ConfigLayer],
    key: str = "",
) -> dict[str, Any]:
    """Return the merged document of a device with this key, or of a new one, with its sealed values.

    Raise InvalidInputError naming the path if it breaks the schema.
    """
    document = _merged(model, tags, overrides, layers)
    client_id = device_refs.client_id(model.code, key)
    await registry.checker.check([candidate(registry, document, model, client_id, field="configuration")])
    return document


def candidate(
    registry: Registry, document: dict[str, Any], model: DeviceModel, client_id: str, *, field: str
) -> ConfigCandidate:
    """Return a document, opened, for the check against its model's schema; `field` names it in errors."""
    found = sealing.opened(registry.instance.vault, document, client_id)
    return ConfigCandidate(found.document, model.config_schema, field, found.sealed)


def _merged(
    model: DeviceModel, tags: Iterable[str], overrides: dict[str, Any], layers: Iterable[ConfigLayer]
) -> dict[str, Any]:
    tags = set(tags)
    documents = (layer.document for layer in layers if layer.tag in tags)
    return rules.layered(model.config_defaults, documents, overrides)


async def write(
    session: AsyncSession,
    registry: Registry,
    device: Device,
    client_id: str,
    *,
    overrides: dict[str, Any],
    document: dict[str, Any],
    author: str,
    trial_seconds: int | None = None,
) -> bool:
    """Make and push a new version of a locked device's configuration; return whether it was made.

    It is not made if the desired version is the same; that one then gets the seals of the new one.
    """
    vault = registry.instance.vault
    old = await queries.config(session, device)
    pairs = ((document, old.document), (overrides, old.overrides))
    if all(sealing.same(vault, new, before, client_id) for new, before in pairs):
        old.document, old.overrides = document, overrides
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
    if device.config_version > registry.settings.config_keep:
        await queries.forget_configs(session, device, keep=registry.settings.config_keep)
    desired = Desired(new.version, document, trial_seconds, new.outcome, device.secret_generation)
    topic, push = message(vault, desired, client_id, request_id=None)
    registry.outbox.put(session, topic, push, sealed=topic is _UNKEPT, client_id=client_id)
    facts = events.ConfigFacts(version=device.config_version)
    registry.outbox.emit(session, events.CONFIG_CHANGED, client_id, facts)
    return True


async def refresh(session: AsyncSession, registry: Registry, rows: Iterable[Row], *, author: str) -> list[str]:
    """Merge locked devices' documents again; return the client ids of those that got a new version.

    Raise InvalidInputError naming the first device whose document would violate its schema: then none gets one.
    """
    layers = await queries.layers(session)
    merged: list[tuple[Device, str, DeviceConfig, dict[str, Any]]] = []
    candidates: list[ConfigCandidate] = []
    for device, model, _ in rows:
        client_id = device_refs.client_id(model.code, device.key)
        old = await queries.config(session, device)
        document = _merged(model, device.tags, old.overrides, layers)
        field = f"{client_id}: configuration"
        candidates.append(candidate(registry, document, model, client_id, field=field))
        merged.append((device, client_id, old, document))
    await registry.checker.check(candidates)
    changed = []
    for device, client_id, old, document in merged:
        made = await write(
            session,
            registry,
            device,
            client_id,
            overrides=old.overrides,
            document=document,
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
            registry, model, device.tags, overrides, layers=await queries.layers(session), key=device.key
        )
    except InvalidInputError:
        document = good.document if good is not None else model.config_defaults
    await write(session, registry, device, client_id, overrides=overrides, document=document, author=client_id)
    return good.version if good is not None else None


def open_trial(config: DeviceConfig) -> int | None:
    """Return the trial's seconds if the device has not reported yet: a version on top of it is on trial too."""
    return config.trial_seconds if config.outcome is None else None


def message(
    vault: Vault, desired: Desired, client_id: str, *, request_id: str | None, have: int | None = None
) -> tuple[Topic[messages.Config], messages.Config]:
    """Return the message with the configuration, without the document if the device has it, and its topic.

    Raise SecretUnreadableError if no key opens a sealed value.
    """
    unchanged = have == desired.version
    found = sealing.opened(vault, {} if unchanged else desired.document, client_id)
    # Not validated again: that would take as long as the rest of the answer.
    made = messages.Config.model_construct(
        request_id=request_id,
        version=desired.version,
        unchanged=unchanged,
        document=None if unchanged else found.document,
        trial_seconds=None if unchanged or desired.outcome == "applied" else desired.trial_seconds,
        secret_generation=desired.secret_generation,
        time=messages.server_time(datetime.now(UTC)),
    )
    return _UNKEPT if found.sealed else topics.CONFIG, made
