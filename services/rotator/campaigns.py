"""The operations of admins on rotations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from services.rotator import attempt, campaign_queries, queries
from services.rotator.campaign_queries import RotationTarget
from services.rotator.context import Rotator
from shared.database import device_refs
from shared.database.tables import Device, Rotation
from shared.errors import ConflictError, NotFoundError
from shared.protocol import admin, events
from shared.protocol.events import SelectionEvent, SelectionFacts
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class Campaigns:
    """The operations of admins on rotations."""

    rotator: Rotator

    async def start(self, context: RequestContext, request: admin.RotationStart) -> admin.RotationQueued:
        """Queue the selected devices that are enabled; raise if there is none."""
        condition = device_refs.selected(request.device, tag=request.tag, model=request.model)
        found = await campaign_queries.targets(context.session, condition)
        if not found:
            raise device_refs.unknown(request.device) if request.device else NotFoundError("no device matches")
        enabled = [target for target in found if target.enabled]
        skipped = _named(target for target in found if not target.enabled)
        if not enabled:
            raise ConflictError("every matching device is disabled", skipped=skipped.names)
        queued = await campaign_queries.queue(context.session, enabled)
        if queued:
            self._record(context, request, "rotation.start", events.ROTATION_QUEUED, queued)
        self.rotator.wake.set()
        return admin.RotationQueued(
            queued=_named(queued),
            waiting=_named(target for target in queued if not target.online),
            already=_named(
                target for target in enabled if target.state in ("QUEUED", "PENDING") and not target.cancelled
            ),
            ending=_named(target for target in enabled if target.cancelled),
            skipped=skipped,
        )

    async def cancel(self, context: RequestContext, request: admin.RotationCancel) -> admin.RotationsCancelled:
        """Cancel rotations that have not begun or would be retried; those in progress end by their own rules."""
        condition = Device.rotation_state != "OK" if request.all else device_refs.selected(request.device)
        found = await campaign_queries.targets(context.session, condition)
        if request.device is not None and not found:
            raise device_refs.unknown(request.device)
        dequeued, not_retried, ending = (
            [target for target in found if target.state == state] for state in ("QUEUED", "TIMEOUT", "PENDING")
        )
        await campaign_queries.set_state(context.session, dequeued + not_retried, "OK")
        await campaign_queries.cancel(context.session, ending)
        cancelled = dequeued + not_retried + ending
        if cancelled:
            self._record(context, request, "rotation.cancel", events.ROTATION_CANCELLED, cancelled)
        self.rotator.wake.set()
        return admin.RotationsCancelled(
            dequeued=_named(dequeued), not_retried=_named(not_retried), ending=_named(ending)
        )

    async def status(self, context: RequestContext, request: admin.RotationStatus) -> admin.RotationOverview:
        """Return the states of the devices, and a page of the rotations in progress."""
        counts = await queries.count_states(context.session)
        waiting = await queries.count_waiting(context.session)
        rows = await campaign_queries.under_way(context.session, request)
        now = datetime.now(UTC)
        return admin.RotationOverview(
            counts=admin.RotationCounts(**{state.lower(): count for state, count in counts.items()}),
            asleep=waiting.get("asleep", 0),
            offline=waiting.get("offline", 0),
            under_way=[_under_way(rotation, slot, client_id, now) for rotation, slot, client_id in rows],
            next=rows[-1][1] if len(rows) == request.limit else None,
        )

    async def history(self, context: RequestContext, request: admin.RotationHistory) -> admin.Rotations:
        """Return a page of a device's rotations."""
        client_id = await campaign_queries.client_id(context.session, request.device)
        found = await campaign_queries.history(context.session, request)
        return admin.Rotations(
            client_id=client_id,
            rotations=[_entry(rotation) for rotation in found],
            next=found[-1].generation if len(found) == request.limit else None,
        )

    def _record(
        self,
        context: RequestContext,
        request: admin.RotationStart | admin.RotationCancel,
        action: str,
        event: SelectionEvent[SelectionFacts],
        devices: list[RotationTarget],
    ) -> None:
        """Record an operation: one audit entry and one event, whatever the number of devices."""
        if request.device is not None:
            client_id = devices[0].client_id
            context.audit(action, client_id)
            self.rotator.outbox.emit(context.session, event, client_id, SelectionFacts())
            return
        asked = request.model_dump(exclude={"request_id"}, exclude_defaults=True)
        context.audit(action, "rotation", after={**asked, "devices": len(devices)})
        self.rotator.outbox.emit(context.session, event, None, SelectionFacts(devices=len(devices)))


def _named(targets: Iterable[RotationTarget]) -> admin.Named:
    return admin.Named.of([target.client_id for target in targets])


def _under_way(rotation: Rotation, slot: int, client_id: str, now: datetime) -> admin.RotationUnderWay:
    return admin.RotationUnderWay.from_row(
        rotation,
        client_id=client_id,
        rotation_id=rotation.id,
        slot=slot,
        left_s=max(0, int((rotation.deadline_at - now).total_seconds())),
        cancelled=attempt.is_cancelled(rotation),
    )


def _entry(rotation: Rotation) -> admin.RotationEntry:
    ended = rotation.ended_at
    duration_s = None if ended is None else (ended - rotation.started_at).total_seconds()
    return admin.RotationEntry.from_row(rotation, rotation_id=rotation.id, duration_s=duration_s)
