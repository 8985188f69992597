"""Leadership on a real database: one at a time, and nothing is written once the lock's connection is gone."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from services.rotator import leader
from services.rotator.leader import Leadership
from shared.database.engine import Database
from shared.errors import LeadershipLostError

POLL_S = 0.05


def elected(database: Database, *, lease_s: float = 30) -> AbstractAsyncContextManager[Leadership]:
    url = SecretStr(database.engine.url.render_as_string(hide_password=False))
    return leader.elected(url, database, poll_s=POLL_S, lease_s=lease_s)


async def end_all_other_connections(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_a_second_leader_waits_for_the_first(database: Database) -> None:
    async def lead_once() -> None:
        async with elected(database) as leadership:
            await leadership.check()

    async with elected(database):
        second = asyncio.ensure_future(lead_once())
        done, _ = await asyncio.wait([second], timeout=10 * POLL_S)
        assert not done
    async with asyncio.timeout(10):
        await second


async def test_a_leader_whose_connection_is_gone_writes_nothing_not_even_on_a_new_one(database: Database) -> None:
    async with elected(database) as leadership:
        await leadership.check()
        await end_all_other_connections(database)
        for _ in range(3):
            # An admin whose request comes at this moment reads it.
            with pytest.raises(
                LeadershipLostError, match=r"^the rotator is changing its leader; retry in a moment$"
            ):
                async with leadership.transaction() as session:
                    await session.execute(text("INSERT INTO mdm.rotation_slots VALUES (7)"))
    async with database.transaction() as session:
        assert not await session.scalar(text("SELECT count(*) FROM mdm.rotation_slots WHERE slot = 7"))


async def test_a_leader_that_says_nothing_for_the_lease_loses_the_lock(database: Database) -> None:
    async with elected(database, lease_s=0.5) as leadership:
        async with asyncio.timeout(10), elected(database) as next_one:
            await next_one.check()
        with pytest.raises(LeadershipLostError):
            await leadership.check()


async def test_a_leader_that_keeps_its_lease_stays_the_leader(database: Database) -> None:
    # Long enough for a busy machine, which may run this process a moment late.
    async with elected(database, lease_s=2) as leadership:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await leadership.keep_alive()
        await leadership.check()


async def test_keeping_the_lease_ends_as_soon_as_the_connection_is_gone(database: Database) -> None:
    async with elected(database) as leadership:
        keeping = asyncio.ensure_future(leadership.keep_alive())
        await end_all_other_connections(database)
        with pytest.raises(LeadershipLostError):
            await leadership.check()
        async with asyncio.timeout(5):  # by itself it would look after 7.5 s
            with pytest.raises(LeadershipLostError):
                await keeping
