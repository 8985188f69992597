"""Changes of a rollout's state, with their audit entries and events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypedDict

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.assignment import rollout_devices, rollout_states
from services.firmware.assignment.rollout_states import ENDS, RolloutEvent, State
from shared.database.outbox import Outbox
from shared.database.tables import AuditEntry, Rollout
from shared.protocol import events
from shared.protocol.events import F, FleetEvent, RolloutMoveFacts, RolloutWaveFacts

ITSELF: Final = "rollout"
"""The actor in the audit log when a rollout advances by itself."""

_MOVES: Final = {
    RolloutEvent.PAUSED: events.ROLLOUT_PAUSED,
    RolloutEvent.RESUMED: events.ROLLOUT_RESUMED,
    RolloutEvent.ABORTED: events.ROLLOUT_ABORTED,
    RolloutEvent.HALTED: events.ROLLOUT_HALTED,
    RolloutEvent.COMPLETED: events.ROLLOUT_COMPLETED,
}


class RolloutIds(TypedDict):
    """The rollout and its image."""

    rollout: int
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """A locked rollout, changed by `actor`; `model` is its model's code."""

    session: AsyncSession
    outbox: Outbox
    actor: str
    rollout: Rollout
    model: str

    @property
    def ids(self) -> RolloutIds:
        """The fields that each of its events has."""
        return {"rollout": self.rollout.id, "model": self.model, "version": self.rollout.version}

    def emit(self, event: FleetEvent[F], facts: F) -> None:
        """Record and emit an event: one entry and one event, whatever the number of devices."""
        action, subject = f"rollout.{event.verb}", f"rollout/{self.rollout.id}"
        self.session.add(AuditEntry(actor=self.actor, action=action, subject=subject, after=facts.to_data()))
        self.outbox.emit(self.session, event, None, facts)

    def emit_wave(self, event: FleetEvent[RolloutWaveFacts]) -> None:
        """Emit an event of the present wave."""
        self.emit(event, RolloutWaveFacts(**self.ids, wave=self.rollout.wave))

    async def move(self, event: RolloutEvent, *, reason: str | None = None, forgiven: int | None = None) -> None:
        """Apply an event; raise ConflictError if the state does not allow it."""
        rollout = self.rollout
        rollout.state = rollout_states.advance(State(rollout.state), event)
        rollout.reason = reason
        if rollout.state in ENDS:
            rollout.ended_at = datetime.now(UTC)
            await rollout_devices.end(self.session, rollout)
        facts = RolloutMoveFacts(**self.ids, wave=rollout.wave, reason=reason, forgiven=forgiven)
        self.emit(_MOVES[event], facts)
