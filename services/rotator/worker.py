"""The leader's worker: claims due devices, switches and restores secrets, and ends attempts.

Changes in Keycloak and in the broker are made between two transactions, and may be repeated by a new leader.
Before an attempt ends without an answer of the device, all places are read: the row may be an earlier copy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator import queries, states
from services.rotator.attempt import Attempt, Proof, offer_of
from services.rotator.context import Rotator
from services.rotator.queries import DueDevice
from services.rotator.states import AttemptEnding, AttemptEvent, Step
from shared import crypto
from shared.auth.client_token import CredentialsRefusedError
from shared.auth.keycloak import Identity, Keycloak
from shared.broker.api import Broker
from shared.crypto import Held
from shared.database import engine
from shared.database.tables import Device, Rotation
from shared.errors import (
    FleetError,
    LeadershipLostError,
    MessageRefusedError,
    NotFoundError,
    UnavailableError,
)
from shared.mqtt import retained
from shared.mqtt.connection import Connection
from shared.protocol import events, messages, topics
from shared.runtime.periodic import periodic
from shared.runtime.settings import RotatorSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenRotation:
    """An open rotation as input of the leader's next step."""

    rotation_id: UUID
    client_id: str
    step: Step
    expired: bool
    left: bool
    generation: int
    old_generation: int
    new_secret: bytes
    old_secret: bytes | None


def _report_stuck(work: OpenRotation, error: FleetError) -> None:
    log.error(
        "rotation.stuck",
        rotation_id=str(work.rotation_id),
        client_id=work.client_id,
        step=work.step,
        reason=error.message,
        exc_info=error,
    )


