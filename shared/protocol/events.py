"""All events and their data; an event is published on `events/{noun}/{verb}` once its change is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, Field, PlainSerializer, ValidationError

from shared.errors import MessageRefusedError
from shared.protocol import messages, topics
from shared.protocol.admin import Health, Role, RolloutPlan
from shared.protocol.messages import ConfigOutcome, FirmwareStage
from shared.protocol.topics import Topic

Devices = Annotated[int, Field(description="how many")]
Time = Annotated[AwareDatetime, PlainSerializer(datetime.isoformat, return_type=str)]


class Facts(messages.Message):
    """The base of the data of events; a field that has its default is left out."""

    def to_data(self) -> dict[str, Any]:
        """Return the `data` of an event."""
        return self.model_dump(mode="json", exclude_defaults=True)


F = TypeVar("F", bound=Facts)
C = TypeVar("C", bound=str | None)
"""The type of an event's client_id."""


@dataclass(frozen=True)
class EventType(Generic[F, C]):
    """A kind of event: its name `noun/verb`, its data, and when it is published."""

    name: str
    facts: type[F]
    when: str
    about: ClassVar[str]

    @property
    def noun(self) -> str:
        """The subject of the event, as in `device`."""
        return self.name.partition("/")[0]

    @property
    def verb(self) -> str:
        """What happened to the subject, as in `added`."""
        return self.name.partition("/")[2]

    @cached_property
    def topic(self) -> Topic[messages.Event]:
        """The topic of this event only."""
        return Topic(topics.EVENT.of(noun=self.noun, verb=self.verb), messages.Event)

    def read(self, event: messages.Event) -> F:
        """Return the data of an event of this name, or raise MessageRefusedError naming each field and rule."""
        try:
            return self.facts.model_validate(event.data)
        except ValidationError as error:
            raise MessageRefusedError(topics.explain(error)) from None


class DeviceEvent(EventType[F, str]):
    """An event about one device, which is named."""

    about = "a device"


class FleetEvent(EventType[F, None]):
    """An event that is not about one device."""

    about = "no device"


class SelectionEvent(EventType[F, str | None]):
    """An event about one device, which is named, or about many at once."""

    about = "a device, or many"


class NoFacts(Facts):
    """No data."""


class ModelFacts(Facts):
    """A model."""

    code: str


class ModelUpdateFacts(ModelFacts):
    """A model, and the devices that got a new configuration by the change."""

    devices: Devices


MODEL_ADDED: Final = FleetEvent("model/added", ModelFacts, "A model was added.")
MODEL_UPDATED: Final = FleetEvent("model/updated", ModelUpdateFacts, "A model was changed.")
MODEL_REMOVED: Final = FleetEvent("model/removed", ModelFacts, "A model was removed.")


class DeviceUpdateFacts(Facts):
    """The fields of a device that an admin has changed, with their new values."""

    name: str | None = None
    tags: list[str] | None = None
    enabled: bool | None = None


class OnlineFacts(Facts):
    """Why the device has restarted since it was last online; absent if it has not, or does not report it."""

    reset_reason: str | None = None


class AsleepFacts(Facts):
    """When the device is overdue: its wake interval and a grace after the end of its connection."""

    until: Time


class HealthFacts(Facts):
    """The health of a device, the names of its reasons, and the health before that, if it is known."""

    health: Health
    reasons: list[str] = []
    before: Health | None = None


class RecoveryFacts(Facts):
    """The secret that a device got."""

    generation: int


class SplitFacts(Facts):
    """The secret in each place, as `generation (fingerprint)` or `not known`, and the repair."""

    remedy: Annotated[
        str,
        Field(
            description="`record`: the row took what both others have; `put`: the broker got Keycloak's secret; "
            "`rotate`: the device was queued for a new one"
        ),
    ]
    database: str
    keycloak: str
    broker: str


