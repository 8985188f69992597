"""What the leader does of itself: it claims devices, switches secrets over, restores them, and ends attempts.

What happens in Keycloak and in the broker happens between two transactions, and may be done again by a new leader.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.rotator import db
from services.rotator.attempt import Attempt, offer_of
from services.rotator.domain import Event, Step
from services.rotator.service import Rotator
from shared import crypto, messages, topics
from shared.broker import Broker
from shared.client_token import CredentialsRefusedError
from shared.errors import FleetError, LeadershipLostError, NotFoundError, UnavailableError
from shared.keycloak import Identity, Keycloak
from shared.mqtt import Connection
from shared.schema import Device, Rotation
from shared.settings import RotatorSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Work:
    """An open rotation as the leader's next deed needs it."""

    rotation_id: UUID
    client_id: str
    step: Step
    expired: bool
    generation: int
    old_generation: int
    new_secret: bytes
    old_secret: bytes


@dataclass(frozen=True, slots=True)
class Sweep:
    """The leader's hands in Keycloak and in the broker."""

    settings: RotatorSettings
    rotator: Rotator
    keycloak: Keycloak
    broker: Broker
    connection: Connection

    async def run(self) -> None:
        """Sweep whenever the rotator rings, and from time to time, until cancelled."""
        while True:
            self.rotator.rung.clear()
            try:
                for work in await self._open():
                    await self._further(work)
                while await self._claim():
                    pass
            except UnavailableError as error:
                log.warning("rotation.waits", reason=error.message)
            try:
                async with asyncio.timeout(self.settings.sweep_s):
                    await self.rotator.rung.wait()
            except TimeoutError:
                continue

    async def _further(self, work: Work) -> None:
        """Bring one rotation a deed further; when a neighbour is away, its step stays for the next sweep."""
        try:
            # Before anything else: what this leader can not read it must neither move nor end.
            for ciphertext in (work.new_secret, work.old_secret):
                self.rotator.vault.decrypt(ciphertext)
            if work.step == Step.RESTORING or (work.expired and work.step in (Step.SWITCHING, Step.SWITCHED)):
                await self._restore(work)
            elif work.expired:
                await self._give_up(work, Event.EXPIRED)
            elif work.step in (Step.STORED, Step.SWITCHING):
                await self._switch(work)
        except UnavailableError as error:
            log.warning("rotation.waits", client_id=work.client_id, step=work.step, reason=error.message)
        except LeadershipLostError:
            raise
        except FleetError as error:
            # What is wrong with one device must not hold up the others; it needs a person.
            log.exception(
                "rotation.stuck",
                rotation_id=str(work.rotation_id),
                client_id=work.client_id,
                step=work.step,
                reason=error.message,
            )

    async def _claim(self) -> bool:
        """Offer the next device a new secret; return whether there may be another to claim."""
        now = datetime.now(UTC)
        async with self.rotator.leadership.transaction() as session:
            await db.fit_slots(session, self.settings.rotation_max_parallel)
            candidate = await db.claim_due(session, now=now)
        if candidate is None:
            return False
        try:
            old = await self.keycloak.get(candidate.client_id)
        except NotFoundError:
            await self._put_off(candidate)
            return True
        async with self.rotator.leadership.transaction() as session:
            # Asked again: meanwhile the device may have been disabled, or another have come online.
            if await db.claim_due(session, now=now) == candidate:
                await self._offer(session, candidate, old)
        return True

    async def _offer(self, session: AsyncSession, candidate: db.Candidate, old: Identity) -> None:
        now = datetime.now(UTC)
        device = await session.get_one(Device, candidate.device_id)
        device.last_generation += 1
        device.rotation_state = "PENDING"
        device.rotation_slot = candidate.slot
        device.rotation_retry_at = None
        rotation = Rotation(
            id=uuid4(),
            device_id=device.id,
            generation=device.last_generation,
            old_generation=old.generation,
            step=Step.OFFERED,
            new_secret=self.rotator.vault.encrypt(crypto.new_secret()),
            old_secret=self.rotator.vault.encrypt(old.secret),
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
        Attempt(session, outbox, rotation, device, candidate.client_id).tell("rotation/offered")

    async def _put_off(self, candidate: db.Candidate) -> None:
        """Put off a device that Keycloak does not know, so that it does not hold up the others."""
        log.error("rotation.no_identity", client_id=candidate.client_id)
        async with self.rotator.leadership.transaction() as session:
            device = await session.get_one(Device, candidate.device_id)
            device.rotation_state = "TIMEOUT"
            device.rotation_retry_at = datetime.now(UTC) + self._retry_in

    async def _switch(self, work: Work) -> None:
        """Put the new secret in force; once SWITCHING stands in the database, the old one must be restored."""
        async with self.rotator.attempt(work.rotation_id) as attempt:
            attempt.advance(Event.SWITCH_BEGUN)
        await self._put_in_force(work.client_id, self.rotator.vault.decrypt(work.new_secret), work.generation)
        async with self.rotator.attempt(work.rotation_id) as attempt:
            attempt.advance(Event.SWITCH_COMPLETED)
            attempt.rotation.switched_at = datetime.now(UTC)
            self.rotator.outbox.put(
                attempt.session,
                topics.ROTATION_SWITCH,
                attempt.switch(),
                expires_at=attempt.rotation.deadline_at,
                client_id=work.client_id,
            )
            attempt.tell("rotation/switched")

    async def _restore(self, work: Work) -> None:
        """Put the old secret back in force, and only then let the attempt end.

        A device that says that it has logged in with the new secret may have given up the old one, as after a
        database that was put back to a point before its ack: its rotation goes on instead.
        """
        if work.step != Step.RESTORING:
            async with self.rotator.attempt(work.rotation_id) as attempt:
                if attempt.step == Step.DONE:
                    return  # the ack came first
                logged_in = await db.says_generation(attempt.session, attempt.device) == work.generation
                if logged_in and attempt.step == Step.SWITCHED:
                    attempt.complete(datetime.now(UTC))
                    return
                if not logged_in:
                    attempt.advance(Event.EXPIRED)
            if logged_in:
                await self._switch(work)
                return
        old_secret = self.rotator.vault.decrypt(work.old_secret)
        await self._put_in_force(work.client_id, old_secret, work.old_generation)
        await self._give_up(work, Event.RESTORED)

    async def _give_up(self, work: Work, event: Event) -> None:
        async with self.rotator.attempt(work.rotation_id) as attempt:
            attempt.give_up(event, datetime.now(UTC), retry_in=self._retry_in)

    async def _put_in_force(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Make Keycloak, then the broker, want this secret; doing it again changes nothing."""
        await self.rotator.leadership.check()
        try:
            await self.keycloak.set_secret(client_id, secret, generation)
            await self._check_in_force(client_id, secret, generation)
        except NotFoundError:
            # Without a client there are no tokens, with or without this rotation; the broker still counts.
            log.warning("rotation.no_identity", client_id=client_id)
        await self.rotator.leadership.check()
        if self.broker.drops:
            # Said before, so that what the device says when it is back comes after.
            await self.connection.send(topics.STATUS, messages.Status(online=False), client_id=client_id)
        try:
            await self.broker.set_password(client_id, secret)
        except NotFoundError:
            await self.broker.put(client_id, secret)

    async def _check_in_force(self, client_id: str, secret: SecretStr, generation: int) -> None:
        """Raise UnavailableError unless Keycloak gives a token of this generation for this secret."""
        try:
            claims = await self.keycloak.claims(client_id, secret)
        except CredentialsRefusedError as error:
            identity = await self.keycloak.get(client_id)
            if not identity.enabled and (identity.secret, identity.generation) == (secret, generation):
                return  # disabled meanwhile: it gets no token with any secret
            raise UnavailableError(error.message) from error
        named = claims.get("secret_gen")
        if named != generation:
            raise UnavailableError(f"Keycloak's token names secret_gen {named}, not {generation}")

    async def _open(self) -> list[Work]:
        now = datetime.now(UTC)
        async with self.rotator.leadership.transaction() as session:
            found = [await db.rotation(session, one) for one in await db.open_rotations(session)]
        return [
            Work(
                rotation_id=rotation.id,
                client_id=client_id,
                step=Step(rotation.step),
                expired=rotation.deadline_at <= now,
                generation=rotation.generation,
                old_generation=rotation.old_generation,
                new_secret=rotation.new_secret or b"",
                old_secret=rotation.old_secret or b"",
            )
            for rotation, _, client_id in found
        ]

    @property
    def _retry_in(self) -> timedelta:
        return timedelta(seconds=self.settings.rotation_retry_s)