@dataclass(frozen=True, slots=True)
class RotationWorker:
    """The leader's operations in Keycloak and in the broker."""

    settings: RotatorSettings
    rotator: Rotator
    keycloak: Keycloak
    broker: Broker
    connection: Connection
    greeted: Connection
    """A connection with a retained birth message, which reading retained messages requires."""
    _beginning: dict[int, int] = field(default_factory=dict)
    """The slot of each device whose rotation is about to begin, by its id: neither is to be taken again."""
    _busy: set[str] = field(default_factory=set)
    """The client ids of the devices that a task is working on; the next look finds what became due meanwhile."""
    _changes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(engine.POOL_SIZE // 2))
    """Each change of a secret keeps a connection for as long as Keycloak takes; the others need some, too."""

    async def begin(self) -> None:
        """Note the devices of the open rotations, and report those whose secrets this leader cannot decrypt."""
        for work in await self._open():
            try:
                self._check_readable(work)
            except FleetError as error:
                _report_stuck(work, error)

    async def run(self) -> None:
        """Advance rotations on each wake-up and periodically, until cancelled."""
        sweep_s, wake = self.settings.sweep_s, self.rotator.wake
        async with asyncio.TaskGroup() as tasks:
            look = partial(self._look, tasks)
            await periodic(look, every_s=sweep_s, wake=wake, on_outage="rotation.deferred")

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Begin what is due, of open rotations and in free slots, side by side; wait for none of it."""
        for work in await self._open():
            if work.client_id not in self._busy and self._is_due(work):
                self._start(tasks, work.client_id, self._advance(work))
        now = datetime.now(UTC)
        for candidate in await self._claim(now):
            if candidate.client_id not in self._busy:
                self._beginning[candidate.device_id] = candidate.slot
                self._start(tasks, candidate.client_id, self._begin(candidate, now))

    def _start(self, tasks: asyncio.TaskGroup, client_id: str, work: Coroutine[Any, Any, None]) -> None:
        self._busy.add(client_id)
        task = tasks.create_task(work, name=client_id)
        task.add_done_callback(lambda _: self._busy.discard(client_id))

    def _is_due(self, work: OpenRotation) -> bool:
        """Return whether a rotation needs the leader now; SWITCHING needs a look at Keycloak and the broker."""
        match work.step:
            case Step.RESTORING | Step.SWITCHING:
                return True
            case Step.STORED if self._proven(work, "stored"):
                return True
            case _:
                return work.expired or work.left

    async def _advance(self, work: OpenRotation) -> None:
        """Advance one rotation by one step; on an outage leave it for the next look."""
        try:
            # Before anything else: a secret that this leader cannot decrypt must neither move nor end.
            self._check_readable(work)
            async with self._changes:
                if work.step == Step.RESTORING or work.expired or work.left:
                    await self._end(work)
                    self.rotator.wake.set()  # its slot is free
                elif await self._may_switch(work):
                    await self._switch(work)
        except UnavailableError as error:
            log.warning("rotation.deferred", client_id=work.client_id, step=work.step, reason=error.message)
        except LeadershipLostError:
            raise
        except NotFoundError as error:
            # The database was restored from an earlier copy, or the device removed.
            log.warning("rotation.gone", client_id=work.client_id, reason=error.message)
        except FleetError as error:
            # A failure of one device must not hold up the others; it needs a person.
            _report_stuck(work, error)
        else:
            return
        # Not again at each wake-up, which the rotations of others cause.
        await asyncio.sleep(self.settings.sweep_s)

    def _proven(self, work: OpenRotation, purpose: Proof) -> bool:
        """Return whether the device has proven this to this leader."""
        return (work.rotation_id, purpose) in self.rotator.proven

    def _check_readable(self, work: OpenRotation) -> None:
        """Raise SecretUnreadableError if this leader lacks a key."""
        for ciphertext in (work.new_secret, work.old_secret):
            if ciphertext is not None:
                self.rotator.vault.decrypt(ciphertext)

    async def _claim(self, now: datetime) -> list[DueDevice]:
        """Return due devices, one for each free slot."""
        taken = self._beginning.values()
        async with self.rotator.leadership.transaction() as session:
            slots = await queries.free_slots(session, self.settings.rotation_max_parallel)
            free = [slot for slot in slots if slot not in taken]
            if not free:
                return []
            # First: who comes online from now on is looked up, and who came before is found.
            if not await queries.any_waits(session):
                self.rotator.queue.clear()
                return []
            self.rotator.queue.set()
            return await queries.due(session, free, now=now, beginning=self._beginning)

    async def _begin(self, candidate: DueDevice, now: datetime) -> None:
        """Offer a due device a new secret, or defer it; on an outage leave it for the next look."""
        try:
            try:
                old = await self.keycloak.get(candidate.client_id)
            except NotFoundError:
                await self._defer(candidate)
                self.rotator.wake.set()  # its slot is free
                return
            account = await self.broker.device(candidate.client_id)
            async with self.rotator.leadership.transaction() as session:
                # Checked again: the device may have been disabled since, or have left.
                if await queries.is_due(session, candidate, now=now):
                    self.rotator.in_rotation.add(candidate.client_id)
                    await self._offer(session, candidate, old, None if account is None else account.held)
                else:
                    self.rotator.wake.set()  # its slot is free
        except UnavailableError as error:
            log.warning("rotation.deferred", client_id=candidate.client_id, reason=error.message)
            await asyncio.sleep(self.settings.sweep_s)  # as in `_advance`
        finally:
            del self._beginning[candidate.device_id]

    async def _offer(
        self, session: AsyncSession, candidate: DueDevice, old: Identity, broker: Held | None
    ) -> None:
        now = datetime.now(UTC)
        device = await session.get_one(Device, candidate.device_id, populate_existing=True)
        basis = states.basis(
            row=Held(device.secret_generation, device.secret_fingerprint or ""),
            keycloak=old.held,
            broker=broker,
            reported=await queries.reported_generation(session, device),
        )
        # Above all generations in use, also where the row is an earlier copy (ADR 0002).
        device.last_generation = max(device.last_generation, old.generation, basis.generation) + 1
        device.rotation_state = "PENDING"
        device.rotation_slot = candidate.slot
        device.rotation_retry_at = None
        rotation = Rotation(
            id=uuid4(),
            device_id=device.id,
            generation=device.last_generation,
            old_generation=basis.generation,
            step=Step.OFFERED,
            new_secret=self.rotator.vault.encrypt(crypto.new_secret()),
            old_secret=self.rotator.vault.encrypt(old.secret) if basis.restorable else None,
            started_at=now,
            deadline_at=now + timedelta(seconds=self.settings.rotation_deadline_s),
        )
        session.add(rotation)
        outbox = self.rotator.outbox
        outbox.put(
            session,
            topics.ROTATION_OFFER,
            offer_of(rotation),
            expires_at=rotation.deadline_at,
            client_id=candidate.client_id,
        )
        attempt = Attempt(session, outbox, rotation, device, candidate.client_id)
        attempt.emit(
            events.ROTATION_OFFERED, events.RotationOfferFacts(**attempt.ids, restorable=basis.restorable)
        )

    async def _defer(self, candidate: DueDevice) -> None:
        """Defer a device without a client in Keycloak, so that it does not hold up the others."""
        log.error("rotation.no_identity", client_id=candidate.client_id)
        async with self.rotator.leadership.transaction() as session:
            device = await session.get(Device, candidate.device_id)
            if device is None:
                return  # it is being removed, its client first
            device.rotation_state = "TIMEOUT"
            device.rotation_retry_at = datetime.now(UTC) + max(
                self._retry_in, timedelta(seconds=self.settings.sweep_s)
            )

    async def _switch(self, work: OpenRotation) -> None:
        """Put the new secret in force; once SWITCHING is in the database, the old one must be restored."""
        async with self.rotator.attempt(work.rotation_id) as attempt:
            if attempt.rotation.deadline_at <= datetime.now(UTC):
                return  # it has passed while others were served: the next look ends it
            attempt.advance(AttemptEvent.SWITCH_BEGUN)
        await self._put_in_force(work, self.rotator.vault.decrypt(work.new_secret), work.generation)
        async with self.rotator.attempt(work.rotation_id) as attempt:
            attempt.advance(AttemptEvent.SWITCH_COMPLETED)
            now = attempt.rotation.switched_at = datetime.now(UTC)
            attempt.emit(events.ROTATION_SWITCHED, events.RotationFacts(**attempt.ids))
            if self._proven(work, "ack"):
                attempt.complete(AttemptEvent.ACK_PROVEN, now, self.rotator.vault)
                self.rotator.wake.set()  # its slot is free
                return
            self.rotator.outbox.put(
                attempt.session,
                topics.ROTATION_SWITCH,
                attempt.switch(),
                expires_at=attempt.rotation.deadline_at,
                client_id=work.client_id,
            )

    async def _may_switch(self, work: OpenRotation) -> bool:
        """Return whether the device has reported `stored` to this leader, or the switch has begun."""
        stored = self._proven(work, "stored")
        if stored or work.step is Step.STORED:
            return stored
        await self._reported_generation(work)  # noted: the switch puts another status in its place
        new = Held.of(self.rotator.vault.decrypt(work.new_secret), work.generation)
        keycloak, broker = await self._held(work.client_id)
        return states.may_switch(work.step, stored=stored, new=new, keycloak=keycloak, broker=broker)

    async def _held(self, client_id: str) -> tuple[Held | None, Held | None]:
        """Return the secrets of Keycloak and the broker; None if there is none, or it is not recorded."""
        try:
            keycloak = (await self.keycloak.get(client_id)).held
        except NotFoundError:
            keycloak = None
        account = await self.broker.device(client_id)
        return keycloak, None if account is None else account.held

    async def _end(self, work: OpenRotation) -> None:
        """End an attempt that has timed out, or whose device has left.

        Keycloak, the broker and the device's own status decide how.
        """
        new_secret = self.rotator.vault.decrypt(work.new_secret)
        keycloak, broker = await self._held(work.client_id)
        ending = states.ending(
            work.step,
            new=Held.of(new_secret, work.generation),
            keycloak=keycloak,
            broker=broker,
            reported=await self._reported_generation(work),
            restorable=work.old_secret is not None,
        )
        match ending:
            case AttemptEnding.GIVE_UP:
                await self._give_up(work, AttemptEvent.EXPIRED if work.expired else AttemptEvent.LEFT)
            case AttemptEnding.ABANDON:
                await self._give_up(work, AttemptEvent.OVERTAKEN)
            case AttemptEnding.RESTORE:
                await self._restore(work)
            case AttemptEnding.COMPLETE:
                await self._put_in_force(work, new_secret, work.generation)
                async with self.rotator.attempt(work.rotation_id) as attempt:
                    if attempt.step not in states.ENDS:
                        attempt.complete(AttemptEvent.FOUND_IN_FORCE, datetime.now(UTC), self.rotator.vault)

    async def _reported_generation(self, work: OpenRotation) -> int | None:
        """Return the generation that the device last reported it had logged in with.

        It may have proven it to this leader. Else the retained status is read first: the database may be an
        earlier copy. A device that has logged in with the new secret may have discarded the old one.
        """
        if self._proven(work, "ack"):
            return work.generation
        payload = await retained.message(self.greeted, topics.STATUS.of(client_id=work.client_id))
        if payload is not None:
            with contextlib.suppress(MessageRefusedError):
                reported = topics.STATUS.decode(payload).secret_generation
                if reported == work.generation:
                    # As good as an `ack`, and gone once `_put_in_both` has published another status.
                    self.rotator.proven.add((work.rotation_id, "ack"))
                if reported is not None:
                    return reported
        async with self.rotator.attempt(work.rotation_id) as attempt:
            return await queries.reported_generation(attempt.session, attempt.device)

    async def _restore(self, work: OpenRotation) -> None:
        """Restore the old secret, and only then end the attempt."""
        if work.old_secret is None:
            raise ValueError("there is no secret to restore")
        if work.step != Step.RESTORING:
            async with self.rotator.attempt(work.rotation_id) as attempt:
                has_logged_in = attempt.step == Step.DONE or self._proven(work, "ack")
                if has_logged_in or attempt.rotation.old_secret is None:
                    return  # after an `ack`, or the device has just proven that this is not its secret
                attempt.advance(AttemptEvent.EXPIRED)
        old_secret = self.rotator.vault.decrypt(work.old_secret)
        await self._put_in_force(work, old_secret, work.old_generation)
        await self._give_up(work, AttemptEvent.RESTORED)

    async def _give_up(self, work: OpenRotation, event: AttemptEvent) -> None:
        now = datetime.now(UTC)
        async with self.rotator.attempt(work.rotation_id) as attempt:
            if event is AttemptEvent.LEFT and work.rotation_id not in await queries.left(attempt.session, now=now):
                return  # it has just come back
            attempt.give_up(event, now, retry_in=self._retry_in)

    async def _put_in_force(self, work: OpenRotation, secret: SecretStr, generation: int) -> None:
        """Put this secret in force in Keycloak, then in the broker; idempotent."""
        try:
            async with self.rotator.database.transaction() as session:
                await engine.lock_identity(session, work.client_id)
                await self._put_in_both(work, secret, generation)
        except LeadershipLostError:
            # A new leader may have reverted the changes of one that was frozen.
            await self.rotator.verify_soon(work.client_id)
            raise

    async def _put_in_both(self, work: OpenRotation, secret: SecretStr, generation: int) -> None:
        client_id = work.client_id
        await self.rotator.leadership.check()
        try:
            await self.keycloak.set_secret(client_id, secret, generation)
            await self._check_in_force(client_id, secret, generation)
        except NotFoundError:
            # Without a client there are no tokens, with or without this rotation; the broker still counts.
            log.warning("rotation.no_identity", client_id=client_id)
        await self.rotator.leadership.check()
        if self.broker.drops:
            # Published before, so that the device's status after the reconnect comes later. What the one that it
            # replaces proves is kept: it may be all that shows that the device has no other secret any more.
            reported = work.generation if self._proven(work, "ack") else None
            offline = messages.Status(online=False, secret_generation=reported)
            await self.connection.send(topics.STATUS, offline, client_id=client_id)
        await self.broker.put(client_id, secret, generation)
        await self.rotator.leadership.check()

    async def _check_in_force(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Raise UnavailableError unless Keycloak issues a token of this generation for this secret."""
        try:
            claims = await self.keycloak.claims(client_id, secret)
        except CredentialsRefusedError as error:
            identity = await self.keycloak.get(client_id)
            if not identity.enabled and (identity.secret, identity.generation) == (secret, generation):
                return  # disabled in the meantime: it gets no token with any secret
            raise UnavailableError(error.message) from error
        named = claims.get("secret_gen")
        if named != generation:
            raise UnavailableError(f"Keycloak's token names secret_gen {named}, not {generation}")

    async def _open(self) -> list[OpenRotation]:
        """Return the open rotations, and note their devices."""
        now = datetime.now(UTC)
        async with self.rotator.leadership.transaction() as session:
            found = await queries.open_rotations(session)
            left = await queries.left(session, now=now)
        self.rotator.in_rotation.clear()
        self.rotator.in_rotation.update(client_id for _, client_id in found)
        return [
            OpenRotation(
                rotation_id=rotation.id,
                client_id=client_id,
                step=Step(rotation.step),
                expired=rotation.deadline_at <= now,
                left=rotation.id in left,
                generation=rotation.generation,
                old_generation=rotation.old_generation,
                new_secret=rotation.new_secret or b"",
                old_secret=rotation.old_secret,
            )
            for rotation, client_id in found
        ]

    @property
    def _retry_in(self) -> timedelta:
        return timedelta(seconds=self.settings.rotation_retry_s)
