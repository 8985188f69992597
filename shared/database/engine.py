"""The database: one engine for each service, and transactions that wake the outbox after their commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from pydantic import SecretStr
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from shared.database import outbox_rows
from shared.errors import ConflictError, UnavailableError, cancellation_first

POOL_SIZE = 16
_ANSWER_S = 5.0
_SILENT_S: Final = 120
"""Idle timeout of a transaction: a process that is frozen in the middle of one would hold its locks."""


def sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's five-character error code, or an empty string."""
    return getattr(error.orig, "sqlstate", None) or ""


def is_outage(error: DBAPIError) -> bool:
    """Return whether an error means a lost connection (class 08 and 57P), not a refusal."""
    return (
        error.connection_invalidated
        or isinstance(error, InterfaceError)
        or sqlstate(error).startswith(("08", "57P", "25P03"))
    )


def is_busy(error: DBAPIError) -> bool:
    """Return whether the same transaction may succeed later: timeout, lock, deadlock, serialization."""
    return sqlstate(error) in {"57014", "55P03", "40P01", "40001"}


def refusal(error: IntegrityError) -> ConflictError:
    """Return the error for a violated constraint; checks before it give better messages."""
    return ConflictError(f"the database refuses it: {str(error.orig).partition(': ')[2].partition(chr(10))[0]}")


async def allow_silence(session: AsyncSession) -> None:
    """Disable the idle timeout of this transaction while external calls run."""
    await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


async def lock_identity(session: AsyncSession, client_id: str) -> None:
    """Lock a device's client and account against other changes until the transaction ends.

    Of two concurrent changes of a client Keycloak (26.7) keeps only parts.
    """
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"mdm:identity:{client_id}", 0)))
    )


class Transactions(Protocol):
    """A place to run transactions: the service's pool, or the connection of a leader."""

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Commit at the end of the block, roll back when it raises."""
        ...


@asynccontextmanager
async def begun(bind: AsyncEngine | AsyncConnection, filled: asyncio.Event) -> AsyncIterator[AsyncSession]:
    """Commit at the end of the block, roll back when it raises; set `filled` if the commit fills the outbox."""
    with cancellation_first():
        async with AsyncSession(bind, expire_on_commit=False) as session:
            async with session.begin():
                yield session
                fills = await outbox_rows.write(session)
            if fills:
                filled.set()


class Database:
    """The service's connections to PostgreSQL; `filled` is set after a commit that fills the outbox."""

    def __init__(self, url: SecretStr) -> None:
        self.engine = create_async_engine(
            url.get_secret_value(),
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"server_settings": {"idle_in_transaction_session_timeout": f"{_SILENT_S}s"}},
        )
        self.filled = asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit at the end of the block, roll back when it raises; an outage raises UnavailableError."""
        try:
            async with begun(self.engine, self.filled) as session:
                yield session
        except IntegrityError as error:
            raise refusal(error) from error
        except DBAPIError as error:
            if is_outage(error) or is_busy(error):
                raise UnavailableError("the database does not answer; retry") from error
            raise
        except PoolTimeoutError as error:
            raise UnavailableError("the database is too slow; retry") from error
        except OSError as error:
            raise UnavailableError("the database cannot be reached; retry") from error

    async def answers(self) -> bool:
        """Return whether the database executes a query."""
        try:
            async with asyncio.timeout(_ANSWER_S), self.transaction() as session:
                await session.execute(text("SELECT 1"))
        except (UnavailableError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


@asynccontextmanager
async def connected(url: SecretStr) -> AsyncIterator[Database]:
    """Open the database for the block."""
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()
