"""All topics of the protocol, with payload and quality of service.

To follow a message, start here: a topic, its handler (`on_...`) in a service's routes.py, and so on down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.errors import MessageRefusedError
from shared.protocol import flaws, homeassistant, messages, numbers, wording
from shared.protocol.flaws import Flaw

PREFIX = "mdm/v1"
M = TypeVar("M")
_NAME = re.compile(r"\{(\w+)\}")


def explain(error: ValidationError) -> str:
    """Return one line that names each invalid field and the rule that it breaks."""
    lines = []
    for fault in flaws.faults(error):
        field = ".".join(str(part) for part in fault["loc"]) or "message"
        lines.append(f"{field}: {wording.rule(fault)}")
    return "; ".join(lines)


@dataclass(frozen=True)
class Topic(Generic[M]):
    """A topic, its payload and its quality of service, declared once.

    `template` has a `{name}` for each variable level; `model` is the payload, as JSON or packed, or `bytes` for a
    raw one; a payload larger than `max_bytes` is refused before it is parsed. With `nulls`, a field that is None
    is sent as null, for a reader that would else keep the previous value. A `paced` topic has a rate limit of its
    own, apart from that of a device's other topics. Everybody may write to a `public` topic, all at one rate. On
    an `exact` topic a number that would be changed by storing it is refused. Of a `lenient` topic's message, an
    optional field that breaks a rule is left out instead of refusing the message.
    """

    template: str
    model: type[M]
    qos: int = 1
    retain: bool = False
    max_bytes: int = 64 * 1024
    nulls: bool = False
    paced: bool = False
    public: bool = False
    exact: bool = False
    lenient: bool = False

    def of(self, **names: object) -> str:
        """Return the topic for these names."""
        return self.template.format(**names)

    @cached_property
    def filter(self) -> str:
        """The subscription that matches this topic for all names."""
        return _NAME.sub("+", self.template)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        literal = re.escape(self.template).replace(r"\{", "{").replace(r"\}", "}")
        return re.compile(_NAME.sub(r"(?P<\1>[^/]+)", literal))

    @cached_property
    def _reader(self) -> TypeAdapter[M]:
        return TypeAdapter(self.model)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the names in `topic`, or None if it is another topic."""
        found = self._pattern.fullmatch(topic)
        return found.groupdict() if found else None

    def encode(self, message: M) -> bytes:
        """Return the payload of `message`; absent fields are left out, unless the topic has nulls."""
        if isinstance(message, BaseModel):
            return message.model_dump_json(exclude_none=not self.nulls).encode()
        if isinstance(message, messages.Packed):
            return message.pack()
        return cast("bytes", message)

    def too_large(self, payload: bytes) -> MessageRefusedError:
        """Return the error for a payload larger than `max_bytes`."""
        return MessageRefusedError(f"payload: must be at most {self.max_bytes} bytes, has {len(payload)}")

    @property
    def short(self) -> str:
        """The topic of a device without the part that all its topics have in common, as in `up/status`."""
        return self.template.partition("{client_id}/")[2]

    def decode(self, payload: bytes) -> M:
        """Return the message in `payload`, or raise MessageRefusedError naming each field and rule."""
        return self.read(payload)[0]

    def read(self, payload: bytes) -> tuple[M, list[Flaw]]:
        """Return the message in `payload` and what was left out of it, or raise MessageRefusedError."""
        if len(payload) > self.max_bytes:
            raise self.too_large(payload)
        if self.model is bytes:
            return cast("M", payload), []
        if issubclass(self.model, messages.Packed):
            try:
                return self.model.unpack(payload), []
            except ValueError as error:
                raise MessageRefusedError(str(error)) from None
        try:
            if self.lenient:
                return flaws.read(self._reader, payload)
            message = self._reader.validate_json(payload)
        except ValidationError as error:
            raise MessageRefusedError(explain(error)) from None
        fault = numbers.inexact(payload) if self.exact else None
        if fault is not None:
            raise MessageRefusedError(fault)
        return message, []


class AppMessage(bytes):
    """Any bytes, between the device's firmware and its consumers; retained or not. No service reads them."""


