"""Claims: created and revoked by admins; machines get identities by them.

The result of a machine's request is decided and stored first, in a transaction of its own that counts the claim's
uses. Only then is the device created, as a saga that a repeated request continues after a crash.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import queries, rules
from services.registry.claims import queries as claim_queries
from services.registry.claims import rules as claim_rules
from services.registry.claims.rules import ClaimVerdict
from services.registry.config import versions
from services.registry.connection_rules import WantedProfile
from services.registry.connections import queries as connection_queries
from services.registry.context import Registry
from services.registry.devices.service import DeviceService
from shared import crypto
from shared.database.tables import Claim, ClaimRequestRow, DeviceModel
from shared.errors import ConflictError, FleetError, UnavailableError
from shared.protocol import admin, events, messages, topics
from shared.protocol.messages import ClaimOutcome
from shared.server.rpc import RequestContext, lock_key

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claims:
    """The operations of admins and machines; `gate` bounds the requests that hold transactions."""

    registry: Registry
    gate: asyncio.Semaphore

    async def add(self, context: RequestContext, request: admin.ClaimAdd) -> admin.ClaimAdded:
        """Create a claim and its broker account, or leave nothing behind."""
        claim = await self._intend(context, request)
        try:
            await self.registry.identities.broker.put_claim(claim.id, SecretStr(request.password))
        except FleetError:
            async with self.registry.database.transaction() as session:
                await session.delete(await claim_queries.claim(session, claim.id, lock=True))
            raise
        view = await self._view(context.session, claim)
        context.audit("claim.add", claim.id, after=view.model_dump(mode="json"))
        facts = events.ClaimAddedFacts(claim=claim.id, model=view.model)
        self.registry.outbox.emit(context.session, events.CLAIM_ADDED, None, facts)
        profile = (await self._wanted(context.session, request.tags)).document
        return admin.ClaimAdded(
            **view.model_dump(),
            mqtt_host=profile["mqtt_host"],
            mqtt_port=profile.get("recovery_port", self.registry.settings.claim_mqtt_port),
            mqtt_tls=profile["mqtt_tls"],
            ca_certificate=profile.get("ca_certificate"),
        )

    async def _wanted(self, session: AsyncSession, tags: list[str]) -> WantedProfile:
        """Return the connection profile of a new device with these tags, which is stored as given out."""
        wanted = (await connection_queries.in_force(session, self.registry.connection_base)).wanted(None, tags)
        await connection_queries.intern(session, wanted)
        return wanted

    async def list_newest(self, context: RequestContext, request: admin.ClaimList) -> admin.ClaimViews:
        """Return the newest claims."""
        claims = await claim_queries.newest(context.session, request, now=datetime.now(UTC))
        return admin.ClaimViews(claims=await self._views(context.session, claims))

    async def revoke(self, context: RequestContext, request: admin.ClaimRef) -> admin.ClaimView:
        """Refuse a claim from now on, and drop its connections; granted identities stay."""
        async with self.registry.database.transaction() as session:
            claim = await claim_queries.claim(session, request.claim, lock=True)
            if claim.revoked_at is None:
                claim.revoked_at = datetime.now(UTC)
                context.on(session).audit("claim.revoke", claim.id)
                self.registry.outbox.emit(session, events.CLAIM_REVOKED, None, events.ClaimFacts(claim=claim.id))
        await self.registry.identities.broker.delete(claim.id)
        return await self._view(context.session, claim)

    async def list_requests(
        self, context: RequestContext, request: admin.ClaimRequests
    ) -> admin.ClaimRequestViews:
        """Return a page of the requesting machines."""
        found = await claim_queries.request_views(context.session, request)
        following = found[-1].uid if len(found) == request.limit else None
        return admin.ClaimRequestViews(requests=found, next=following)

    async def approve(self, context: RequestContext, request: admin.ClaimRequestRef) -> admin.ClaimRequestView:
        """Create the device of a machine that waits or was denied, and send it its identity."""
        async with self.registry.database.transaction() as session:
            await claim_queries.lock_uid(session, request.uid)
            known = await claim_queries.request(session, request.uid)
            if known.state != "granted":
                claim = await claim_queries.claim(session, known.claim_id, lock=True)
                taken = (await claim_queries.taken(session, [claim]))[claim.id]
                now = datetime.now(UTC)
                fault = claim_rules.why_not_approved(
                    claim, taken=taken, now=now, window=self.registry.claim_window
                )
                if fault is not None:
                    raise ConflictError(f"uid: {request.uid} cannot be approved: {fault.reason}")
                before, known.state = known.state, "granted"
                context.on(session).audit("claim.approve", request.uid, before={"state": before})
        answer = await self._grant(context.session, request.uid, known.public_key)
        self._send(context.session, known.claim_id, answer)
        return await claim_queries.request_view(context.session, request.uid)

    async def deny(self, context: RequestContext, request: admin.ClaimRequestRef) -> admin.ClaimRequestView:
        """Refuse a waiting machine, until it is approved or forgotten."""
        known = await self._without_device(context.session, request.uid)
        if known.state != "denied":
            context.audit("claim.deny", known.uid, before={"state": known.state})
            known.state = "denied"
            facts = events.MachineFacts(claim=known.claim_id, uid=known.uid)
            self.registry.outbox.emit(context.session, events.CLAIM_DENIED, None, facts)
            self._send(context.session, known.claim_id, _answer(known.uid, claim_rules.DENIED))
        return await claim_queries.request_view(context.session, request.uid)

    async def forget(self, context: RequestContext, request: admin.ClaimRequestRef) -> admin.Removed:
        """Forget a machine without a device, so that it may request again, also with another key."""
        known = await self._without_device(context.session, request.uid)
        context.audit("claim.forget", known.uid, before={"state": known.state, "claim": known.claim_id})
        await context.session.delete(known)
        return admin.Removed(removed=known.uid)

    async def answer(self, claim_id: str, request: messages.ClaimRequest) -> messages.ClaimAnswer:
        """Decide a machine's request, create its device if granted, and return the answer."""
        crypto.check_public_key(request.public_key)
        async with self.gate:
            async with self.registry.database.transaction() as session:
                verdict = await self._decide(session, claim_id, request)
            if verdict.outcome is ClaimOutcome.GRANTED:
                try:
                    async with self.registry.database.transaction() as session:
                        return await self._grant(session, request.uid, request.public_key)
                except UnavailableError:
                    raise
                except FleetError as error:
                    # For example a rotation in progress, or layers that do not fit the model.
                    log.warning("claim.deferred", uid=request.uid, code=error.code, reason=error.message)
                    verdict = claim_rules.NOT_NOW
        if verdict.outcome is ClaimOutcome.REFUSED:
            log.warning("claim.refused", claim=claim_id, uid=request.uid, reason=verdict.reason)
        return _answer(request.uid, verdict)

    async def _intend(self, context: RequestContext, request: admin.ClaimAdd) -> Claim:
        """Commit a new claim, or return the one that an earlier delivery of the request left before a crash."""
        async with self.registry.database.transaction() as session:
            known = await claim_queries.of_request(session, context.origin)
            if known is not None:
                return known
            model = await queries.model(session, request.model)
            # Checked here, where the admin gets the error, and not only when a machine's device is created.
            layers = await queries.layers(session)
            await versions.document_of(self.registry, model, request.tags, {}, layers=layers)
            now = datetime.now(UTC)
            claim = Claim(
                id=f"claim-{rules.new_key(secrets.choice)}",
                model_id=model.id,
                tags=request.tags,
                uses=request.uses,
                needs_approval=request.needs_approval,
                expires_at=now + timedelta(seconds=request.expires_in_s),
                request_id=context.origin,
                connection_id=(await self._wanted(session, request.tags)).connection_id,
                author=context.account,
                created_at=now,
            )
            session.add(claim)
            return claim

    async def _decide(self, session: AsyncSession, claim_id: str, request: messages.ClaimRequest) -> ClaimVerdict:
        """Store the result of a request; without a device it belongs to the claim of the last request."""
        await claim_queries.lock_uid(session, request.uid)
        claim = await claim_queries.claim(session, claim_id, lock=True)
        known = await session.get(ClaimRequestRow, request.uid)
        verdict = claim_rules.judge(
            claim,
            known,
            request.public_key,
            taken=(await claim_queries.taken(session, [claim]))[claim_id],
            now=datetime.now(UTC),
            window=self.registry.claim_window,
        )
        if verdict.outcome is ClaimOutcome.REFUSED:
            return verdict
        if known is None:
            known = ClaimRequestRow(uid=request.uid, public_key=request.public_key)
            session.add(known)
            facts = events.MachineFacts(claim=claim_id, uid=request.uid)
            RequestContext(claim_id, request.uid, session).audit(
                "claim.request", request.uid, after=facts.to_data()
            )
            self.registry.outbox.emit(session, events.CLAIM_REQUESTED, None, facts)
        if known.device_id is None:
            known.claim_id, known.state = claim_id, verdict.outcome.value
        return verdict

    async def _grant(self, session: AsyncSession, uid: str, public_key: str) -> messages.ClaimAnswer:
        """Return a machine's identity sealed for its key; create its device unless there is one."""
        await claim_queries.lock_uid(session, uid)
        known = await claim_queries.request(session, uid)
        if (known.state, known.public_key) != ("granted", public_key):
            raise ConflictError(f"uid: {uid} was forgotten or denied in the meantime")
        devices, context = DeviceService(self.registry), RequestContext(known.claim_id, uid, session)
        if known.device_id is None:
            await session.execute(select(func.pg_advisory_xact_lock(lock_key(context.origin))))
            claim = await claim_queries.claim(session, known.claim_id)
            model = await session.get_one(DeviceModel, claim.model_id)
            wanted = admin.DeviceAdd(request_id=uid, model=model.code, name=uid, tags=claim.tags)
            added = await devices.add(context, wanted)
            known.device_id = (await queries.device(session, added.client_id))[0].id
            known.granted_at = datetime.now(UTC)
            # It is not authenticated yet, but only this key opens the answer.
            await queries.set_key(session, known.device_id, known.public_key)
            facts = events.MachineFacts(claim=claim.id, uid=uid)
            context.audit("claim.grant", uid, after={**facts.to_data(), "client_id": added.client_id})
            self.registry.outbox.emit(session, events.CLAIM_GRANTED, added.client_id, facts)
        device = await claim_queries.device(session, known)
        package = await devices.provision(context, admin.DeviceRef(request_id=uid, device=device.key))
        sealed = crypto.seal(SecretStr(package.model_dump_json()), known.public_key)
        return messages.ClaimAnswer(uid=uid, outcome=ClaimOutcome.GRANTED, jwe=sealed)

    async def _without_device(self, session: AsyncSession, uid: str) -> ClaimRequestRow:
        """Return a machine that has no device, locked in that state until the transaction ends."""
        await claim_queries.lock_uid(session, uid)
        known = await claim_queries.request(session, uid)
        if known.device_id is not None:
            device = await claim_queries.device(session, known)
            raise ConflictError(f"uid: {uid} is device {device.key}; `mdm device remove` forgets both", uid=uid)
        return known

    def _send(self, session: AsyncSession, claim_id: str, answer: messages.ClaimAnswer) -> None:
        self.registry.outbox.put(session, topics.CLAIM_ANSWER, answer, claim_id=claim_id, uid=answer.uid)

    async def _view(self, session: AsyncSession, claim: Claim) -> admin.ClaimView:
        return (await self._views(session, [claim]))[0]

    async def _views(self, session: AsyncSession, claims: list[Claim]) -> list[admin.ClaimView]:
        now, codes = datetime.now(UTC), await claim_queries.models(session)
        counted = await claim_queries.taken(session, claims)
        return [
            admin.ClaimView.from_row(
                claim,
                claim=claim.id,
                model=codes[claim.model_id],
                used=counted[claim.id].used,
                waiting=counted[claim.id].waiting,
                state=claim_rules.state_of(claim, taken=counted[claim.id], now=now),
            )
            for claim in claims
        ]


def _answer(uid: str, verdict: ClaimVerdict) -> messages.ClaimAnswer:
    return messages.ClaimAnswer(uid=uid, outcome=verdict.outcome, reason=verdict.reason)