DEVICE_ADDED: Final = DeviceEvent("device/added", NoFacts, "A device was added, with its identity.")
DEVICE_UPDATED: Final = DeviceEvent("device/updated", DeviceUpdateFacts, "A device was changed.")
DEVICE_PROVISIONED: Final = DeviceEvent("device/provisioned", NoFacts, "A device's package was issued.")
DEVICE_REISSUED: Final = DeviceEvent(
    "device/reissued", NoFacts, "A device got a new secret in a new package; the old one is refused."
)
DEVICE_REMOVED: Final = DeviceEvent("device/removed", NoFacts, "A device was removed, with its identity.")
DEVICE_ONLINE: Final = DeviceEvent("device/online", OnlineFacts, "A device has connected.")
DEVICE_ASLEEP: Final = DeviceEvent(
    "device/asleep", AsleepFacts, "A device that sleeps has disconnected; it is to be back by then."
)
DEVICE_OFFLINE: Final = DeviceEvent(
    "device/offline",
    NoFacts,
    "A device has disconnected, or its connection is lost, or it was asleep and is not back in time.",
)
DEVICE_HEALTH_CHANGED: Final = DeviceEvent(
    "device/health_changed", HealthFacts, "The health of a device has changed, or a reason of it."
)
DEVICE_REFUSED: Final = DeviceEvent(
    "device/refused", NoFacts, "The broker has refused a device, for the first time since it was last seen."
)
DEVICE_CLASHED: Final = DeviceEvent(
    "device/clashed",
    NoFacts,
    "Two boards have the same identity and end each other's connection; once, until that is over for ten minutes.",
)
DEVICE_KEY_REGISTERED: Final = DeviceEvent(
    "device/key_registered", NoFacts, "A device has registered the key by which it can recover."
)
DEVICE_KEY_REFUSED: Final = DeviceEvent(
    "device/key_refused", NoFacts, "A device has another key than the registered one, which stays."
)
DEVICE_RECOVERED: Final = DeviceEvent(
    "device/recovered", RecoveryFacts, "A device whose secrets were refused got one by its key."
)
DEVICE_SPLIT: Final = DeviceEvent(
    "device/split", SplitFacts, "Database, Keycloak and broker held different secrets of a device."
)
DEVICE_STRAY: Final = DeviceEvent(
    "device/stray",
    NoFacts,
    "A device, claim or admin account without a row was disabled; `client_id` is its name.",
)


class ConfigFacts(Facts):
    """A version of a device's configuration."""

    version: int


class ConfigReportFacts(ConfigFacts):
    """The outcome of a version of a device's configuration."""

    outcome: ConfigOutcome
    error: str | None


class ConfigRestoreFacts(Facts):
    """Versions of a configuration: the one that failed its trial, and the one in its place."""

    reverted: int
    restored: Annotated[int | None, Field(description="whose content it has; null: of the model's defaults")]
    version: int


CONFIG_CHANGED: Final = DeviceEvent("config/changed", ConfigFacts, "A device's configuration has a new version.")
CONFIG_REPORTED: Final = DeviceEvent(
    "config/reported", ConfigReportFacts, "A device has reported the outcome of a configuration."
)
CONFIG_RESTORED: Final = DeviceEvent(
    "config/restored",
    ConfigRestoreFacts,
    "A device has reverted a configuration on trial, which was replaced.",
)


class LayerFacts(Facts):
    """A layer, and the devices that got a new configuration by the change."""

    tag: str
    devices: Devices


LAYER_CHANGED: Final = FleetEvent("layer/changed", LayerFacts, "A layer was created or changed.")
LAYER_REMOVED: Final = FleetEvent("layer/removed", LayerFacts, "A layer was removed.")


class ConnectionChangeFacts(Facts):
    """A layer of connection profiles: its number in the history, and the devices that it is for."""

    number: int
    scope: Annotated[str, Field(description="`settings`, `all`, `tag` or `device`")]
    tag: str | None = None
    removed: bool = False


class ConnectionFacts(Facts):
    """A connection profile; the one of an old package has no id."""

    connection_id: str | None = None


class ConnectionRefusalFacts(ConnectionFacts):
    """A connection profile that a device did not keep, and why."""

    outcome: Annotated[str | None, Field(description="`rejected`: it cannot use it; `reverted`: its trial failed")]
    reason: str | None = None


