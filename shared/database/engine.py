"""The database: one engine a service, and transactions that ring for the outbox once they have committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from pydantic import SecretStr
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from shared.errors import ConflictError, UnavailableError

POOL_SIZE = 16
_ANSWER_S = 5.0
_SILENT_S: Final = 120
"""So long a transaction may say nothing: a process that is frozen in the middle of one would hold its locks."""
RINGS = "rings"
"""In a session's `info`: its transaction leaves something in the outbox."""


def sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's five characters for what went wrong, or an empty string."""
    return getattr(error.orig, "sqlstate", None) or ""


def is_outage(error: DBAPIError) -> bool:
    """Say whether an error means that the connection is gone (class 08 and 57P), not that it was refused."""
    return (
        error.connection_invalidated
        or isinstance(error, InterfaceError)
        or sqlstate(error).startswith(("08", "57P", "25P03"))
    )


def is_busy(error: DBAPIError) -> bool:
    """Say whether the same transaction may succeed later: time-out, lock, deadlock, serialisation."""
    return sqlstate(error) in {"57014", "55P03", "40P01", "40001"}


def refusal(error: IntegrityError) -> ConflictError:
    """Return what to tell of an invariant that the database held; checks before it give better sentences."""
    return ConflictError(f"the database refuses it: {str(error.orig).partition(': ')[2].partition(chr(10))[0]}")


async def allow_silence(session: AsyncSession) -> None:
    """Disable the idle timeout of this transaction while external calls run."""
    await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


async def lock_identity(session: AsyncSession, client_id: str) -> None:
    """Let nobody else change a device's client or account until the transaction ends.

    Of two changes of a client at once Keycloak (26.7) keeps only parts.
    """
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"mdm:identity:{client_id}", 0)))
    )


class Transactions(Protocol):
    """Where transactions run: on the service's pool, or on the connection of a leader."""

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Commit at the end of the block, roll back when it raises."""
        ...


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
            async with AsyncSession(self.engine, expire_on_commit=False) as session:
                async with session.begin():
                    yield session
                if RINGS in session.info:
                    self.filled.set()
        except IntegrityError as error:
            raise refusal(error) from error
        except DBAPIError as error:
            if is_outage(error) or is_busy(error):
                raise UnavailableError("the database does not answer; try again") from error
            raise
        except PoolTimeoutError as error:
            raise UnavailableError("the database is too slow; try again") from error
        except OSError as error:
            raise UnavailableError("the database cannot be reached; try again") from error

    async def answers(self) -> bool:
        """Say whether the database does what it is asked."""
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
