from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rotator.domain import ENDS, TRANSITIONS, Event, Step, advance
from shared.errors import IllegalTransitionError

EVERYTHING = list(product(Step, Event))
OPEN = [step for step in Step if step not in ENDS]
FORWARD = [Step.OFFERED, Step.DELIVERED, Step.STORED, Step.SWITCHING, Step.SWITCHED, Step.DONE]
CHANGED_OUTSIDE = {Step.SWITCHING, Step.SWITCHED, Step.RESTORING}
EXPECTED = {
    Step.OFFERED: {Event.REQUESTED: Step.DELIVERED, Event.EXPIRED: Step.TIMEOUT},
    Step.DELIVERED: {
        Event.REQUESTED: Step.DELIVERED,
        Event.STORED_PROVEN: Step.STORED,
        Event.EXPIRED: Step.TIMEOUT,
    },
    Step.STORED: {
        Event.REQUESTED: Step.STORED,
        Event.STORED_PROVEN: Step.STORED,
        Event.SWITCH_BEGUN: Step.SWITCHING,
        Event.EXPIRED: Step.TIMEOUT,
    },
    Step.SWITCHING: {
        Event.REQUESTED: Step.SWITCHING,
        Event.STORED_PROVEN: Step.SWITCHING,
        Event.SWITCH_BEGUN: Step.SWITCHING,
        Event.SWITCH_COMPLETED: Step.SWITCHED,
        Event.EXPIRED: Step.RESTORING,
    },
    Step.SWITCHED: {
        Event.REQUESTED: Step.SWITCHED,
        Event.STORED_PROVEN: Step.SWITCHED,
        Event.ACK_PROVEN: Step.DONE,
        Event.EXPIRED: Step.RESTORING,
    },
    Step.RESTORING: {Event.RESTORED: Step.TIMEOUT},
    Step.DONE: {},
    Step.TIMEOUT: {},
}
"""The protocol's rotation, written a second time: steps, and what may happen in each."""


def reachable(start: Step, *, without: Step | None = None) -> set[Step]:
    """The steps that can follow `start` by any events, `start` included."""
    found, new = {start}, {start}
    while new:
        new = {after for (step, _), after in TRANSITIONS.items() if step in new} - found - {without}
        found |= new
    return found


@pytest.mark.parametrize(("step", "event"), EVERYTHING)
def test_an_event_leads_where_the_protocol_says_or_is_refused(step: Step, event: Event) -> None:
    expected = EXPECTED[step].get(event)
    before = dict(TRANSITIONS)

    if expected is not None:
        assert advance(step, event) is expected
    else:
        with pytest.raises(IllegalTransitionError) as caught:
            advance(step, event)
        assert caught.value.message == f"{event} does not belong to {step}"
        assert caught.value.details == {"step": step, "event": event}
    assert before == TRANSITIONS


@pytest.mark.parametrize("step", OPEN)
def test_every_open_step_can_end(step: Step) -> None:
    assert reachable(step) & ENDS


@pytest.mark.parametrize("step", OPEN)
def test_an_attempt_can_always_end_without_the_device(step: Step) -> None:
    while step not in ENDS:
        step = advance(step, Event.RESTORED if step is Step.RESTORING else Event.EXPIRED)

    assert step is Step.TIMEOUT


@pytest.mark.parametrize(("step", "event"), list(product(sorted(ENDS), Event)))
def test_nothing_happens_after_the_end(step: Step, event: Event) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(step, event)


def test_the_ends_are_success_and_timeout() -> None:
    assert {Step.DONE, Step.TIMEOUT} == ENDS


def test_every_step_can_be_reached() -> None:
    assert reachable(Step.OFFERED) == set(Step)


@pytest.mark.parametrize("step", [Step.SWITCHING, Step.SWITCHED])
def test_what_is_switched_is_restored_before_it_times_out(step: Step) -> None:
    assert Step.TIMEOUT not in reachable(step, without=Step.RESTORING)
    assert Step.TIMEOUT in reachable(step)


@pytest.mark.parametrize("step", [Step.OFFERED, Step.DELIVERED])
def test_nothing_is_switched_before_the_device_has_proven_that_it_stored_the_secret(step: Step) -> None:
    assert not reachable(step, without=Step.STORED) & CHANGED_OUTSIDE


def test_nothing_is_done_before_the_device_has_logged_in_with_the_new_secret() -> None:
    assert [key for key, after in TRANSITIONS.items() if after is Step.DONE] == [(Step.SWITCHED, Event.ACK_PROVEN)]


def test_no_restored_secret_comes_back() -> None:
    assert reachable(Step.RESTORING) == {Step.RESTORING, Step.TIMEOUT}


@given(events=st.lists(st.sampled_from(Event), max_size=60))
def test_a_walk_only_goes_forward_and_ends_once(events: list[Event]) -> None:
    step, walk = Step.OFFERED, [Step.OFFERED]
    for event in events:
        try:
            step = advance(step, event)
        except IllegalTransitionError:
            continue
        if step is not walk[-1]:
            walk.append(step)

    forward = [step for step in walk if step in FORWARD]
    assert forward == FORWARD[: len(forward)]
    assert walk[len(forward) :] in ([], [Step.TIMEOUT], [Step.RESTORING], [Step.RESTORING, Step.TIMEOUT])
    if walk[-1] is Step.TIMEOUT:
        assert (Step.RESTORING in walk) == (Step.SWITCHING in walk)
