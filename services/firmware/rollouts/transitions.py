"""What every change of a rollout's state does and tells, whoever makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware.assignment import device_status, rollout_states
from services.firmware.assignment.rollout_states import ENDS, Event, State
from shared.database.outbox import Outbox
from shared.database.tables import AuditEntry, Rollout

ITSELF: Final = "rollout"
"""Who acts when a rollout goes on by itself, in the audit log."""


@dataclass(frozen=True, slots=True)
class Change:
    """A rollout, locked, in the hands of `actor`; `model` is its model's code."""

    session: AsyncSession
    outbox: Outbox
    actor: str
    rollout: Rollout
    model: str

    def emit(self, verb: str, facts: Mapping[str, Any]) -> None:
        """Note and tell what has happened: one entry and one event, however many devices there are."""
        rollout = self.rollout
        data = {"rollout": rollout.id, "model": self.model, "version": rollout.version, **facts}
        subject = f"rollout/{rollout.id}"
        self.session.add(AuditEntry(actor=self.actor, action=f"rollout.{verb}", subject=subject, after=data))
        self.outbox.emit(self.session, f"rollout/{verb}", data=data)

    async def move(self, event: Event, facts: Mapping[str, Any], *, reason: str | None = None) -> None:
        """Let an event happen; raise ConflictError if it does not fit the state."""
        rollout = self.rollout
        rollout.state = rollout_states.advance(State(rollout.state), event)
        rollout.reason = reason
        if rollout.state in ENDS:
            rollout.ended_at = datetime.now(UTC)
            await device_status.end(self.session, rollout)
        said = {} if reason is None else {"reason": reason}
        self.emit(event, {"wave": rollout.wave, **said, **facts})
