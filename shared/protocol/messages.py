"""The payloads between devices and services, protocol version 1: the only declaration of each.

Unknown fields from a device are ignored, so that old firmware works with new servers and the other way round.
Times are RFC 3339 in UTC on the wire and aware `datetime`s in the code.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    model_validator,
)
from pydantic.dataclasses import dataclass

from shared.protocol import words
from shared.protocol.wording import pattern

MAX_DOCUMENT_BYTES = 32 * 1024
MAX_DOCUMENT_DEPTH = 64
"""Far below the parser's limit of 200: an accepted document can also be sent inside an answer."""
MAX_CHUNK_BYTES = 64 * 1024
MAX_WAKE_INTERVAL_S: Final = 30 * 24 * 3600
_SHA256_BYTES: Final = 32
_OFFSET_BYTES: Final = 4
_HEADER_BYTES: Final = _SHA256_BYTES + _OFFSET_BYTES
_BIGINT_MAX = 2**63 - 1
_LINES_MAX = 2**53
_LINE_MAX: Final = 200
_LOG_TEXT_MAX: Final = 1000
_VITAL_MAX: Final = 1e15
"""All whole numbers up to it are exact as doubles."""
_SSID_MAX: Final = 32
_PASSPHRASE: Final = range(8, 64)
_PSK: Final = re.compile("[0-9A-Fa-f]{64}")
_CA_MAX: Final = 16_000
"""Far below what fits into one message, with everything else in a profile."""
_NO_BLANKS: Final = "must be printable ASCII characters without blanks"
BASE64URL: Final = "must be 32 bytes in base64url, without padding"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _depth(value: JsonValue) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _written_out(value: JsonValue) -> int:
    """Return how many bytes a value grows by, as jsonb writes large doubles without an exponent."""
    if isinstance(value, float):
        return max(0, len(str(int(value))) - len(repr(value)))
    if not isinstance(value, dict | list):
        return 0
    return sum(map(_written_out, value.values() if isinstance(value, dict) else value))


