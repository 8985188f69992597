"""Operations on firmware images."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.esp32.ed25519 import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from shared.protocol.admin.encoding import Base64
from shared.protocol.admin.models import MAX_IMAGE_BYTES
from shared.protocol.admin.names import DeviceName, ModelCode, PageSize
from shared.protocol.admin.operation import Operation, Removed, Request, Result, Role
from shared.protocol.messages import MAX_CHUNK_BYTES, Count, Sha256, Version
from shared.protocol.wording import pattern


class UploadBegin(Request):
    """Announce an image for a model; `version` is its label, by default the version embedded in the image."""

    model: ModelCode
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1, le=MAX_IMAGE_BYTES)]
    version: Version | None = None


class Upload(Result):
    """An upload in progress: the offsets of the missing chunks, and the size of a chunk."""

    upload_id: UUID
    chunk_size_bytes: int
    missing: list[int]


class UploadChunk(Request):
    """One chunk of an image; all have `Upload.chunk_size_bytes` bytes, except the last."""

    upload_id: UUID
    offset: Count
    data: Annotated[Base64, Field(max_length=MAX_CHUNK_BYTES, repr=False)]


Signature = Annotated[Base64, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class UploadFinish(Request):
    """Check the whole image and store it; `release` makes it the model's image and notifies the devices.

    `signature` must be valid if the model trusts a key; it replaces that of an image that is stored already.
    """

    upload_id: UUID
    release: bool = True
    signature: Signature | None = None


class ImageRef(Request):
    """Reference to an image: a model has one of each label."""

    model: ModelCode
    version: Version


class ImageView(Result):
    """A stored image: its label `version`, and the facts in it; chip revisions are major * 100 + minor.

    A device may say that it runs the image by any of `sha256`, `app_sha256` (the digest appended to it) and
    `elf_sha256`. `secure_boot_keys` are the digests of the keys of its Secure Boot signatures. `signature` is the
    detached one in base64, and `signed_by` the fingerprint of the trusted key that made it; None if none did.
    """

    sha256: str
    model: str
    version: str
    embedded_version: str | None
    project: str
    chip: str
    size_bytes: int
    idf_version: str
    secure_version: int
    min_chip_revision: int
    max_chip_revision: int | None
    secure_boot_signatures: int
    secure_boot_keys: list[str]
    app_sha256: str | None
    elf_sha256: str | None
    uploaded_at: AwareDatetime
    current: bool
    pinned: bool
    signature: str | None
    signed_by: str | None


class ImageDetails(ImageView):
    """A stored image, its uploader, and how many devices run it or are fetching it."""

    uploaded_by: str
    running: int
    delivering: int
    rollout: int | None = None


MAX_IMAGE_PIECE_BYTES: Final = 128 * 1024


class ImageRead(Request):
    """Read bytes of a stored image from `offset`: `length` of them, fewer where the image ends.

    The image is named by its hash, so that all reads are of the same image.
    """

    sha256: Sha256
    offset: Count = 0
    length: Annotated[int, Field(ge=1, le=MAX_IMAGE_PIECE_BYTES)] = MAX_IMAGE_PIECE_BYTES


class ImageBytes(Result):
    """Bytes of an image."""

    data: Annotated[Base64, Field(repr=False)]


class ImageList(Request):
    """List a page of the images of a model, or of all; `after` is the `next` of the page before."""

    model: ModelCode | None = None
    after: Annotated[str, pattern(r"^[a-z0-9_]{1,50}/[0-9a-f]{64}$", "must be `next` of a page")] | None = None
    limit: PageSize = 500


class Images(Result):
    """Stored images, newest first; `next` is None on the last page."""

    images: list[ImageView]
    next: str | None = None


class FirmwareOf(Request):
    """Show the firmware of these devices; those that are unknown or disabled are left out of the answer."""

    devices: Annotated[list[DeviceName], Field(max_length=500)]


class DeviceFirmware(Result):
    """The label of the stored image that a device `runs`, and of the one that is `wanted` for it.

    `stage` and `percent` are its progress with that; `withheld` is the reason why it does not get it.
    """

    client_id: str
    runs: str | None
    wanted: str | None
    up_to_date: bool
    stage: str | None
    percent: int | None
    withheld: str | None


class DevicesFirmware(Result):
    """The firmware of devices."""

    devices: list[DeviceFirmware]


class Withdraw(Request):
    """Leave a model without an image: its devices keep what they run."""

    model: ModelCode


class Received(Result):
    """A chunk is stored."""

    received: bool = True


class KeyAdd(Request):
    """Trust a public Ed25519 key, 32 bytes as in RFC 8032, for the images of a model."""

    model: ModelCode
    public_key: Annotated[Base64, Field(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]


class KeyRef(Request):
    """Reference to one key of a model by its fingerprint: the SHA-256 of its DER."""

    model: ModelCode
    fingerprint: Sha256


class KeyList(Request):
    """List the keys that a model trusts."""

    model: ModelCode


class KeyView(Result):
    """A key that a model trusts; `public_key` is base64."""

    fingerprint: str
    public_key: str
    author: str
    created_at: AwareDatetime


class Keys(Result):
    """The keys that a model trusts, oldest first; with none, it accepts images without a signature."""

    model: str
    keys: list[KeyView]


UPLOAD_BEGIN = Operation("firmware", "upload", "begin", UploadBegin, Upload, once=False, role=Role.OPERATOR)
UPLOAD_CHUNK = Operation("firmware", "upload", "chunk", UploadChunk, Received, once=False, role=Role.OPERATOR)
UPLOAD_FINISH = Operation("firmware", "upload", "finish", UploadFinish, ImageView, role=Role.OPERATOR)
IMAGE_LIST = Operation("firmware", "image", "list", ImageList, Images, once=False, role=Role.VIEWER)
IMAGE_SHOW = Operation("firmware", "image", "show", ImageRef, ImageDetails, once=False, role=Role.VIEWER)
FIRMWARE_OF = Operation("firmware", "device", "show", FirmwareOf, DevicesFirmware, once=False, role=Role.VIEWER)
IMAGE_READ = Operation("firmware", "image", "read", ImageRead, ImageBytes, once=False, role=Role.OPERATOR)
IMAGE_RELEASE = Operation("firmware", "image", "release", ImageRef, ImageView, role=Role.OPERATOR)
IMAGE_WITHDRAW = Operation("firmware", "image", "withdraw", Withdraw, Removed, role=Role.OPERATOR)
IMAGE_PIN = Operation("firmware", "image", "pin", ImageRef, ImageView, role=Role.OPERATOR)
IMAGE_UNPIN = Operation("firmware", "image", "unpin", ImageRef, ImageView, role=Role.OPERATOR)
IMAGE_DELETE = Operation("firmware", "image", "delete", ImageRef, Removed)
KEY_ADD = Operation("firmware", "key", "add", KeyAdd, Keys)
KEY_LIST = Operation("firmware", "key", "list", KeyList, Keys, once=False, role=Role.VIEWER)
KEY_REMOVE = Operation("firmware", "key", "remove", KeyRef, Keys)
