"""Operations on devices, and their provisioning packages."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field

from shared.protocol.admin.connections import DeviceConnectionView
from shared.protocol.admin.encoding import Base64
from shared.protocol.admin.names import DeviceName, ModelCode, Tag, Tags
from shared.protocol.admin.operation import Operation, Removed, Request, Result, Role
from shared.protocol.messages import ConnectionId, Count, Line, Recovery, WifiNetwork
from shared.protocol.wording import pattern

Health = Literal["healthy", "warning", "critical", "inactive", "never_seen", "disabled"]
HealthReasonName = Literal[
    "offline",
    "refused",
    "clash",
    "config_rejected",
    "config_reverted",
    "connection_refused",
    "firmware_withheld",
    "firmware_failed",
    "firmware_rolled_back",
    "rotation_timeout",
    "core_dump",
    "flaws",
]
PresenceState = Literal["online", "asleep", "offline"]
RotationState = Literal["OK", "QUEUED", "PENDING", "TIMEOUT"]
NVS_PAGE_BYTES: Final = 0x1000
MIN_NVS_BYTES: Final = 0x3000
MAX_NVS_BYTES: Final = 0x4_0000
DEFAULT_NVS_BYTES: Final = 0x6000


class DeviceAdd(Request):
    """Add a device: its row, its Keycloak client and its broker account, or nothing at all.

    With `unique_name` it is refused if a device of the model has this name: `conflict`, with that device's
    `client_id` in the details.
    """

    model: ModelCode
    name: Line = ""
    tags: Tags = []
    unique_name: bool = False


class DeviceRef(Request):
    """Reference to a device."""

    device: DeviceName


class HealthReason(Result):
    """Why a device is not healthy, since when, and the details if there are any."""

    reason: HealthReasonName
    level: Health
    since: AwareDatetime
    detail: str | None = None


class DeviceView(Result):
    """A device: its desired state and its last report; with `has_key` it can recover by itself.

    Its `health` is the level of the worst of the `health_reasons`, which come first. `last_seen_at` is when it was
    last known to be connected: the time of the answer if it is.
    A device that is `asleep` is not connected, and has until `asleep_until` to come back. `wake_interval_s` is the
    one of its last status.
    """

    client_id: str
    key: str
    model: str
    name: str
    tags: list[str]
    enabled: bool
    online: bool
    presence: PresenceState
    health: Health
    health_reasons: list[HealthReason] = []
    last_seen_at: AwareDatetime | None
    wake_interval_s: int | None
    asleep_until: AwareDatetime | None
    firmware_version: str | None
    config_version: int
    config_version_reported: int | None
    config_outcome: str | None
    config_error: str | None
    secret_generation: int
    secret_created_at: AwareDatetime
    has_key: bool
    rotation_state: str


class FlawView(Result):
    """A field that is left out of a device's messages on a topic, since `at`, and the rule that it breaks."""

    topic: str
    field: str
    rule: str
    at: AwareDatetime


class DeviceDetails(DeviceView):
    """A device, with what it reports of itself, and against the rules of the protocol.

    `rssi_dbm`, `ip`, `chip` and `reset_reason` are of its last status, as is `secret_generation_reported`, that of
    its login. `up_since` is when it started: by the uptime among its vitals, else when it was first seen after its
    start; None if it is not online, or neither is known. `clashed_at` is when two boards last used its identity,
    None if that is over for ten minutes.
    """

    rssi_dbm: int | None = None
    ip: str | None = None
    chip: str | None = None
    reset_reason: str | None = None
    up_since: AwareDatetime | None = None
    secret_generation_reported: int | None = None

    flaws: list[FlawView] = []
    clashed_at: AwareDatetime | None = None
    connection: DeviceConnectionView | None = None


