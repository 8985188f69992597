"""What every change of a rollout's state does and tells, whoever makes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypedDict

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.assignment import device_status, rollout_states
from services.firmware.assignment.rollout_states import ENDS, RolloutEvent, State
from shared.database.outbox import Outbox
from shared.database.tables import AuditEntry, Rollout
from shared.protocol import events
from shared.protocol.events import F, FleetEvent, RolloutMoveFacts, RolloutWaveFacts

ITSELF: Final = "rollout"
"""Who acts when a rollout goes on by itself, in the audit log."""

_MOVES: Final = {
    RolloutEvent.PAUSED: events.ROLLOUT_PAUSED,
    RolloutEvent.RESUMED: events.ROLLOUT_RESUMED,
    RolloutEvent.ABORTED: events.ROLLOUT_ABORTED,
    RolloutEvent.HALTED: events.ROLLOUT_HALTED,
    RolloutEvent.COMPLETED: events.ROLLOUT_COMPLETED,
}


class RolloutIds(TypedDict):
    """Which rollout it is, and the image that it brings."""

    rollout: int
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """A rollout, locked, in the hands of `actor`; `model` is its model's code."""

    session: AsyncSession
    outbox: Outbox
    actor: str
    rollout: Rollout
    model: str

    @property
    def ids(self) -> RolloutIds:
        """What each event of it says."""
        return {"rollout": self.rollout.id, "model": self.model, "version": self.rollout.version}

    def emit(self, event: FleetEvent[F], facts: F) -> None:
        """Note and tell what has happened: one entry and one event, however many devices there are."""
        action, subject = f"rollout.{event.verb}", f"rollout/{self.rollout.id}"
        self.session.add(AuditEntry(actor=self.actor, action=action, subject=subject, after=facts.said()))
        self.outbox.emit(self.session, event, None, facts)

    def emit_wave(self, event: FleetEvent[RolloutWaveFacts]) -> None:
        """Tell what has happened to the present wave."""
        self.emit(event, RolloutWaveFacts(**self.ids, wave=self.rollout.wave))

    async def move(self, event: RolloutEvent, *, reason: str | None = None, forgiven: int | None = None) -> None:
        """Let an event happen; raise ConflictError if it does not fit the state."""
        rollout = self.rollout
        rollout.state = rollout_states.advance(State(rollout.state), event)
        rollout.reason = reason
        if rollout.state in ENDS:
            rollout.ended_at = datetime.now(UTC)
            await device_status.end(self.session, rollout)
        facts = RolloutMoveFacts(**self.ids, wave=rollout.wave, reason=reason, forgiven=forgiven)
        self.emit(_MOVES[event], facts)
