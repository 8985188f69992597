"""The reconciler: compares database, Keycloak and broker, and repairs differences.

The database decides which devices exist and whether they are enabled; Keycloak has their secrets; the broker's
accounts follow from both, and those of claims and admins from the database alone. Only clients of our instance are
changed, and no device in a rotation; each difference is checked again right before its repair, under the lock of
all others that could change it. Strays are handled in strays.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from services.registry import certificates, queries
from services.registry.accounts import queries as account_queries
from services.registry.claims import queries as claim_queries
from services.registry.connections import faults as connection_faults
from services.registry.context import Registry
from services.registry.credentials import rules as credential_rules
from services.registry.credentials.rules import Places, Remedy
from services.registry.credentials.service import CredentialService, described, places_of
from services.registry.reconciler import board_faults, broker_load
from services.registry.reconciler.strays import Strays
from shared.auth.keycloak import Identity
from shared.broker.acl import Acl, acls
from shared.broker.mosquitto import DeviceAccount
from shared.database import device_refs, engine
from shared.errors import FleetError, NotFoundError
from shared.mqtt import retained
from shared.protocol import admin, topics
from shared.protocol.admin import Role
from shared.server.rpc import RequestContext

log = structlog.get_logger()
Fix = Callable[[], Awaitable[bool]]
_AT_ONCE: Final = 8
"""Limit of concurrent repairs; each may hold a connection to the database."""
_REMEDIES: Final = {
    Remedy.RECORD: "the database takes the secret of both",
    Remedy.PUT: "the broker gets Keycloak's secret",
    Remedy.ROTATE: "a new secret, over the broker, as soon as the device is online",
}


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A difference and its repair: None if it needs a person."""

    client_id: str
    text: str
    remedy: str
    fix: Fix | None


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The database: devices by client id, claims in force and all claims, admins with their roles."""

    devices: dict[str, queries.Compared]
    reachable: set[str]
    claims: set[str]
    admins: dict[str, Role]


@dataclass(frozen=True, slots=True)
class _Found:
    """Keycloak and the broker; `accounts` is None for a broker without accounts."""

    clients: dict[str, Identity]
    refused_by_keycloak: dict[str, datetime]
    accounts: dict[str, DeviceAccount] | None
    claims: set[str]
    admins: dict[str, frozenset[Acl]]
    retaining: set[str]

    def strays(self, now: _Recorded) -> dict[str, str]:
        """Return the names without a row, each with a list of what exists of it."""
        places: tuple[tuple[str, set[str]], ...] = (
            ("a client", self.clients.keys() - now.devices.keys()),
            ("an account", (self.accounts or {}).keys() - now.devices.keys()),
            ("retained messages", self.retaining - now.devices.keys()),
            ("a claim's account", self.claims - now.claims),
            ("an admin's account", self.admins.keys() - now.admins.keys() - {admin.BUILT_IN}),
        )
        found: dict[str, list[str]] = {}
        for what, holders in places:
            for name in holders:
                found.setdefault(name, []).append(what)
        return {name: ", ".join(whats) for name, whats in found.items()}


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Finds and repairs differences."""

    registry: Registry

    async def on_doctor(self, context: RequestContext, _: admin.Nothing) -> admin.Diagnosis:
        """Return the differences to an admin."""
        await engine.allow_silence(context.session)
        return await self._with_certificates(await self.run(repair=False))

    async def on_repair(self, context: RequestContext, _: admin.Nothing) -> admin.Diagnosis:
        """Repair differences for an admin."""
        await engine.allow_silence(context.session)
        diagnosis = await self.run(repair=True, requested=True)
        if any(finding.repaired for finding in diagnosis.findings):
            context.audit("doctor.repair", "fleet", after=diagnosis.model_dump(mode="json"))
        return await self._with_certificates(diagnosis)

    async def _with_certificates(self, diagnosis: admin.Diagnosis) -> admin.Diagnosis:
        found = await certificates.findings(self.registry.settings)
        return diagnosis.model_copy(update={"findings": [*found, *diagnosis.findings]})

    async def run(self, *, repair: bool, requested: bool = False) -> admin.Diagnosis:
        """Compare everything, with `repair` repair it; raise OtherInstallationError before anything is changed.

        `requested`: requested by a person, also for devices that are offline.
        """
        identities = self.registry.identities
        await self.registry.instance.check()
        if repair:
            await identities.end_unfinished()
        # Read before and after the other two: an object that changes in between is missing in neither.
        before = await self._recorded()
        found = await self._found()
        now = await self._recorded()
        strays = found.strays(now)
        rows = len(now.devices) + len(now.claims) + len(now.admins)
        known = {*now.devices, *now.claims, *now.admins}
        findings = await Strays(self.registry).settle(strays, known, rows=rows, repair=repair)
        problems = [
            *self._compare(before.devices, now.devices, found, requested=requested),
            *self._compare_claims(before, now, found.claims),
            *self._compare_admins(before.admins, now.admins, found.admins),
        ]
        turn = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            settling = [tasks.create_task(self._settle(problem, turn, repair=repair)) for problem in problems]
        findings += [task.result() for task in settling]
        async with self.registry.database.transaction() as session:
            now_utc = datetime.now(UTC)
            findings += await board_faults.findings(session, now_utc)
            findings += await connection_faults.findings(session, self.registry.connection_base, now_utc)
        if identities.broker.keeps_accounts:
            findings += await broker_load.findings(identities.connection, len(now.devices))
        return admin.Diagnosis(devices=len(now.devices), findings=findings)

    async def _recorded(self) -> _Recorded:
        async with self.registry.database.transaction() as session:
            return _Recorded(
                await queries.all_for_comparison(session),
                await claim_queries.reachable(session, window=self.registry.claim_window),
                await claim_queries.every(session),
                {name: Role(row.role) for name, row in (await account_queries.every(session)).items()},
            )

    async def _found(self) -> _Found:
        identities = self.registry.identities
        clients = {identity.client_id: identity for identity in await identities.keycloak.ours()}
        left = await retained.topics(identities.connection, topics.DEVICE_UP.filter)
        return _Found(
            clients=clients,
            refused_by_keycloak=await identities.keycloak.refusals(),
            accounts=await identities.broker.devices(),
            claims=await identities.broker.claims(),
            admins=await identities.broker.admins.found(),
            retaining={name for name in map(_client_id, left) if device_refs.is_client_id(name)},
        )

    def _compare(
        self,
        before: dict[str, queries.Compared],
        rows: dict[str, queries.Compared],
        found: _Found,
        *,
        requested: bool,
    ) -> Iterator[Discrepancy]:
        for client_id, row in rows.items():
            if row != before.get(client_id) or row.lifecycle != "ACTIVE" or row.rotation_state == "PENDING":
                continue
            heal = partial(self._heal, client_id, requested=requested)
            client = found.clients.get(client_id)
            if client is None:
                text = "recreate it; the device gets a new secret as soon as it is online"
                yield Discrepancy(client_id, "has no client in Keycloak", text, heal)
                continue
            if not client.has_claims:
                fix = partial(self._repair_claims, client_id)
                yield Discrepancy(client_id, "its tokens lack claims", "add them", fix)
            account = DeviceAccount(client.enabled, client.held)  # a broker without accounts follows it
            if found.accounts is not None and client_id not in found.accounts:
                yield Discrepancy(client_id, "has no account in the broker", "recreate it", heal)
                continue
            account = account if found.accounts is None else found.accounts[client_id]
            if (client.enabled, account.enabled) != (row.enabled, row.enabled):
                text = f"is not {'enabled' if row.enabled else 'disabled'} everywhere"
                yield Discrepancy(client_id, text, "set it as in the database", heal)
            places = places_of(self.registry, row, row, client, account, reported=row.reported)
            remedy = credential_rules.remedy(places)
            if remedy is not Remedy.NONE and places.row is not None:
                held = ", ".join(f"{place} {what}" for place, what in described(places).items())
                yield Discrepancy(client_id, f"its secrets differ: {held}", _REMEDIES[remedy], heal)
            elif row.enabled:
                yield from self._refusals(client_id, row, places, found.refused_by_keycloak.get(client_id))

    def _refusals(
        self, client_id: str, row: queries.Compared, places: Places, by_keycloak: datetime | None
    ) -> Iterator[Discrepancy]:
        """Yield a problem for a device that is refused although all places agree: it has another secret."""
        who = []
        if places.refused:
            who.append(f"by the broker at {row.refused_at:%Y-%m-%d %H:%M:%S} UTC")
        if by_keycloak is not None and (who or not self.registry.identities.broker.keeps_accounts):
            who.append(f"by Keycloak at {by_keycloak:%Y-%m-%d %H:%M:%S} UTC")
        if who:
            has_key = "it recovers with its key" if row.has_key else "it has no key: mdm device reissue"
            yield Discrepancy(
                client_id, f"was refused {' and '.join(who)}, and has not connected since", has_key, None
            )

    def _compare_claims(self, before: _Recorded, now: _Recorded, accounts: set[str]) -> Iterator[Discrepancy]:
        for claim_id in sorted((accounts & now.claims) - now.reachable):
            fix = partial(self._remove_claim_account, claim_id)
            yield Discrepancy(claim_id, "is not a claim in force", "remove the account", fix)
        for claim_id in sorted((now.reachable & before.reachable) - accounts):
            # Its password is not stored anywhere.
            text = "mdm claim revoke, and mdm claim create for a new one"
            yield Discrepancy(claim_id, "has no account in the broker", text, None)

    def _compare_admins(
        self, before: dict[str, Role], recorded: dict[str, Role], accounts: dict[str, frozenset[Acl]]
    ) -> Iterator[Discrepancy]:
        for name, role in recorded.items():
            if before.get(name) is not role:
                continue
            if name not in accounts:
                text = "mdm admin password, which recreates it"
                yield Discrepancy(name, "has no account in the broker", text, None)
            elif accounts[name] != acls(name, role):
                text = f"has other rights in the broker than those of the role {role}"
                yield Discrepancy(name, text, "set them as in the database", partial(self._repair_admin, name))

    async def _settle(self, problem: Discrepancy, turn: asyncio.Semaphore, *, repair: bool) -> admin.Finding:
        repaired = False
        if repair and problem.fix is not None:
            try:
                async with turn:
                    repaired = await problem.fix()
            except FleetError as error:
                log.warning("reconciler.repair_failed", client_id=problem.client_id, reason=error.message)
        log.warning("reconciler.found", client_id=problem.client_id, problem=problem.text, repaired=repaired)
        return admin.Finding(
            subject=problem.client_id, problem=problem.text, remedy=problem.remedy, repaired=repaired
        )

    async def _remove_claim_account(self, claim_id: str) -> bool:
        async with self.registry.database.transaction() as session:
            if claim_id in await claim_queries.reachable(session, window=self.registry.claim_window):
                return False
        await self.registry.identities.broker.delete(claim_id)
        return True

    async def _repair_admin(self, name: str) -> bool:
        """Make an admin's account in the broker agree with the row, or delete it if there is none."""
        accounts = self.registry.identities.broker.admins
        async with self.registry.database.transaction() as session:
            await account_queries.lock(session)
            row = (await account_queries.every(session)).get(name)
            if row is None:
                await accounts.delete(name)
            else:
                await accounts.set_role(name, Role(row.role))
        return True

    async def _heal(self, client_id: str, *, requested: bool) -> bool:
        await CredentialService(self.registry).heal(client_id, offline=requested)
        return True

    async def _repair_claims(self, client_id: str) -> bool:
        """Set the present secret again: the claims are written with it."""
        keycloak = self.registry.identities.keycloak
        async with self.registry.database.transaction() as session:
            await engine.lock_identity(session, client_id)
            try:
                device, _, _ = await queries.device(session, client_id, lock=True)
            except NotFoundError:
                return False
            if device.rotation_state == "PENDING":
                return False
            identity = await CredentialService(self.registry).identity(device, client_id)
            await keycloak.set_secret(client_id, identity.secret, identity.generation)
        return True


def _client_id(topic: str) -> str:
    return topic.removeprefix(f"{topics.PREFIX}/d/").partition("/")[0]