CONNECTION_CHANGED: Final = SelectionEvent(
    "connection/changed", ConnectionChangeFacts, "A layer of connection profiles was set or removed."
)
CONNECTION_APPLIED: Final = DeviceEvent(
    "connection/applied",
    ConnectionFacts,
    "A device has kept another connection profile, or uses its own again after its fall-back.",
)
CONNECTION_REVERTED: Final = DeviceEvent(
    "connection/reverted",
    ConnectionRefusalFacts,
    "A device did not keep a connection profile that it was sent.",
)
CONNECTION_FELL_BACK: Final = DeviceEvent(
    "connection/fell_back", ConnectionFacts, "A device cannot connect with its profile, and uses the former one."
)


class CommandBatchFacts(Facts):
    """A command to one device or many."""

    batch_id: UUID
    name: str
    devices: Devices
    skipped: Annotated[int, Field(description="how many are disabled")]


class CommandAnswerFacts(Facts):
    """A device's answer."""

    command_id: UUID
    batch_id: UUID
    name: str
    ok: bool
    error: str | None


COMMAND_SENT: Final = FleetEvent("command/sent", CommandBatchFacts, "A command was sent.")
COMMAND_ANSWERED: Final = DeviceEvent("command/answered", CommandAnswerFacts, "A device has answered a command.")


class AccountFacts(Facts):
    """An admin's account."""

    account: str
    role: Annotated[Role | None, Field(description="only if it is new")] = None


ACCOUNT_ADDED: Final = FleetEvent("account/added", AccountFacts, "An admin's account was created.")
ACCOUNT_UPDATED: Final = FleetEvent("account/updated", AccountFacts, "An account got another role or password.")
ACCOUNT_REMOVED: Final = FleetEvent("account/removed", AccountFacts, "An account was removed.")


class ClaimFacts(Facts):
    """A claim."""

    claim: str


class ClaimAddedFacts(ClaimFacts):
    """A claim, and the model of its machines."""

    model: str


class MachineFacts(ClaimFacts):
    """A machine, and the claim of its request."""

    uid: str


CLAIM_ADDED: Final = FleetEvent("claim/added", ClaimAddedFacts, "A claim was created.")
CLAIM_REVOKED: Final = FleetEvent("claim/revoked", ClaimFacts, "A claim was revoked.")
CLAIM_REQUESTED: Final = FleetEvent(
    "claim/requested", MachineFacts, "A machine has requested an identity for the first time."
)
CLAIM_DENIED: Final = FleetEvent("claim/denied", MachineFacts, "A machine was denied an identity.")
CLAIM_GRANTED: Final = DeviceEvent("claim/granted", MachineFacts, "A machine has become a device.")


class SelectionFacts(Facts):
    """The number of devices, if none is named."""

    devices: Devices | None = None


class ScheduleFacts(Facts):
    """The result of a scheduled run."""

    fire_at: Time
    queued: Devices
    already: Annotated[int, Field(description="how many were queued or in progress before")]


class ScheduleChangeFacts(Facts):
    """A schedule, and the account that has set it; without one it is the rotator's setting."""

    expression: Annotated[str, Field(description="empty: never")]
    zone: str
    author: str | None = None


class RotationFacts(Facts):
    """A rotation, and the generation of its new secret."""

    rotation_id: UUID
    generation: int


class RotationOfferFacts(RotationFacts):
    """A rotation that begins."""

    restorable: Annotated[bool, Field(description="whether the old secret can be restored")]


class RotationProofFacts(RotationFacts):
    """A rotation, and the purpose of a proof."""

    purpose: Literal["request", "current", "stored", "ack"]


class RotationDoneFacts(RotationFacts):
    """A successful rotation."""

    acknowledged: Annotated[bool, Field(description="by the device; else the new secret was found in force")]


class RotationTimeoutFacts(RotationFacts):
    """A rotation that has ended with the old secret in force."""

    at_step: str
    cancelled: Annotated[bool, Field(description="by an admin: it is not retried")]


