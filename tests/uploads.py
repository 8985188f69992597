"""Images brought in as an admin does it."""

from __future__ import annotations

import base64
import hashlib

from shared import admin
from shared.admin import ImageView
from tests.fleet import Fleet


async def upload(fleet: Fleet, model: str, image: bytes, *, version: str | None = None) -> ImageView:
    """Upload an image in pieces, and release it to its model."""
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
    return await fleet.ask(admin.UPLOAD_FINISH, upload_id=begun.upload_id)
