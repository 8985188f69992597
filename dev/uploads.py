"""Uploads of images by an admin."""

from __future__ import annotations

import base64
import hashlib

from dev.fleet import Fleet
from device import image_builder
from shared.protocol import admin
from shared.protocol.admin import ImageView


async def upload(
    fleet: Fleet,
    model: str,
    image: bytes,
    *,
    version: str | None = None,
    release: bool = True,
    signature: bytes | None = None,
) -> ImageView:
    """Upload an image and return it."""
    begun = await begin(fleet, model, image, version=version)
    signed = None if signature is None else base64.b64encode(signature)
    return await fleet.ask(admin.UPLOAD_FINISH, upload_id=begun.upload_id, release=release, signature=signed)


async def begin(fleet: Fleet, model: str, image: bytes, *, version: str | None = None) -> admin.Upload:
    """Upload all chunks of an image without finishing."""
    begun = await fleet.ask(
        admin.UPLOAD_BEGIN,
        model=model,
        sha256=hashlib.sha256(image).hexdigest(),
        size_bytes=len(image),
        version=version,
    )
    for offset in begun.missing:
        piece = base64.b64encode(image[offset : offset + begun.chunk_size_bytes])
        await fleet.ask(admin.UPLOAD_CHUNK, upload_id=begun.upload_id, offset=offset, data=piece)
    return begun


def build(model: str, version: str, *, size_bytes: int = 1024) -> bytes:
    """Return an ESP32 image of a model, with the model's code as project name."""
    return image_builder.build(version=version, project=model, size_bytes=size_bytes)


async def versions(fleet: Fleet, model: str) -> list[str]:
    """Return the versions of a model's images, newest first."""
    return [image.version for image in (await fleet.ask(admin.IMAGE_LIST, model=model)).images]
