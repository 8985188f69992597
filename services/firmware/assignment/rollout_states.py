"""The states of rollouts and of their devices as two transition tables, and the end of a wave, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from shared.errors import ConflictError
from shared.protocol.admin import RolloutPlan


class State(StrEnum):
    """The state of a rollout; the last two are final."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    HALTED = "HALTED"
    ABORTED = "ABORTED"
    COMPLETED = "COMPLETED"


class RolloutEvent(StrEnum):
    """An event of a rollout: three actions of an admin, and two of the rollout itself."""

    PAUSED = "paused"
    RESUMED = "resumed"
    ABORTED = "aborted"
    HALTED = "halted"
    COMPLETED = "completed"


TRANSITIONS: Final[dict[tuple[State, RolloutEvent], State]] = {
    (State.RUNNING, RolloutEvent.PAUSED): State.PAUSED,
    (State.RUNNING, RolloutEvent.HALTED): State.HALTED,
    (State.RUNNING, RolloutEvent.COMPLETED): State.COMPLETED,
    (State.RUNNING, RolloutEvent.ABORTED): State.ABORTED,
    (State.PAUSED, RolloutEvent.RESUMED): State.RUNNING,
    (State.PAUSED, RolloutEvent.HALTED): State.HALTED,
    (State.PAUSED, RolloutEvent.ABORTED): State.ABORTED,
    (State.HALTED, RolloutEvent.RESUMED): State.RUNNING,
    (State.HALTED, RolloutEvent.ABORTED): State.ABORTED,
}
ENDS: Final = frozenset({State.ABORTED, State.COMPLETED})


class DeviceStatus(StrEnum):
    """The status of a device in a rollout."""

    WAITING = "WAITING"
    OFFERED = "OFFERED"
    TAKEN = "TAKEN"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"
    SILENT = "SILENT"
    SKIPPED = "SKIPPED"


class DeviceStep(StrEnum):
    """A step of a device: its own reports, the result of its check, and actions of the rollout."""

    OFFERED = "offered"
    WITHDRAWN = "withdrawn"
    BEGUN = "begun"
    RUNS_IT = "runs_it"
    KEPT = "kept"
    UNFIT = "unfit"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    TIMED_OUT = "timed_out"
    DROPPED = "dropped"


UNDER_WAY: Final = frozenset({DeviceStatus.OFFERED, DeviceStatus.TAKEN})
OPEN: Final = UNDER_WAY | {DeviceStatus.WAITING}
FAILURES: Final = frozenset({DeviceStatus.FAILED, DeviceStatus.ROLLED_BACK, DeviceStatus.SILENT})
_OUTCOMES: Final = {
    DeviceStep.CONFIRMED: DeviceStatus.CONFIRMED,
    DeviceStep.FAILED: DeviceStatus.FAILED,
    DeviceStep.ROLLED_BACK: DeviceStatus.ROLLED_BACK,
}
DEVICE_TRANSITIONS: Final[dict[tuple[DeviceStatus, DeviceStep], DeviceStatus]] = {
    (DeviceStatus.WAITING, DeviceStep.OFFERED): DeviceStatus.OFFERED,
    (DeviceStatus.WAITING, DeviceStep.BEGUN): DeviceStatus.TAKEN,
    (DeviceStatus.WAITING, DeviceStep.RUNS_IT): DeviceStatus.CONFIRMED,
    (DeviceStatus.WAITING, DeviceStep.UNFIT): DeviceStatus.FAILED,
    (DeviceStatus.WAITING, DeviceStep.DROPPED): DeviceStatus.SKIPPED,
    (DeviceStatus.OFFERED, DeviceStep.WITHDRAWN): DeviceStatus.WAITING,
    (DeviceStatus.OFFERED, DeviceStep.BEGUN): DeviceStatus.TAKEN,
    (DeviceStatus.OFFERED, DeviceStep.RUNS_IT): DeviceStatus.CONFIRMED,
    (DeviceStatus.OFFERED, DeviceStep.KEPT): DeviceStatus.CONFIRMED,
    (DeviceStatus.OFFERED, DeviceStep.UNFIT): DeviceStatus.FAILED,
    (DeviceStatus.OFFERED, DeviceStep.TIMED_OUT): DeviceStatus.SILENT,
    (DeviceStatus.OFFERED, DeviceStep.DROPPED): DeviceStatus.SKIPPED,
    (DeviceStatus.TAKEN, DeviceStep.KEPT): DeviceStatus.CONFIRMED,
    (DeviceStatus.TAKEN, DeviceStep.UNFIT): DeviceStatus.FAILED,
    (DeviceStatus.TAKEN, DeviceStep.TIMED_OUT): DeviceStatus.SILENT,
    (DeviceStatus.TAKEN, DeviceStep.DROPPED): DeviceStatus.SKIPPED,
    # A reported outcome counts, also late and after another outcome; that the device was skipped does not change
    # that it runs the image.
    **{
        (status, step): end
        for status in DeviceStatus
        for step, end in _OUTCOMES.items()
        if status is not DeviceStatus.SKIPPED
    },
    (DeviceStatus.SKIPPED, DeviceStep.CONFIRMED): DeviceStatus.CONFIRMED,
}


