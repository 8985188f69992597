"""Shared functions on images: views, the conditions of a release, and deletion."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import rules
from services.firmware.assignment import rollout_queries
from services.firmware.context import Firmware
from services.firmware.images import queries as image_queries
from shared.database.outbox import Outbox
from shared.database.tables import AuditEntry, DeviceModel, FirmwareImage, FirmwareKey
from shared.errors import ConflictError, InvalidInputError
from shared.esp32 import image as esp32_image
from shared.esp32 import signature as image_signature
from shared.protocol import admin, events
from shared.server.rpc import RequestContext

RETENTION = "retention"
"""The actor in the audit log for images that retention deletes."""


async def views(session: AsyncSession, rows: Sequence[tuple[FirmwareImage, DeviceModel]]) -> list[admin.ImageView]:
    """Return images as views."""
    keys = await image_queries.keys(session, [model.id for _, model in rows])
    return [
        admin.ImageView.from_row(
            image,
            model=model.code,
            current=model.image_sha256 == image.sha256,
            signature=base64.b64encode(image.signature).decode() if image.signature else None,
            signed_by=_signer(keys.get(model.id, []), image.sha256, image.signature),
        )
        for image, model in rows
    ]


async def view(session: AsyncSession, image: FirmwareImage, model: DeviceModel) -> admin.ImageView:
    """Return one image as a view."""
    return (await views(session, [(image, model)]))[0]


def secure_boot_keys(image: esp32_image.Image) -> list[str]:
    """Return the digests of the keys that have signed an image for Secure Boot; version 1 names none."""
    return [block.key_digest for block in image.signatures if block.key_digest is not None]


def embedded(image: esp32_image.Image) -> dict[str, Any]:
    """Return the facts in an image, as columns of its row."""
    return {
        "embedded_version": image.embedded_version,
        "project": image.project,
        "chip": image.chip,
        "secure_version": image.secure_version,
        "min_chip_revision": image.min_chip_revision,
        "max_chip_revision": image.max_chip_revision,
        "secure_boot_signatures": len(image.signatures),
        "secure_boot_keys": secure_boot_keys(image),
        "idf_version": image.idf_version,
        "app_sha256": image.app_sha256,
        "elf_sha256": image.elf_sha256,
    }


def facts(model: DeviceModel, image: FirmwareImage) -> events.ImageFacts:
    """Return the facts of an image for events and the audit log."""
    return events.ImageFacts(model=model.code, version=image.version, sha256=image.sha256)


async def check_signature(session: AsyncSession, model: DeviceModel, sha256: str, signature: bytes | None) -> None:
    """Raise InvalidInputError if the model trusts keys and none of them made the signature."""
    keys = (await image_queries.keys(session, [model.id])).get(model.id, [])
    if not keys or _signer(keys, sha256, signature) is not None:
        return
    trusted = ", ".join(key.fingerprint for key in keys)
    found = "none" if signature is None else "one by another key or of another file"
    raise InvalidInputError(
        f"signature: expected one by a key that {model.code} trusts ({trusted}), found {found}",
        field="signature",
        found=found,
        expected=[key.fingerprint for key in keys],
    )


def check_secure_boot(model: DeviceModel, keys: Sequence[str]) -> None:
    """Raise InvalidInputError if the model demands an image signed for Secure Boot, and none of its keys did."""
    if model.secure_boot_keys and not set(model.secure_boot_keys).intersection(keys):
        expected, found = ", ".join(model.secure_boot_keys), ", ".join(keys) or "none"
        raise InvalidInputError(
            f"secure_boot: expected a signature by a key that {model.code} demands ({expected}), found {found}",
            field="secure_boot",
            found=list(keys),
            expected=model.secure_boot_keys,
        )


async def check_signed(session: AsyncSession, model: DeviceModel, image: FirmwareImage) -> None:
    """Raise InvalidInputError unless a stored image has the signatures that its model requires."""
    check_secure_boot(model, image.secure_boot_keys)
    await check_signature(session, model, image.sha256, image.signature)


async def check_release(session: AsyncSession, model: DeviceModel, image: FirmwareImage) -> None:
    """Raise an error unless a stored image fits its model, which may have changed since the upload."""
    if image.chip != model.chip:
        raise ConflictError(f"chip: expected the chip of model {model.code}, {model.chip}, found {image.chip}")
    if image.size_bytes > model.slot_size_bytes:
        slot = f"at most the slot of model {model.code}, {model.slot_size_bytes} bytes"
        raise ConflictError(f"size_bytes: expected {slot}, found {image.size_bytes}")
    await check_signed(session, model, image)


async def release(firmware: Firmware, context: RequestContext, model: DeviceModel, image: FirmwareImage) -> None:
    """Make an image its model's image; the event triggers Notifier."""
    await check_release(context.session, model, image)
    had_rollouts = await rollout_queries.end_force(context.session, model)
    if model.image_sha256 == image.sha256 and not had_rollouts:
        return
    model.image_sha256 = image.sha256
    firmware.prune_soon(context.session)
    context.audit("firmware.release", model.code, after={"version": image.version, "sha256": image.sha256})
    said = events.ReleaseFacts(model=model.code, version=image.version)
    firmware.outbox.emit(context.session, events.FIRMWARE_RELEASED, None, said)


async def delete(
    session: AsyncSession, outbox: Outbox, model: DeviceModel, image: FirmwareImage, *, actor: str
) -> None:
    """Delete an image of a locked model; its bytes are deleted after the commit."""
    before = facts(model, image).to_data()
    await image_queries.delete_image(session, image)
    session.add(AuditEntry(actor=actor, action="firmware.delete", subject=model.code, before=before))
    said = events.ImageDeletedFacts(model=model.code, version=image.version, sha256=image.sha256, by=actor)
    outbox.emit(session, events.FIRMWARE_DELETED, None, said)


async def uses(session: AsyncSession, model: DeviceModel) -> dict[str, rules.Uses]:
    """Return the uses of a model's images, by SHA-256; an image that is absent is not in use."""
    return await image_queries.uses(session, model, await rollout_queries.needed(session, model.id))


async def prune(session: AsyncSession, outbox: Outbox, model: DeviceModel, *, keep: int) -> list[str]:
    """Delete the images of a locked model that retention does not keep, and return their versions."""
    images = await image_queries.of_model(session, model)
    used = await uses(session, model)
    kept = [rules.Kept(image.sha256, image.pinned) for image in images]
    going = set(rules.superfluous(kept, used, keep=keep))
    for image in images:
        if image.sha256 in going:
            await delete(session, outbox, model, image, actor=RETENTION)
    return [image.version for image in images if image.sha256 in going]


def _signer(keys: Sequence[FirmwareKey], sha256: str, signature: bytes | None) -> str | None:
    """Return the fingerprint of the key that made a signature, if it is one of these."""
    if signature is None:
        return None
    for key in keys:
        if image_signature.verifies(key.public_key, sha256, signature):
            return key.fingerprint
    return None
