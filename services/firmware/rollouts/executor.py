"""Advances rollouts: any number of replicas may, one at a time for each rollout, without state in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, and_, exists, false, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from services.firmware import rules
from services.firmware.assignment import rollout_devices, rollout_queries, rollout_states
from services.firmware.assignment.prospects import candidate_of
from services.firmware.assignment.rollout_states import DeviceStatus, DeviceStep, Do, RolloutEvent, State
from services.firmware.assignment.service import Assignment
from services.firmware.context import Firmware
from services.firmware.images import catalog
from services.firmware.rollouts import targets
from services.firmware.rollouts.transitions import ITSELF, RolloutChange
from shared.database import presences
from shared.database.arrays import one_of
from shared.database.image_hashes import hashes_of
from shared.database.tables import Device, DeviceModel, FirmwareImage, Presence, Rollout, RolloutDevice
from shared.errors import FleetError, InvalidInputError, UnavailableError
from shared.protocol import events, topics
from shared.protocol.admin import RolloutPlan
from shared.runtime.periodic import periodic
from shared.server.rpc import RequestContext

log = structlog.get_logger()

BATCH: Final = 500
"""Limit of devices that are offered an image in one transaction."""
_GOING_ON: Final = frozenset({State.RUNNING, State.PAUSED})
_ONLINE: Final = exists().where(Presence.device_id == RolloutDevice.device_id, Presence.online)
_ASLEEP: Final = exists().where(Presence.device_id == RolloutDevice.device_id, presences.ASLEEP)
_INTERVAL: Final = (
    select(presences.INTERVAL).where(Presence.device_id == RolloutDevice.device_id).scalar_subquery()
)
_GONE: Final = ~exists().where(Device.id == RolloutDevice.device_id, Device.enabled, Device.lifecycle == "ACTIVE")


@dataclass(frozen=True, slots=True)
class RolloutExecutor:
    """Advances open rollouts."""

    firmware: Firmware

    async def run(self) -> None:
        """Advance the rollouts periodically, until cancelled."""
        every_s = self.firmware.settings.rollout_sweep_s
        await periodic(self._advance_all, every_s=every_s, on_outage="rollout.deferred")

    async def forget_ended(self) -> None:
        """Delete rollouts past their retention."""
        keep = timedelta(days=self.firmware.settings.rollouts_keep_days)
        is_more = True
        while is_more:
            async with self.firmware.database.transaction() as session:
                is_more = await rollout_queries.forget_ended(session, before=datetime.now(UTC) - keep)

    async def _advance_all(self) -> None:
        async with self.firmware.database.transaction() as session:
            due = await rollout_queries.due(session)
        for rollout_id in due:
            await self._advance(rollout_id)

    async def _advance(self, rollout_id: int) -> None:
        try:
            async with self.firmware.database.transaction() as session:
                rollout = await rollout_queries.free(session, rollout_id)
                if rollout is not None:
                    model = await session.get_one(DeviceModel, rollout.model_id)
                    await self._step(session, rollout, model)
        except UnavailableError:
            raise
        except FleetError as error:
            # A failure of one rollout must not hold up the others; it needs a person.
            log.exception("rollout.stuck", rollout=rollout_id, reason=error.message)

    async def _step(self, session: AsyncSession, rollout: Rollout, model: DeviceModel) -> None:
        now, plan = datetime.now(UTC), RolloutPlan.model_validate(rollout.plan)
        may_offer = rollout.state == State.RUNNING and rollout_states.is_open(plan, now)
        await self._release_devices(session, rollout, plan, now, may_offer=may_offer)
        if rollout.state in _GOING_ON:
            await self._judge(session, rollout, model, plan, now)
        if may_offer and rollout.state == State.RUNNING:
            await self._offer(session, rollout, plan, now)

    async def _release_devices(
        self, session: AsyncSession, rollout: Rollout, plan: RolloutPlan, now: datetime, *, may_offer: bool
    ) -> None:
        """Drop devices that are gone, withdraw expired offers, and time out silent devices.

        A device that is online with the image when its time is over is not silent. One that sleeps has its time
        beyond its next wake-up, and as long as it is asleep.
        """
        await rollout_devices.apply(
            session, rollout, DeviceStep.DROPPED, and_(RolloutDevice.live, _GONE), reason="is disabled"
        )
        silent_since = now - timedelta(seconds=plan.silence_s)
        late: ColumnElement[bool] = RolloutDevice.changed_at < silent_since
        withdrawn: ColumnElement[bool] = and_(late, ~_ONLINE) if may_offer else true()
        await rollout_devices.apply(session, rollout, DeviceStep.WITHDRAWN, withdrawn)
        image = None
        if rollout.sha256 is not None:
            image = await session.get_one(FirmwareImage, (rollout.model_id, rollout.sha256))
        runs = _runs(image) if image else false()
        late = and_(late, RolloutDevice.changed_at + _INTERVAL < silent_since, ~_ASLEEP)
        # Its report may have been lost with a service; a trial would be over by now.
        kept = await rollout_devices.apply(session, rollout, DeviceStep.KEPT, and_(late, runs))
        if kept and image:
            await rollout_devices.confirm(session, kept, image.sha256)
        await rollout_devices.apply(
            session,
            rollout,
            DeviceStep.TIMED_OUT,
            and_(late, ~runs, or_(RolloutDevice.state == DeviceStatus.TAKEN, _ONLINE)),
            reason=f"has not confirmed the image within {plan.silence_s} s",
        )

    async def _judge(
        self, session: AsyncSession, rollout: Rollout, model: DeviceModel, plan: RolloutPlan, now: datetime
    ) -> None:
        """Halt, soak, open the next wave or complete, according to the tallies; a paused rollout can only halt.

        It also halts if a key of its model was added or removed since, so that the image is no longer signed.
        """
        change = RolloutChange(session, self.firmware.outbox, ITSELF, rollout, model.code)
        image = await session.get_one(FirmwareImage, (model.id, rollout.sha256))
        try:
            await catalog.check_signed(session, model, image)
        except InvalidInputError as error:
            await _halt(change, error.message)
            return
        tallies = await rollout_devices.tallies(session, rollout)
        verdict = rollout_states.judge(
            tallies, wave=rollout.wave, last=rollout.waves, met_at=rollout.met_at, plan=plan, now=now
        )
        if verdict.do is Do.HALT:
            await _halt(change, verdict.why)
        elif rollout.state != State.RUNNING:
            return
        elif verdict.do is Do.WAIT:
            rollout.met_at = None
        elif verdict.do is Do.SOAK and rollout.met_at is None:
            rollout.met_at = now
            change.emit_wave(events.ROLLOUT_WAVE_MET)
        elif verdict.do is Do.OPEN:
            rollout.wave += 1
            rollout.met_at = None
            change.emit_wave(events.ROLLOUT_WAVE_OPENED)
        elif verdict.do is Do.COMPLETE:
            await self._complete(change, model)

    async def _complete(self, change: RolloutChange, model: DeviceModel) -> None:
        """Complete a rollout; an image for the whole model becomes the model's, once no other rollout is open."""
        session, rollout = change.session, change.rollout
        is_whole = not rollout.tags and rollout.percent == 100  # noqa: PLR2004 - all of it
        if is_whole:
            await session.refresh(model, with_for_update=True)
            if await rollout_queries.open_of(session, model.id, but=rollout.id) is not None:
                return
        await change.move(RolloutEvent.COMPLETED)
        if is_whole:
            image = await session.get_one(FirmwareImage, (rollout.model_id, rollout.sha256))
            await catalog.release(self.firmware, RequestContext(ITSELF, str(rollout.id), session), model, image)

    async def _offer(self, session: AsyncSession, rollout: Rollout, plan: RolloutPlan, now: datetime) -> None:
        """Offer the image to devices that wait, are online and need it, as many as may be in progress."""
        room = min(BATCH, await rollout_devices.room(session, rollout, plan, now))
        if room <= 0:
            return
        image = await session.get_one(FirmwareImage, (rollout.model_id, rollout.sha256))
        wanting = []
        for known in await targets.candidates(session, rollout, image.sha256, room):
            one = RolloutDevice.device_id == known.device_id
            refusal = rules.refusal(candidate_of(image, known.delivery), known.running)
            if refusal is not None:
                await rollout_devices.apply(session, rollout, DeviceStep.UNFIT, one, reason=refusal)
            elif known.running.sha256 in hashes_of(image):
                await rollout_devices.apply(session, rollout, DeviceStep.RUNS_IT, one)
            else:
                wanting.append(known)
        if not wanting:
            return
        ids = [known.device_id for known in wanting]
        await rollout_devices.apply(
            session, rollout, DeviceStep.OFFERED, one_of(RolloutDevice.device_id, ids), offered_at=now
        )
        await rollout_devices.offer(session, ids, image.sha256)
        offer = Assignment(self.firmware).offer_of(image, None)
        for known in wanting:
            self.firmware.outbox.put(
                session,
                topics.FIRMWARE_OFFER,
                offer,
                expires_at=now + timedelta(seconds=plan.silence_s),
                client_id=known.client_id,
            )


async def _halt(change: RolloutChange, why: str) -> None:
    await change.move(RolloutEvent.HALTED, reason=why)
    log.warning("rollout.halted", rollout=change.rollout.id, reason=why)


def _runs(image: FirmwareImage) -> ColumnElement[bool]:
    """Return the condition that a device is online with an image."""
    return exists().where(
        Presence.device_id == RolloutDevice.device_id,
        Presence.online,
        Presence.firmware_sha256.in_(hashes_of(image)),
    )
