"""The operations of admins on rollouts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from services.firmware.assignment import rollout_devices, rollout_queries, rollout_states
from services.firmware.assignment.rollout_states import FAILURES, DeviceStatus, DeviceStep, RolloutEvent, State
from services.firmware.context import Firmware
from services.firmware.images import catalog
from services.firmware.rollouts import preflight
from services.firmware.rollouts.preflight import Survey
from services.firmware.rollouts.transitions import RolloutChange
from shared.database.tables import DeviceModel, FirmwareImage, Rollout, RolloutDevice
from shared.errors import ConflictError, NotFoundError
from shared.protocol import admin, events, messages, topics
from shared.server.rpc import RequestContext

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class RolloutService:
    """The operations of admins on rollouts."""

    firmware: Firmware

    async def preflight(self, context: RequestContext, request: admin.RolloutPreflight) -> admin.RolloutFindings:
        """Return the preflight of a rollout."""
        return (await preflight.survey(context.session, request)).findings(admin.RolloutPlan().waves)

    async def start(self, context: RequestContext, request: admin.RolloutStart) -> admin.RolloutStatus:
        """Begin a rollout; the executor opens its first wave."""
        session = context.session
        survey = await preflight.survey(session, request)
        if not (survey.fit or survey.already or survey.unfit or survey.unseen):
            raise NotFoundError("no device matches")
        if survey.unfit and not (request.skip or request.force):
            raise _refusal(survey)
        reached = survey.fit
        if request.force:
            reached = [*reached, *(known for known, _ in survey.unfit), *survey.unseen]
        if not reached:
            why = f": {len(survey.unseen)} were never seen" if survey.unseen else ""
            raise ConflictError(f"no device is left that would accept {survey.image.version}{why}")
        live = await rollout_queries.live(session, survey.model.id)
        held = [live[known.device_id] for known in (*reached, *survey.already) if known.device_id in live]
        if held:
            raise ConflictError(
                f"{len(held)} of the devices are in rollout {held[0]}, which is open: abort it first",
                rollout=held[0],
            )
        sizes = rollout_states.wave_sizes(len(reached), request.plan.waves)
        rollout = Rollout(
            model_id=survey.model.id,
            sha256=survey.image.sha256,
            version=survey.image.version,
            tags=request.tags,
            percent=request.percent,
            plan=request.plan.model_dump(mode="json"),
            waves=len(sizes),
            wave=0,
            state=State.RUNNING,
            author=context.account,
        )
        session.add(rollout)
        await session.flush()
        waves = [number for number, size in enumerate(sizes, 1) for _ in range(size)]
        rows: list[dict[str, Any]] = [
            _row(known.device_id, wave, DeviceStatus.WAITING) for known, wave in zip(reached, waves, strict=True)
        ]
        rows += [_row(known.device_id, 0, DeviceStatus.CONFIRMED, "already ran it") for known in survey.already]
        if request.skip:
            rows += [
                _row(known.device_id, 0, DeviceStatus.SKIPPED, problem.reason) for known, problem in survey.unfit
            ]
        await rollout_queries.add(session, rollout, sorted(rows, key=lambda row: int(row["device_id"])))
        change = RolloutChange(session, self.firmware.outbox, context.account, rollout, survey.model.code)
        facts = events.RolloutStartFacts(
            **change.ids,
            devices=len(reached),
            already=len(survey.already),
            unfit=len(survey.unfit),
            tags=request.tags,
            percent=request.percent,
            plan=request.plan,
            skip=request.skip,
            force=request.force,
        )
        change.emit(events.ROLLOUT_STARTED, facts)
        return await self._status(context, rollout, survey.model.code)

    async def pause(self, context: RequestContext, request: admin.RolloutRef) -> admin.RolloutStatus:
        """Pause offers; devices that have begun may finish."""
        return await self._move(context, request.rollout, RolloutEvent.PAUSED)

    async def resume(self, context: RequestContext, request: admin.RolloutRef) -> admin.RolloutStatus:
        """Resume; the failures that halted a rollout no longer count, and those devices are not retried."""
        return await self._move(context, request.rollout, RolloutEvent.RESUMED)

    async def abort(self, context: RequestContext, request: admin.RolloutAbort) -> admin.RolloutStatus:
        """Abort a rollout."""
        return await self._move(context, request.rollout, RolloutEvent.ABORTED, hard=request.hard)

    async def status(self, context: RequestContext, request: admin.RolloutShow) -> admin.RolloutStatus:
        """Return the state of a rollout."""
        return await self._status(context, *await rollout_queries.rollout(context.session, request.rollout))

    async def list_newest(self, context: RequestContext, request: admin.RolloutList) -> admin.Rollouts:
        """Return the newest rollouts."""
        rows = await rollout_queries.newest(context.session, request.limit)
        views = [admin.RolloutView.from_row(rollout, rollout=rollout.id, model=code) for rollout, code in rows]
        return admin.Rollouts(rollouts=views)

    async def _move(
        self, context: RequestContext, rollout_id: int, event: RolloutEvent, *, hard: bool = False
    ) -> admin.RolloutStatus:
        session = context.session
        rollout = await rollout_queries.locked(session, rollout_id)
        model = await session.get_one(DeviceModel, rollout.model_id)
        forgiven = None
        if event is RolloutEvent.RESUMED and rollout.sha256 is not None:
            image = await session.get_one(FirmwareImage, (model.id, rollout.sha256))
            await catalog.check_signed(session, model, image)
        if event is RolloutEvent.RESUMED and rollout.state == State.HALTED:
            forgiven = await rollout_devices.forgive(session, rollout)
        change = RolloutChange(session, self.firmware.outbox, context.account, rollout, model.code)
        await change.move(event, forgiven=forgiven)
        if event is RolloutEvent.ABORTED:
            await self._stop(context, rollout, hard=hard)
        return await self._status(context, rollout, model.code)

    async def _stop(self, context: RequestContext, rollout: Rollout, *, hard: bool) -> None:
        """Skip the devices that have not begun, and with `hard` those that have."""
        reason = "the rollout was aborted"
        taken = RolloutDevice.state == DeviceStatus.TAKEN
        if hard and rollout.sha256 is not None:
            stopped = await rollout_devices.apply(
                context.session, rollout, DeviceStep.DROPPED, taken, reason=reason
            )
            cancelled = messages.FirmwareCancelled(sha256=rollout.sha256, reason=reason)
            for client_id in await rollout_devices.client_ids(context.session, stopped):
                self.firmware.outbox.put(
                    context.session, topics.FIRMWARE_CANCELLED, cancelled, client_id=client_id
                )
        await rollout_devices.apply(context.session, rollout, DeviceStep.DROPPED, ~taken, reason=reason)

    async def _status(self, context: RequestContext, rollout: Rollout, code: str) -> admin.RolloutStatus:
        counts = await rollout_devices.counts(context.session, rollout)
        total: Counter[str] = Counter()
        for wave in counts.values():
            total.update(wave)
        plan = admin.RolloutPlan.model_validate(rollout.plan)
        return admin.RolloutStatus.from_row(
            rollout,
            rollout=rollout.id,
            model=code,
            plan=plan,
            doing=await _doing(context, rollout, plan),
            counts=[
                admin.RolloutWave(wave=wave, devices=sum(found.values()), counts=admin.RolloutCounts(**found))
                for wave, found in counts.items()
            ],
            failure_count=sum(total[status.lower()] for status in (*FAILURES, DeviceStatus.SKIPPED)),
            failures=await rollout_devices.failures(context.session, rollout),
        )


async def _doing(context: RequestContext, rollout: Rollout, plan: admin.RolloutPlan) -> str:
    """Return one line on what a rollout waits for."""
    if rollout.state != State.RUNNING:
        return rollout.reason or rollout.state.lower()
    now = datetime.now(UTC)
    tallies = await rollout_devices.tallies(context.session, rollout)
    verdict = rollout_states.judge(
        tallies, wave=rollout.wave, last=rollout.waves, met_at=rollout.met_at, plan=plan, now=now
    )
    return (
        verdict.why if rollout_states.is_open(plan, now) else f"outside {plan.window} {plan.zone}; {verdict.why}"
    )


def _row(device_id: int, wave: int, status: DeviceStatus, reason: str | None = None) -> dict[str, Any]:
    return {
        "device_id": device_id,
        "wave": wave,
        "state": status,
        "reason": reason,
        "live": status is not DeviceStatus.SKIPPED,
    }


def _refusal(survey: Survey) -> ConflictError:
    first = "; ".join(f"{one.client_id}: {one.reason}" for _, one in survey.unfit[:_SHOWN])
    count = len(survey.unfit)
    rest = f"; and {count - _SHOWN} more, see `mdm rollout preflight`" if count > _SHOWN else ""
    return ConflictError(
        f"{count} devices would fail, {len(survey.fit)} fit: {first}{rest}; --skip leaves them out, "
        "--force includes them",
        unfit=count,
        fit=len(survey.fit),
    )
