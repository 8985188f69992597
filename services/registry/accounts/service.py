"""The accounts of admins: with their rights in the broker, and with their roles in the database.

Database and broker are changed under one lock, the broker first: an interrupted change leaves the row as it was,
the same request continues it, and the reconciler follows the row.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.accounts import queries as account_queries
from services.registry.context import Registry
from shared.broker.acl import acls
from shared.broker.api import Admins
from shared.database.tables import AdminAccount
from shared.errors import ConflictError, InvalidInputError
from shared.protocol import admin, events
from shared.protocol.admin import Role
from shared.protocol.events import AccountFacts, FleetEvent
from shared.server.rpc import RequestContext


@dataclass(frozen=True, slots=True)
class AccountService:
    """The operations of admins on accounts."""

    registry: Registry

    async def add(self, context: RequestContext, request: admin.AccountAdd) -> admin.AccountView:
        """Create an account, or raise ConflictError if its name is taken."""
        await account_queries.lock(context.session)
        if request.name in await account_queries.every(context.session):
            raise ConflictError(f"name: the account {request.name} exists already", name=request.name)
        row = AdminAccount(name=request.name, role=request.role, author=context.account)
        context.session.add(row)
        await context.session.flush()
        await self._broker.put(request.name, request.role, SecretStr(request.password))
        self._record(context, "add", events.ACCOUNT_ADDED, request.name, after={"role": request.role})
        return _view(row, present=True)

    async def list_all(self, context: RequestContext, _: admin.Nothing) -> admin.Accounts:
        """Return all accounts."""
        found = await self._broker.found()
        rows = await account_queries.every(context.session)
        return admin.Accounts(
            accounts=[
                _view(row, present=found.get(name) == acls(name, Role(row.role))) for name, row in rows.items()
            ]
        )

    async def set_role(self, context: RequestContext, request: admin.AccountRole) -> admin.AccountView:
        """Change the role of an account; effective at once."""
        row = await self._of_another(context, request.name)
        before, role = Role(row.role), request.role
        present = await self._broker.found()
        if role is not Role.ADMIN:
            await _require_an_admin(context.session, request.name, present)
        await self._broker.set_role(request.name, role)
        row.role = role
        self._record(
            context, "role", events.ACCOUNT_UPDATED, request.name, before={"role": before}, after={"role": role}
        )
        return _view(row, present=request.name in present)

    async def set_password(self, context: RequestContext, request: admin.AccountPassword) -> admin.AccountView:
        """Change the password of an account; recreate it if the broker has lost it."""
        row = await self._of_another(context, request.name)
        await self._broker.put(request.name, Role(row.role), SecretStr(request.password))
        self._record(context, "password", events.ACCOUNT_UPDATED, request.name)
        return _view(row, present=True)

    async def remove(self, context: RequestContext, request: admin.AccountRef) -> admin.Removed:
        """Remove an account and end its sessions."""
        row = await self._of_another(context, request.name)
        await _require_an_admin(context.session, request.name, await self._broker.found())
        await self._broker.delete(request.name)
        self._record(context, "remove", events.ACCOUNT_REMOVED, request.name, before={"role": Role(row.role)})
        await context.session.delete(row)
        return admin.Removed(removed=request.name)

    async def who_am_i(self, context: RequestContext, _: admin.Nothing) -> admin.WhoAmI:
        """Return the requesting account and its role."""
        return admin.WhoAmI(
            account=context.account, role=await account_queries.role_of(context.session, context.account)
        )

    @property
    def _broker(self) -> Admins:
        return self.registry.identities.broker.admins

    async def _of_another(self, context: RequestContext, name: str) -> AdminAccount:
        await account_queries.lock(context.session)
        row = await account_queries.account(context.session, name)
        if name == context.account:
            raise InvalidInputError("name: must be another account; nobody may change their own")
        return row

    def _record(
        self,
        context: RequestContext,
        verb: str,
        event: FleetEvent[AccountFacts],
        name: str,
        **change: dict[str, Role],
    ) -> None:
        context.audit(f"account.{verb}", name, **change)
        facts = AccountFacts(account=name, role=change.get("after", {}).get("role"))
        self.registry.outbox.emit(context.session, event, None, facts)


async def _require_an_admin(session: AsyncSession, name: str, present: Container[str]) -> None:
    """Raise ConflictError if without this account nobody with the role admin could log in."""
    rows = await account_queries.every(session)
    others = [admin.BUILT_IN, *(row.name for row in rows.values() if row.role == Role.ADMIN and row.name != name)]
    if rows[name].role == Role.ADMIN and not any(other in present for other in others):
        raise ConflictError(f"name: {name} is the last account with the role admin", name=name)


def _view(row: AdminAccount, *, present: bool) -> admin.AccountView:
    return admin.AccountView.from_row(row, present=present)
