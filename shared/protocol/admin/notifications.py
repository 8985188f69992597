"""Operations on notifications: rules by which people learn of what happens without looking."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from shared.protocol.admin.names import DeviceName, ModelCode, PageSize, Tag
from shared.protocol.admin.operation import Nothing, Operation, Removed, Request, Result, Role
from shared.protocol.wording import pattern

NotificationCondition = Literal[
    "silent",
    "share_silent",
    "unhealthy",
    "critical",
    "core_dump",
    "secret_old",
    "rollout_halted",
    "claim_waits",
    "certificate_ends",
]
NotificationState = Literal["firing", "resolved", "test"]
Delivery = Literal["waiting", "delivered", "failed"]
RuleName = Annotated[
    str, pattern(r"^[a-z0-9][a-z0-9_-]{0,39}$", "must be 1 to 40 of a-z, 0-9, - and _, and not begin with - or _")
]
OF_DEVICES: Final = frozenset({"silent", "share_silent", "unhealthy", "critical", "core_dump", "secret_old"})
MAX_RULES: Final = 50
_DAY_S: Final = 24 * 3600


class NotificationAdd(Request):
    """Add a rule: what to be notified of, and where.

    `url` is that of a webhook, or any that Apprise knows, as `mailto://...` or `ntfy://...`. `hold_s` is how long
    the condition must hold before the rule notifies, and be over before it notifies of the end. `device`, `tag`
    and `model` select devices; `percent` is the share of these for `share_silent`, `older_than_s` the age for
    `secret_old`.
    """

    name: RuleName
    condition: NotificationCondition
    url: Annotated[
        str,
        pattern(
            r"^[a-z][a-z0-9+.-]*://[^\s\x00-\x1f\x7f]+$",
            "must be a URL, as https://host/path, or one of Apprise, as ntfy://topic",
            max_length=2000,
            repr=False,
        ),
    ]
    hold_s: Annotated[int, Field(ge=0, le=30 * _DAY_S)] = 600
    device: DeviceName | None = None
    tag: Tag | None = None
    model: ModelCode | None = None
    percent: Annotated[int, Field(ge=1, le=100)] = 20
    older_than_s: Annotated[int, Field(ge=1, le=3650 * _DAY_S)] = 180 * _DAY_S

    @model_validator(mode="after")
    def _selects_devices_only_where_there_are_some(self) -> Self:
        if self.condition not in OF_DEVICES and (self.device or self.tag or self.model):
            raise ValueError(
                f"condition: {self.condition} is not about devices, so device, tag and model must be absent"
            )
        return self


class NotificationRuleView(Result):
    """A rule; `target` is its URL without what is secret.

    It has notified of what is `firing`, and not of its end. `waiting` messages are not delivered yet; `last_error`
    is that of the last attempt, None if it was successful.
    """

    name: str
    condition: NotificationCondition
    target: str
    hold_s: int
    device: str | None
    tag: str | None
    model: str | None
    percent: int
    older_than_s: int
    firing: int
    waiting: int
    last_error: str | None
    author: str
    created_at: AwareDatetime


class NotificationRuleAdded(Result):
    """A new rule, and the key with which its webhook's messages are signed; None for Apprise's."""

    name: str
    target: str
    key: Annotated[str | None, Field(repr=False)]


class NotificationRules(Result):
    """All rules."""

    rules: list[NotificationRuleView]


class NotificationRef(Request):
    """Reference to a rule."""

    name: RuleName


class NotificationQueued(Result):
    """The message that a test has queued."""

    id: UUID


class NotificationHistory(Request):
    """List the newest messages, of all rules or of one."""

    name: RuleName | None = None
    limit: PageSize = 100


class NotificationView(Result):
    """A message: its text, how often its delivery was tried, and the error of the last attempt."""

    id: UUID
    rule: str
    state: NotificationState
    text: str
    count: int
    delivery: Delivery
    attempts: int
    error: str | None
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class Notifications(Result):
    """Messages, the newest first."""

    notifications: list[NotificationView]


NOTIFICATION_ADD = Operation(
    "registry", "notification", "add", NotificationAdd, NotificationRuleAdded, secret=True
)
NOTIFICATION_LIST = Operation(
    "registry", "notification", "list", Nothing, NotificationRules, once=False, role=Role.VIEWER
)
NOTIFICATION_REMOVE = Operation("registry", "notification", "remove", NotificationRef, Removed)
NOTIFICATION_TEST = Operation(
    "registry", "notification", "test", NotificationRef, NotificationQueued, role=Role.OPERATOR
)
NOTIFICATION_HISTORY = Operation(
    "registry", "notification", "history", NotificationHistory, Notifications, once=False, role=Role.VIEWER
)
