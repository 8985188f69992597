"""Rules of claims, without I/O: which machine gets an identity, which one waits, and which one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.database.tables import Claim, ClaimRequestRow
from shared.protocol.admin import ClaimState
from shared.protocol.messages import ClaimOutcome

MAX_WAITING: Final = 100
"""Limit of machines of one claim that wait for an admin."""


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """The result of a machine's request; `reason` is sent to the machine if it gets nothing."""

    outcome: ClaimOutcome
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """How many machines have used a claim, and how many wait for an admin."""

    used: int = 0
    waiting: int = 0


GRANTED: Final = ClaimVerdict(ClaimOutcome.GRANTED)
PENDING: Final = ClaimVerdict(ClaimOutcome.PENDING, "waits for an admin; retry later")
NOT_NOW: Final = ClaimVerdict(ClaimOutcome.PENDING, "the identity is not available now; retry later")
DENIED: Final = ClaimVerdict(
    ClaimOutcome.REFUSED, "an admin has denied it; `mdm claim forget` lets it request again"
)
REVOKED: Final = ClaimVerdict(ClaimOutcome.REFUSED, "the claim is revoked")
EXPIRED: Final = ClaimVerdict(ClaimOutcome.REFUSED, "the claim has expired")
USED_UP: Final = ClaimVerdict(ClaimOutcome.REFUSED, "the claim is used up")
CROWDED: Final = ClaimVerdict(ClaimOutcome.REFUSED, "too many machines wait for an admin; retry later")
OTHER_KEY: Final = ClaimVerdict(
    ClaimOutcome.REFUSED,
    "it has requested with another key; `mdm device remove` its device, or `mdm claim forget` it without one",
)
TOO_LATE: Final = ClaimVerdict(
    ClaimOutcome.REFUSED,
    "it got its identity too long ago; `mdm device reissue`, or `mdm device remove` and claim",
)


def judge(
    claim: Claim, known: ClaimRequestRow | None, public_key: str, *, taken: Taken, now: datetime, window: timedelta
) -> ClaimVerdict:
    """Return the result of a request; `known` is the stored request of the machine, `now` is in UTC."""
    if claim.revoked_at is not None:
        return REVOKED
    verdict = None if known is None else _of_known(claim, known, public_key, now=now, window=window)
    if verdict is not None:
        return verdict
    if now >= claim.expires_at:
        return EXPIRED
    if taken.used >= claim.uses:
        return USED_UP
    if claim.needs_approval:
        return PENDING if taken.waiting < MAX_WAITING else CROWDED
    return GRANTED


def _of_known(
    claim: Claim, known: ClaimRequestRow, public_key: str, *, now: datetime, window: timedelta
) -> ClaimVerdict | None:
    """Return the result for a machine that requested before, or None if the claim decides."""
    if known.public_key != public_key:
        return OTHER_KEY
    if known.state == "denied":
        return DENIED
    if known.granted_at is not None:
        return TOO_LATE if now > known.granted_at + window else GRANTED
    if known.state == "granted":
        # It has its use, but only of the claim that granted it.
        return GRANTED if known.claim_id == claim.id else None
    return PENDING if claim.needs_approval else None


def why_not_approved(claim: Claim, *, taken: Taken, now: datetime, window: timedelta) -> ClaimVerdict | None:
    """Return why a waiting machine cannot be approved; approval is possible after the claim has expired."""
    if claim.revoked_at is not None:
        return REVOKED
    if not is_reachable(claim, now=now, window=window):
        return EXPIRED
    return USED_UP if taken.used >= claim.uses else None


def is_reachable(claim: Claim, *, now: datetime, window: timedelta) -> bool:
    """Return whether the claim must have a broker account: granted machines may repeat their request."""
    return claim.revoked_at is None and now < claim.expires_at + window


def state_of(claim: Claim, *, taken: Taken, now: datetime) -> ClaimState:
    """Return the state of a claim."""
    if claim.revoked_at is not None:
        return "revoked"
    if now >= claim.expires_at:
        return "expired"
    return "used up" if taken.used >= claim.uses else "live"