class OwnEntity(bytes):
    """Discovery of an entity that the firmware itself provides, as Home Assistant has it. No service reads it."""


_UP = f"{PREFIX}/d/{{client_id}}/up"
_DOWN = f"{PREFIX}/d/{{client_id}}/down"

DEVICE_UP = Topic(f"{_UP}/#", bytes)
"""All topics below which the services read a device's messages."""
STATUS = Topic(f"{_UP}/status", messages.Status, retain=True, lenient=True)

CONFIG_GET = Topic(f"{_UP}/config/get", messages.ConfigGet, lenient=True)
CONFIG_REPORT = Topic(f"{_UP}/config/report", messages.ConfigReport, lenient=True)
CONFIG = Topic(f"{_DOWN}/config", messages.Config)
CONNECTION = Topic(f"{_DOWN}/connection", messages.ConnectionOffer)

ROTATION_OFFER = Topic(f"{_DOWN}/rotation/offer", messages.RotationOffer)
ROTATION_REQUEST = Topic(f"{_UP}/rotation/request", messages.RotationRequest)
ROTATION_SECRET = Topic(f"{_DOWN}/rotation/secret", messages.RotationSecret)
ROTATION_STORED = Topic(f"{_UP}/rotation/stored", messages.RotationStored)
ROTATION_SWITCH = Topic(f"{_DOWN}/rotation/switch", messages.RotationSwitch)
ROTATION_ACK = Topic(f"{_UP}/rotation/ack", messages.RotationAck)
ROTATION_DONE = Topic(f"{_DOWN}/rotation/done", messages.RotationDone)
ROTATION_CANCELLED = Topic(f"{_DOWN}/rotation/cancelled", messages.RotationCancelled)

KEY = Topic(f"{_UP}/key", messages.DeviceKey)
KEY_KNOWN = Topic(f"{_DOWN}/key", messages.DeviceKeyKnown)

FIRMWARE_CHECK = Topic(f"{_UP}/firmware/check", messages.FirmwareCheck, lenient=True)
FIRMWARE_OFFER = Topic(f"{_DOWN}/firmware/offer", messages.FirmwareOffer)
FIRMWARE_CHUNK = Topic(f"{_UP}/firmware/chunk", messages.FirmwareChunkRequest, paced=True)
FIRMWARE_CHUNK_DATA = Topic(f"{_DOWN}/firmware/chunk/{{sha256}}/{{offset}}", bytes)
FIRMWARE_REPORT = Topic(f"{_UP}/firmware/report", messages.FirmwareReport, lenient=True)
FIRMWARE_CANCELLED = Topic(f"{_DOWN}/firmware/cancelled", messages.FirmwareCancelled)

COMMAND = Topic(f"{_DOWN}/command", messages.Command)
COMMAND_RESULT = Topic(f"{_UP}/command/result", messages.CommandResult, lenient=True)

LOG = Topic(f"{_UP}/log", messages.Log, lenient=True)
VITALS = Topic(f"{_UP}/vitals", messages.Vitals, max_bytes=2048, lenient=True)
COREDUMP_OFFER = Topic(f"{_UP}/coredump/offer", messages.CoreDumpOffer, lenient=True)
COREDUMP_CHUNK = Topic(f"{_UP}/coredump/chunk", messages.CoreDumpChunk)
COREDUMP_WANTED = Topic(f"{_DOWN}/coredump/wanted", messages.CoreDumpWanted)
COREDUMP_STORED = Topic(f"{_DOWN}/coredump/stored", messages.CoreDumpStored)
COREDUMP_REFUSED = Topic(f"{_DOWN}/coredump/refused", messages.CoreDumpRefused)

CLAIM_REQUEST = Topic(f"{PREFIX}/claim/{{claim_id}}/request", messages.ClaimRequest, max_bytes=1024)
CLAIM_ANSWER = Topic(f"{PREFIX}/claim/{{claim_id}}/answer/{{uid}}", messages.ClaimAnswer)

_RECOVER = f"{PREFIX}/recover/{{account}}"
RECOVER_REQUEST = Topic(f"{_RECOVER}/request", messages.RecoverRequest, max_bytes=1024, public=True)
RECOVER_ANSWER = Topic(f"{_RECOVER}/answer/{{nonce}}", messages.RecoverAnswer)

