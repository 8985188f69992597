from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.firmware.assignment import rollout_states
from services.firmware.assignment.rollout_states import (
    ENDS,
    FAILURES,
    TRANSITIONS,
    DeviceStatus,
    DeviceStep,
    Do,
    RolloutEvent,
    State,
    WaveTally,
)
from shared.errors import ConflictError
from shared.protocol.admin import RolloutPlan

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
EXPECTED = {
    State.RUNNING: {
        RolloutEvent.PAUSED: State.PAUSED,
        RolloutEvent.HALTED: State.HALTED,
        RolloutEvent.ABORTED: State.ABORTED,
        RolloutEvent.COMPLETED: State.COMPLETED,
    },
    State.PAUSED: {
        RolloutEvent.RESUMED: State.RUNNING,
        RolloutEvent.HALTED: State.HALTED,
        RolloutEvent.ABORTED: State.ABORTED,
    },
    State.HALTED: {RolloutEvent.RESUMED: State.RUNNING, RolloutEvent.ABORTED: State.ABORTED},
    State.ABORTED: {},
    State.COMPLETED: {},
}
"""The rollout's states, written a second time."""
PLANS = st.builds(
    RolloutPlan,
    waves=st.lists(
        st.one_of(st.integers(1, 30).map(str), st.integers(1, 100).map(lambda it: f"{it}%")),
        min_size=1,
        max_size=5,
    ),
    success_percent=st.integers(1, 100),
    failure_limit=st.one_of(st.integers(0, 10).map(str), st.integers(0, 100).map(lambda it: f"{it}%")),
    soak_s=st.integers(0, 100),
)


@pytest.mark.parametrize(("state", "event"), list(product(State, RolloutEvent)))
def test_an_event_leads_where_it_should_or_is_refused(state: State, event: RolloutEvent) -> None:
    expected = EXPECTED[state].get(event)
    if expected is not None:
        assert rollout_states.advance(state, event) is expected
        return
    with pytest.raises(ConflictError, match=f"the rollout is {state} and cannot be {event}"):
        rollout_states.advance(state, event)


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS])
def test_every_open_rollout_can_be_aborted(state: State) -> None:
    assert TRANSITIONS[state, RolloutEvent.ABORTED] is State.ABORTED


@pytest.mark.parametrize(("status", "step"), list(product(DeviceStatus, DeviceStep)))
def test_the_same_fact_twice_is_as_once(status: DeviceStatus, step: DeviceStep) -> None:
    once = rollout_states.status_after(status, step)
    assert rollout_states.status_after(once, step) is once


@pytest.mark.parametrize("step", list(DeviceStep))
def test_a_fact_leads_to_one_stand_from_wherever_it_counts(step: DeviceStep) -> None:
    before, after = rollout_states.effect(step)
    for status in DeviceStatus:
        assert rollout_states.status_after(status, step) is (after if status in before else status)


@pytest.mark.parametrize("end", [DeviceStatus.CONFIRMED, *sorted(FAILURES)])
@pytest.mark.parametrize(
    "step",
    [step for step in DeviceStep if step not in {DeviceStep.CONFIRMED, DeviceStep.FAILED, DeviceStep.ROLLED_BACK}],
)
def test_only_what_a_device_says_of_an_end_moves_an_end(end: DeviceStatus, step: DeviceStep) -> None:
    assert rollout_states.status_after(end, step) is end


@pytest.mark.parametrize("status", list(DeviceStatus))
def test_a_device_that_runs_the_image_is_only_called_back_from_it_if_it_refused_it(status: DeviceStatus) -> None:
    for state in State:
        refused = status in {DeviceStatus.FAILED, DeviceStatus.ROLLED_BACK}
        assert rollout_states.binds(state, status, runs_it=True) is not refused


@pytest.mark.parametrize("state", list(State))
def test_a_device_that_waits_gets_the_image_only_from_a_rollout_that_is_complete(state: State) -> None:
    assert rollout_states.binds(state, DeviceStatus.WAITING, runs_it=False) is (state is State.COMPLETED)
    assert not rollout_states.binds(state, DeviceStatus.SKIPPED, runs_it=False)
    assert not rollout_states.binds(state, DeviceStatus.SILENT, runs_it=False)
    assert rollout_states.binds(state, DeviceStatus.CONFIRMED, runs_it=False)


@given(total=st.integers(0, 100_000), plan=PLANS)
def test_the_waves_have_all_devices_and_none_is_empty(total: int, plan: RolloutPlan) -> None:
    sizes = rollout_states.wave_sizes(total, plan.waves)
    assert sum(sizes) == total
    assert all(size > 0 for size in sizes)


@pytest.mark.parametrize(
    ("total", "waves", "sizes"),
    [
        (100, ["1", "10%", "50%", "100%"], [1, 9, 40, 50]),
        (3, ["1", "10%", "50%", "100%"], [1, 1, 1]),
        (1, ["1", "10%", "50%", "100%"], [1]),
        (10, ["5"], [5, 5]),
        (10, ["80%", "2", "100%"], [8, 2]),
        (10, ["500"], [10]),
        (0, ["1"], []),
    ],
)
def test_a_wave_reaches_so_many_in_all(total: int, waves: list[str], sizes: list[int]) -> None:
    assert rollout_states.wave_sizes(total, waves) == sizes


@given(total=st.integers(0, 1000), plan=PLANS)
def test_a_wave_with_as_many_failures_as_are_allowed_can_still_be_met(total: int, plan: RolloutPlan) -> None:
    assert 0 <= rollout_states.allowed(total, plan) <= total - rollout_states.needed(total, plan)


