"""Leadership: an advisory lock on the same connection that makes every transition.

A leader that has lost the lock has lost the connection too, and so cannot write (fencing). The server ends a
session that is idle for the length of the lease, so that a frozen leader is replaced like a dead one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from shared.database.engine import Database, begun, is_busy, is_outage, refusal
from shared.errors import LeadershipLostError, UnavailableError

log = structlog.get_logger()
_LOCK: Final = func.hashtextextended("mdm:rotator", 0)


class Leadership:
    """The lock, held; transactions on its connection are the leader's only way to write."""

    def __init__(self, connection: AsyncConnection, database: Database, lease_s: float) -> None:
        self._connection = connection
        self._database = database
        self._lease_s = lease_s
        self._turn = asyncio.Lock()
        self._lost = asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit at the end of the block; raise LeadershipLostError if the connection is gone."""
        async with self._turn:
            # SQLAlchemy would replace a broken connection by a new one, which does not hold the lock.
            if self._lost.is_set() or self._connection.invalidated:
                raise self._loss()
            try:
                async with begun(self._connection, self._database.filled) as session:
                    yield session
            except IntegrityError as error:
                raise refusal(error) from error
            except DBAPIError as error:
                if is_outage(error):
                    raise self._loss() from error
                if is_busy(error):
                    raise UnavailableError("the database is busy; retry") from error
                raise

    async def keep_alive(self) -> None:
        """Renew the lease until cancelled; raise LeadershipLostError as soon as the connection is gone."""
        while True:
            try:
                async with asyncio.timeout(self._lease_s / 4):
                    await self._lost.wait()
            except TimeoutError:
                pass
            await self.check()

    async def check(self) -> None:
        """Raise LeadershipLostError unless the lock is still held: checked before each external call."""
        async with self.transaction() as session:
            await session.execute(select(1))

    def _loss(self) -> LeadershipLostError:
        self._lost.set()
        return LeadershipLostError("the rotator is changing its leader; retry in a moment")


@asynccontextmanager
async def elected(
    url: SecretStr, database: Database, *, poll_s: float, lease_s: float
) -> AsyncIterator[Leadership]:
    """Wait until this process is the leader, and hold leadership for the block."""
    lease_ms = str(int(lease_s * 1000))
    engine = create_async_engine(
        url.get_secret_value(),
        poolclass=NullPool,
        connect_args={
            "server_settings": {
                "idle_session_timeout": lease_ms,
                "idle_in_transaction_session_timeout": lease_ms,
                "statement_timeout": lease_ms,
            }
        },
    )
    try:
        async with engine.connect() as connection:
            while not await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
                await connection.rollback()
                await asyncio.sleep(poll_s)
            await connection.commit()
            yield Leadership(connection, database, lease_s)
    except DBAPIError as error:
        if is_outage(error):
            raise UnavailableError("the database does not answer; no leader can be elected") from error
        raise
    except OSError as error:
        raise UnavailableError("the database cannot be reached; no leader can be elected") from error
    finally:
        await engine.dispose()