BROKER_UPTIME = Topic("$SYS/broker/uptime", bytes, qos=0)
BROKER_NOTICES = Topic("$SYS/broker/log/N", bytes, qos=0)
"""Mosquitto's log, for refused logins; QoS 0, so that a flood of them ends in the broker."""
BROKER_ERRORS = Topic("$SYS/broker/log/E", bytes, qos=0)
"""The same, for sessions that are taken over (its version 2.0)."""
BROKER_RETAINED = Topic("$SYS/broker/retained messages/count", bytes, qos=0)

EVENT = Topic(f"{PREFIX}/events/{{noun}}/{{verb}}", messages.Event)
SERVICE_STATUS = Topic(f"{PREFIX}/services/{{name}}/{{instance}}/status", messages.ServiceStatus, retain=True)

_HOMEASSISTANT = f"{PREFIX}/homeassistant/{{client_id}}"
HOMEASSISTANT_DISCOVERY = Topic(
    f"{homeassistant.PREFIX}/device/{{client_id}}/config", homeassistant.Discovery, retain=True
)
HOMEASSISTANT_UPDATE = Topic(f"{_HOMEASSISTANT}/update", homeassistant.Update, retain=True, nulls=True)
HOMEASSISTANT_DIAGNOSTICS = Topic(
    f"{_HOMEASSISTANT}/diagnostics", homeassistant.Diagnostics, retain=True, nulls=True
)

APP: Final = "app"
_LARGEST: Final = 2 * 1024 * 1024
"""The broker's limit for a packet, in bytes."""
APP_UP = Topic(f"{APP}/{{client_id}}/up/#", AppMessage, max_bytes=_LARGEST)
APP_DOWN = Topic(f"{APP}/{{client_id}}/down/#", AppMessage, max_bytes=_LARGEST)
HOMEASSISTANT_ENTITY = Topic(
    f"{homeassistant.PREFIX}/{{component}}/{{client_id}}/{{object_id}}/config",
    OwnEntity,
    retain=True,
    max_bytes=_LARGEST,
)
"""The client id is what Home Assistant names the node id."""
OWN: Final[Mapping[str, Topic[Any]]] = {
    "APP_UP": APP_UP,
    "APP_DOWN": APP_DOWN,
    "HOMEASSISTANT_ENTITY": HOMEASSISTANT_ENTITY,
}
"""The device's own topics, by their names in Python: whom they serve is up to the device's owner."""

_OTHERS: Final = (*OWN.values(), DEVICE_UP, BROKER_UPTIME, BROKER_NOTICES, BROKER_ERRORS, BROKER_RETAINED)
TOPICS: Final[Mapping[str, Topic[Any]]] = {
    name: thing for name, thing in list(globals().items()) if isinstance(thing, Topic) and thing not in _OTHERS
}
"""All topics of the protocol with one type of message, by their names in Python."""


def device_writes(device: str) -> list[str]:
    """Return the topics that a device may write; `device` is its name in them.

    Each of the protocol is listed: what the services read, and what is retained there, is bounded by their number.
    """
    everybody, own = (DEVICE_UP.of(client_id=name).removesuffix("#") for name in ("+", device))
    found = {topic.filter for topic in TOPICS.values()}
    protocol = sorted(own + it.removeprefix(everybody) for it in found if it.startswith(everybody))
    return [*protocol, *own_writes(device)]


def own_writes(device: str) -> list[str]:
    """Return the filters of the topics that a device may write under names of its own; no service reads them."""
    entities = HOMEASSISTANT_ENTITY.of(client_id=device, component="+", object_id="+")
    return [APP_UP.of(client_id=device), entities]


def device_reads(device: str) -> list[str]:
    """Return the topics that a device may read; `device` is its name in them."""
    return [f"{PREFIX}/d/{device}/down/#", APP_DOWN.of(client_id=device)]


def left_by(device: str) -> list[str]:
    """Return the filters of all topics on which a device may have left a retained message, in any version."""
    return [DEVICE_UP.of(client_id=device), *own_writes(device)]