ROTATION_QUEUED: Final = SelectionEvent("rotation/queued", SelectionFacts, "Devices were queued for a new secret.")
ROTATION_CANCELLED: Final = SelectionEvent(
    "rotation/cancelled", SelectionFacts, "Rotations were cancelled; one in progress ends by its own rules."
)
ROTATION_SCHEDULED: Final = FleetEvent(
    "rotation/scheduled", ScheduleFacts, "The schedule has queued all devices that are enabled."
)
SCHEDULE_CHANGED: Final = FleetEvent(
    "schedule/changed", ScheduleChangeFacts, "The schedule of rotations was changed."
)
ROTATION_OFFERED: Final = DeviceEvent("rotation/offered", RotationOfferFacts, "A device was offered a new secret.")
ROTATION_DELIVERED: Final = DeviceEvent("rotation/delivered", RotationFacts, "A device was sent its new secret.")
ROTATION_STORED: Final = DeviceEvent(
    "rotation/stored", RotationFacts, "A device has proven that it stored its new secret."
)
ROTATION_SWITCHED: Final = DeviceEvent(
    "rotation/switched", RotationFacts, "Keycloak and the broker have the new secret."
)
ROTATION_COMPLETED: Final = DeviceEvent("rotation/completed", RotationDoneFacts, "A device has its new secret.")
ROTATION_TIMED_OUT: Final = DeviceEvent(
    "rotation/timed_out", RotationTimeoutFacts, "A rotation has ended with the old secret in force."
)
ROTATION_WITHDRAWN: Final = DeviceEvent(
    "rotation/withdrawn",
    RotationTimeoutFacts,
    "A device has left before the switch: its rotation has ended, and it is queued again.",
)
ROTATION_PROOF_REFUSED: Final = DeviceEvent(
    "rotation/proof_refused", RotationProofFacts, "A device's proof of its new secret was wrong."
)
ROTATION_SPLIT_FOUND: Final = DeviceEvent(
    "rotation/split_found",
    RotationProofFacts,
    "A device's present secret is not the known one, which is then never restored.",
)


class RekeyFacts(Facts):
    """How many secrets are encrypted with the newest master key, and how many cannot be read."""

    reencrypted: int
    unreadable: int


SECRETS_REKEYED: Final = FleetEvent("secrets/rekeyed", RekeyFacts, "The secrets at rest were encrypted again.")


class ReleaseFacts(Facts):
    """An image, by its model and version."""

    model: str
    version: str


class ImageFacts(ReleaseFacts):
    """A stored image."""

    sha256: str


class ImageDeletedFacts(ImageFacts):
    """A deleted image."""

    by: Annotated[str, Field(description="the account, or `retention`")]


class SigningKeyFacts(Facts):
    """A key that a model's images must be signed with."""

    model: str
    fingerprint: str


class FirmwareOfferFacts(Facts):
    """The image that a device should run."""

    version: str


class FirmwareWithheldFacts(FirmwareOfferFacts):
    """An image that a device does not get, and why."""

    sha256: str
    reason: str


class FirmwareReportFacts(Facts):
    """A device's progress with an image; `fell_back`: it had confirmed the image, and runs another one."""

    sha256: str
    stage: FirmwareStage | Literal["fell_back"]
    percent: int | None
    error: str | None


FIRMWARE_UPLOADED: Final = FleetEvent("firmware/uploaded", ImageFacts, "An image was stored.")
FIRMWARE_SIGNED: Final = FleetEvent("firmware/signed", ImageFacts, "A stored image got another signature.")
FIRMWARE_RELEASED: Final = FleetEvent("firmware/released", ReleaseFacts, "An image was made its model's image.")
FIRMWARE_WITHDRAWN: Final = FleetEvent("firmware/withdrawn", ReleaseFacts, "A model was left without an image.")
FIRMWARE_PINNED: Final = FleetEvent("firmware/pinned", ImageFacts, "An image was exempted from retention.")
FIRMWARE_UNPINNED: Final = FleetEvent(
    "firmware/unpinned", ImageFacts, "An image is no longer exempt from retention."
)
FIRMWARE_DELETED: Final = FleetEvent("firmware/deleted", ImageDeletedFacts, "An image was deleted.")
FIRMWARE_KEY_ADDED: Final = FleetEvent("firmware/key_added", SigningKeyFacts, "A model trusts another key.")
FIRMWARE_KEY_REMOVED: Final = FleetEvent(
    "firmware/key_removed", SigningKeyFacts, "A model no longer trusts a key."
)
FIRMWARE_OFFERED: Final = DeviceEvent("firmware/offered", FirmwareOfferFacts, "A device was offered an image.")
FIRMWARE_WITHHELD: Final = DeviceEvent(
    "firmware/withheld",
    FirmwareWithheldFacts,
    "A device does not get the image that it should have: told once for each reason.",
)
FIRMWARE_REPORTED: Final = DeviceEvent(
    "firmware/reported",
    FirmwareReportFacts,
    "A device has reported progress with an image, also one in a rollout.",
)


