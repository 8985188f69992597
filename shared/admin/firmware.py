"""Operations on firmware images."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Base64Bytes, Field

from shared.admin.models import MAX_IMAGE_BYTES
from shared.admin.names import ModelCode
from shared.admin.operation import Nothing, Operation, Request, Result
from shared.messages import MAX_CHUNK_BYTES, Count, Sha256, Version


class UploadBegin(Request):
    """Announce an image for a model; `version`, when given, must be the one embedded in the image."""

    model: ModelCode
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1, le=MAX_IMAGE_BYTES)]
    version: Version | None = None


class Upload(Result):
    """An upload under way: which pieces are still missing, as offsets, and how long a piece is."""

    upload_id: UUID
    chunk_size_bytes: int
    missing: list[int]


class UploadChunk(Request):
    """One piece of an image; all are as long as `Upload.chunk_size_bytes` but the last."""

    upload_id: UUID
    offset: Count
    data: Annotated[Base64Bytes, Field(max_length=MAX_CHUNK_BYTES, repr=False)]


class UploadFinish(Request):
    """Check the whole image and store it; `release` makes it the model's image and tells the devices."""

    upload_id: UUID
    release: bool = True


class ImageView(Result):
    """A stored image, as its own descriptor describes it."""

    sha256: str
    model: str
    version: str
    project: str
    chip: str
    size_bytes: int
    idf_version: str
    secure_version: int
    elf_sha256: str
    uploaded_at: AwareDatetime
    current: bool


class Images(Result):
    """Stored images, newest first."""

    images: list[ImageView]


class Received(Result):
    """A piece is stored."""

    received: bool = True


UPLOAD_BEGIN = Operation("firmware", "upload", "begin", UploadBegin, Upload, once=False)
UPLOAD_CHUNK = Operation("firmware", "upload", "chunk", UploadChunk, Received, once=False)
UPLOAD_FINISH = Operation("firmware", "upload", "finish", UploadFinish, ImageView)
IMAGE_LIST = Operation("firmware", "image", "list", Nothing, Images, once=False)
