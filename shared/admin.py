"""The admin's operations: what a command line may ask of which service, declared once.

A request goes to `admin/{account}/{service}/{noun}/{verb}` with an MQTT 5 Response Topic below
`replies/{account}/` and Correlation Data; the broker has checked the account
in the topic (ADR 0001).
The same `request_id` has one effect and one answer, however often it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from shared.messages import MAX_CHUNK_BYTES, Count, Document, Line, RequestId, Sha256, TrialSeconds, Version
from shared.topics import PREFIX, Topic

ModelCode = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}$")]
Chip = Literal["esp32", "esp32s2", "esp32s3", "esp32c2", "esp32c3", "esp32c6", "esp32h2", "esp32p4"]
Tag = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:-]{1,50}$")]
Tags = Annotated[list[Tag], Field(max_length=50)]
DeviceName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,80}$")]
"""A device's key or its whole client id."""

MAX_IMAGE_BYTES = 16 * 1024 * 1024


SlotSize = Annotated[int, Field(ge=64 * 1024, le=MAX_IMAGE_BYTES)]
Health = Literal["healthy", "warning", "critical", "inactive"]
RotationState = Literal["OK", "QUEUED", "PENDING", "TIMEOUT"]


class Request(BaseModel):
    """The base of all requests; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    request_id: RequestId


class Result(BaseModel):
    """The base of all results."""

    model_config = ConfigDict(frozen=True)


class Problem(BaseModel):
    """Why a request was refused; `code` is for scripts, `message` for people, `details` are the facts."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Answer(BaseModel):
    """What comes back: `result` when `ok`, else `error`."""

    ok: bool
    result: dict[str, Any] | None = None
    error: Problem | None = None


class ModelAdd(Request):
    """Add a device model; its code can not be changed later."""

    code: ModelCode
    name: Line = ""
    chip: Chip
    slot_size_bytes: SlotSize = 1536 * 1024
    config_schema: Document | None = None
    config_defaults: Document = {}


class ModelView(Result):
    """A device model."""

    code: str
    name: str
    chip: str
    slot_size_bytes: int
    config_schema: dict[str, Any] | None
    config_defaults: dict[str, Any]
    devices: int


class Nothing(Request):
    """A request without parameters."""


class ModelUpdate(Request):
    """Change what is given of a model; its code can not be changed."""

    code: ModelCode
    name: Line | None = None
    chip: Chip | None = None
    slot_size_bytes: SlotSize | None = None


class ModelRef(Request):
    """Name one model."""

    code: ModelCode


class Removed(Result):
    """What was removed."""

    removed: str


class Models(Result):
    """All device models."""

    models: list[ModelView]


class DeviceAdd(Request):
    """Add a device: its row, its Keycloak client and its broker account, or nothing at all."""

    model: ModelCode
    name: Line = ""
    tags: Tags = []


class DeviceRef(Request):
    """Name one device."""

    device: DeviceName


class DeviceView(Result):
    """A device: what is wanted of it and what it last said."""

    client_id: str
    key: str
    model: str
    name: str
    tags: list[str]
    enabled: bool
    online: bool
    health: Health
    last_seen_at: AwareDatetime | None
    firmware_version: str | None
    config_version: int
    config_version_reported: int | None
    config_outcome: str | None
    config_error: str | None
    secret_generation: int
    secret_created_at: AwareDatetime
    rotation_state: str


class DeviceList(Request):
    """Ask for a page of the devices that fit all that is given, in the order of their making.

    `drift`: the desired configuration is not the one that the device reported applied. `after` is the `next` of
    the page before.
    """

    model: ModelCode | None = None
    tag: Tag | None = None
    online: bool | None = None
    drift: bool | None = None
    rotation_state: RotationState | None = None
    after: Count = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 500


class Devices(Result):
    """A page of devices; `next` is None on the last."""

    devices: list[DeviceView]
    next: int | None = None


class DeviceUpdate(Request):
    """Change what is given of a device; disabled, it is refused by Keycloak and by the broker at once."""

    device: DeviceName
    name: Line | None = None
    tags: Tags | None = None
    enabled: bool | None = None


class Doctor(Request):
    """Compare database, Keycloak and broker; with `repair`, mend what can be mended."""

    repair: bool = False