@given(plan=PLANS, tally=st.builds(WaveTally, *[st.integers(0, 50)] * 4), met=st.booleans())
def test_one_failure_more_than_is_allowed_always_halts(plan: RolloutPlan, tally: WaveTally, met: bool) -> None:
    verdict = rollout_states.judge({1: tally}, wave=1, last=2, met_at=NOW if met else None, plan=plan, now=NOW)
    assert (verdict.do is Do.HALT) is (tally.failed > rollout_states.allowed(tally.total, plan))


@given(plan=PLANS, data=st.data(), total=st.integers(1, 40))
def test_no_wave_begins_before_the_one_before_was_met_and_has_soaked(
    plan: RolloutPlan, data: st.DataObject, total: int
) -> None:
    """A rollout is played: facts come to devices of open waves, also twice and late, and time goes on."""
    sizes = rollout_states.wave_sizes(total, plan.waves)
    devices = [[DeviceStatus.WAITING] * size for size in sizes]
    wave, met_at, now = 0, None, NOW
    facts = st.tuples(st.integers(0, total - 1), st.sampled_from(DeviceStep), st.integers(0, 60))
    for number, step, seconds in data.draw(st.lists(facts, max_size=120)):
        now += timedelta(seconds=seconds)
        if wave:
            mine = devices[number % wave]
            place = number % len(mine)
            mine[place] = rollout_states.status_after(mine[place], step)
        tallies = {
            index: rollout_states.tally((status, False, mine.count(status)) for status in DeviceStatus)
            for index, mine in enumerate(devices[:wave], 1)
        }
        for index, tally in tallies.items():
            assert tally.total == sizes[index - 1] - devices[index - 1].count(DeviceStatus.SKIPPED)
        verdict = rollout_states.judge(tallies, wave=wave, last=len(sizes), met_at=met_at, plan=plan, now=now)
        over = any(tally.failed > rollout_states.allowed(tally.total, plan) for tally in tallies.values())
        assert (verdict.do is Do.HALT) is over
        if verdict.do is Do.HALT:
            return
        if verdict.do is Do.SOAK:
            met_at = met_at or now
        elif verdict.do is Do.WAIT:
            met_at = None
        else:
            if wave:
                present = tallies[wave]
                assert present.confirmed * 100 >= present.total * plan.success_percent
                assert met_at is not None
                assert (now - met_at).total_seconds() >= plan.soak_s
            if verdict.do is Do.COMPLETE:
                assert wave == len(sizes)
                return
            wave, met_at = wave + 1, None
    assert all(status is DeviceStatus.WAITING for mine in devices[wave:] for status in mine)


def test_what_is_forgiven_or_skipped_counts_no_more() -> None:
    counts = [
        (DeviceStatus.WAITING, False, 1),
        (DeviceStatus.OFFERED, False, 2),
        (DeviceStatus.TAKEN, False, 3),
        (DeviceStatus.CONFIRMED, False, 4),
        (DeviceStatus.SILENT, False, 5),
        (DeviceStatus.FAILED, True, 6),
        (DeviceStatus.SKIPPED, False, 7),
    ]
    assert rollout_states.tally(counts) == WaveTally(waiting=1, under_way=5, confirmed=4, failed=5)


def test_a_rollout_without_devices_left_is_complete() -> None:
    met = rollout_states.judge({}, wave=1, last=1, met_at=None, plan=RolloutPlan(soak_s=0), now=NOW)
    assert met.do is Do.SOAK
    assert (
        rollout_states.judge({}, wave=1, last=1, met_at=NOW, plan=RolloutPlan(soak_s=0), now=NOW).do is Do.COMPLETE
    )


@pytest.mark.parametrize(
    ("window", "zone", "at", "is_open"),
    [
        (None, "UTC", "2026-01-10T12:00Z", True),
        ("02:00-05:00", "UTC", "2026-01-10T02:00Z", True),
        ("02:00-05:00", "UTC", "2026-01-10T04:59Z", True),
        ("02:00-05:00", "UTC", "2026-01-10T05:00Z", False),
        ("02:00-05:00", "Europe/Berlin", "2026-01-10T01:00Z", True),
        ("02:00-05:00", "Europe/Berlin", "2026-07-10T00:00Z", True),
        ("02:00-05:00", "Europe/Berlin", "2026-07-10T03:00Z", False),
        ("22:00-04:00", "UTC", "2026-01-10T23:59Z", True),
        ("22:00-04:00", "UTC", "2026-01-10T03:59Z", True),
        ("22:00-04:00", "UTC", "2026-01-10T04:00Z", False),
        ("22:00-04:00", "UTC", "2026-01-10T21:59Z", False),
        # The clocks go from 02:00 to 03:00 on this day.
        ("02:00-03:30", "Europe/Berlin", "2026-03-29T01:15Z", True),
    ],
)
def test_offers_are_made_in_the_window_only(window: str | None, zone: str, at: str, is_open: bool) -> None:
    assert rollout_states.is_open(RolloutPlan(window=window, zone=zone), datetime.fromisoformat(at)) is is_open


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"waves": ["0"]}, "each must be at least 1"),
        ({"waves": ["101%"]}, "should match pattern"),
        ({"waves": []}, "at least 1 item"),
        ({"failure_limit": "some"}, "should match pattern"),
        ({"window": "02:00"}, "two different times of day"),
        ({"window": "02:00-02:00"}, "two different times of day"),
        ({"window": "24:00-02:00"}, "two different times of day"),
        ({"zone": "Berlin"}, "IANA name"),
        ({"success_percent": 0}, "greater than or equal to 1"),
        ({"silence": 3}, "Extra inputs"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RolloutPlan.model_validate(fields)
