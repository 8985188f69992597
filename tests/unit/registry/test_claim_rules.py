from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.registry.claims import rules as claim_rules
from services.registry.claims.rules import ClaimVerdict, Taken
from shared.database.tables import Claim, ClaimRequestRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = timedelta(hours=1)
SECOND = timedelta(seconds=1)
KEY = "k" * 43


def claim(**facts: object) -> Claim:
    usual: dict[str, object] = {
        "id": "claim-aaaaaaaa",
        "uses": 2,
        "needs_approval": False,
        "expires_at": NOW + SECOND,
    }
    return Claim(**(usual | facts))


def known(state: str, **facts: object) -> ClaimRequestRow:
    return ClaimRequestRow(**({"claim_id": "claim-aaaaaaaa", "public_key": KEY, "state": state} | facts))


def device(*, granted_ago: timedelta, **facts: object) -> ClaimRequestRow:
    return known("granted", device_id=7, granted_at=NOW - granted_ago, **facts)


def judged(claim: Claim, known: ClaimRequestRow | None = None, *, used: int = 0, waiting: int = 0) -> ClaimVerdict:
    return claim_rules.judge(claim, known, KEY, taken=Taken(used, waiting), now=NOW, window=WINDOW)


@pytest.mark.parametrize(
    ("facts", "taken", "verdict"),
    [
        ({}, Taken(), claim_rules.GRANTED),
        ({}, Taken(1, 100), claim_rules.GRANTED),
        ({}, Taken(2), claim_rules.USED_UP),
        ({"expires_at": NOW}, Taken(), claim_rules.EXPIRED),
        ({"revoked_at": NOW}, Taken(), claim_rules.REVOKED),
        ({"needs_approval": True}, Taken(waiting=99), claim_rules.PENDING),
        ({"needs_approval": True}, Taken(waiting=100), claim_rules.CROWDED),
        ({"needs_approval": True}, Taken(2), claim_rules.USED_UP),
        ({"needs_approval": True, "expires_at": NOW}, Taken(), claim_rules.EXPIRED),
    ],
)
def test_a_machine_that_asks_first(facts: dict[str, Any], taken: Taken, verdict: ClaimVerdict) -> None:
    assert judged(claim(**facts), used=taken.used, waiting=taken.waiting) == verdict


@pytest.mark.parametrize("facts", [{}, {"expires_at": NOW}, {"id": "claim-bbbbbbbb"}, {"needs_approval": True}])
def test_a_machine_with_a_device_gets_it_again_within_the_window(facts: dict[str, Any]) -> None:
    assert judged(claim(**facts), device(granted_ago=WINDOW), used=2) == claim_rules.GRANTED
    assert judged(claim(**facts), device(granted_ago=WINDOW + SECOND), used=2) == claim_rules.TOO_LATE


def test_a_revoked_claim_gives_nothing_again() -> None:
    assert judged(claim(revoked_at=NOW), device(granted_ago=SECOND)) == claim_rules.REVOKED


@pytest.mark.parametrize(
    "stored",
    [
        device(granted_ago=SECOND, public_key="x" * 43),
        known("granted", public_key="x" * 43),
        known("pending", public_key="x" * 43),
        known("denied", public_key="x" * 43),
    ],
)
def test_another_key_is_refused_whatever_is_known(stored: ClaimRequestRow) -> None:
    assert judged(claim(), stored) == claim_rules.OTHER_KEY


@pytest.mark.parametrize("facts", [{}, {"id": "claim-bbbbbbbb"}, {"needs_approval": True}])
def test_a_denied_machine_stays_denied_through_any_claim(facts: dict[str, Any]) -> None:
    assert judged(claim(**facts), known("denied")) == claim_rules.DENIED


def test_a_use_that_was_given_is_not_counted_again_but_holds_for_its_own_claim_only() -> None:
    granted = known("granted")
    assert judged(claim(expires_at=NOW), granted, used=2) == claim_rules.GRANTED
    assert judged(claim(id="claim-bbbbbbbb"), granted, used=2) == claim_rules.USED_UP
    assert judged(claim(id="claim-bbbbbbbb"), granted) == claim_rules.GRANTED
    assert judged(claim(id="claim-bbbbbbbb", needs_approval=True), granted) == claim_rules.PENDING


def test_a_machine_that_waits_goes_on_waiting_when_the_claim_ends() -> None:
    waiting = known("pending")
    assert judged(claim(needs_approval=True, expires_at=NOW), waiting, used=2, waiting=100) == claim_rules.PENDING
    assert judged(claim(), waiting) == claim_rules.GRANTED
    assert judged(claim(), waiting, used=2) == claim_rules.USED_UP


@pytest.mark.parametrize(
    ("facts", "used", "fault"),
    [
        ({}, 1, None),
        ({"expires_at": NOW}, 1, None),
        ({"expires_at": NOW - WINDOW}, 1, claim_rules.EXPIRED),
        ({}, 2, claim_rules.USED_UP),
        ({"revoked_at": NOW}, 0, claim_rules.REVOKED),
    ],
)
def test_who_may_be_approved(facts: dict[str, Any], used: int, fault: ClaimVerdict | None) -> None:
    taken = Taken(used=used)
    assert claim_rules.why_not_approved(claim(**facts), taken=taken, now=NOW, window=WINDOW) == fault


@pytest.mark.parametrize(
    ("facts", "used", "state"),
    [
        ({}, 1, "live"),
        ({}, 2, "used up"),
        ({"expires_at": NOW}, 2, "expired"),
        ({"expires_at": NOW, "revoked_at": NOW}, 2, "revoked"),
    ],
)
def test_a_claim_in_one_word(facts: dict[str, Any], used: int, state: str) -> None:
    assert claim_rules.state_of(claim(**facts), taken=Taken(used=used), now=NOW) == state