class Finding(Result):
    """One thing that does not agree; `remedy` is what a repair does, or what a person has to do."""

    client_id: str
    problem: str
    remedy: str
    repaired: bool = False


class Diagnosis(Result):
    """What was compared, and what does not agree."""

    devices: int
    findings: list[Finding]


class AuditList(Request):
    """Ask for the newest entries of the audit log, about one subject or by one account if given."""

    subject: Annotated[str, Field(max_length=100)] | None = None
    actor: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class AuditView(Result):
    """Who did what, on what, when, and what was there before and after."""

    at: AwareDatetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Audit(Result):
    """Entries of the audit log, newest first."""

    entries: list[AuditView]


class Package(Result):
    """All that a new device needs to come online; whoever holds it is the device."""

    format: Literal["mdm-package/1"] = "mdm-package/1"
    client_id: str
    device_key: str
    secret: str = Field(repr=False)
    secret_generation: int
    token_url: str
    mqtt_host: str
    mqtt_port: int
    mqtt_tls: bool
    ca_certificate: str | None


class ConfigSet(Request):
    """Change what is special about one device's configuration; the model's defaults fill in the rest.

    `overrides` is merged into what was special before (RFC 7396: null removes), or replaces it.
    `trial_seconds`: the device must reconnect and report within that time, or goes back to the last good one.
    """

    device: DeviceName
    overrides: Document
    replace: bool = False
    trial_seconds: TrialSeconds | None = None


class ConfigSetResult(Result):
    """The new desired version, or the old one when nothing changed."""

    client_id: str
    version: int
    changed: bool
    document: dict[str, Any]


ConfigVersion = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ConfigGet(Request):
    """Ask for a version of a device's configuration, the desired one if none is given."""

    device: DeviceName
    version: ConfigVersion | None = None


class ConfigHistory(Request):
    """Ask for a page of the versions of a device's configuration; `before` is the `next` of the page before."""

    device: DeviceName
    before: ConfigVersion | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class ConfigEntry(Result):
    """A version, who made it when, and what the device reported of it, if it did."""

    version: int
    author: str
    created_at: AwareDatetime
    trial_seconds: int | None
    outcome: str | None
    reported_at: AwareDatetime | None


class ConfigView(ConfigEntry):
    """A version with its documents; `desired` and `reported` are the device's versions now."""

    client_id: str
    overrides: dict[str, Any]
    document: dict[str, Any]
    desired: int
    reported: int | None
    reported_outcome: str | None


class ConfigVersions(Result):
    """A page of versions, newest first; `next` is None on the last."""

    client_id: str
    desired: int
    versions: list[ConfigEntry]
    next: int | None = None


class ConfigDiff(Request):
    """Compare two versions: by default the desired one with the one before it; 0 is the empty document."""

    device: DeviceName
    from_version: Count | None = None
    to_version: Count | None = None


class ConfigChange(Result):
    """What differs at a path, by the names of the objects from the outermost; an array is compared as a whole."""

    path: list[str]
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


class ConfigChanges(Result):
    """All that differs between two versions, by path."""

    client_id: str
    from_version: int
    to_version: int
    changes: list[ConfigChange]


class ConfigRollback(Request):
    """Make what was special in an old version the newest version, as today's defaults and layers fill it in."""

    device: DeviceName
    version: ConfigVersion


LayerPriority = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class LayerSet(Request):
    """Change what all devices with a tag have in common; a device's own overrides win over it.

    `document` is merged into the layer that there is (RFC 7396: null removes), or replaces it: then a null removes
    what the model's defaults or layers below it say. Layers apply in the order of priority, then tag.
    """

    tag: Tag
    document: Document
    replace: bool = False
    priority: LayerPriority | None = None


class LayerRef(Request):
    """Name one layer."""

    tag: Tag


class LayerView(Result):
    """A layer, and who changed it last."""

    tag: str
    priority: int
    document: dict[str, Any]
    author: str
    updated_at: AwareDatetime


class Layers(Result):
    """All layers in the order in which they apply."""

    layers: list[LayerView]


class LayerResult(Result):
    """The layer as it is now, None when it was removed, and the devices that got a new version by it."""

    tag: str
    layer: LayerView | None
    devices: list[str]


