"""Operations on rollouts: firmware for many devices of a model, in waves."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from shared import time_zones
from shared.protocol.admin.names import ModelCode, Named, PageSize, Tags
from shared.protocol.admin.operation import Operation, Request, Result, Role
from shared.protocol.messages import Version
from shared.protocol.wording import pattern

Share = Annotated[
    str, pattern(r"^([0-9]{1,7}|[0-9]{1,2}%|100%)$", "must be a number, as 5, or a percentage, as 5%")
]
"""A number of devices, as `5`, or a share of them, as `5%`."""
RolloutId = Annotated[int, Field(ge=1, le=2**63 - 1)]
_DAY_S: Final = 24 * 3600
_WINDOW: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


class RolloutPlan(BaseModel):
    """The course of a rollout, and its limits.

    Each of `waves` is how many of the devices have been reached with it, including those of the waves before; the
    last reaches all. A wave is met when `success_percent` of its devices have confirmed the image; more failures
    in a wave than `failure_limit` halt the rollout. Offers are made in `window` only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    waves: Annotated[list[Share], Field(min_length=1, max_length=50)] = ["1", "10%", "50%", "100%"]
    success_percent: Annotated[int, Field(ge=1, le=100)] = 95
    failure_limit: Share = "5%"
    soak_s: Annotated[int, Field(ge=0, le=30 * _DAY_S)] = 15 * 60
    silence_s: Annotated[int, Field(ge=1, le=30 * _DAY_S)] = 30 * 60
    window: str | None = None
    zone: str = "UTC"
    max_under_way: Annotated[int, Field(ge=1, le=100_000)] = 50
    offers_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 60

    @field_validator("waves")
    @classmethod
    def _each_reaches_some(cls, waves: list[str]) -> list[str]:
        if any(int(share.rstrip("%")) == 0 for share in waves):
            raise ValueError("each must be at least 1 or 1%")
        return waves

    @field_validator("window")
    @classmethod
    def _has_a_length(cls, window: str | None) -> str | None:
        if window is not None and (_WINDOW.fullmatch(window) is None or window[:5] == window[6:]):
            raise ValueError("must be two different times of day, as 02:00-05:00")
        return window

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        if not time_zones.is_known(zone):
            raise ValueError(time_zones.WANTED)
        return zone

    @property
    def hours(self) -> tuple[time, time] | None:
        """When the window opens and closes, in `zone`; None is always open."""
        found = _WINDOW.fullmatch(self.window or "")
        if found is None:
            return None
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        return time(from_hour, from_minute), time(to_hour, to_minute)


class RolloutPreflight(Request):
    """Check which devices would accept an image of their model: all, those with all `tags`, or a share of them."""

    model: ModelCode
    version: Version
    tags: Tags = []
    percent: Annotated[int, Field(ge=1, le=100)] = 100


class RolloutStart(RolloutPreflight):
    """Begin a rollout; it is refused if devices would fail, unless `skip` leaves them out or `force` is set."""

    plan: RolloutPlan = RolloutPlan()
    skip: bool = False
    force: bool = False

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.skip and self.force:
            raise ValueError("at most one of skip and force may be given")
        return self


class RolloutProblem(Result):
    """A device that would fail, and why; `refuses` unless it only cannot be reached now."""

    client_id: str
    name: str
    reason: str
    refuses: bool


class RolloutFindings(Result):
    """The result of a preflight: `fit` devices would accept the image, `already` run it.

    `count` would fail, of which `refusing` would not accept it; `problems` names the first of them, up to
    MAX_NAMED, those that refuse first. `waves` are their sizes. Devices that were `never_seen` are none of these,
    and not in the rollout, unless it is forced.
    """

    model: str
    version: str
    sha256: str
    fit: int
    already: Named
    never_seen: int = 0
    count: int
    refusing: int
    problems: list[RolloutProblem]
    waves: list[int]


class RolloutRef(Request):
    """Reference to a rollout."""

    rollout: RolloutId


class RolloutAbort(RolloutRef):
    """Abort a rollout; devices that have begun may finish, unless `hard`."""

    hard: bool = False


class RolloutShow(Request):
    """Show the state of a rollout, by default of the newest."""

    rollout: RolloutId | None = None


class RolloutList(Request):
    """List the newest rollouts."""

    limit: PageSize = 100


class RolloutCounts(Result):
    """The number of devices in each state."""

    waiting: int = 0
    offered: int = 0
    taken: int = 0
    confirmed: int = 0
    failed: int = 0
    rolled_back: int = 0
    silent: int = 0
    skipped: int = 0


class RolloutView(Result):
    """A rollout: `wave` of `waves` are open; a halted one has a `reason`."""

    rollout: int
    model: str
    version: str
    tags: list[str]
    percent: int
    state: str
    reason: str | None
    wave: int
    waves: int
    author: str
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class RolloutWave(Result):
    """A wave and its devices; wave 0 are those that ran the image before."""

    wave: int
    devices: int
    counts: RolloutCounts


class RolloutFailure(Result):
    """A device that failed, rolled back, was silent or was skipped."""

    client_id: str
    wave: int
    state: str
    reason: str | None
    at: AwareDatetime
    forgiven: bool


class RolloutStatus(RolloutView):
    """The state of a rollout: `doing` names what it waits for.

    `failure_count` devices failed, rolled back, were silent or skipped; `failures` are the latest of them.
    """

    plan: RolloutPlan
    doing: str
    counts: list[RolloutWave]
    failure_count: int
    failures: list[RolloutFailure]


class Rollouts(Result):
    """Rollouts, newest first."""

    rollouts: list[RolloutView]


ROLLOUT_PREFLIGHT = Operation(
    "firmware", "rollout", "preflight", RolloutPreflight, RolloutFindings, once=False, role=Role.VIEWER
)
ROLLOUT_START = Operation("firmware", "rollout", "start", RolloutStart, RolloutStatus, role=Role.OPERATOR)
ROLLOUT_STATUS = Operation(
    "firmware", "rollout", "status", RolloutShow, RolloutStatus, once=False, role=Role.VIEWER
)
ROLLOUT_LIST = Operation("firmware", "rollout", "list", RolloutList, Rollouts, once=False, role=Role.VIEWER)
ROLLOUT_PAUSE = Operation("firmware", "rollout", "pause", RolloutRef, RolloutStatus, role=Role.OPERATOR)
ROLLOUT_RESUME = Operation("firmware", "rollout", "resume", RolloutRef, RolloutStatus, role=Role.OPERATOR)
ROLLOUT_ABORT = Operation("firmware", "rollout", "abort", RolloutAbort, RolloutStatus, role=Role.OPERATOR)
