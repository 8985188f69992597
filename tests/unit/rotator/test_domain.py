from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rotator.states import (
    ENDS,
    TRANSITIONS,
    AttemptEnding,
    AttemptEvent,
    Basis,
    Step,
    advance,
    basis,
    ending,
    may_switch,
)
from shared.crypto import Held
from shared.errors import IllegalTransitionError

EVERYTHING = list(product(Step, AttemptEvent))
OPEN = [step for step in Step if step not in ENDS]
FORWARD = [Step.OFFERED, Step.DELIVERED, Step.STORED, Step.SWITCHING, Step.SWITCHED, Step.DONE]
CHANGED_OUTSIDE = {Step.SWITCHING, Step.SWITCHED, Step.RESTORING}
EXPECTED = {
    Step.OFFERED: {AttemptEvent.REQUESTED: Step.DELIVERED, AttemptEvent.EXPIRED: Step.TIMEOUT},
    Step.DELIVERED: {
        AttemptEvent.REQUESTED: Step.DELIVERED,
        AttemptEvent.STORED_PROVEN: Step.STORED,
        AttemptEvent.EXPIRED: Step.TIMEOUT,
    },
    Step.STORED: {
        AttemptEvent.REQUESTED: Step.STORED,
        AttemptEvent.STORED_PROVEN: Step.STORED,
        AttemptEvent.SWITCH_BEGUN: Step.SWITCHING,
        AttemptEvent.EXPIRED: Step.TIMEOUT,
    },
    Step.SWITCHING: {
        AttemptEvent.REQUESTED: Step.SWITCHING,
        AttemptEvent.STORED_PROVEN: Step.SWITCHING,
        AttemptEvent.SWITCH_BEGUN: Step.SWITCHING,
        AttemptEvent.SWITCH_COMPLETED: Step.SWITCHED,
        AttemptEvent.EXPIRED: Step.RESTORING,
    },
    Step.SWITCHED: {
        AttemptEvent.REQUESTED: Step.SWITCHED,
        AttemptEvent.STORED_PROVEN: Step.SWITCHED,
        AttemptEvent.ACK_PROVEN: Step.DONE,
        AttemptEvent.EXPIRED: Step.RESTORING,
    },
    Step.RESTORING: {AttemptEvent.RESTORED: Step.TIMEOUT},
    Step.DONE: {},
    Step.TIMEOUT: {},
    Step.WITHDRAWN: {},
}
for step in (Step.OFFERED, Step.DELIVERED, Step.STORED):
    EXPECTED[step][AttemptEvent.LEFT] = Step.WITHDRAWN
for step in OPEN:
    EXPECTED[step][AttemptEvent.FOUND_IN_FORCE] = Step.DONE
    EXPECTED[step][AttemptEvent.OVERTAKEN] = Step.TIMEOUT
"""The protocol's rotation, written a second time: steps, and what may happen in each."""


def reachable(start: Step, *, without: Step | None = None) -> set[Step]:
    """The steps that can follow `start` by any events, `start` included."""
    found, new = {start}, {start}
    while new:
        new = {after for (step, _), after in TRANSITIONS.items() if step in new} - found - {without}
        found |= new
    return found


@pytest.mark.parametrize(("step", "event"), EVERYTHING)
def test_an_event_leads_where_the_protocol_says_or_is_refused(step: Step, event: AttemptEvent) -> None:
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
        step = advance(step, AttemptEvent.RESTORED if step is Step.RESTORING else AttemptEvent.EXPIRED)

    assert step is Step.TIMEOUT


@pytest.mark.parametrize(("step", "event"), list(product(sorted(ENDS), AttemptEvent)))
def test_nothing_happens_after_the_end(step: Step, event: AttemptEvent) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(step, event)


def test_the_ends_are_success_timeout_and_withdrawal() -> None:
    assert {Step.DONE, Step.TIMEOUT, Step.WITHDRAWN} == ENDS


@pytest.mark.parametrize("step", sorted(CHANGED_OUTSIDE))
def test_the_slot_stays_with_a_device_from_the_switch_on(step: Step) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(step, AttemptEvent.LEFT)


def test_every_step_can_be_reached() -> None:
    assert reachable(Step.OFFERED) == set(Step)


@pytest.mark.parametrize("step", [Step.SWITCHING, Step.SWITCHED])
def test_what_is_switched_is_restored_before_it_times_out_or_was_overtaken(step: Step) -> None:
    ways = {key for key, after in TRANSITIONS.items() if after is Step.TIMEOUT and key[0] is step}
    assert ways == {(step, AttemptEvent.OVERTAKEN)}
    assert TRANSITIONS[step, AttemptEvent.EXPIRED] is Step.RESTORING


@pytest.mark.parametrize("step", [Step.OFFERED, Step.DELIVERED])
def test_nothing_is_switched_before_the_device_has_proven_that_it_stored_the_secret(step: Step) -> None:
    assert not reachable(step, without=Step.STORED) & CHANGED_OUTSIDE


def test_nothing_is_done_before_the_device_has_logged_in_or_the_new_secret_was_found_in_force() -> None:
    done = {key for key, after in TRANSITIONS.items() if after is Step.DONE}
    assert done == {(Step.SWITCHED, AttemptEvent.ACK_PROVEN)} | {
        (step, AttemptEvent.FOUND_IN_FORCE) for step in OPEN
    }


OLD, NEW, OTHER = Held(1, "old"), Held(2, "new"), Held(1, "other")
PLACES = [None, OLD, NEW, OTHER]