class RotationStart(Request):
    """Queue devices for a rotation of their secrets: one, or all that are enabled, said in so many words."""

    device: DeviceName | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if (self.device is None) != self.all:
            raise ValueError("exactly one of device and all must be given")
        return self


class RotationQueued(Result):
    """The devices that are queued now; `already` were queued or under way before."""

    queued: list[str]
    already: list[str]


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


R = TypeVar("R", bound=Request)
A = TypeVar("A", bound=Result)


@dataclass(frozen=True)
class Operation(Generic[R, A]):
    """Something an admin can ask of a service.

    `once` says that the answer is recorded, so that a repeated request_id gets the same one; a question that
    changes nothing, or whose answer holds a secret, is simply answered again.
    """

    service: str
    noun: str
    verb: str
    request: type[R]
    result: type[A]
    once: bool = True
    max_bytes: int = 128 * 1024

    @property
    def name(self) -> str:
        """The operation's name, as in `registry.device.add`."""
        return f"{self.service}.{self.noun}.{self.verb}"

    @cached_property
    def topic(self) -> Topic[R]:
        """The topic that carries its requests."""
        template = f"{PREFIX}/admin/{{account}}/{self.service}/{self.noun}/{self.verb}"
        return Topic(template, self.request, max_bytes=self.max_bytes)


REPLY = Topic(f"{PREFIX}/replies/{{account}}/{{client_id}}", Answer, max_bytes=1024 * 1024)

MODEL_ADD = Operation("registry", "model", "add", ModelAdd, ModelView)
MODEL_LIST = Operation("registry", "model", "list", Nothing, Models, once=False)
DEVICE_ADD = Operation("registry", "device", "add", DeviceAdd, DeviceView)
DEVICE_LIST = Operation("registry", "device", "list", DeviceList, Devices, once=False)
DEVICE_SHOW = Operation("registry", "device", "show", DeviceRef, DeviceView, once=False)
MODEL_UPDATE = Operation("registry", "model", "update", ModelUpdate, ModelView)
MODEL_REMOVE = Operation("registry", "model", "remove", ModelRef, Removed)
DEVICE_UPDATE = Operation("registry", "device", "update", DeviceUpdate, DeviceView)
DEVICE_REMOVE = Operation("registry", "device", "remove", DeviceRef, Removed)
DEVICE_REISSUE = Operation("registry", "device", "reissue", DeviceRef, Package, once=False)
DOCTOR = Operation("registry", "doctor", "run", Doctor, Diagnosis, once=False)
AUDIT_LIST = Operation("registry", "audit", "list", AuditList, Audit, once=False)
DEVICE_PROVISION = Operation("registry", "device", "provision", DeviceRef, Package, once=False)
CONFIG_SET = Operation("registry", "config", "set", ConfigSet, ConfigSetResult)
CONFIG_GET = Operation("registry", "config", "get", ConfigGet, ConfigView, once=False)
CONFIG_HISTORY = Operation("registry", "config", "history", ConfigHistory, ConfigVersions, once=False)
CONFIG_DIFF = Operation("registry", "config", "diff", ConfigDiff, ConfigChanges, once=False)
CONFIG_ROLLBACK = Operation("registry", "config", "rollback", ConfigRollback, ConfigSetResult)
LAYER_SET = Operation("registry", "layer", "set", LayerSet, LayerResult)
LAYER_SHOW = Operation("registry", "layer", "show", LayerRef, LayerView, once=False)
LAYER_LIST = Operation("registry", "layer", "list", Nothing, Layers, once=False)
LAYER_REMOVE = Operation("registry", "layer", "remove", LayerRef, LayerResult)
ROTATION_START = Operation("rotator", "rotation", "start", RotationStart, RotationQueued)
UPLOAD_BEGIN = Operation("firmware", "upload", "begin", UploadBegin, Upload, once=False)
UPLOAD_CHUNK = Operation("firmware", "upload", "chunk", UploadChunk, Received, once=False)
UPLOAD_FINISH = Operation("firmware", "upload", "finish", UploadFinish, ImageView)
IMAGE_LIST = Operation("firmware", "image", "list", Nothing, Images, once=False)
