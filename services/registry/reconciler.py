"""The reconciler: compares database, Keycloak and broker, and mends what no longer agrees.

The database says which devices there are and whether they are enabled; Keycloak holds their secrets; the broker's
accounts follow from both, and those of claims and admins from the database alone. Only clients of our instance
are touched, no device in a rotation is, and each thing is looked at once more right before it is mended, under
the lock of whoever could be changing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from services.registry import account_db, claim_db, db
from services.registry.service import Registry
from shared import admin, postgres, retained, topics
from shared.access import Acl, acls
from shared.admin import Role
from shared.errors import FleetError, NotFoundError
from shared.keycloak import Identity
from shared.requests import Caller
from shared.schema import Device

log = structlog.get_logger()
Remedy = Callable[[], Awaitable[bool]]
_AT_ONCE: Final = 8
"""So many things are mended at a time; each may hold a connection to the database."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not agree, and how it is mended: None when only a person can."""

    client_id: str
    text: str
    remedy: str
    mend: Remedy | None


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the database says: devices by client id, claims in force, and admins with their roles."""

    devices: dict[str, db.Compared]
    claims: set[str]
    admins: dict[str, Role]


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Finds and mends."""

    registry: Registry

    async def on_doctor(self, caller: Caller, _: admin.Nothing) -> admin.Diagnosis:
        """Answer an admin who asks what does not agree."""
        await postgres.allow_silence(caller.session)
        return await self.run(repair=False)

    async def on_repair(self, caller: Caller, _: admin.Nothing) -> admin.Diagnosis:
        """Mend what can be mended for an admin."""
        await postgres.allow_silence(caller.session)
        diagnosis = await self.run(repair=True)
        if any(finding.repaired for finding in diagnosis.findings):
            caller.audit("doctor.repair", "fleet", after=diagnosis.model_dump(mode="json"))
        return diagnosis

    async def run(self, *, repair: bool) -> admin.Diagnosis:
        """Compare everything, and mend it if asked."""
        identities = self.registry.identities
        if repair:
            await identities.end_unfinished()
        # Read before the others are asked and after: what changes meanwhile is missing on no side.
        before = await self._recorded()
        clients = {identity.client_id: identity for identity in await identities.keycloak.ours()}
        accounts = await identities.broker.devices()
        claim_accounts = await identities.broker.claims()
        admin_accounts = await identities.broker.admins.found()
        left = await retained.topics(identities.connection, topics.DEVICE_UP.filter)
        now = await self._recorded()
        talkers = {_client_id(topic) for topic in left}
        problems = [
            *self._compare(before.devices, now.devices, clients, accounts, talkers),
            *self._compare_claims(before.claims, now.claims, claim_accounts),
            *self._compare_admins(before.admins, now.admins, admin_accounts),
        ]
        turn = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            settling = [tasks.create_task(self._settle(problem, turn, repair=repair)) for problem in problems]
        return admin.Diagnosis(devices=len(now.devices), findings=[task.result() for task in settling])

    async def _recorded(self) -> _Recorded:
        async with self.registry.database.transaction() as session:
            return _Recorded(
                await db.all_for_comparison(session),
                await claim_db.reachable(session, window=self.registry.claim_window),
                {name: Role(row.role) for name, row in (await account_db.every(session)).items()},
            )

    def _compare(
        self,
        before: dict[str, db.Compared],
        rows: dict[str, db.Compared],
        clients: dict[str, Identity],
        accounts: dict[str, bool] | None,
        talkers: set[str],
    ) -> Iterator[Problem]:
        """Compare; without accounts (None) a device is let in by what Keycloak says alone."""
        if accounts is None:
            accounts = {client_id: client.enabled for client_id, client in clients.items() if client_id in rows}
        for client_id in sorted((clients.keys() | accounts.keys() | talkers) - rows.keys()):
            places: dict[str, Container[str]] = {
                "a client": clients,
                "an account": accounts,
                "retained messages": talkers,
            }
            has = ", ".join(what for what, holders in places.items() if client_id in holders)
            text = f"is not in the database but has {has}"
            yield Problem(client_id, text, "remove all that it has", partial(self._remove, client_id))
        for client_id, row in rows.items():
            if row != before.get(client_id) or row.lifecycle != "ACTIVE" or row.rotation_state == "PENDING":
                continue
            client, let_in = clients.get(client_id), accounts.get(client_id)
            if client is None:
                yield Problem(client_id, "has no client in Keycloak", "mdm device reissue", None)
                continue
            if client.generation != row.secret_generation:
                text = f"secret generation: Keycloak {client.generation}, database {row.secret_generation}"
                yield Problem(client_id, text, "mdm device reissue, if it can not log in", None)
            if not client.has_claims:
                mend = partial(self._mend_claims, client_id)
                yield Problem(client_id, "its tokens lack claims", "add them", mend)
            if let_in is None:
                mend = partial(self._mend_account, client_id, anew=True)
                yield Problem(client_id, "has no account in the broker", "make it anew", mend)
            elif (client.enabled, let_in) != (row.enabled, row.enabled):
                mend = partial(self._mend_account, client_id, anew=False)
                text = f"is not {'enabled' if row.enabled else 'disabled'} everywhere"
                yield Problem(client_id, text, "as the database says", mend)

    def _compare_claims(self, before: set[str], reachable: set[str], accounts: set[str]) -> Iterator[Problem]:
        for claim_id in sorted(accounts - reachable):
            mend = partial(self._remove_claim_account, claim_id)
            yield Problem(claim_id, "is no claim that is in force", "remove the account", mend)
        for claim_id in sorted((reachable & before) - accounts):
            # Its password is kept nowhere.
            text = "mdm claim revoke, and mdm claim create for another"
            yield Problem(claim_id, "has no account in the broker", text, None)

    def _compare_admins(
        self, before: dict[str, Role], recorded: dict[str, Role], accounts: dict[str, frozenset[Acl]]
    ) -> Iterator[Problem]:
        for name in sorted(accounts.keys() - recorded.keys() - {admin.BUILT_IN}):
            mend = partial(self._mend_admin, name)
            yield Problem(name, "is no admin account that is in the database", "remove the account", mend)
        for name, role in recorded.items():
            if before.get(name) is not role:
                continue
            if name not in accounts:
                text = "mdm admin password, which makes it again"
                yield Problem(name, "has no account in the broker", text, None)
            elif accounts[name] != acls(name, role):
                text = f"has other rights in the broker than a {role}'s"
                yield Problem(name, text, "as the database says", partial(self._mend_admin, name))

    async def _settle(self, problem: Problem, turn: asyncio.Semaphore, *, repair: bool) -> admin.Finding:
        repaired = False
        if repair and problem.mend is not None:
            try:
                async with turn:
                    repaired = await problem.mend()
            except FleetError as error:
                log.warning("reconciler.not_mended", client_id=problem.client_id, reason=error.message)
        log.warning("reconciler.found", client_id=problem.client_id, problem=problem.text, repaired=repaired)
        return admin.Finding(
            client_id=problem.client_id, problem=problem.text, remedy=problem.remedy, repaired=repaired
        )

    async def _remove(self, client_id: str) -> bool:
        async with self.registry.database.transaction() as session:
            if await db.is_known(session, client_id):
                return False
        await self.registry.identities.unmake(client_id)
        return True

    async def _remove_claim_account(self, claim_id: str) -> bool:
        async with self.registry.database.transaction() as session:
            if claim_id in await claim_db.reachable(session, window=self.registry.claim_window):
                return False
        await self.registry.identities.broker.delete(claim_id)
        return True

    async def _mend_admin(self, name: str) -> bool:
        """Make an admin's account in the broker agree with the row, or with there being none."""
        accounts = self.registry.identities.broker.admins
        async with self.registry.database.transaction() as session:
            await account_db.lock(session)
            row = (await account_db.every(session)).get(name)
            if row is None:
                await accounts.delete(name)
            else:
                await accounts.set_role(name, Role(row.role))
        return True

    async def _mend_account(self, client_id: str, *, anew: bool) -> bool:
        """Make the broker and Keycloak agree with the row."""
        identities = self.registry.identities
        async with self._held(client_id) as device:
            if device is None:
                return False
            if anew:
                identity = await identities.keycloak.get(client_id)
                await identities.broker.put(client_id, identity.secret)
                if identity.enabled and device.enabled:
                    return True
            await identities.enable(client_id, enabled=device.enabled)
        return True

    async def _mend_claims(self, client_id: str) -> bool:
        """Put the secret in force once more that is: its claims are written with it."""
        keycloak = self.registry.identities.keycloak
        async with self._held(client_id) as device:
            if device is None:
                return False
            identity = await keycloak.get(client_id)
            await keycloak.set_secret(client_id, identity.secret, identity.generation)
        return True

    @asynccontextmanager
    async def _held(self, client_id: str) -> AsyncIterator[Device | None]:
        """Lock a device's row for the block; None if it is gone or in a rotation."""
        async with self.registry.database.transaction() as session:
            try:
                device, _, _ = await db.device(session, client_id, lock=True)
            except NotFoundError:
                yield None
                return
            yield None if device.rotation_state == "PENDING" else device


def _client_id(topic: str) -> str:
    return topic.removeprefix(f"{topics.PREFIX}/d/").partition("/")[0]