def storable(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the document; raise ValueError for one that jsonb or a device could not store."""
    if _depth(document) > MAX_DOCUMENT_DEPTH:
        raise ValueError(f"must be nested at most {MAX_DOCUMENT_DEPTH} levels deep")
    try:
        # As it is sent.
        text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size_bytes = len(text.encode()) + _written_out(document)
    except ValueError as error:
        raise ValueError(f"must be plain JSON: {error}") from None
    if _ESCAPED_NUL.search(text):
        raise ValueError("must not contain the character U+0000")
    if size_bytes > MAX_DOCUMENT_BYTES:
        raise ValueError(f"must be at most {MAX_DOCUMENT_BYTES} bytes, has {size_bytes}")
    return document


Document = Annotated[
    dict[str, JsonValue],
    AfterValidator(storable),
    Field(
        description="A JSON object of at most 32 KiB, at most 64 levels deep, without NaN, infinity and U+0000."
    ),
]
Line = Annotated[
    str, pattern(r"^[^\x00-\x1f\x7f]*$", "must be a line of text without control characters", max_length=_LINE_MAX)
]
Version = Annotated[
    str, pattern(r"^[\x20-\x7e]+$", "must be printable ASCII characters only", min_length=1, max_length=32)
]
"""As in the descriptor of an ESP32 image; images built by Arduino have spaces in it."""


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _rounded(value: object) -> object:
    return round(value) if isinstance(value, float) and math.isfinite(value) else value


def _line(value: object) -> object:
    return _CONTROL.sub(" ", value)[:_LINE_MAX] if isinstance(value, str) else value


def _log_text(value: object) -> object:
    return value.replace("\0", "")[:_LOG_TEXT_MAX] if isinstance(value, str) else value


DeviceLine = Annotated[Line, BeforeValidator(_line)]
"""A line of a device: what is too long is cut, and control characters become spaces."""
Sha256 = Annotated[str, pattern(r"^[0-9a-f]{64}$", "must be 64 hexadecimal digits"), BeforeValidator(_lower)]
"""Some libraries write hexadecimal digits in upper case."""
Count = Annotated[int, Field(ge=0, le=_BIGINT_MAX)]
Amount = Annotated[Count, BeforeValidator(_rounded)]
"""What a device has measured or computed, perhaps as a float; unlike a number that identifies something."""
SlotSize = Annotated[int, Field(ge=1, le=_BIGINT_MAX), BeforeValidator(_rounded)]
WakeInterval = Annotated[int, Field(ge=1, le=MAX_WAKE_INTERVAL_S), BeforeValidator(_rounded)]
ChunkOffset = Annotated[int, Field(ge=0, le=2 ** (8 * _OFFSET_BYTES) - 1)]
TrialSeconds = Annotated[int, Field(ge=1, le=24 * 3600)]
Url = Annotated[
    str, pattern(r"^https?://[\x21-\x7e]+$", "must begin with http:// or https://, without blanks", max_length=500)
]
RequestId = Annotated[str, pattern(r"^[\x21-\x7e]+$", _NO_BLANKS, min_length=1, max_length=64)]
ConnectionId = Annotated[str, pattern(r"^[0-9a-f]{16}$", "must be 16 hexadecimal digits in lower case")]
Host = Annotated[str, pattern(r"^[\x21-\x7e]+$", _NO_BLANKS, min_length=1, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
PublicKey = Annotated[str, pattern(r"^[A-Za-z0-9_-]{43}$", BASE64URL)]
"""X25519, in base64url."""
Uid = Annotated[
    str, pattern(r"^([0-9a-f]{12}|[0-9a-f]{16})$", "must be 12 or 16 hexadecimal digits in lower case")
]
"""A machine's MAC address or the id of its chip."""


def _ssid(ssid: str) -> str:
    if "\0" in ssid or not 1 <= len(ssid.encode()) <= _SSID_MAX:
        raise ValueError(f"must be 1 to {_SSID_MAX} bytes of UTF-8, without NUL")
    return ssid


def _wifi_password(password: str) -> str:
    is_passphrase = len(password) in _PASSPHRASE and password.isascii() and password.isprintable()
    if password and not is_passphrase and not _PSK.fullmatch(password):
        raise ValueError(
            "must be empty, 8 to 63 printable ASCII characters, or a key of 64 hexadecimal digits; "
            f"has {len(password)} characters"
        )
    return password


Ssid = Annotated[str, AfterValidator(_ssid)]
WifiPassword = Annotated[str, AfterValidator(_wifi_password)]


def server_time(now: datetime) -> datetime:
    """Return the `time` of a message that is made now: whole seconds, for short messages and simple parsers."""
    return now.replace(microsecond=0)


class Message(BaseModel):
    """The base of all payloads: immutable, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)


class FromDevice(Message):
    """The base of what devices report of themselves: an empty string counts as absent."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, facts: object) -> object:
        if isinstance(facts, dict) and "" in facts.values():
            return {name: value for name, value in facts.items() if value != ""}
        return facts


class Packed(ABC):
    """The base of payloads that are bytes with a header, and no JSON."""

    @abstractmethod
    def pack(self) -> bytes:
        """Return the payload."""

    @classmethod
    @abstractmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the decoded payload, or raise ValueError naming the rule that it breaks."""


class Status(FromDevice):
    """`up/status`, retained and also the last will: a device's report of itself when it connects.

    `chip_revision` is major * 100 + minor, as `esp_chip_info`; `secure_version` is the lowest that the bootloader
    still starts (anti-rollback), `secure_boot_keys` are the digests of the keys that it trusts, and `boot` is that
    of `Log`. A device that sleeps reports `wake_interval_s`, the time between two wake-ups, and `asleep` true when
    it ends its connection in order to sleep. `recorded` is in the `offline` that the registry publishes for a
    device that is gone, when it has stored that already.
    """

    online: bool
    firmware_version: Version | None = None
    firmware_sha256: Sha256 | None = None
    chip: DeviceLine | None = None
    chip_revision: Count | None = None
    project: DeviceLine | None = None
    slot_size_bytes: SlotSize | None = None
    secure_version: Count | None = None
    secure_boot_keys: Annotated[list[Sha256], Field(max_length=3)] | None = None
    config_version: Count | None = None
    secret_generation: Count | None = None
    boot: Count | None = None
    reset_reason: DeviceLine | None = None
    rssi_dbm: Annotated[int, Field(ge=-200, le=100), BeforeValidator(_rounded)] | None = None
    ip: DeviceLine | None = None
    wake_interval_s: WakeInterval | None = None
    asleep: bool | None = None
    recorded: bool | None = None


class WifiNetwork(Message):
    """A network and its passphrase or key (PSK), empty for an open network (IEEE 802.11, annex J.4)."""

    ssid: Ssid
    password: WifiPassword = Field("", repr=False)


CaCertificate = Annotated[str, Field(max_length=_CA_MAX)]
WifiNetworks = Annotated[list[WifiNetwork], Field(min_length=1, max_length=5)]


class ConnectionProfile(Message):
    """How a device connects: what of its package can change, with the same names as there.

    `ca_certificate` is the PEM of all authorities to trust. With `wifi` the device uses these networks, in this
    order, else those that it has. `recovery_port` is that of `Recovery`.
    """

    mqtt_host: Host
    mqtt_port: Port
    mqtt_tls: bool
    mqtt_auth: Literal["password", "token"] = "password"
    token_url: Url
    ca_certificate: CaCertificate | None = None
    recovery_port: Port | None = None
    wifi: WifiNetworks | None = None


class RefusedConnection(FromDevice):
    """A profile that a device did not keep: it could not use it (`rejected`), or its trial failed (`reverted`)."""

    connection_id: ConnectionId
    outcome: Literal["rejected", "reverted"]
    reason: DeviceLine | None = None


class ConnectionState(FromDevice):
    """The profiles that a device has; the one that came with an old package has no id.

    `in_use` is that of the present connection, perhaps on trial. `refused` is the last that was sent and not kept.
    """

    first: ConnectionId | None = None
    fallback: ConnectionId | None = None
    in_use: ConnectionId | None = None
    refused: RefusedConnection | None = None


class ConfigGet(FromDevice):
    """`up/config/get`: request the configuration, and with `connection` also a connection profile to change to."""

    request_id: RequestId
    have_version: Count | None = None
    connection: ConnectionState | None = None


class ConnectionOffer(Message):
    """`down/connection`: a profile to try, plain or as a compact JWE (ECDH-ES, A256GCM) of its JSON, never both.

    The device stores it, connects with it, and keeps it when a request of its configuration is answered over this
    connection. If that does not happen within `trial_seconds`, it goes back to the one that it used before.
    """

    connection_id: ConnectionId
    trial_seconds: TrialSeconds
    profile: ConnectionProfile | None = None
    jwe: Annotated[str, Field(max_length=MAX_DOCUMENT_BYTES)] | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.profile is None) == (self.jwe is None):
            raise ValueError("exactly one of profile and jwe must be given")
        return self


class Config(Message):
    """`down/config`: the answer to `ConfigGet`, or a push when `request_id` is absent.

    `document` is absent exactly when `unchanged`. `secret_generation` is the confirmed generation of the
    device's secret: a device that logged in with it may promote its second slot.
    `time` is the server's when it made the message.
    With `trial_seconds` the device applies the document, must reconnect and report within that time, and
    otherwise reverts to the last good one and reports `reverted`.
    """

    request_id: RequestId | None = None
    version: Count
    unchanged: bool = False
    document: Document | None = None
    trial_seconds: TrialSeconds | None = None
    secret_generation: Count
    time: AwareDatetime | None = None


class ConfigOutcome(StrEnum):
    """The outcome of a configuration on a device."""

    APPLIED = "applied"
    REJECTED = "rejected"
    REVERTED = "reverted"


class ConfigReport(FromDevice):
    """`up/config/report`: the outcome of a version."""

    version: Count
    outcome: ConfigOutcome
    error: DeviceLine | None = None


class RotationOffer(Message):
    """`down/rotation/offer`: a new secret is ready; never retained, expires at `deadline`.

    `generation` is the new secret's, `current_generation` the one in force when the offer was made. A device
    whose second slot holds `current_generation` promotes it first; generations only ever grow.
    """

    rotation_id: UUID
    deadline: AwareDatetime
    generation: Count
    current_generation: Count


class RotationRequest(Message):
    """`up/rotation/request`: request the new secret, sealed for the device's key, else for `public_key` if given.

    `proof` = HMAC(secret in force, "request:" + id): shows that the server has the device's present secret.
    """

    rotation_id: UUID
    public_key: PublicKey | None = None
    proof: Sha256 | None = None


class RotationSecret(Message):
    """`down/rotation/secret`: the new secret, plain or as a compact JWE (ECDH-ES, A256GCM), never both."""

    rotation_id: UUID
    generation: Count
    secret: Annotated[str, Field(min_length=32, max_length=255)] | None = Field(None, repr=False)
    jwe: Annotated[str, Field(max_length=2048)] | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.secret is None) == (self.jwe is None):
            raise ValueError("exactly one of secret and jwe must be given")
        return self


class RotationStored(Message):
    """`up/rotation/stored`: the secret is in the second slot; proof = HMAC(new secret, "stored:" + id).

    `current_proof` = HMAC(secret in force, "current:" + id), as in `RotationRequest`.
    """

    rotation_id: UUID
    proof: Sha256
    current_proof: Sha256 | None = None


class RotationSwitch(Message):
    """`down/rotation/switch`: Keycloak and the broker now require the new secret."""

    rotation_id: UUID
    generation: Count


class RotationAck(Message):
    """`up/rotation/ack`: logged in with the new secret; proof = HMAC(new secret, "ack:" + id)."""

    rotation_id: UUID
    proof: Sha256
    token: Annotated[str, Field(max_length=8192)] | None = Field(None, repr=False)


class RotationDone(Message):
    """`down/rotation/done`: the new secret is the device's secret; the second slot may be promoted."""

    rotation_id: UUID
    generation: Count


class RotationCancelled(Message):
    """`down/rotation/cancelled`: the old secret is in force again; the second slot may be erased."""

    rotation_id: UUID
    reason: Line


class FirmwareCheck(FromDevice):
    """`up/firmware/check`: request an image, with the running one and the limits of the board."""

    request_id: RequestId
    sha256: Sha256
    version: Version | None = None
    chip: DeviceLine | None = None
    project: DeviceLine | None = None
    slot_size_bytes: SlotSize | None = None


class FirmwareOffer(Message):
    """`down/firmware/offer`: an image to fetch, or `up_to_date`; without `request_id` it is a notice.

    `url` is the address of the same bytes over HTTP; the device may use it, or request chunks. `time` is the
    server's when it made the message.
    """

    request_id: RequestId | None = None
    up_to_date: bool = False
    sha256: Sha256 | None = None
    size_bytes: Count | None = None
    version: Version | None = None
    chunk_size_bytes: Annotated[int, Field(ge=1, le=MAX_CHUNK_BYTES)] | None = None
    window: Annotated[int, Field(ge=1, le=64)] | None = None
    url: Url | None = None
    time: AwareDatetime | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        facts = (self.sha256, self.size_bytes, self.version, self.chunk_size_bytes, self.window)
        if self.up_to_date != all(fact is None for fact in facts) or (not self.up_to_date and None in facts):
            raise ValueError("an offer names the image's sha256, size, version, chunk size and window")
        return self


class FirmwareChunkRequest(Message):
    """`up/firmware/chunk`: request `length` bytes of the image from `offset`.

    A chunk outside of the image is refused with `FirmwareCancelled`, so such a request must be parseable.
    """

    sha256: Sha256
    offset: Count
    length: Count


class FirmwareStage(StrEnum):
    """A device's progress with an image."""

    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    REBOOTING = "rebooting"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class FirmwareReport(FromDevice):
    """`up/firmware/report`: progress with one image."""

    sha256: Sha256
    stage: FirmwareStage
    percent: Annotated[int, Field(ge=0, le=100), BeforeValidator(_rounded)] | None = None
    error: DeviceLine | None = None


class FirmwareCancelled(Message):
    """`down/firmware/cancelled`: this image is not for the device; repeating the request will not help."""

    sha256: Sha256
    reason: Line


class Command(Message):
    """`down/command`: execute once, before `expires_at`; never retained."""

    command_id: UUID
    name: Line
    arguments: Document = {}
    expires_at: AwareDatetime


class CommandResult(FromDevice):
    """`up/command/result`: the answer to a command."""

    command_id: UUID
    ok: bool
    result: Document | None = None
    error: DeviceLine | None = None


LogLevel = words.LogLevel
LogTime = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
"""The device's clock may never have been set; the limits are those of the database."""


class LogLine(Message):
    """One line of a device's log; `tag` is the part of the firmware that logs."""

    level: Annotated[LogLevel, BeforeValidator(_lower)] = LogLevel.INFO
    message: Annotated[
        str, pattern(r"^[^\x00]*$", "must not contain NUL", max_length=_LOG_TEXT_MAX), BeforeValidator(_log_text)
    ]
    tag: DeviceLine | None = None
    time: LogTime | None = None
    uptime_ms: Amount | None = None


class Log(Message):
    """`up/log`: consecutive lines.

    `boot` is a random number that the device picks at each start; `first` is the number of the first line, counted
    since then. Both together identify a line, so that a repeated one is stored once.
    """

    boot: Count
    first: Annotated[int, Field(ge=0, le=_LINES_MAX)]
    lines: Annotated[list[LogLine], Field(min_length=1, max_length=50)]


VitalName = Annotated[
    str, pattern(r"^[a-z][a-z0-9_]{0,39}$", "must be 1 to 40 of a-z, 0-9 and _, and begin with a letter")
]
VitalNumber = Annotated[float, Field(ge=-_VITAL_MAX, le=_VITAL_MAX)]


class Vitals(RootModel[dict[VitalName, VitalNumber]]):
    """`up/vitals`: numbers about the device itself by name, as measured now; the unit ends the name.

    A name is 1 to 40 of a-z, 0-9 and _, and begins with a letter; a number is at most 1e15 from 0. Each of them is
    optional. Null is no number: what was not measured may be sent as that.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, numbers: object) -> object:
        if isinstance(numbers, dict):
            return {name: number for name, number in numbers.items() if number is not None}
        return numbers


class CoreDumpOffer(FromDevice):
    """`up/coredump/offer`: a core dump is in flash; repeated until it is `stored` or `refused`.

    `sha256` is of the dump and names it; `elf_sha256` is in the descriptor of the image that crashed.
    """

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1, le=_BIGINT_MAX)]
    elf_sha256: Sha256
    reason: DeviceLine | None = None
    firmware_version: Version | None = None


class CoreDumpWanted(Message):
    """`down/coredump/wanted`: send the chunks at these offsets, then offer the dump again.

    All chunks have `chunk_size_bytes` bytes, except the last.
    """

    sha256: Sha256
    chunk_size_bytes: Annotated[int, Field(ge=1, le=MAX_CHUNK_BYTES - _HEADER_BYTES)]
    missing: Annotated[list[ChunkOffset], Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class CoreDumpChunk(Packed):
    """`up/coredump/chunk`: the SHA-256 of a dump (32 bytes), an offset (4, big endian), and the chunk from there.

    All are on one topic: a device that could choose topics could leave a retained message on each of them.
    """

    sha256: Sha256
    offset: ChunkOffset
    data: bytes

    def pack(self) -> bytes:
        """Return the header and the chunk."""
        return bytes.fromhex(self.sha256) + self.offset.to_bytes(_OFFSET_BYTES, "big") + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the chunk in a payload, or raise ValueError if that is shorter than the header."""
        if len(payload) < _HEADER_BYTES:
            raise ValueError(f"payload: must begin with a header of {_HEADER_BYTES} bytes, has {len(payload)}")
        return cls(
            sha256=payload[:_SHA256_BYTES].hex(),
            offset=int.from_bytes(payload[_SHA256_BYTES:_HEADER_BYTES], "big"),
            data=payload[_HEADER_BYTES:],
        )


class CoreDumpStored(Message):
    """`down/coredump/stored`: the whole dump is stored; it may be erased from flash."""

    sha256: Sha256


class CoreDumpRefused(Message):
    """`down/coredump/refused`: the dump is refused; do not offer it again before the next start."""

    sha256: Sha256
    reason: Line


class Recovery(Message):
    """How a device whose secrets are all refused gets the one in force; in packages and `down/key`.

    It requests it on the host of the package, on this port, with a public account, whose name is the MQTT client
    id too. `server_key` (X25519, base64url) is the server's half of the key by which the device authenticates
    itself.
    """

    port: Port
    account: Line
    password: Line
    server_key: PublicKey


class DeviceKey(Message):
    """`up/key`: the public half of the key that only the device has; repeated until `down/key` answers.

    `proof` = HMAC(secret that it is logged in with, "key:" + public_key): a late message of a board whose secret
    has been replaced since registers nothing.
    """

    public_key: PublicKey
    proof: Sha256


class DeviceKeyKnown(Message):
    """`down/key`: the key that is registered for the device, perhaps another one, and its recovery settings.

    `recovery` is absent if the broker has no accounts.
    """

    public_key: PublicKey
    recovery: Recovery | None = None


Nonce = Annotated[str, pattern(r"^[0-9a-f]{32}$", "must be 32 hexadecimal digits in lower case")]


class RecoverRequest(Message):
    """`recover/{account}/request`: a device whose secrets are refused requests the secret in force.

    `nonce` is random. `mac` is `shared.crypto.recovery_mac`.
    """

    client_id: Annotated[str, Field(max_length=100)]
    nonce: Nonce
    mac: Sha256


class RecoverAnswer(Message):
    """`recover/{account}/answer/{nonce}`: the device's package as a compact JWE for its key; never retained."""

    jwe: Annotated[str, Field(max_length=32 * 1024)] = Field(repr=False)


class ClaimRequest(Message):
    """`claim/{claim_id}/request`: a machine without an identity requests one, sealed for its key."""

    uid: Uid
    public_key: PublicKey


class ClaimOutcome(StrEnum):
    """The result of a machine's request for an identity."""

    GRANTED = "granted"
    PENDING = "pending"
    REFUSED = "refused"


class ClaimAnswer(Message):
    """`claim/{claim_id}/answer/{uid}`, never retained: the sealed provisioning package, or why there is none."""

    uid: Uid
    outcome: ClaimOutcome
    jwe: Annotated[str, Field(max_length=32 * 1024)] | None = Field(None, repr=False)
    reason: Line | None = None

    @model_validator(mode="after")
    def _package_when_granted(self) -> Self:
        if (self.outcome is ClaimOutcome.GRANTED) != (self.jwe is not None):
            raise ValueError("jwe must be given exactly when the outcome is granted")
        return self


class Event(Message):
    """`events/{noun}/{verb}`: something that happened, after its commit; `data` depends on the event."""

    event_id: UUID
    at: AwareDatetime
    client_id: str | None = None
    data: dict[str, Any] = {}


class ServiceStatus(Message):
    """`services/{name}/{instance}/status`, retained and also the last will."""

    online: bool
    role: Line | None = None
    since: AwareDatetime | None = None