class CoreDumpFacts(Facts):
    """A core dump."""

    id: int
    sha256: str


class CoreDumpStoredFacts(CoreDumpFacts):
    """A core dump, and the device's report of the crash."""

    size_bytes: int
    elf_sha256: str
    reason: str | None


class CoreDumpRefusedFacts(Facts):
    """A core dump that differs from its offer."""

    sha256: str
    reason: str


COREDUMP_STORED: Final = DeviceEvent("coredump/stored", CoreDumpStoredFacts, "A device's core dump was stored.")
COREDUMP_REFUSED: Final = DeviceEvent(
    "coredump/refused", CoreDumpRefusedFacts, "A device's core dump has another hash than was offered."
)
COREDUMP_DELETED: Final = DeviceEvent("coredump/deleted", CoreDumpFacts, "A core dump was deleted.")
COREDUMP_REKEYED: Final = FleetEvent(
    "coredump/rekeyed", RekeyFacts, "The keys of core dumps were encrypted again."
)


class RolloutFacts(Facts):
    """A rollout, and its image."""

    rollout: int
    model: str
    version: str


class RolloutStartFacts(RolloutFacts):
    """A rollout that begins: its devices, and its parameters."""

    devices: Devices
    already: Annotated[int, Field(description="how many run the image already")]
    unfit: Annotated[int, Field(description="how many would fail")]
    tags: list[str] = []
    percent: int = 100
    plan: Annotated[RolloutPlan, Field(description="only what is not the default")] = RolloutPlan()
    skip: bool = False
    force: bool = False


class RolloutWaveFacts(RolloutFacts):
    """A rollout, and its current wave."""

    wave: int


class RolloutMoveFacts(RolloutWaveFacts):
    """A rollout in a new state."""

    reason: Annotated[str | None, Field(description="why it has halted")] = None
    forgiven: Annotated[
        int | None, Field(description="resumed after a halt: how many failures no longer count")
    ] = None


ROLLOUT_STARTED: Final = FleetEvent("rollout/started", RolloutStartFacts, "A rollout has begun.")
ROLLOUT_WAVE_OPENED: Final = FleetEvent("rollout/wave_opened", RolloutWaveFacts, "A wave has been opened.")
ROLLOUT_WAVE_MET: Final = FleetEvent(
    "rollout/wave_met", RolloutWaveFacts, "Enough devices of a wave have confirmed the image."
)
ROLLOUT_PAUSED: Final = FleetEvent("rollout/paused", RolloutMoveFacts, "An admin has paused a rollout.")
ROLLOUT_RESUMED: Final = FleetEvent("rollout/resumed", RolloutMoveFacts, "An admin has resumed a rollout.")
ROLLOUT_HALTED: Final = FleetEvent("rollout/halted", RolloutMoveFacts, "A rollout has halted by itself.")
ROLLOUT_ABORTED: Final = FleetEvent("rollout/aborted", RolloutMoveFacts, "An admin has aborted a rollout.")
ROLLOUT_COMPLETED: Final = FleetEvent("rollout/completed", RolloutMoveFacts, "A rollout has reached its end.")

EVENTS: Final[Mapping[str, EventType[Any, Any]]] = {
    thing.name: thing for thing in list(globals().values()) if isinstance(thing, EventType)
}
"""All events, by their names."""