@pytest.mark.parametrize(("step", "keycloak", "broker"), list(product(OPEN, PLACES, PLACES)))
def test_a_device_that_has_logged_in_with_the_new_secret_keeps_it(
    step: Step, keycloak: Held | None, broker: Held | None
) -> None:
    found = ending(step, new=NEW, keycloak=keycloak, broker=broker, reported=NEW.generation, restorable=True)
    proven = step not in {Step.OFFERED, Step.DELIVERED}
    assert found is (AttemptEnding.COMPLETE if proven or NEW in (keycloak, broker) else AttemptEnding.GIVE_UP)


@pytest.mark.parametrize("step", [Step.OFFERED, Step.DELIVERED, Step.STORED])
@pytest.mark.parametrize("place", ["keycloak", "broker"])
def test_an_earlier_copy_of_the_database_does_not_take_a_secret_out_of_force(step: Step, place: str) -> None:
    places: dict[str, Held | None] = {"keycloak": OLD, "broker": OLD, place: NEW}
    assert ending(step, new=NEW, reported=None, restorable=True, **places) is AttemptEnding.COMPLETE
    assert ending(step, new=NEW, keycloak=OLD, broker=OLD, reported=1, restorable=True) is AttemptEnding.GIVE_UP


@pytest.mark.parametrize("step", sorted(CHANGED_OUTSIDE))
def test_what_is_not_the_devices_secret_is_never_put_back(step: Step) -> None:
    assert ending(step, new=NEW, keycloak=NEW, broker=NEW, reported=1, restorable=True) is AttemptEnding.RESTORE
    assert ending(step, new=NEW, keycloak=NEW, broker=NEW, reported=1, restorable=False) is AttemptEnding.COMPLETE


@pytest.mark.parametrize(("keycloak", "broker"), [(OLD, NEW), (NEW, OLD)])
def test_a_store_that_was_put_back_after_the_switch_does_not_bring_the_old_secret_back(
    keycloak: Held, broker: Held
) -> None:
    assert (
        ending(Step.SWITCHED, new=NEW, keycloak=keycloak, broker=broker, reported=1, restorable=True)
        is AttemptEnding.COMPLETE
    )


@pytest.mark.parametrize(("keycloak", "broker"), [(OLD, NEW), (NEW, OLD), (NEW, NEW), (OLD, OLD)])
def test_a_restore_that_was_cut_off_goes_on(keycloak: Held, broker: Held) -> None:
    assert (
        ending(Step.RESTORING, new=NEW, keycloak=keycloak, broker=broker, reported=1, restorable=True)
        is AttemptEnding.RESTORE
    )


@pytest.mark.parametrize("step", OPEN)
@pytest.mark.parametrize("place", ["keycloak", "broker"])
def test_an_attempt_that_a_later_one_has_overtaken_touches_nothing(step: Step, place: str) -> None:
    places: dict[str, Held | None] = {"keycloak": NEW, "broker": NEW, place: Held(3, "later")}
    assert ending(step, new=NEW, reported=2, restorable=True, **places) is AttemptEnding.ABANDON


@pytest.mark.parametrize(("keycloak", "broker"), [(OLD, OLD), (OLD, NEW), (NEW, OLD), (NEW, NEW), (None, None)])
def test_a_switch_begins_only_on_the_devices_word_to_this_leader(
    keycloak: Held | None, broker: Held | None
) -> None:
    for step in (Step.STORED, Step.SWITCHING):
        assert may_switch(step, stored=True, new=NEW, keycloak=keycloak, broker=broker)
        unheard = may_switch(step, stored=False, new=NEW, keycloak=keycloak, broker=broker)
        assert unheard == (step is Step.SWITCHING and NEW in (keycloak, broker))


@pytest.mark.parametrize(
    ("row", "keycloak", "broker", "reported", "expected"),
    [
        (OLD, OLD, OLD, 1, Basis(1, restorable=True)),
        (OLD, OLD, None, None, Basis(1, restorable=True)),
        (Held(1, ""), OLD, None, 1, Basis(1, restorable=True)),
        (OLD, OTHER, None, None, Basis(1, restorable=False)),
        (OLD, NEW, None, 1, Basis(1, restorable=False)),
        (OLD, NEW, OLD, 1, Basis(1, restorable=False)),
        (NEW, OLD, NEW, 2, Basis(2, restorable=False)),
        (OLD, NEW, NEW, None, Basis(2, restorable=True)),
    ],
)
def test_an_attempt_is_based_on_what_the_device_logs_in_with(
    row: Held, keycloak: Held, broker: Held | None, reported: int | None, expected: Basis
) -> None:
    assert basis(row=row, keycloak=keycloak, broker=broker, reported=reported) == expected


@given(events=st.lists(st.sampled_from(AttemptEvent), max_size=60))
def test_a_walk_only_goes_forward_and_ends_once(events: list[AttemptEvent]) -> None:
    step, walk = Step.OFFERED, [Step.OFFERED]
    for event in events:
        try:
            step = advance(step, event)
        except IllegalTransitionError:
            continue
        if step is not walk[-1]:
            walk.append(step)

    forward = [step for step in walk if step in FORWARD]
    without_end = forward[:-1] if Step.DONE in forward else forward
    assert without_end == FORWARD[: len(without_end)]
    ends: list[list[Step]] = [[], [Step.DONE], [Step.TIMEOUT]]
    possible = [[*path, *end] for path in ([], [Step.RESTORING]) for end in ends]
    assert walk[len(without_end) :] in [*possible, [Step.WITHDRAWN]]
    if walk[-1] is Step.WITHDRAWN:
        assert not CHANGED_OUTSIDE.intersection(walk)