def advance(state: State, event: RolloutEvent) -> State:
    """Return a rollout's next state; raise ConflictError if there is none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ConflictError(f"the rollout is {state} and cannot be {event}", state=state) from None


def status_after(status: DeviceStatus, step: DeviceStep) -> DeviceStatus:
    """Return a device's status after a step; one that is not allowed or is repeated changes nothing."""
    return DEVICE_TRANSITIONS.get((status, step), status)


def effect(step: DeviceStep) -> tuple[frozenset[DeviceStatus], DeviceStatus]:
    """Return the statuses that a step changes, and the one new status."""
    before = frozenset(status for status, known in DEVICE_TRANSITIONS if known is step)
    (after,) = {DEVICE_TRANSITIONS[status, step] for status in before}
    return before, after


def binds(state: State, status: DeviceStatus, *, runs_it: bool) -> bool:
    """Return whether this rollout decides a device's image, rather than an older decision."""
    if status in UNDER_WAY or status is DeviceStatus.CONFIRMED:
        return True
    if status in {DeviceStatus.FAILED, DeviceStatus.ROLLED_BACK}:
        return False
    return runs_it or (status is DeviceStatus.WAITING and state is State.COMPLETED)


@dataclass(frozen=True, slots=True)
class WaveTally:
    """The number of devices of a wave by status; skipped devices and exempted failures are excluded."""

    waiting: int = 0
    under_way: int = 0
    confirmed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All devices that count."""
        return self.waiting + self.under_way + self.confirmed + self.failed


def tally(counts: Iterable[tuple[DeviceStatus, bool, int]]) -> WaveTally:
    """Add up counts of devices, each with their status and whether their failure is exempted."""
    sums = dict.fromkeys(("waiting", "under_way", "confirmed", "failed"), 0)
    for status, forgiven, count in counts:
        if status is DeviceStatus.WAITING:
            sums["waiting"] += count
        elif status in UNDER_WAY:
            sums["under_way"] += count
        elif status is DeviceStatus.CONFIRMED:
            sums["confirmed"] += count
        elif status in FAILURES and not forgiven:
            sums["failed"] += count
    return WaveTally(**sums)


def needed(total: int, plan: RolloutPlan) -> int:
    """Return how many devices of a wave must confirm."""
    return -(-total * plan.success_percent // 100)


def allowed(total: int, plan: RolloutPlan) -> int:
    """Return how many devices of a wave may fail; never so many that the wave could not be met."""
    number = int(plan.failure_limit.rstrip("%"))
    limit = total * number // 100 if plan.failure_limit.endswith("%") else number
    return min(limit, total - needed(total, plan))


class Do(StrEnum):
    """The next action of a rollout."""

    WAIT = "wait"
    SOAK = "soak"
    OPEN = "open"
    COMPLETE = "complete"
    HALT = "halt"


class RolloutVerdict(NamedTuple):
    """The next action of a rollout, and its reason."""

    do: Do
    why: str


def judge(
    waves: Mapping[int, WaveTally],
    *,
    wave: int,
    last: int,
    met_at: datetime | None,
    plan: RolloutPlan,
    now: datetime,
) -> RolloutVerdict:
    """Return the next action for the tallies of the waves up to `wave`, of `last`, which was met at `met_at`."""
    for number in range(1, wave + 1):
        found = waves.get(number, WaveTally())
        may = allowed(found.total, plan)
        if found.failed > may:
            return RolloutVerdict(
                Do.HALT, f"wave {number}: {found.failed} of {found.total} devices failed, {may} may"
            )
    present = waves.get(wave, WaveTally())
    must = needed(present.total, plan)
    if wave and present.confirmed < must:
        return RolloutVerdict(Do.WAIT, f"wave {wave}: {present.confirmed} of {must} needed devices have confirmed")
    if wave:
        soaked_at = (met_at or now) + timedelta(seconds=plan.soak_s)
        if met_at is None or now < soaked_at:
            return RolloutVerdict(Do.SOAK, f"wave {wave} is met and soaks until {soaked_at:%Y-%m-%d %H:%M:%SZ}")
    return (
        RolloutVerdict(Do.COMPLETE, "all waves are done; waits for the model's other rollouts, if there are any")
        if wave == last
        else RolloutVerdict(Do.OPEN, f"wave {wave + 1} begins")
    )


def wave_sizes(total: int, waves: Iterable[str]) -> list[int]:
    """Return the number of devices in each wave; waves without new devices are left out."""
    reached = [0]
    for share in waves:
        number = int(share.rstrip("%"))
        goal = -(-total * number // 100) if share.endswith("%") else number
        reached.append(max(reached[-1], min(goal, total)))
    reached.append(total)
    return [after - before for before, after in pairwise(reached) if after > before]


def is_open(plan: RolloutPlan, now: datetime) -> bool:
    """Return whether offers may be made now; a window that ends before it begins spans midnight."""
    if plan.hours is None:
        return True
    begin, end = plan.hours
    local = now.astimezone(ZoneInfo(plan.zone)).time()
    return begin <= local < end if begin < end else local >= begin or local < end
