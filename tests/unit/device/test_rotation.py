from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from device import rotation
from device.rotation import Due, OfferVerdict, Slot, SlotChange, Slots, Wanted
from shared.errors import IllegalTransitionError
from shared.protocol import messages
from tests.unit.device.kit import EPOCH

FIRST = Slot(SecretStr("a" * 43), 5)
TRIAL = Slot(SecretStr("b" * 43), 7, uuid4())
LONE = Slots(FIRST)
BOTH = Slots(FIRST, TRIAL)


def offer(generation: int, current: int, *, rotation_id: UUID | None = None) -> messages.RotationOffer:
    return messages.RotationOffer(
        rotation_id=rotation_id or uuid4(),
        deadline=EPOCH + timedelta(seconds=300),
        generation=generation,
        current_generation=current,
    )


@pytest.mark.parametrize(
    ("slots", "generation", "current", "change", "verdict"),
    [
        (LONE, 6, 5, SlotChange.KEEP, OfferVerdict.ACCEPTED),
        (LONE, 5, 5, SlotChange.KEEP, OfferVerdict.STALE),
        (LONE, 4, 3, SlotChange.KEEP, OfferVerdict.STALE),
        (LONE, 9, 8, SlotChange.KEEP, OfferVerdict.FOREIGN),
        (BOTH, 8, 7, SlotChange.PROMOTE, OfferVerdict.ACCEPTED),
        (BOTH, 8, 5, SlotChange.DISCARD, OfferVerdict.ACCEPTED),
        (BOTH, 8, 6, SlotChange.KEEP, OfferVerdict.FOREIGN),
        (BOTH, 7, 5, SlotChange.KEEP, OfferVerdict.STALE),
        (BOTH, 6, 5, SlotChange.KEEP, OfferVerdict.STALE),
    ],
)
def test_an_offer_settles_an_older_trial(
    slots: Slots, generation: int, current: int, change: SlotChange, verdict: OfferVerdict
) -> None:
    answer = rotation.on_offer(slots, None, offer(generation, current), now=EPOCH)

    assert (answer.change, answer.verdict) == (change, verdict)
    assert (answer.wanted is not None) == (verdict is OfferVerdict.ACCEPTED)


def test_the_offer_of_the_secret_on_trial_is_answered_again() -> None:
    answer = rotation.on_offer(BOTH, None, offer(7, 5, rotation_id=TRIAL.rotation_id), now=EPOCH)

    assert answer == rotation.OfferAnswer(SlotChange.KEEP, None, OfferVerdict.REPEATED)


def test_an_expired_offer_still_settles_but_is_not_accepted() -> None:
    answer = rotation.on_offer(BOTH, None, offer(8, 7), now=EPOCH + timedelta(seconds=300))

    assert answer == rotation.OfferAnswer(SlotChange.PROMOTE, None, OfferVerdict.EXPIRED)


def test_of_two_offers_the_higher_generation_counts() -> None:
    newer = rotation.on_offer(LONE, None, offer(7, 5), now=EPOCH).wanted

    assert rotation.on_offer(LONE, newer, offer(6, 5), now=EPOCH).wanted == newer
    newest = rotation.on_offer(LONE, newer, offer(8, 5), now=EPOCH).wanted
    assert newest is not None
    assert newest.generation == 8


def test_a_secret_is_taken_only_for_the_accepted_offer_in_time_and_into_an_empty_slot() -> None:
    wanted = Wanted(uuid4(), 6, EPOCH + timedelta(seconds=300))
    secret = messages.RotationSecret(rotation_id=wanted.rotation_id, generation=6, secret="c" * 43)

    assert rotation.takes_secret(LONE, wanted, secret, now=EPOCH)
    assert not rotation.takes_secret(LONE, None, secret, now=EPOCH)
    assert not rotation.takes_secret(BOTH, wanted, secret, now=EPOCH)
    assert not rotation.takes_secret(LONE, wanted, secret, now=wanted.deadline)
    assert not rotation.takes_secret(LONE, replace(wanted, generation=7), secret, now=EPOCH)
    assert not rotation.takes_secret(LONE, replace(wanted, rotation_id=uuid4()), secret, now=EPOCH)


def test_only_the_word_on_this_very_rotation_changes_a_slot() -> None:
    assert TRIAL.rotation_id is not None
    assert rotation.on_done(BOTH, TRIAL.rotation_id) is SlotChange.PROMOTE
    assert rotation.on_cancelled(BOTH, TRIAL.rotation_id) is SlotChange.DISCARD
    assert rotation.on_confirmed(BOTH, 7) is SlotChange.PROMOTE
    for change in (
        rotation.on_done(BOTH, uuid4()),
        rotation.on_cancelled(BOTH, uuid4()),
        rotation.on_confirmed(BOTH, 5),
        rotation.on_confirmed(BOTH, 8),
        rotation.on_done(LONE, TRIAL.rotation_id),
        rotation.on_confirmed(LONE, 5),
    ):
        assert change is SlotChange.KEEP


def test_the_secret_on_trial_is_tried_first() -> None:
    assert rotation.login_order(BOTH) == (TRIAL, FIRST)
    assert rotation.login_order(LONE) == (FIRST,)


def test_what_is_due_follows_from_the_secret_of_the_login() -> None:
    wanted = Wanted(uuid4(), 6, EPOCH + timedelta(seconds=300))

    assert rotation.due(BOTH, None, 5, now=EPOCH) is Due.STORED
    assert rotation.due(BOTH, None, 7, now=EPOCH) is Due.ACK
    assert rotation.due(BOTH, None, 9, now=EPOCH) is None
    assert rotation.due(LONE, wanted, 5, now=EPOCH) is Due.REQUEST
    assert rotation.due(LONE, wanted, 5, now=wanted.deadline) is None
    assert rotation.due(LONE, None, 5, now=EPOCH) is None


def test_a_switch_is_obeyed_once() -> None:
    assert TRIAL.rotation_id is not None
    assert rotation.must_switch(BOTH, 5, TRIAL.rotation_id)
    assert not rotation.must_switch(BOTH, 7, TRIAL.rotation_id)
    assert not rotation.must_switch(BOTH, 5, uuid4())
    assert not rotation.must_switch(LONE, 5, TRIAL.rotation_id)


def test_an_illegal_change_raises_and_leaves_the_slots_alone() -> None:
    with pytest.raises(IllegalTransitionError, match="empty"):
        rotation.promoted(LONE)
    with pytest.raises(IllegalTransitionError, match="filled"):
        rotation.filled(BOTH, TRIAL)


def test_a_package_is_one_more_secret_to_try_and_is_adopted_when_confirmed() -> None:
    newer = Slot(SecretStr("d" * 43), 9)

    assert rotation.spare(BOTH, FIRST) is None
    assert rotation.spare(BOTH, Slot(TRIAL.secret, 7)) is None
    assert rotation.spare(BOTH, newer) is newer
    assert rotation.adopted(BOTH, newer) == Slots(newer)
    assert rotation.adopted(BOTH, replace(newer, generation=6)) == Slots(replace(newer, generation=6), TRIAL)
