"""Queries on the accounts of admins."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database.tables import AdminAccount
from shared.errors import NotFoundError
from shared.protocol.admin import BUILT_IN, Role
from shared.server.rpc import lock_key


async def lock(session: AsyncSession) -> None:
    """Lock accounts, here and in the broker, until the transaction ends."""
    await session.execute(select(func.pg_advisory_xact_lock(lock_key("mdm:admin_accounts"))))


async def every(session: AsyncSession) -> dict[str, AdminAccount]:
    """Return all accounts except the built-in one, by name."""
    return {row.name: row for row in await session.scalars(select(AdminAccount).order_by(AdminAccount.name))}


async def account(session: AsyncSession, name: str) -> AdminAccount:
    """Return an account, or raise NotFoundError."""
    found = await session.get(AdminAccount, name)
    if found is None:
        raise NotFoundError(f"name: there is no account {name}", name=name)
    return found


async def role_of(session: AsyncSession, name: str) -> Role:
    """Return the role of an account, including the built-in one, or raise NotFoundError."""
    return Role.ADMIN if name == BUILT_IN else Role((await account(session, name)).role)
