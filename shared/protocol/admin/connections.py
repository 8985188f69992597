"""Operations on connection profiles: which devices shall connect how, and which they use."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AwareDatetime, Field, model_validator

from shared.protocol.admin.configuration import LayerPriority
from shared.protocol.admin.names import DeviceName, Tag
from shared.protocol.admin.operation import Nothing, Operation, Request, Result, Role
from shared.protocol.messages import CaCertificate, Host, Port, TrialSeconds, Url, WifiNetworks

LayerNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]
ConnectionField: TypeAlias = Literal[
    "mqtt_host", "mqtt_port", "mqtt_tls", "mqtt_auth", "token_url", "ca_certificate", "recovery_port", "wifi"
]
ConnectionScope = Literal["settings", "all", "tag", "device"]
ConnectionProgress = Literal["in use", "waiting", "refused", "fallback", "as provisioned"]
"""`fallback`: it cannot connect with its own profile; `as provisioned`: it has never reported its profiles."""


class ConnectionTarget(Request):
    """The devices of a layer: all, those with a tag, or one."""

    all: bool = False
    tag: Tag | None = None
    device: DeviceName | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.all, self.tag is not None, self.device is not None].count(True) != 1:
            raise ValueError("exactly one of all, tag and device must be given")
        return self


class ConnectionChange(ConnectionTarget):
    """The base of changes; with `dry_run` only the effect is computed, and the broker's certificate checked."""

    dry_run: bool = False


class ConnectionSet(ConnectionChange):
    """Change a layer; its other fields stay, and those in `unset` are left to the layers below it again.

    The settings of the registry are below all's layer, this below those of tags, these below a device's own. Those
    of tags apply in the order of priority, then tag. `ca_certificate` is the PEM of all authorities to trust,
    `wifi` all networks, in the order in which a device tries them. Without a change, devices that refused the
    profile are sent it again at once.
    """

    mqtt_host: Host | None = None
    mqtt_port: Port | None = None
    mqtt_tls: bool | None = None
    mqtt_auth: Literal["password", "token"] | None = None
    token_url: Url | None = None
    ca_certificate: CaCertificate | None = None
    recovery_port: Port | None = None
    wifi: WifiNetworks | None = None
    trial_seconds: TrialSeconds | None = None
    priority: LayerPriority | None = None
    unset: Annotated[list[ConnectionField | Literal["trial_seconds"]], Field(max_length=20)] = []


class ConnectionRemove(ConnectionChange):
    """Remove a layer: its devices use what the layers below it say."""


class ConnectionRollback(Request):
    """Make the content of an old layer the newest one of the same devices."""

    number: LayerNumber
    dry_run: bool = False


class ConnectionEffect(Result):
    """The effect of a change: `number` is the new layer's, None if nothing was changed.

    `devices` want another profile by it. Of these, `moving` receive it, when they are online, and `unable` have
    firmware that reports no profiles; the others use it already. `warnings` are for a person to judge.
    """

    number: int | None
    changed: bool
    devices: int
    moving: int
    unable: int
    warnings: list[str] = []


class ConnectionRetried(Result):
    """How many devices are sent the profile that they want again at once, when they are online."""

    devices: int


class AuthorityView(Result):
    """A certificate that devices trust."""

    subject: str
    fingerprint: str
    ends_at: AwareDatetime


class ConnectionValue(Result):
    """A field of a profile and the layer that it is from: `settings`, `all`, `tag NAME` or `device`.

    Of Wi-Fi networks there are only the names.
    """

    field: ConnectionField
    value: str | int | bool | list[str]
    source: str
    number: int


class DeviceConnectionView(Result):
    """A device's profiles by its last report, or by its package before the first one; None has no id."""

    progress: ConnectionProgress
    wanted: str
    first: str | None
    fallback: str | None
    in_use: str | None
    refused_id: str | None
    refused_outcome: str | None
    refused_reason: str | None
    refused_at: AwareDatetime | None
    reported_at: AwareDatetime | None
    sent_id: str | None
    sent_at: AwareDatetime | None


class ConnectionShow(ConnectionTarget):
    """Show the profile that is wanted for a device, or for one without any layers but those of `tag` or `all`."""


class ConnectionView(Result):
    """A wanted profile, where each of its values is from, and what a device has."""

    connection_id: str
    trial_seconds: int
    values: list[ConnectionValue]
    authorities: list[AuthorityView]
    client_id: str | None = None
    device: DeviceConnectionView | None = None


class ProfileUse(Result):
    """A profile, and how many devices use it, have it as fall-back, wait for it, or refused it.

    `known` is false for one that only devices know, as after the restore of a backup.
    """

    connection_id: str
    known: bool
    mqtt_host: str | None = None
    mqtt_port: int | None = None
    authorities: list[str] = []
    wifi: list[str] = []
    in_use: int
    fallback: int
    waiting: int
    refused: int


class AuthorityUse(AuthorityView):
    """An authority, and how many devices trust it, or it alone, in a profile that they use or keep.

    `claims` are those in force whose package trusts it alone.
    """

    devices: int
    alone: int
    claims: list[str]


MAX_PROFILES: Final = 200


class ConnectionStatus(Result):
    """All profiles and authorities that devices have or want, those of most devices first, up to MAX_PROFILES.

    `as_provisioned` devices have never reported a profile: what is counted of them is their last package, and of
    `without_package`, whose package is from before there were profiles, nothing.
    """

    profiles: list[ProfileUse]
    more: int
    authorities: list[AuthorityUse]
    as_provisioned: int
    without_package: int
    on_fallback: int


class ConnectionHistory(Request):
    """List a page of all layers that there ever were; `before` is the `next` of the page before."""

    before: LayerNumber | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class ConnectionLayerView(Result):
    """A layer, see `ConnectionSet`; of Wi-Fi networks `document` has only the names, each with an id."""

    number: int
    scope: ConnectionScope
    tag: str | None
    client_id: str | None
    priority: int
    document: dict[str, Any]
    trial_seconds: int | None
    removed: bool
    in_force: bool
    author: str
    created_at: AwareDatetime


class ConnectionLayerViews(Result):
    """A page of layers, newest first; `next` is None on the last."""

    layers: list[ConnectionLayerView]
    next: int | None = None


CONNECTION_SET = Operation("registry", "connection", "set", ConnectionSet, ConnectionEffect)
CONNECTION_REMOVE = Operation("registry", "connection", "remove", ConnectionRemove, ConnectionEffect)
CONNECTION_ROLLBACK = Operation("registry", "connection", "rollback", ConnectionRollback, ConnectionEffect)
CONNECTION_RETRY = Operation("registry", "connection", "retry", ConnectionTarget, ConnectionRetried)
CONNECTION_SHOW = Operation(
    "registry", "connection", "show", ConnectionShow, ConnectionView, once=False, role=Role.VIEWER
)
CONNECTION_STATUS = Operation(
    "registry", "connection", "status", Nothing, ConnectionStatus, once=False, role=Role.VIEWER
)
CONNECTION_HISTORY = Operation(
    "registry", "connection", "history", ConnectionHistory, ConnectionLayerViews, once=False, role=Role.VIEWER
)