class DeviceList(Request):
    """List a page of the devices that match all filters, in the order in which they were added.

    `online`: it is connected, or is not; `presence` distinguishes those that are asleep from those that are
    offline. `drift`: the device was seen, and the desired configuration is not the one that it reported applied;
    false if that is. `after` is the `next` of the page before.
    """

    model: ModelCode | None = None
    tag: Tag | None = None
    online: bool | None = None
    presence: PresenceState | None = None
    health: Health | None = None
    drift: bool | None = None
    rotation_state: RotationState | None = None
    after: Count = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 500


class Devices(Result):
    """A page of devices; `next` is None on the last."""

    devices: list[DeviceView]
    next: int | None = None


class DeviceFind(Request):
    """Find the devices that a text names.

    It is the first of these that fits any: the client id or key; the uid, also written as A0:B7:65:01:02:03; the
    display name; the display name in other capitals; the beginning of a client id or key.
    """

    text: Annotated[str, pattern(r"^[^\x00-\x1f\x7f]+$", "must be one line, and not empty", max_length=200)]


class DeviceMatch(Result):
    """A device that a text may name."""

    client_id: str
    name: str


class DevicesFound(Result):
    """The devices that a text may name, oldest first; `is_cut` if there are more."""

    devices: list[DeviceMatch]
    is_cut: bool = False


class DeviceUpdate(Request):
    """Change the given fields of a device; when disabled, Keycloak and the broker refuse it at once."""

    device: DeviceName
    name: Line | None = None
    tags: Tags | None = None
    enabled: bool | None = None


class Package(Result):
    """All that a new device needs to connect; whoever has it can act as the device.

    `connection_id` is that of the connection profile that is a part of it.
    """

    format: Literal["mdm-package/1"] = "mdm-package/1"
    client_id: str
    device_key: str
    secret: str = Field(repr=False)
    secret_generation: int
    token_url: str
    mqtt_host: str
    mqtt_port: int
    mqtt_tls: bool
    mqtt_auth: Literal["password", "token"] = "password"
    ca_certificate: str | None
    recovery: Recovery | None = None
    connection_id: ConnectionId | None = None
    wifi: list[WifiNetwork] | None = None


class DeviceNvs(DeviceRef):
    """Get the package as the image of an NVS partition of this size, a multiple of 4096.

    With `wifi_ssid` the image also has a Wi-Fi network. Its password may be a PSK of 64 hexadecimal digits; it is
    empty if the network is open, and is not stored.
    """

    size_bytes: Annotated[int, Field(ge=MIN_NVS_BYTES, le=MAX_NVS_BYTES, multiple_of=NVS_PAGE_BYTES)] = (
        DEFAULT_NVS_BYTES
    )
    wifi_ssid: str | None = None
    wifi_password: Annotated[str, Field(repr=False)] = ""


class NvsImage(Result):
    """The image of an NVS partition that makes a machine this device; whoever has it can act as the device."""

    client_id: str
    secret_generation: int
    data: Annotated[Base64, Field(repr=False)]


DEVICE_ADD = Operation("registry", "device", "add", DeviceAdd, DeviceView, role=Role.OPERATOR)
DEVICE_LIST = Operation("registry", "device", "list", DeviceList, Devices, once=False, role=Role.VIEWER)
DEVICE_FIND = Operation("registry", "device", "find", DeviceFind, DevicesFound, once=False, role=Role.VIEWER)
DEVICE_SHOW = Operation("registry", "device", "show", DeviceRef, DeviceDetails, once=False, role=Role.VIEWER)
DEVICE_UPDATE = Operation("registry", "device", "update", DeviceUpdate, DeviceView, role=Role.OPERATOR)
DEVICE_REMOVE = Operation("registry", "device", "remove", DeviceRef, Removed)
DEVICE_REISSUE = Operation("registry", "device", "reissue", DeviceRef, Package, secret=True)
DEVICE_PROVISION = Operation("registry", "device", "provision", DeviceRef, Package, once=False)
DEVICE_NVS = Operation("registry", "device", "nvs", DeviceNvs, NvsImage, once=False)
